"""Vocabulary and word vectors of a data set."""

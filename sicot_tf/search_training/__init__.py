"""Trains the search network on triplets of clicks."""

"""Conversion of the variants of an A/B test, counted by visitors."""

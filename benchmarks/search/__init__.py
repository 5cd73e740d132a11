"""Measures of visual search."""

"""Experiments: arms, their shuffled twins, seeds, choices, tables."""

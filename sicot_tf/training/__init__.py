"""A training run, read in the order of a step."""

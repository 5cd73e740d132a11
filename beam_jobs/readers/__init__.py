"""Data sets of others, and drawings of emoji, to raw records."""

"""Data sets of others, and the demo's, to raw records."""

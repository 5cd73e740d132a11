"""Chooses the numbers of the recognition stages on validation pictures."""

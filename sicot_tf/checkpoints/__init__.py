"""Checkpoints that each worker writes and reads in part."""

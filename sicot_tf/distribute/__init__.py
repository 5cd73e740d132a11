"""Cluster set-up and checkpoints."""

"""Beam's runners and the progress of a job."""

"""A loaded SavedModel, and how it is asked."""

"""A model version and the index built for it, live together."""

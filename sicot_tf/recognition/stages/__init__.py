"""The stages of recognition, each a function or an index."""

"""A product index and a model to a generation of the vector index."""

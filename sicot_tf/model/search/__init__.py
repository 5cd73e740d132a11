"""Two branches of visual search: where the object is, and what it is."""

"""The recognition service as its users see it."""

"""The product index, as the online side reads it."""

"""The visual stream as files for phones."""

"""HTML of all pages."""

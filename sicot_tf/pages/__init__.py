"""The look of all pages: frame, pieces and figures."""

"""What a dataset looks like: tables, plots, one page."""

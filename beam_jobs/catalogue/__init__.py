"""Catalogue records to a generation of the product index."""

"""Stored records to batches: records, titles, pictures."""

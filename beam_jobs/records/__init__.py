"""Record files to checked records, and their survey."""

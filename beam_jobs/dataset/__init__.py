"""Parts of raw records to a generation of the dataset."""

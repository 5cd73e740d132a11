"""What records pass through in the pipelines of `build_dataset`."""

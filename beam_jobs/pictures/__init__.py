"""Pictures as a data set stores them, and which are alike."""

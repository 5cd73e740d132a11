"""Features to classes that are split over the workers."""

"""From a photo to the products of the catalogue that are on it."""

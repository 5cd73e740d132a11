"""From an embedding to the products that look alike."""

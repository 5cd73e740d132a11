"""What a ranker knows of products: offers, clicks, and their pictures."""

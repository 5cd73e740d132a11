"""What visitors do, and which variant they see."""

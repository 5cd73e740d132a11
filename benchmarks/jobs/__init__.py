"""What the Beam jobs cost."""

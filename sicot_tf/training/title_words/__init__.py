"""What a training makes of all titles before its first step."""

"""Words to the semantic stream."""

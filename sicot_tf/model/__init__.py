"""The SICoT model: visual, semantic and mixed stream, one classifier."""

"""What the model server costs, beside others."""

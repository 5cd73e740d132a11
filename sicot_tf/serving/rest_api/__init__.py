"""The REST side of the model server."""

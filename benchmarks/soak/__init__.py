"""What must not break, however long it runs."""

"""What training costs, and what co-training gains."""

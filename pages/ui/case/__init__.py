"""What only the melanoma walk draws."""

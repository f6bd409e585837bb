"""What only the comparison draws."""

"""What only the search page draws."""

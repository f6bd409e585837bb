"""What only the page of labels draws."""

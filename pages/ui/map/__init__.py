"""What only the map draws."""

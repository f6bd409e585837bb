"""What only the build page draws."""

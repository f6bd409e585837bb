"""What only tables of neurons draw."""

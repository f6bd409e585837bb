"""What drives what inside a network: neurons its outputs, and neurons one another."""

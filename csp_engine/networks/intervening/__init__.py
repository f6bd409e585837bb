"""What changing images or activations does to an output."""

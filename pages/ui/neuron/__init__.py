"""What only the page of one neuron draws."""

"""What is measured of one neuron, put together as sentences."""

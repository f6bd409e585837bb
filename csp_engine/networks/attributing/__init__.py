"""Where in an image a neuron, or what a neuron stands for, is found: maps over the image."""

"""Finding neurons by words, by an image or by another neuron, and what chance would give."""

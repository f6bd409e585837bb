"""What a label method may look at: exemplars and contrast images."""

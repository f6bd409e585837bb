"""What a label method may look at: exemplars, contrast images, and what else it declares."""

"""Whether a whole bundle is as it was written, and whether its figures follow from one another."""

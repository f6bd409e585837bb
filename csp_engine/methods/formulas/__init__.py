"""What INVERT adds: concepts as columns of yes and no, formulas of them, and their search."""

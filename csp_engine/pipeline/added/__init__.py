"""What is put into a finished bundle that no build makes: ground truth, and figures of models."""

"""A simulated dermoscopy archive with known truth: images, networks, encoder, captioner, bundle."""

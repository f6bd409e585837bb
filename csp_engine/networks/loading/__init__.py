"""Getting a network: from a library or a folder, with weights, and the pixels that they expect."""

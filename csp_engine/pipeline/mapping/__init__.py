"""Maps of neurons and texts over the pictures that a bundle keeps."""

"""A direction from a few images, on the page Audit."""

"""Trying an encoder on a few images and words before a bundle is built with it."""

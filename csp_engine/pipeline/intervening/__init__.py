"""Pairs of images: what they show of a network, and how a bundle keeps it."""

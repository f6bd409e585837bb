"""Factors of a layer that push wrong decisions, and directions of images that somebody marked."""

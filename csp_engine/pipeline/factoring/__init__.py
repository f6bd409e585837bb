"""Factors of a layer that push wrong decisions."""

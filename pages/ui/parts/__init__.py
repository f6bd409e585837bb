"""Pieces that several pages draw: cards, charts, words, components."""

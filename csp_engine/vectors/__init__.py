"""Rows of unit length, and the nearest of very many of them."""

from csp_engine.vectors.unit import VANISHED, directions, fault, is_unit, normalise_rows

__all__ = ["VANISHED", "directions", "fault", "is_unit", "normalise_rows"]

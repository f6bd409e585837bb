"""Neurons with their labels and pairs of images in the forms that other tools read."""

from csp_engine.exports.tools.chosen import N_PAIRS, Chosen, chosen_of
from csp_engine.exports.tools.writing import FORMATS, write_for_tool

__all__ = ["FORMATS", "N_PAIRS", "Chosen", "chosen_of", "write_for_tool"]

"""Probe images as pages show them: which, in what order, and what is known about each."""

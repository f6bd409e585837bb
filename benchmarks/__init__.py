"""Measurements of speed, memory and label quality; run with ``python -m benchmarks``."""

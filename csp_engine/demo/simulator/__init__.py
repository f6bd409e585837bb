"""Simulated dermoscopy of which everything is known: cases, photographs, captions."""

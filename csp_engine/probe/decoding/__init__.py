"""The bytes of an image file as a picture: which formats are read, and what each of them says."""

from csp_engine.probe.decoding.picture import decode

__all__ = ["decode"]

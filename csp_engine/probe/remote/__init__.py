"""Images at an address: which there are, and their bytes, each read once."""

from csp_engine.probe.remote.reading import found_at, is_address

__all__ = ["found_at", "is_address"]

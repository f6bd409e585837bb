"""Generators: captioners that are shown pictures, and answer in words of their own."""

from __future__ import annotations

from csp_engine.captioners.generators.asking import Generator
from csp_engine.captioners.generators.naming import FORMS, is_generator, read_spec

__all__ = ["FORMS", "Generator", "is_generator", "load_generator"]


def load_generator(spec: str, *, device: str = "cpu") -> Generator:
    """Load a model of transformers, or prepare to ask a server; nothing is sent yet.

    Raises:
        InputError: if the spec cannot be understood, or the model cannot be asked about images.
        MissingModelError: if the model is not on this machine and cannot be fetched.
    """
    named = read_spec(spec)
    if named.kind == "openai":
        from csp_engine.captioners.generators.server import Server

        return Server(named)
    from csp_engine.captioners.generators.local import load_local

    return load_local(named, device=device)

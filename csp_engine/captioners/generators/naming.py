"""How a generator is named: ``transformers/NAME_OR_FOLDER`` or ``openai/MODEL@URL``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from csp_engine.errors import InputError

FORMS = "transformers/NAME_OR_FOLDER or openai/MODEL@URL"
_KINDS = ("transformers", "openai")
_TOKENS = ("tokens", 200.0, 1.0, 100_000.0)
_SETTINGS: dict[str, tuple[tuple[str, float, float, float], ...]] = {
    "transformers": (_TOKENS, ("batch", 4.0, 1.0, 1024.0)),
    "openai": (
        _TOKENS,
        ("concurrency", 8.0, 1.0, 256.0),
        ("timeout", 120.0, 0.05, 3600.0),
        ("attempts", 5.0, 1.0, 20.0),
        ("price_in", 0.0, 0.0, 1e6),
        ("price_out", 0.0, 0.0, 1e6),
    ),
}
"""Name, default, least and most of what may follow ``#``, by kind."""


@dataclass(frozen=True, slots=True)
class Named:
    """What a spec says.

    ``what`` is the model's name, or a folder; ``url`` where its server is. ``settings`` are those
    of the kind: ``tokens`` (longest answer), ``batch``; ``concurrency``, ``timeout`` in seconds,
    ``attempts`` for each question, ``price_in`` and ``price_out`` per million tokens.
    """

    spec: str
    kind: str
    what: str
    url: str
    settings: Mapping[str, float]

    def whole(self, name: str) -> int:
        """A setting that counts something."""
        return int(self.settings[name])


def is_generator(spec: str) -> bool:
    """Whether a captioner is named that is shown pictures; all else is a folder."""
    return spec.partition("/")[0] in _KINDS and "/" in spec


def read_spec(spec: str) -> Named:
    """Take a spec apart.

    Raises:
        InputError: for one that cannot be understood, with what may stand there.
    """
    name, _, ending = spec.partition("#")
    kind, _, rest = name.partition("/")
    if kind not in _KINDS or not rest:
        raise InputError(f"Captioner {spec!r} cannot be understood; write {FORMS}.")
    settings = _read_settings(kind, ending, spec)
    if kind == "transformers":
        return Named(spec, kind, rest, "", settings)
    model, at, address = rest.partition("@http")
    if not model or not at:
        raise InputError(
            f"Captioner {spec!r} lacks the model or the address of its server; write "
            "openai/MODEL@URL, such as openai/llava@http://localhost:11434/v1."
        )
    return Named(spec, kind, model, _checked_url(f"http{address}"), settings)


def _checked_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        is_good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_good = False
    if not is_good:
        raise InputError(
            f"{url!r} is no address of a server; write one such as http://localhost:11434/v1."
        )
    if parts.username is not None or parts.password is not None:
        # Not repeated in the message: what is in front of the @ may be a password.
        raise InputError(
            "The address of a captioner's server holds a user or password, and a bundle keeps "
            "the address; give the key in the environment variable CSP_CAPTIONER_KEY instead."
        )
    if "?" in url:
        raise InputError(
            "The address of a captioner's server holds a '?', after which keys are given, and a "
            "bundle keeps the address; leave it out, and give a key in CSP_CAPTIONER_KEY."
        )
    if not url.isascii() or any(c.isspace() or not c.isprintable() for c in url):
        raise InputError(f"The address {url!r} holds characters that no address has; check it.")
    return url.rstrip("/")


def _read_settings(kind: str, ending: str, spec: str) -> dict[str, float]:
    known = {name: (default, low, high) for name, default, low, high in _SETTINGS[kind]}
    found = {name: default for name, (default, _, _) in known.items()}
    for part in filter(None, ending.split(",")):
        name, _, text = part.partition("=")
        if name not in known:
            raise InputError(
                f"Captioner {spec!r} has the setting {name!r}, which {kind}/ does not know; after "
                f"# may stand {', '.join(known)}, as in #{next(iter(known))}=100."
            )
        _, low, high = known[name]
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            raise InputError(
                f"Captioner {spec!r} has {name} {text!r}; it must lie between {low:g} and {high:g}."
            )
        found[name] = value
    return found

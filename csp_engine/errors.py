"""Errors a person can act on: one sentence with the wrong value, what exists, and the next step."""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec

MOST_CHARACTERS = 600
"""Of a message. What it quotes may be a whole file."""
MOST_OF_A_VALUE = 160
"""Of what it repeats: a path, a name, an address, a label."""
_LONG = MOST_OF_A_VALUE + 1
_VALUE = re.compile(
    rf"(?<!\w)'(?=\S)[^']{{{_LONG},}}'|\"(?=\S)[^\"]{{{_LONG},}}\"|“[^”]{{{_LONG},}}”"
    rf"|[^\s'\"“”]{{{_LONG},}}"
)
"""What stands in quotes, or without a space in it."""


def shortened(text: str, most: int = MOST_CHARACTERS) -> str:
    """A text of at most ``most`` characters: its beginning, ``…``, and its last third.

    A message begins with what is wrong and ends with what to do.
    """
    if len(text) <= most:
        return text
    n_end = most // 3
    return f"{text[: most - n_end - 1]}…{text[len(text) - n_end :]}"


def brief(sentence: str) -> str:
    """A sentence in which what it repeats is shortened, so that its own words can be read.

    Whatever somebody gave may be of any length.
    """
    return shortened(_VALUE.sub(lambda found: _inside(found[0]), sentence))


def _inside(value: str) -> str:
    """A long value, shortened within its quotes."""
    if value[0] in "'\"“":
        return f"{value[0]}{shortened(value[1:-1], MOST_OF_A_VALUE)}{value[-1]}"
    return shortened(value, MOST_OF_A_VALUE)


class CspError(Exception):
    """Base of every error raised on purpose; the command line prints it as one line."""

    def __str__(self) -> str:
        return brief(super().__str__())


class InputError(CspError):
    """Something the user gave (folder, layer, vocabulary, option) cannot be used."""


class UnreadableImageError(InputError):
    """One image file cannot be decoded; a build skips and lists it, or stops, by option."""


class UnansweredError(InputError):
    """A network gives values that are not finite for an image, so it says nothing about it.

    ``row`` is the image's place among those given, from 0; ``naming`` says the same of its file.
    """

    def __init__(self, network: str, row: int, under: str = "", image: str = "") -> None:
        self.network, self.row, self.under = network, row, under
        of = image or f"image {row + 1} of those given"
        doing = f" {under}" if under else ""
        super().__init__(
            f"{network} gives values that are not finite for {of}{doing}; check the weights, or "
            "leave that photograph out."
        )


@contextmanager
def naming(files: Sequence[str]) -> Generator[None]:
    """Say of an image without an answer which file it is; ``files`` are those that were given."""
    try:
        yield
    except UnansweredError as error:
        file = str(files[error.row])
        raise UnansweredError(error.network, error.row, error.under, file) from None


class BundleError(CspError):
    """A bundle is missing, damaged, incomplete, or from a newer schema."""


class LeftOutError(BundleError):
    """This copy of a bundle is slim: it leaves out the stage that was asked for."""


class StaleError(CspError):
    """Two things that must belong together do not, such as an encoder and stored vectors."""


class MissingModelError(CspError):
    """Weights, an encoder or an optional package are not on this machine."""


class NotAllowedError(CspError):
    """A visitor of a server asks for what needs a permission; the sentence says how to get it."""


class BusyError(CspError):
    """A server has too much to do, or has done enough for this visitor; trying later helps."""


class ReviewError(CspError):
    """The database of verdicts cannot be read or written, or a newer version made it."""


OF_NETWORKS = frozenset(
    {"captum", "huggingface_hub", "open_clip", "timm", "tokenizers", "torch", "torchvision"}
    | {"transformers", "umap"}
)
"""What the extra ``networks`` brings, as it is imported; whoever only shows bundles lacks it."""
GET_NETWORKS = "pip install 'csp-neuron-browser[networks]'"
NO_NETWORKS = (
    "This runs a network or an encoder and so needs {}, which an installation for viewing leaves "
    f"out; install it with: {GET_NETWORKS}"
)


def has_networks() -> bool:
    """Whether networks and encoders can be run by this installation; nothing is imported."""
    return find_spec("torch") is not None


def no_networks(lacking: ModuleNotFoundError) -> MissingModelError | None:
    """What to say of a package that an installation for viewing lacks; None of any other."""
    package = (lacking.name or "").partition(".")[0]
    if package not in OF_NETWORKS:
        return None
    return MissingModelError(NO_NETWORKS.format(package))

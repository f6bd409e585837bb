"""The list of shards: which listed images each of them measures."""

from __future__ import annotations

import re
from dataclasses import dataclass

from csp_engine.errors import InputError

MOST = 100_000
"""Shards of one build."""


@dataclass(frozen=True, slots=True)
class Shard:
    """One of the shards of a build, counted from 1."""

    number: int
    of: int

    def __post_init__(self) -> None:
        if not 1 <= self.of <= MOST:
            raise InputError(f"{self.of} shards cannot be had; ask for 1 to {MOST:,}.")
        if not 1 <= self.number <= self.of:
            raise InputError(
                f"There is no shard {self.number} of {self.of}; shards are counted from 1 to "
                f"{self.of}."
            )

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read ``I/N``.

        Raises:
            InputError: it is something else, or there is no such shard.
        """
        found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text.strip(), re.ASCII)
        if found is None:
            raise InputError(
                f"--shard is {text!r:.60}; write it as I/N, such as 3/7 for the third of seven."
            )
        return cls(int(found[1]), int(found[2]))

    def images(self, n_listed: int, batch_size: int) -> range:
        """The listed images of this shard: whole batches, as even as they can be.

        Batches begin where they do in a build that is not in shards, so that every image is in the
        company that it has there. Of more shards than batches, some are empty.

        Args:
            n_listed: images of the whole probe set.
            batch_size: images of each batch but the last.
        """
        n_batches = -(-n_listed // batch_size)
        first, last = (n_batches * part // self.of for part in (self.number - 1, self.number))
        return range(min(first * batch_size, n_listed), min(last * batch_size, n_listed))

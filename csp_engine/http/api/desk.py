"""What the API is given by the server that it belongs to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from starlette.requests import HTTPConnection

from csp_engine.bundle import Bundle
from csp_engine.http.permissions import Permission
from csp_engine.reviews import Reviews
from csp_engine.views.finding.query import TextEncoder
from csp_engine.views.memo import Memo


@dataclass(frozen=True, slots=True, eq=False)
class Desk:
    """Bundles, permissions and verdicts of one server.

    Args:
        known_bundles: names of bundles and where they lie.
        open_bundle: a bundle by its name, or the CspError that fits.
        memo: keeps what is asked for again.
        page_url: the address of a neuron's page from its parameters.
        encoder: for who asks, the vectors of texts that are no labels; may raise NotAllowedError.
        verdicts: what each neuron of a bundle is said to be; None where nobody has said anything.
        reviews: the database of verdicts; None where there is none yet and ``is_to_write`` is not
            asked for.
        require: raises NotAllowedError unless who asks may do something.
        reviewer: whose verdicts are recorded for who asks; empty where the request has to say.
        visitor: whose requests are counted together.
        told: a sentence without the folders that it names.
    """

    known_bundles: Callable[[], Mapping[str, Path]]
    open_bundle: Callable[[str], Bundle]
    memo: Memo
    page_url: Callable[[Mapping[str, str]], str]
    encoder: Callable[[HTTPConnection], TextEncoder]
    verdicts: Callable[[Bundle], pd.Categorical | None]
    reviews: Callable[[bool], Reviews | None]
    require: Callable[[HTTPConnection, Permission], None]
    reviewer: Callable[[HTTPConnection], str]
    visitor: Callable[[HTTPConnection], str]
    told: Callable[[str, Iterable[Path]], str]

    def sentence(self, error: Exception) -> str:
        """What is said of an error, without the folders of this server."""
        return self.told(str(error), self.known_bundles().values())

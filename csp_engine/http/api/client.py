"""A client of the API for Python: its answers as the objects that the server made them from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, TypeVar
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import Request, urlopen

from pydantic import TypeAdapter, ValidationError

from csp_engine.errors import CspError, InputError
from csp_engine.http.api import shapes
from csp_engine.waiting import within

Shape = TypeVar("Shape")
Paged = TypeVar("Paged", shapes.Neurons, shapes.Table)
PATH = "csp/api/v1"


class ApiError(CspError):
    """A server refused, could not be reached, or gave another answer than it says it does.

    ``status`` is that of HTTP, 0 where there was no answer.
    """

    def __init__(self, sentence: str, status: int = 0) -> None:
        super().__init__(sentence)
        self.status = status


class Client:
    """Reads bundles from a running server, and gives verdicts.

    Args:
        address: of the server, ``http://localhost:8501``; what stands behind it is a path that it
            runs under.
        token: the one in the address that the server printed; only what it protects needs it.
        timeout: seconds to wait for an answer.

    Raises:
        InputError: if the address is none of HTTP.
    """

    def __init__(self, address: str, token: str = "", timeout: float = 60.0) -> None:
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise InputError(f"{address!r} is no address such as http://localhost:8501.")
        self.origin = f"{parts.scheme}://{parts.netloc}"
        self.start = f"{self.origin}{parts.path.rstrip('/')}/{PATH}"
        self.token, self.timeout = token, timeout

    def bundles(self) -> list[shapes.BundleName]:
        """The bundles of the server."""
        return self._read(shapes.Bundles, f"{self.start}/bundles").bundles

    def bundle(self, bundle: str) -> shapes.BundleAnswer:
        """What a bundle holds."""
        return self._read(shapes.BundleAnswer, self._of(bundle))

    def columns(self) -> list[shapes.Column]:
        """What the columns of neurons mean."""
        return self._read(shapes.Columns, f"{self.start}/columns").columns

    def neurons(self, bundle: str, **asked: Any) -> shapes.Neurons:
        """One page of a list or a search; ``asked`` are its parameters, such as ``q="ruler"``.

        Those that are words of Python end with an underscore: ``not_``, ``class_``.
        """
        return self._read(shapes.Neurons, self._of(bundle, "neurons"), **asked)

    def every_neuron(self, bundle: str, **asked: Any) -> Iterator[dict[str, Any]]:
        """All rows of a list or a search, page by page."""
        address = self._of(bundle, "neurons")
        for page in self._pages(shapes.Neurons, address, **asked):
            yield from page.neurons

    def neuron(self, bundle: str, neuron: str, **asked: Any) -> shapes.NeuronAnswer:
        """Everything about one neuron, ``model/layer/unit``."""
        return self._read(shapes.NeuronAnswer, self._of(bundle, "neurons", neuron), **asked)

    def labels(self, bundle: str, **asked: Any) -> Iterator[dict[str, Any]]:
        """All labels as 'csp export' writes them."""
        return self._rows(self._of(bundle, "labels"), **asked)

    def audit(self, bundle: str, kind: str, **asked: Any) -> list[dict[str, Any]]:
        """What an audit found.

        ``kind`` is ``interventions``, ``associations``, ``fixes``, ``factors``, ``curves`` or
        ``cofiring``, which also takes ``layer`` and ``artefact``.
        """
        return self._read(shapes.Audits, self._of(bundle, "audit", kind), **asked).found

    def reviews(self, bundle: str, **asked: Any) -> Iterator[dict[str, Any]]:
        """All verdicts on a bundle's neurons, the oldest first."""
        return self._rows(self._of(bundle, "reviews"), **asked)

    def review(self, bundle: str, verdict: shapes.Verdict) -> shapes.Recorded:
        """Give a verdict."""
        body = json.dumps(asdict(verdict)).encode()
        return _shaped(shapes.Recorded, self._ask(self._of(bundle, "reviews"), body))

    def thumbnail(self, shot: shapes.Shot) -> bytes:
        """The thumbnail of an image that an answer names, as WebP."""
        return self._ask(self.origin + shot.thumbnail)

    def _of(self, *parts: str) -> str:
        path = "/".join(quote(part, safe="/") for part in parts[1:])
        whole = f"{self.start}/bundles/{quote(parts[0], safe='')}"
        return f"{whole}/{path}" if path else whole

    def _rows(self, address: str, **asked: Any) -> Iterator[dict[str, Any]]:
        for page in self._pages(shapes.Table, address, **asked):
            yield from page.rows

    def _pages(self, shape: type[Paged], address: str, **asked: Any) -> Iterator[Paged]:
        """The pages of a list, all of one bundle.

        Raises:
            ApiError: if the bundle was replaced since the first of them.
        """
        page = first = self._read(shape, address, **{"limit": 1000, **asked})
        yield page
        while page.next:
            page = self._read(shape, self.origin + page.next)
            if page.digest != first.digest:
                raise ApiError(f"{page.bundle} was replaced while its rows were read; ask again.")
            yield page

    def _read(self, shape: type[Shape], address: str, **asked: Any) -> Shape:
        if asked:
            address += "?" + urlencode({name.rstrip("_"): str(v) for name, v in asked.items()})
        return _shaped(shape, self._ask(address))

    def _ask(self, address: str, body: bytes | None = None) -> bytes:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        if body is not None:
            headers["Content-Type"] = "application/json"

        def answer() -> bytes:
            try:
                with urlopen(Request(address, body, headers), timeout=self.timeout) as got:
                    return got.read()
            except HTTPError as error:
                raise ApiError(_told(error), error.code) from None

        try:
            return within(float(self.timeout), answer)
        except (URLError, OSError) as error:
            reason = getattr(error, "reason", error)
            raise ApiError(f"{self.origin} does not answer: {reason}.") from None


def _told(error: HTTPError) -> str:
    """What a server said of a refusal."""
    body = error.read()
    try:
        said = json.loads(body)["error"]
    except (ValueError, LookupError, TypeError):
        said = body.decode("utf-8", "replace").strip()
    return str(said) or f"The server answered {error.code}."


def _shaped(shape: type[Shape], body: bytes) -> Shape:
    try:
        return TypeAdapter(shape).validate_json(body)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ApiError(
            f"The server's answer is not what this client reads ({place or 'all of it'}: "
            f"{first['msg']}); use the client of the server's version."
        ) from None

"""What a server answers beside its pages: thumbnails, strips, points of the map, cards to hover."""

from __future__ import annotations

import io
import math
import re
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import pandas as pd
from PIL import Image
from starlette.responses import JSONResponse, Response

from csp_engine import numbers
from csp_engine.bundle import Bundle
from csp_engine.errors import CspError, InputError
from csp_engine.methods import method_title
from csp_engine.types import NeuronRef
from csp_engine.views.address import LOOKS, View
from csp_engine.views.finding.jumps import jumps
from csp_engine.views.images.separation import doubt
from csp_engine.views.memo import Memo
from csp_engine.views.neuron.label import best_label
from csp_engine.views.neuron_map import points_body, points_of
from csp_engine.views.places import places

MAX_PER_PACK = 200
MAX_DIGITS = 10
FOR_EVER = {"Cache-Control": "private, max-age=31536000, immutable"}
N_SHOTS, SIDE, GAP = 4, 96, 6
UNREADABLE = "this bundle is not there or cannot be read; its pages say why"


def no_maps(*_: object) -> bytes:
    """Where no process works out maps.

    Raises:
        InputError: always.
    """
    raise InputError("No maps are worked out here; start the app with 'csp serve'.")


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """Answers about the bundles of a server.

    Args:
        open_bundle: a bundle by its name, or the CspError that fits.
        memo: keeps what is asked for again.
        neuron_url: the address of a neuron's page from its parameters.
        overlays: maps of a neuron over some images, for a visitor: a pack as thumbnails come in.
        told: a sentence without the folders that it names.
    """

    open_bundle: Callable[[str], Bundle]
    memo: Memo
    neuron_url: Callable[[Mapping[str, str]], str]
    overlays: Callable[[Bundle, NeuronRef, str, Sequence[int], str], bytes] = no_maps
    told: Callable[[str], str] = str

    def thumbnails(self, bundle_name: str, digest: str, images: str) -> Response:
        """Thumbnails in one body: count and lengths (uint32, little-endian), then WebP files.

        The digest makes the address change with the bundle, so browsers may keep the answer.
        """
        try:
            asked = numbers_of(images)
            bundle = self._known(bundle_name, digest)
            bodies = [bundle.thumbnail(image) for image in asked]
        except (CspError, LookupError) as error:
            return Response(said_of(error), 404, media_type="text/plain")
        lengths = struct.pack(f"<{len(bodies) + 1}I", len(bodies), *map(len, bodies))
        return Response(
            lengths + b"".join(bodies),
            media_type="application/octet-stream",
            # WebP does not shrink; compressing it blocks the loop.
            headers={**FOR_EVER, "Content-Encoding": "identity"},
        )

    def maps(
        self, bundle_name: str, digest: str, name: str, address: str, images: str, visitor: str
    ) -> Response:
        """Overlays of a neuron's maps, as ``thumbnails``; else the sentence that says why not."""
        try:
            asked = numbers_of(images)
            bundle = self._known(bundle_name, digest)
            model, layer, unit = neuron_of(bundle, address)
            if name not in LOOKS[1:] or not all(image < bundle.n_images for image in asked):
                raise LookupError("no such map")
            body = self.overlays(bundle, NeuronRef(model, layer, unit), name, asked, visitor)
        except CspError as error:
            # Where the map would be, the page says what is lacking for it.
            return Response(self.told(str(error)), 409, media_type="text/plain")
        except LookupError as error:
            return Response(said_of(error), 404, media_type="text/plain")
        return Response(
            body,
            media_type="application/octet-stream",
            headers={**FOR_EVER, "Content-Encoding": "identity"},
        )

    def strip(self, bundle_name: str, digest: str, address: str) -> Response:
        """The strongest exemplars of a neuron side by side in one WebP image, strongest first."""
        try:
            bundle = self._known(bundle_name, digest)
            model, layer, unit = neuron_of(bundle, address)
            exemplars = bundle.exemplars(model, layer)
            n_shots = min(N_SHOTS, int(exemplars.count_u[unit]))
            bodies = [bundle.thumbnail(int(i)) for i in exemplars.image_uk[unit, :n_shots]]
        except (CspError, LookupError) as error:
            return Response(said_of(error), 404, media_type="text/plain")
        width = N_SHOTS * (SIDE + GAP) - GAP
        canvas = Image.new("RGBA", (width, SIDE), (0, 0, 0, 0))
        for at, body in enumerate(bodies):
            with Image.open(io.BytesIO(body)) as shot:
                side = min(shot.size)
                left, top = (shot.width - side) // 2, (shot.height - side) // 2
                box = (left, top, left + side, top + side)
                square = shot.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR, box)
            canvas.paste(square, (at * (SIDE + GAP), 0))
        out = io.BytesIO()
        canvas.save(out, "WEBP", quality=78, method=2)
        return Response(out.getvalue(), media_type="image/webp", headers=FOR_EVER)

    def points(self, bundle_name: str, digest: str) -> Response:
        """The points of a bundle's map, see ``points_body``."""
        try:
            bundle = self._known(bundle_name, digest)
            found = points_of(bundle, self.memo)
        except (CspError, LookupError) as error:
            return Response(said_of(error), 404, media_type="text/plain")
        if found is None:
            return Response("this bundle has no map", 404, media_type="text/plain")
        body = points_body(bundle, found)
        return Response(
            body,
            media_type="application/octet-stream",
            headers={**FOR_EVER, "Content-Encoding": "identity"},
        )

    def card(self, bundle_name: str, digest: str, method: str, address: str) -> Response:
        """What a card says about a neuron, as JSON: its label by a method and a few numbers."""
        try:
            bundle = self._known(bundle_name, digest)
            model, layer, unit = neuron_of(bundle, address)
            if method not in bundle.methods(model, layer):
                raise LookupError("no such method")
            label = best_label(bundle, NeuronRef(model, layer, unit), method)
            row = bundle.units(model, layer).iloc[unit]
            n_images = min(N_SHOTS, int(bundle.exemplars(model, layer).count_u[unit]))
        except (CspError, LookupError) as error:
            return Response(said_of(error), 404, media_type="text/plain")
        has_score = label.text and not math.isnan(label.score)
        told = [f"{method_title(method)} {numbers.score(label.score)}"] if has_score else []
        for name in ("clarity", "density"):
            if name in row and pd.notna(row[name]):
                write = numbers.share if name == "density" else numbers.score
                told.append(f"{name} {write(float(row[name]))}")
        if label.text and doubt(bundle):
            told.append("doubtful")
        view = View(bundle_name, model, layer, unit, method)
        return JSONResponse(
            {
                "title": label.title,
                "isReliable": label.is_named,
                "id": str(NeuronRef(model, layer, unit)),
                "facts": " · ".join(told),
                "nImages": n_images,
                "href": self.neuron_url(view.params()),
            },
            headers=FOR_EVER,
        )

    def jump(self, bundle_name: str, method: str, typed: str) -> Response:
        """Where typed text may lead, as JSON: kind, title, note, page and its parameters."""
        try:
            found = jumps(self.open_bundle(bundle_name), self.memo, bundle_name, method, typed)
        except CspError as error:
            return Response(said_of(error), 404, media_type="text/plain")
        rows = [{**asdict(each), "params": dict(each.params)} for each in found]
        return JSONResponse(rows, headers={"Cache-Control": "no-cache"})

    def _known(self, bundle_name: str, digest: str) -> Bundle:
        """The bundle of a name if it still is the one with this digest.

        Raises:
            CspError: if it is not there or cannot be read.
            LookupError: if it has changed.
        """
        bundle = self.open_bundle(bundle_name)
        if not re.fullmatch(r"[0-9a-f]{16}", digest) or not bundle.digest.startswith(digest):
            raise LookupError("the bundle has changed; reload the page")
        return bundle


def numbers_of(images: str) -> list[int]:
    """The images of a pack, ``3-17-4``.

    Raises:
        LookupError: if it is no such list, or too long a one.
    """
    parts = images.split("-")
    is_list = len(parts) <= MAX_PER_PACK and all(
        re.fullmatch(rf"[0-9]{{1,{MAX_DIGITS}}}", part) for part in parts
    )
    if not is_list:
        raise LookupError("not a pack of thumbnails")
    return [int(part) for part in parts]


def said_of(error: CspError | LookupError) -> str:
    """What is said of an error; sentences about bundles name folders, which visitors need not know.

    Pages show the same in full to those who may see it.
    """
    return UNREADABLE if isinstance(error, CspError) else str(error)


def neuron_of(bundle: Bundle, address: str) -> tuple[str, str, int]:
    """Model, layer and unit of ``place-unit``.

    Raises:
        LookupError: if there is no such neuron.
    """
    match = re.fullmatch(r"([0-9]{1,6})-([0-9]{1,9})", address)
    every = places(bundle)
    if match is None or int(match[1]) >= len(every):
        raise LookupError("no such neuron")
    model, layer = every[int(match[1])]
    unit = int(match[2])
    if unit >= bundle.n_units(model, layer):
        raise LookupError("no such neuron")
    return model, layer, unit

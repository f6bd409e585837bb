"""Bundles, their images' thumbnails, and tables of labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from csp_engine.bundle import Bundle
from csp_engine.errors import CspError, InputError
from csp_engine.exchange.label_tables import LabelTable
from csp_engine.http.api import asking, shapes
from csp_engine.http.api.desk import Desk
from csp_engine.printable import encodable
from csp_engine.views.images.separation import doubt
from csp_engine.views.places import concept_names, places, scoring_methods


def router(desk: Desk) -> APIRouter:
    """The addresses."""
    at = APIRouter(tags=["bundles"])

    @at.get("/bundles")
    def bundles() -> shapes.Bundles:
        """List the bundles of this server."""
        return shapes.Bundles([_named(desk, name) for name in desk.known_bundles()])

    @at.get("/bundles/{bundle}")
    def bundle(bundle: asking.BundleGiven) -> shapes.BundleAnswer:
        """Say what a bundle holds and what it was made from."""
        return bundle_answer(desk.open_bundle(bundle), bundle)

    @at.get(
        "/bundles/{bundle}/images/{image}",
        response_class=Response,
        responses={200: {"content": {"image/webp": {}}}},
    )
    def image(
        bundle: asking.BundleGiven,
        image: Annotated[
            int,
            Path(ge=0, le=10**9, description="Number of a probe image, from 0."),
            asking.IN_DIGITS,
        ],
    ) -> Response:
        """Give the thumbnail of a probe image."""
        found = desk.open_bundle(bundle)
        if image >= found.n_images:
            raise InputError(
                f"There is no image {image:,} here; images are 0 to {found.n_images - 1:,}."
            )
        # Without the bundle's digest in the address, it may not be kept unasked.
        headers = {"Cache-Control": "private, no-cache"}
        return Response(found.thumbnail(image), media_type="image/webp", headers=headers)

    @at.get("/bundles/{bundle}/labels")
    def labels(
        request: Request,
        bundle: asking.BundleGiven,
        method: Annotated[str, Query(description="A label method; all without it.")] = "",
        model: Annotated[str, Query(description="A target model; all without it.")] = "",
        layer: Annotated[str, Query(description="A layer; all without it.")] = "",
        n: Annotated[
            int, Query(ge=1, le=100, description="Labels of each neuron."), asking.IN_DIGITS
        ] = 1,
        offset: asking.Offset = 0,
        limit: asking.Limit = asking.FEW_ROWS,
    ) -> shapes.Table:
        """List labels as 'csp export' writes them."""
        found = desk.open_bundle(bundle)
        names = [method] if method else None, model or None, [layer] if layer else None
        key = ("api labels", found.digest, *map(str, names), n)
        parts = desk.memo.once(key, lambda: LabelTable.of(found, *names, n).parts)
        table = LabelTable(found, parts, n)
        page = asking.Page(offset, limit)
        part = table.rows(offset, offset + limit)
        return shapes.Table(
            bundle,
            found.digest,
            len(table),
            offset,
            limit,
            page.next(request, len(table)),
            [
                {name: shapes.cell(value) for name, value in zip(part.columns, row, strict=True)}
                for row in zip(*(part[name].to_numpy() for name in part.columns), strict=True)
            ],
        )

    return at


def _named(desk: Desk, name: str) -> shapes.BundleName:
    try:
        found = desk.open_bundle(name)
        return shapes.BundleName(name, found.digest, found.n_images, _n_neurons(found), None)
    except CspError as error:
        return shapes.BundleName(name, None, None, None, desk.sentence(error))


def _n_neurons(bundle: Bundle) -> int:
    return sum(bundle.n_units(*place) for place in places(bundle))


def bundle_answer(bundle: Bundle, name: str) -> shapes.BundleAnswer:
    """What a bundle holds."""
    manifest = bundle.manifest
    models = manifest.inputs.get("models", {})
    notices = [bundle.notice, *(n for model in models.values() for n in model.get("notices", ()))]
    return shapes.BundleAnswer(
        name=name,
        digest=bundle.digest,
        schema=manifest.schema,
        engine_version=manifest.engine_version,
        updated=manifest.updated,
        n_images=bundle.n_images,
        n_neurons=_n_neurons(bundle),
        methods=scoring_methods(bundle),
        layers=[
            shapes.Layer(
                model, layer, bundle.n_units(model, layer), list(bundle.methods(model, layer))
            )
            for model, layer in places(bundle)
        ],
        concept_columns=list(concept_names(bundle)),
        doubt=doubt(bundle) or None,
        notices=[encodable(notice) for notice in notices if notice],
        inputs=_hashes(manifest.inputs),
    )


def _hashes(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """What tells inputs from others: names, counts and hashes, and no folder of this machine."""
    probe, encoder = inputs.get("probe", {}), inputs.get("encoder", {})
    words = inputs.get("vocabulary", {})
    return {
        "images": {
            key: _sound(probe.get(key))
            for key in ("name", "n_images", "n_skipped", "content_sha256")
        },
        "encoder": {key: encoder.get(key) for key in ("fingerprint",)},
        "vocabulary": {key: _sound(words.get(key)) for key in ("name", "n_labels", "sha256")},
        "models": {
            name: {key: model.get(key) for key in ("fingerprint",)}
            for name, model in inputs.get("models", {}).items()
        },
    }


def _sound(value: Any) -> Any:
    """A text as JSON can have it; folders may have names that are no UTF-8."""
    return encodable(value) if isinstance(value, str) else value

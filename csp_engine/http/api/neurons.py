"""Lists of neurons, searches among them, and everything about one."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from csp_engine.bundle import Bundle
from csp_engine.errors import InputError
from csp_engine.http.api import asking, shapes
from csp_engine.http.api.desk import Desk
from csp_engine.methods import method_title
from csp_engine.types import NeuronRef
from csp_engine.views.address import PARAMETERS, View, read_view
from csp_engine.views.address.view import QUERIES
from csp_engine.views.conclusion.claims import conclusion_of
from csp_engine.views.confidence import probability, trust_of
from csp_engine.views.finding.index import listing_note, searchable_methods
from csp_engine.views.finding.query import query_of
from csp_engine.views.finding.standing import judged, judgement
from csp_engine.views.images.facts import known_facts
from csp_engine.views.images.pairs import Pair, exemplar_images, images_in_pairs, pairs_of
from csp_engine.views.images.tiles import Facts, ShownImage
from csp_engine.views.lists import narrowing_of, ordered, searched
from csp_engine.views.memo import Memo
from csp_engine.views.neuron.candidates import stored
from csp_engine.views.neuron.columns import column_fits
from csp_engine.views.neuron.influence import driven_outputs
from csp_engine.views.neuron.label import heading_of
from csp_engine.views.neuron.statistics import statistics
from csp_engine.views.places import scoring_methods
from csp_engine.views.table.columns import COLUMNS
from csp_engine.views.table.rows import neuron_ids

N_PAIRS = 12


def _linked(name: str) -> Any:
    """A parameter that means what it means in links."""
    return Query(alias=name, description=PARAMETERS[name].meaning, max_length=1000)


def router(desk: Desk) -> APIRouter:
    """The addresses."""
    at = APIRouter(tags=["neurons"])

    @at.get("/columns")
    def columns() -> shapes.Columns:
        """Say what the columns of neurons mean; a bundle has those that were measured."""
        return shapes.Columns(
            [shapes.Column(each.name, each.title, each.meaning) for each in COLUMNS.values()]
        )

    @at.get("/bundles/{bundle}/neurons")
    def neurons(
        request: Request,
        bundle: asking.BundleGiven,
        method: asking.MethodGiven = "",
        model: Annotated[str, Query(description="Only this target model.")] = "",
        layer: Annotated[str, Query(description="Only this layer.")] = "",
        q: Annotated[str, _linked("q")] = "",
        not_: Annotated[str, _linked("not")] = "",
        like: Annotated[str, _linked("like")] = "",
        image: Annotated[str, _linked("image")] = "",
        column: Annotated[str, _linked("column")] = "",
        has: Annotated[str, _linked("has")] = "",
        only: Annotated[str, _linked("only")] = "",
        family: Annotated[str, _linked("family")] = "",
        class_: Annotated[str, _linked("class")] = "",
        review: Annotated[str, _linked("review")] = "",
        where: Annotated[str, _linked("where")] = "",
        sort: Annotated[str, _linked("sort")] = "",
        offset: asking.Offset = 0,
        limit: asking.Limit = asking.FEW_ROWS,
    ) -> shapes.Neurons:
        """List neurons, or search them by texts, an image, another neuron or a concept column.

        A text that is no label of the bundle needs the encoder, and so the permission to use it.
        """
        found = desk.open_bundle(bundle)
        params = asking.given(
            model=model,
            layer=layer,
            method=method,
            q=q,
            not_=not_,
            like=like,
            image=image,
            column=column,
            has=has,
            only=only,
            family=family,
            class_=class_,
            review=review,
            where=where,
            sort=sort,
        )
        view = _view(found, bundle, params)
        query = None
        if view.has_query:
            query = query_of(found, desk.memo, view, desk.encoder(request))
        rows = searched(found, desk.memo, view, query, desk.verdicts(found))
        said = None
        if query is not None:
            chance = judged(found, desk.memo, query, view.method, rows)
            said = f"{judgement(query, view.method, chance)} {listing_note(found, view.method)}"
        keep = narrowing_of({**params, "network": model}, rows)
        asking.exactly(keep.notes)
        kept = ordered(rows, view, keep)
        part = kept.iloc[offset : offset + limit]
        held = [name for name in COLUMNS if name in part]
        cells = zip(*(part[name].to_numpy() for name in held), strict=True)
        return shapes.Neurons(
            bundle,
            found.digest,
            len(kept),
            offset,
            limit,
            asking.Page(offset, limit).next(request, len(kept)),
            said and said.strip(),
            [
                {
                    "neuron": neuron,
                    **{name: shapes.cell(value) for name, value in zip(held, row, strict=True)},
                }
                for neuron, row in zip(neuron_ids(part), cells, strict=True)
            ],
        )

    @at.get("/bundles/{bundle}/neurons/{neuron:path}")
    def neuron(
        request: Request,
        bundle: asking.BundleGiven,
        neuron: asking.NeuronGiven,
        method: asking.MethodGiven = "",
        pairs: Annotated[
            int, Query(ge=0, le=100, description="How many pairs of images."), asking.IN_DIGITS
        ] = N_PAIRS,
    ) -> shapes.NeuronAnswer:
        """Say everything that is measured of one neuron."""
        found = desk.open_bundle(bundle)
        ref = asking.neuron_of(found, neuron)
        method = asking.named("method", method, found.methods(ref.model, ref.layer))
        start = asking.address_of(request, f"/neurons/{neuron}")
        return neuron_answer(desk, found, bundle, ref, method, pairs, start)

    return at


def _view(bundle: Bundle, name: str, params: Any) -> View:
    """What is asked of all neurons, exactly.

    Raises:
        InputError: if anything of it is not there.
    """
    model, layer = params.get("model", ""), params.get("layer", "")
    models = bundle.model_names
    asking.named("model", model, models)
    if layer:
        among = [model] if model else models
        known = list(dict.fromkeys(each for name in among for each in bundle.layers(name)))
        asking.named("layer", layer, known)
        having = [each for each in among if layer in bundle.layers(each)]
        if len(having) > 1:
            raise InputError(f"Layer {layer!r} is in {' and '.join(having)}; say which by 'model'.")
        params = {**params, "model": having[0]}
    is_query = any(params.get(each) for each in QUERIES)
    known = searchable_methods(bundle) if is_query else scoring_methods(bundle)
    method = asking.named("method", params.get("method", ""), known)
    view = read_view({**params, "method": ""}, name, bundle)
    asking.exactly(view.notes)
    if params.get("not") and not view.has_query:
        raise InputError("Give q, like or image too; 'not' alone describes nothing.")
    return replace(view, method=method or "none")


def neuron_answer(
    desk: Desk,
    bundle: Bundle,
    name: str,
    neuron: NeuronRef,
    method: str,
    n_pairs: int,
    start: str,
) -> shapes.NeuronAnswer:
    """Everything about one neuron; ``start`` is the address of its bundle."""
    memo = desk.memo
    heading = heading_of(bundle, neuron, method)
    params = View(name, neuron.model, neuron.layer, neuron.unit, method).params()
    return shapes.NeuronAnswer(
        neuron=str(neuron),
        bundle=name,
        digest=bundle.digest,
        method=method,
        heading=heading.label.heading,
        is_named=heading.label.is_named,
        states=[state.word for state in heading.states],
        reasons=list(map(str, heading.reasons)),
        conclusion=[
            shapes.Sentence(claim.kind, str(claim))
            for claim in conclusion_of(bundle, memo, neuron, method)
        ],
        labels=[
            _labels(bundle, memo, neuron, each)
            for each in bundle.methods(neuron.model, neuron.layer)
        ],
        facts=[
            shapes.Fact(fact.name, fact.text, {k: shapes.cell(v) for k, v in fact.values.items()})
            for fact in statistics(bundle, neuron)
        ],
        columns=[
            shapes.Fit(
                fit.name,
                *map(shapes.number, (fit.auroc, fit.pearson, fit.auprc)),
                fit.n_positive,
                fit.n_known,
            )
            for fit in column_fits(bundle, neuron)
        ],
        outputs=[
            shapes.Effect(
                each.name, shapes.number(each.effect), shapes.number(each.weight), each.n_images
            )
            for each in driven_outputs(bundle, neuron)
        ],
        pairs=_pairs(bundle, memo, neuron, n_pairs, start),
        n_exemplars=len(exemplar_images(bundle, neuron)),
        page=desk.page_url(params),
    )


def _labels(bundle: Bundle, memo: Memo, neuron: NeuronRef, method: str) -> shapes.Labels:
    found = stored(bundle, neuron, method)
    trust = trust_of(bundle, memo, neuron, found)
    return shapes.Labels(
        method,
        method_title(method),
        shapes.number(found.gamma),
        found.is_reliable,
        trust.words,
        trust.doubt or None,
        shapes.number(probability(bundle, memo, neuron, method)),
        shapes.number(found.best_percentile),
        found.n_exemplars,
        [
            shapes.Candidate(
                row.text,
                *map(shapes.number, (row.score, row.raw, row.margin, row.percentile, row.weight)),
                row.is_proposed,
                row.note,
            )
            for row in found.rows
        ],
    )


def _pairs(
    bundle: Bundle, memo: Memo, neuron: NeuronRef, limit: int, start: str
) -> list[shapes.ImagePair]:
    known = known_facts(bundle, memo, images_in_pairs(bundle, neuron, limit))

    def facts_of(image: int, _: float) -> Facts:
        return known[image]

    def shot(shown: ShownImage) -> shapes.Shot:
        return shapes.Shot(
            shown.image,
            shapes.number(shown.activation),
            dict(shown.facts),
            f"{start}/images/{shown.image}",
        )

    def pair(each: Pair) -> shapes.ImagePair:
        return shapes.ImagePair(
            each.rank,
            shot(each.exemplar),
            None if each.contrast is None else shot(each.contrast),
            shapes.number(each.similarity),
        )

    return [pair(each) for each in pairs_of(bundle, neuron, limit, facts_of)]

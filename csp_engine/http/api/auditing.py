"""What an audit found: interventions, associations, fixes, factors, curves, what fires together."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from fastapi import APIRouter, Path, Query

from csp_engine.errors import InputError
from csp_engine.http.api import asking, shapes
from csp_engine.http.api.desk import Desk
from csp_engine.numbers import plain_json
from csp_engine.views.audit import associations, factors, fixes, groups, interventions
from csp_engine.views.curves import told as curves
from csp_engine.words.own_concepts import from_link


class Kind(StrEnum):
    """A kind of evidence."""

    interventions = "interventions"
    associations = "associations"
    fixes = "fixes"
    factors = "factors"
    curves = "curves"
    cofiring = "cofiring"


def router(desk: Desk) -> APIRouter:
    """The addresses."""
    at = APIRouter(tags=["audit"])

    @at.get("/bundles/{bundle}/audit/{kind}")
    def audit(
        bundle: asking.BundleGiven,
        kind: Annotated[
            Kind,
            Path(
                description="interventions: what artefacts do to an output and through which "
                "neurons. associations: which neurons go with which columns of the images. fixes: "
                "what became of decisions when something was held still. factors: which factors "
                "of a layer push wrong decisions. curves: what became of decisions as more and "
                "more neurons of a layer were held still. cofiring: which neurons fire together."
            ),
        ],
        model: asking.ModelGiven = "",
        method: asking.MethodGiven = "",
        concepts: asking.ConceptsGiven = "",
        layer: Annotated[
            str,
            Query(
                description="cofiring: a layer; without it, the one that fewest neurons carry the "
                "artefact's effect in."
            ),
        ] = "",
        artefact: Annotated[
            str,
            Query(
                description="cofiring: rank groups by their part of this artefact's effect; "
                "without it and a layer, every artefact whose effect was shown."
            ),
        ] = "",
    ) -> shapes.Audits:
        """Give what an audit of a model found; nothing where the bundle holds no such evidence."""
        found = desk.open_bundle(bundle)
        model = asking.named("model", model, found.model_names)
        layers = associations.layers_with(found, model)
        labelling = dict.fromkeys(
            m for each in found.layers(model) for m in found.methods(model, each)
        )
        method = asking.named("method", method, list(labelling))
        for name, given, of in (
            ("concepts", concepts, Kind.associations),
            ("layer", layer, Kind.cofiring),
            ("artefact", artefact, Kind.cofiring),
        ):
            if given and kind is not of:
                raise InputError(
                    f"{name} changes nothing of {kind.value}; ask for {of.value} with it."
                )
        rows = []
        if kind is Kind.interventions and model in interventions.models_with(found):
            rows = [interventions.as_json(found, model, method)]
        elif kind is Kind.associations:
            tagged = from_link(concepts)
            rows = [
                associations.as_json(found, desk.memo, model, each, method, tagged)
                for each in layers
            ]
        elif kind is Kind.fixes:
            rows = [
                {"name": name, **fixes.as_json(fixes.kept(found, desk.memo, model, name))}
                for name in found.fixes(model)
            ]
        elif kind is Kind.factors:
            rows = [
                factors.as_json(each)
                for layer in factors.layers_factored(found, model)
                if (each := factors.factored(found, model, layer, method)) is not None
            ]
        elif kind is Kind.curves:
            rows = [
                curves.as_json(curves.kept(found, desk.memo, model, each))
                for each in curves.layers_curved(found, model)
            ]
        elif kind is Kind.cofiring:
            asked = groups.firings(found, desk.memo, model, method, layer, artefact)
            rows = [groups.firing_json(each) for each in asked]
        return shapes.Audits(bundle, found.digest, kind.value, plain_json(rows))

    return at

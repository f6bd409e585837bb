"""Verdicts: read by everybody who may look, given by those who may."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Query, Request

from csp_engine.errors import InputError
from csp_engine.http.api import asking, shapes
from csp_engine.http.api.desk import Desk
from csp_engine.http.permissions import Permission
from csp_engine.reviews import CONFIDENCES, REASONS, VERDICTS, WITHDRAWN, as_rows, lasting_id
from csp_engine.views.neuron.label import best_label


def router(desk: Desk) -> APIRouter:
    """The addresses."""
    at = APIRouter(tags=["verdicts"])

    @at.get("/bundles/{bundle}/reviews")
    def reviews(
        request: Request,
        bundle: asking.BundleGiven,
        neuron: Annotated[str, Query(description="Only this neuron, model/layer/unit.")] = "",
        offset: asking.Offset = 0,
        limit: asking.Limit = asking.FEW_ROWS,
    ) -> shapes.Table:
        """List the verdicts on a bundle's neurons, the oldest first, as 'csp reviews' does."""
        found = desk.open_bundle(bundle)
        wanted = str(asking.neuron_of(found, neuron)) if neuron else ""
        database = desk.reviews(False)
        every = [] if database is None else as_rows(found, database)
        rows = [row for row in every if not wanted or row["neuron"] == wanted]
        return shapes.Table(
            bundle,
            found.digest,
            len(rows),
            offset,
            limit,
            asking.Page(offset, limit).next(request, len(rows)),
            rows[offset : offset + limit],
        )

    @at.post("/bundles/{bundle}/reviews", status_code=201)
    def give(
        request: Request,
        bundle: asking.BundleGiven,
        verdict: Annotated[
            shapes.Verdict,
            Body(
                description=f"`verdict` is one of {', '.join((*VERDICTS, WITHDRAWN))}; "
                f"`confidence` one of {', '.join(CONFIDENCES)}, or empty; `reason` one of "
                f"{', '.join(REASONS)}, or empty."
            ),
        ],
    ) -> shapes.Recorded:
        """Record a verdict; nothing is ever changed or removed, a later one counts."""
        desk.require(request, Permission.REVIEW)
        found = desk.open_bundle(bundle)
        neuron = asking.neuron_of(found, verdict.neuron)
        method = (
            asking.named("method", verdict.method, found.methods(neuron.model, neuron.layer))
            if verdict.method
            else ""
        )
        known = desk.reviewer(request)
        if known and verdict.reviewer and verdict.reviewer != known:
            raise InputError(
                f"This server records your verdicts as those of {known}; leave 'reviewer' out."
            )
        label = best_label(found, neuron, method) if method else None
        database = desk.reviews(True)
        assert database is not None
        lasting, reviewer = lasting_id(found, neuron), known or verdict.reviewer
        database.add(
            lasting,
            reviewer=reviewer,
            verdict=verdict.verdict,
            note=verdict.note,
            confidence=verdict.confidence,
            reason=verdict.reason,
            method=method,
            label=label.text if label is not None and label.is_reliable else "",
            bundle=found.digest,
        )
        mine = [each for each in database.history(lasting) if each.reviewer == reviewer.strip()]
        return shapes.Recorded(str(neuron), reviewer.strip(), mine[0].revision, mine[0].verdict)

    return at

"""What a build could not do, refused before any image is looked at."""

from __future__ import annotations

from csp_engine.captioners import Captioner, require_encoder
from csp_engine.pipeline.copies import require_different_images
from csp_engine.pipeline.request import BuildRequest, require_columns, require_enough_images
from csp_engine.pipeline.stages.influence import require_telling_names


def require_possible(request: BuildRequest) -> None:
    """Refuse what a build could not do, before any image is looked at.

    Raises:
        InputError: as said.
        StaleError: if the captioner was made for another encoder.
    """
    require_enough_images(len(request.probe.table), request.recipe, "lists")
    require_columns(request.recipe, request.probe)
    require_different_images(request.probe, request.recipe)
    require_telling_names(request)
    if isinstance(request.captioner, Captioner):
        encoder = request.encoder
        require_encoder(request.captioner, encoder.spec, encoder.fingerprint)

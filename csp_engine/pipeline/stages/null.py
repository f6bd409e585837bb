"""Random image sets, which scores are judged against: the stage ``null``."""

from __future__ import annotations

from typing import Any

from csp_engine.bundle import kinds
from csp_engine.methods import noise_evidence
from csp_engine.pipeline.copies import copies_params, copy_of, partner_copy_of
from csp_engine.pipeline.run import Run
from csp_engine.pipeline.sharing.mining import contrast_arrays
from csp_engine.pipeline.stage import Made, Stage
from csp_engine.pipeline.stages.contrast import mining, mining_needs, mining_params


def _params(run: Run) -> dict[str, Any]:
    recipe = run.recipe
    return {
        **mining_params(run),
        "n_draws": recipe.n_null,
        "n_exemplars": recipe.n_exemplars,
        "n_paired": recipe.n_score,
        "seed": recipe.seed,
        **copies_params(run),
    }


def _make(run: Run) -> Made:
    recipe = run.recipe
    drawn = noise_evidence(
        run.bundle.image_vectors(),
        n_draws=recipe.n_null,
        n_exemplars=recipe.n_exemplars,
        seed=recipe.seed,
        n_paired=recipe.n_score,
        copy_of_n=copy_of(run),
        partner_copy_of_n=partner_copy_of(run),
        progress=lambda _, done, total: run.progress("random image sets", done, total),
        **mining(run),
    )
    return Made(
        arrays={
            "exemplar_image": drawn.exemplars.image_uk,
            "exemplar_activation": drawn.exemplars.activation_uk,
            "exemplar_count": drawn.exemplars.count_u,
            **contrast_arrays(drawn.contrast),
        }
    )


STAGE = Stage(kind=kinds.NULL, params=_params, needs=mining_needs, make=_make)

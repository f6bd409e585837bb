"""Do labels of the two groups of exemplars name what a unit with two meanings answers to?

Units planted into the demo's probe set (``csp evaluate --benchmark planted``): *either* fires on
images of one concept or another, *single* on those of one. Exemplars are split as for
polysemanticity, and each group is labelled: by CSP, and by what pages say of groups
(``group_labels``). Counted are groups whose first label is a wording of a concept of the unit, and
units all of whose concepts some group names.

    python -m studies group_labels
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from csp_engine.audits.polysemanticity import polysemanticity
from csp_engine.bundle import Bundle
from csp_engine.evaluation.label_accuracy import wording_key
from csp_engine.evaluation.planted_units import Plan, Unit, plant
from csp_engine.evidence.contrast import ContrastRule, mine_contrast
from csp_engine.evidence.evidence import Evidence
from csp_engine.evidence.exemplars import rank_exemplars
from csp_engine.methods import METHODS, NullComponents, group_labels, noise_evidence
from csp_engine.methods.method import Scored, resolve_params
from csp_engine.methods.scoring.group_labels import of_ranks
from csp_engine.methods.scoring.halves import csp_components
from csp_engine.views.benchmark.planted import World, world_of
from studies.real_dermoscopy import ROOT, rounded

DEMO = ROOT / "assets" / "demo" / "dermoscopy.csp"
RESULT = Path(__file__).parent / "results" / "group_labels.json"
N_UNITS, N_EXEMPLARS, N_DRAWS = 80, 30, 500
SEEDS = {"chooses": 0, "confirms": 1}
GAMMAS = (0.0, 0.5, 1.0)


def by_csp(world: World, one: Evidence, group_k: np.ndarray) -> list[int]:
    """The best label of each group by CSP alone."""
    csp = METHODS["csp"]
    params = resolve_params(csp, world.params["csp"])
    found = []
    for group in range(int(group_k.max()) + 1):
        scored = csp.score(of_ranks(one, np.flatnonzero(group_k == group)), world.label_td, params)
        assert isinstance(scored, Scored), "CSP scores a vocabulary"
        found.append(int(scored.score_ut[0].argmax()))
    return found


def judged(world: World, units: list[Unit]) -> pd.DataFrame:
    """For every unit and way of labelling: the share of its groups named right, and all named."""
    acts_un = np.stack([unit.activation_n for unit in units])
    rule = ContrastRule(world.recipe.threshold, world.recipe.n_partners, world.recipe.reuse)
    exemplars = rank_exemplars(acts_un, N_EXEMPLARS)
    evidence = Evidence(
        exemplars, mine_contrast(acts_un, exemplars, world.image_nd, rule), world.image_nd
    )
    drawn = noise_evidence(world.image_nd, n_draws=N_DRAWS, n_exemplars=N_EXEMPLARS, rule=rule)
    halves = csp_components(drawn, N_EXEMPLARS, "none")
    null = NullComponents(*halves, np.full(N_DRAWS, N_EXEMPLARS))
    shown_uk = np.ones(exemplars.image_uk.shape, bool)
    split = polysemanticity(world.image_nd[exemplars.image_uk], shown_uk)
    keys = [wording_key(text) for text in world.texts]
    rows = []
    for u, unit in enumerate(units):
        one, group_k = evidence.block(np.array([u])), split.group_uk[u].astype(np.int64)
        said = {"csp": by_csp(world, one, group_k)}
        for gamma in GAMMAS:
            found = group_labels(one, group_k, world.label_td, world.texts, null, gamma=gamma)
            said[f"standardised, gamma {gamma:g}"] = [labels[0] for labels in found if labels]
        accepted = [world.accepted_c[c] for c in unit.concepts]
        for way, labels in said.items():
            own = [keys[label] for label in labels]
            rows.append(
                {
                    "row": unit.row,
                    "way": way,
                    "groups": np.mean([any(key in texts for texts in accepted) for key in own]),
                    "all": all(any(key in texts for key in own) for texts in accepted),
                }
            )
    return pd.DataFrame(rows)


def main() -> None:
    world = world_of(Bundle.open(DEMO))
    result = {}
    for part, seed in SEEDS.items():
        planted = plant(world.is_shown_nc, world.image_nd, Plan(n_units=N_UNITS, seed=seed))
        table = judged(world, [unit for unit in planted if unit.row in ("single", "either")])
        means = table.groupby(["row", "way"], sort=False)[["groups", "all"]].mean()
        print(part, means.to_string(float_format="%.3f"), sep="\n")
        result[part] = {
            f"{row}, {way}": each
            for (row, way), each in zip(means.index, means.to_dict("records"), strict=True)
        }
    RESULT.write_text(json.dumps(rounded(result), indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Every label method of a bundle on units planted into its own probe set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float32

from csp_engine.bundle import Bundle, kinds
from csp_engine.bundle.kept_scores import KeptScores
from csp_engine.errors import InputError
from csp_engine.evaluation.label_accuracy import wording_key
from csp_engine.evaluation.planted_units import Plan, Unit, plant
from csp_engine.evaluation.separating import named_columns
from csp_engine.evidence.contrast import ContrastRule, mine_contrast
from csp_engine.evidence.evidence import Evidence, Given
from csp_engine.evidence.exemplars import rank_exemplars
from csp_engine.evidence.speaker import Speaker
from csp_engine.methods import METHODS, label_layer, noise_evidence
from csp_engine.methods.method import Method, itself
from csp_engine.methods.scoring.labelling import Labelled
from csp_engine.pipeline.recipe import Recipe
from csp_engine.stats.intervals import share_of
from csp_engine.types import Progress, silent
from csp_engine.vectors import directions
from csp_engine.views.accuracy import wordings_of
from csp_engine.views.places import places, scoring_methods

AT_HAND = frozenset({"exemplars", "contrast", "activations", "layer", "texts", "null"})
"""What planted units have; a method that needs anything else is left out. Concept columns they have
not: these say what was planted."""

ALIKE = {"milan": {"candidates": "labels"}}
"""What lets methods that write labels choose among the words that the others have."""

ORACLE = "concept columns"
"""Beside the methods: the column that goes best with the activation, by correlation."""

GAMMAS = (0.0, 0.25, 0.5, 0.75, 1.0)
DEPTHS = (10, 30, 100, 300)
PARTNERS = (1, 2, 5)
SIZES = (0.125, 0.25, 0.5)
NOISES = (0.25, 0.5, 1.0, 2.0)
SOURCES = {"captioner: exemplars": "positive-only", "captioner: contrast": "contrastive"}
"""What is tried one by one: shares of the common part, images looked at, contrast images of each,
shares of the probe set, noise on its embeddings in deviations of a coordinate, and the candidates
of one mode as the whole vocabulary."""

CONTAINED = 0.8
"""Share of the images of one concept that show another, from which the other is broader."""
ERRORS = ("broader", "narrower", "companion", "other concept", "no concept")
"""What a wrong label may say of a unit with one concept; the first that holds counts."""

TRIED_ROWS = ("single", "co-occurrence 0.9", "conjunction", "either")
"""Rows of units that are labelled again with other settings."""

N_NULL_TRIED = 100
"""Random image sets where settings are tried, and for methods that write labels of their own; the
rest has as many as the bundle."""


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """A probe set with concepts, labels, and how a bundle was labelled."""

    image_nd: Float32[np.ndarray, "n d"]
    is_shown_nc: Bool[np.ndarray, "n c"]
    accepted_c: Sequence[set[str]]
    label_td: Float32[np.ndarray, "t d"]
    texts: Sequence[str]
    sources: Sequence[str]
    params: Mapping[str, Mapping[str, Any]]
    recipe: Recipe
    speaker: Speaker | None = None

    @property
    def of_writers(self) -> World:
        """The same, labelled by the methods that write labels of their own."""
        at_hand = AT_HAND | ({"speaker"} if self.speaker is not None else set())
        written = {
            name: {**self.recipe.method_params(name), **ALIKE.get(name, {})}
            for name, method in METHODS.items()
            if method.writes and set(method.needs) <= at_hand
        }
        return replace(self, params=written)


def methods_at_hand(bundle: Bundle) -> dict[str, dict[str, Any]]:
    """The bundle's label methods that need no more than planted units have, and their parameters.

    Raises:
        InputError: if there is none.
    """
    params = {}
    for method in scoring_methods(bundle):
        place = next(each for each in places(bundle) if method in bundle.methods(*each))
        kept = KeptScores(bundle, *place, method)
        if kept.method is not None and set(kept.method.needs) <= AT_HAND and not kept.method.writes:
            params[method] = kept.method_params
    if not params:
        raise InputError(
            f"Bundle {bundle.name} has no label method that can be run on planted units; add one "
            "with 'csp label --set methods=csp'."
        )
    return params


def world_of(bundle: Bundle) -> World:
    """What a bundle gives to plant units in.

    Concepts are its columns and classes whose name, or a wording that ground truth gives, is among
    the labels.

    Raises:
        InputError: if there is no such concept, or no method that could be run again.
    """
    texts = bundle.labels()["text"].tolist()
    known = {wording_key(text) for text in texts}
    has_truth = any(bundle.truth(*place) is not None for place in places(bundle))
    wordings = wordings_of(bundle) if has_truth else {}
    named = named_columns(
        bundle.table(kinds.PROBE.name(), "probe"), bundle.manifest.inputs["probe"]["concepts"]
    )
    accepted = [
        {wording_key(text) for text in (name, *wordings.get(name, ()))} & known
        for name in named.texts
    ]
    is_told_c = np.array([bool(keys) for keys in accepted], bool)
    is_told_c &= ~np.isnan(named.value_nc).any(axis=0)
    if not is_told_c.any():
        raise InputError(
            f"Bundle {bundle.name} has no concept column or class whose name is among its labels, "
            "so nothing can be planted; give such columns in the table of the probe set "
            "(docs/tables.md)."
        )
    params = methods_at_hand(bundle)
    return World(
        np.asarray(bundle.image_vectors()),
        named.value_nc[:, is_told_c] >= 0.5,
        [keys for keys, is_told in zip(accepted, is_told_c, strict=True) if is_told],
        np.asarray(bundle.label_vectors()),
        texts,
        bundle.labels()["source"].tolist(),
        params,
        Recipe.from_json(bundle.manifest.recipe),
    )


def planted_benchmark(
    bundle: Bundle,
    plan: Plan | None = None,
    *,
    tries: bool = True,
    speaker: Speaker | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Plant units into a bundle's probe set and label them by many methods. JSON-ready.

    These are the bundle's own, and all that write labels of their own; one that asks a captioner
    only where there is a ``speaker``. ``rows`` holds for each row of the table and method: ``n``
    units, ``right``, ``reliable_and_right``, ``reliable_and_wrong`` and, where nothing is right,
    ``refused``; shares with Wilson's interval; of units with one concept also ``errors``, how many
    labels are wrong in which way (``ERRORS``). ``tries`` holds the share of right labels of some
    rows together for other settings of gamma, depth, partners, probe size and noise on the
    embeddings, and with the candidates of one mode alone, for methods that score a vocabulary.

    Raises:
        InputError: if nothing can be planted.
    """
    plan = plan or Plan()
    world = world_of(bundle)
    units = plant(world.is_shown_nc, world.image_nd, plan)
    writers = replace(world, speaker=speaker).of_writers
    n_null = world.recipe.n_null
    told = judged(world, units, n_null, progress)
    told |= judged(writers, units, min(N_NULL_TRIED, n_null), progress)
    told[ORACLE] = _by_columns(world, units)
    rows = [
        {
            "row": row,
            "method": method,
            **_figures(own, str(row).startswith("noise")),
            **_errors(world, units, method, own),
        }
        for method, table in told.items()
        for row, own in table.groupby("row", sort=False)
    ]
    return {
        "bundle": bundle.name,
        "digest": bundle.digest,
        "plan": asdict(plan),
        "n_images": len(world.image_nd),
        "n_concepts": world.is_shown_nc.shape[1],
        "n_labels": len(world.texts),
        "methods": [*world.params, *writers.params],
        "rows": rows,
        "tries": list(_tries(world, units, plan, progress)) if tries else [],
    }


def labelled(
    world: World, units: Sequence[Unit], n_null: int, n_labels: int, progress: Progress = silent
) -> dict[str, Labelled]:
    """The best labels of units by every method of a world."""
    acts_un = np.stack([unit.activation_n for unit in units])
    recipe = world.recipe
    rule = ContrastRule(recipe.threshold, recipe.n_partners, recipe.reuse)
    exemplars = rank_exemplars(acts_un, min(recipe.n_exemplars, acts_un.shape[1] // 4))
    sources = {
        "activations": lambda unit_u: acts_un[unit_u],
        "layer": lambda _: acts_un,
        "texts": lambda _: world.texts,
        **({} if world.speaker is None else {"speaker": lambda _: world.speaker}),
    }
    evidence = Evidence(
        exemplars,
        mine_contrast(acts_un, exemplars, world.image_nd, rule),
        world.image_nd,
        Given(sources=sources),
    )
    null = noise_evidence(
        world.image_nd,
        n_draws=n_null,
        n_exemplars=exemplars.image_uk.shape[1],
        rule=rule,
        seed=recipe.seed,
    )
    found = {}
    for name, params in world.params.items():
        found[name] = label_layer(
            METHODS[name], evidence, null, world.label_td, params,
            n_labels=n_labels, progress=progress,
        )  # fmt: skip
    return found


def judged(
    world: World, units: Sequence[Unit], n_null: int, progress: Progress = silent
) -> dict[str, pd.DataFrame]:
    """For each method a row per unit: ``row``, ``label``, ``is_right``, ``is_reliable``.

    ``label`` is a row of the vocabulary, missing where a unit has none, or one that joins or weighs
    concepts. Such a label is right if all that counts in it is (``Method.says``).
    """
    found = labelled(world, units, n_null, 1, progress)
    return {name: judged_units(world, units, name, done) for name, done in found.items()}


def judged_units(world: World, units: Sequence[Unit], name: str, done: Labelled) -> pd.DataFrame:
    """What one method said of each unit; see ``judged``."""
    accepted = [set().union(*(world.accepted_c[c] for c in unit.concepts)) for unit in units]
    place = {text: t for t, text in reversed(list(enumerate(world.texts)))}
    scores, texts = done.scores, world.texts if done.texts is None else done.texts
    said_u = [
        texts[label] if count else None
        for label, count in zip(scores.label_uk[:, 0], scores.count_u, strict=True)
    ]
    return pd.DataFrame(
        {
            "row": [unit.row for unit in units],
            "label": pd.array([place.get(said) for said in said_u], "Int64"),
            "is_right": [
                said is not None and _is_right(METHODS[name], said, keys)
                for said, keys in zip(said_u, accepted, strict=True)
            ],
            "is_reliable": np.asarray(scores.reliable_u, bool),
        }
    )


def _is_right(method: Method, said: str, accepted: set[str]) -> bool:
    names = method.says(said)
    return bool(names) and all(wording_key(name) in accepted for name in names)


def _by_columns(world: World, units: Sequence[Unit]) -> pd.DataFrame:
    """What the concept columns themselves say: how well posed the task is."""
    shown_nc = world.is_shown_nc - world.is_shown_nc.mean(axis=0)
    shown_nc /= np.linalg.norm(shown_nc, axis=0)
    acts_un = np.stack([unit.activation_n for unit in units])
    best_u = ((acts_un - acts_un.mean(axis=1, keepdims=True)) @ shown_nc).argmax(axis=1)
    is_right = [
        any(world.accepted_c[best] & world.accepted_c[c] for c in unit.concepts)
        for best, unit in zip(best_u, units, strict=True)
    ]
    rows = [unit.row for unit in units]
    return pd.DataFrame({"row": rows, "is_right": is_right, "is_reliable": None})


def _figures(own: pd.DataFrame, is_noise: bool) -> dict[str, Any]:
    def share(is_hit_u: np.ndarray) -> dict[str, Any]:
        return asdict(share_of(int(is_hit_u.sum()), len(is_hit_u)))

    found: dict[str, Any] = {"n": len(own)}
    right_u = own["is_right"].to_numpy(bool)
    if not is_noise:
        found["right"] = share(right_u)
    if own["is_reliable"].notna().all():
        reliable_u = own["is_reliable"].to_numpy(bool)
        if is_noise:
            found["refused"] = share(~reliable_u)
        else:
            found["reliable_and_right"] = share(reliable_u & right_u)
            found["reliable_and_wrong"] = share(reliable_u & ~right_u)
    return found


def setting_of(row: Mapping[str, Any]) -> str:
    """What was tried, in words: a row of ``tries``."""
    value = row["value"]
    return f"{row['setting']} {value if isinstance(value, str) else format(value, 'g')}"


def _errors(world: World, units: Sequence[Unit], method: str, own: pd.DataFrame) -> dict[str, Any]:
    """How the wrong labels of units with one concept are wrong, by what their images show.

    Nothing is said of a method whose labels are no words of the vocabulary.
    """
    if "label" not in own or any(len(units[u].concepts) != 1 for u in own.index):
        return {}
    if METHODS[method].says is not itself:
        return {}
    kinds = [
        error_of(world.is_shown_nc, world.accepted_c, units[u], wording_key(world.texts[label]))
        for u, label, is_right in zip(own.index, own["label"], own["is_right"], strict=True)
        if not is_right and not pd.isna(label)
    ]
    return {"errors": {kind: kinds.count(kind) for kind in ERRORS}}


def error_of(
    is_shown_nc: Bool[np.ndarray, "n c"], accepted_c: Sequence[set[str]], unit: Unit, key: str
) -> str:
    """Which of ``ERRORS`` a wrong label of a unit with one concept is.

    Args:
        is_shown_nc: which image shows which concept.
        accepted_c: the ``wording_key`` of all that says each concept.
        unit: with one concept.
        key: the ``wording_key`` of the label.
    """
    (concept,) = unit.concepts
    said = [c for c, keys in enumerate(accepted_c) if key in keys]
    shows_n = is_shown_nc[:, concept]
    for c in said:
        n_both = (shows_n & is_shown_nc[:, c]).sum()
        if n_both >= CONTAINED * shows_n.sum():
            return "broader"
        if n_both >= CONTAINED * is_shown_nc[:, c].sum():
            return "narrower"
    if unit.companion in said:
        return "companion"
    return "other concept" if said else "no concept"


def _tries(
    world: World, units: Sequence[Unit], plan: Plan, progress: Progress
) -> Iterable[dict[str, Any]]:
    chosen = [unit for unit in units if unit.row in TRIED_ROWS]

    def tried(
        name: str, value: float | int | str, changed: World, own: Sequence[Unit]
    ) -> Iterable[Any]:
        n_null = min(N_NULL_TRIED, world.recipe.n_null)
        for method, table in judged(changed, own, n_null, progress).items():
            right = share_of(int(table["is_right"].sum()), len(table))
            yield {"setting": name, "value": value, "method": method, "right": asdict(right)}

    for gamma in GAMMAS:
        yield from tried(
            "gamma", gamma, _with(world, {"gamma": gamma, "gammas": f"{gamma:g}"}), chosen
        )
    n_images = len(world.image_nd)
    for depth in (depth for depth in DEPTHS if depth <= n_images // 4):
        deep = _with(
            world, {"n_score": depth, "n_images": depth, "depths": f"{100 * depth / n_images:g}"}
        )
        recipe = replace(deep.recipe, n_exemplars=depth, n_score=depth)
        yield from tried("depth", depth, replace(deep, recipe=recipe), chosen)
    for n_partners in PARTNERS:
        recipe = replace(world.recipe, n_partners=n_partners)
        changed = replace(_with(world, {}, ("contrast",)), recipe=recipe)
        yield from tried("partners", n_partners, changed, chosen)
    rng = np.random.default_rng(plan.seed)
    for share in SIZES:
        image_n = np.sort(rng.permutation(n_images)[: round(share * n_images)])
        fewer = replace(
            world, image_nd=world.image_nd[image_n], is_shown_nc=world.is_shown_nc[image_n]
        )
        own = [replace(unit, activation_n=unit.activation_n[image_n]) for unit in chosen]
        yield from tried("images", len(image_n), fewer, own)
    spread = float(world.image_nd.std(axis=0).mean())
    for noise in NOISES:
        e_nd = rng.standard_normal(world.image_nd.shape).astype(np.float32)
        noisy = replace(
            world, image_nd=directions(world.image_nd + np.float32(noise * spread) * e_nd)
        )
        yield from tried("encoder noise", noise, noisy, chosen)
    for source, value in SOURCES.items():
        label_t = [t for t, each in enumerate(world.sources) if source in each.split(";")]
        if label_t:
            words = [world.texts[t] for t in label_t]
            fewer = replace(world, label_td=world.label_td[label_t], texts=words)
            yield from tried("candidates", value, fewer, chosen)


def _with(world: World, changes: Mapping[str, Any], needs: Sequence[str] = ()) -> World:
    """The world with only the methods that have one of some parameters, or need something."""
    params = {
        name: {
            **held,
            **{key: value for key, value in changes.items() if key in METHODS[name].params},
        }
        for name, held in world.params.items()
        if set(changes) & set(METHODS[name].params) or set(needs) & set(METHODS[name].needs)
    }
    return replace(world, params=params)

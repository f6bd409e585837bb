"""Which neurons excite for an artefact, how surely, what else could be why, and what was not found.

Association says that images with an artefact excite a neuron more than images without; it does not
say that a decision rests on it. That is for interventions.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from csp_engine import numbers
from csp_engine.bundle import Bundle, StoredAssociation, kinds
from csp_engine.evaluation.associations.asking import (
    ColumnsAsked,
    columns_asked,
    groups_of,
    related,
)
from csp_engine.evaluation.associations.confounding import (
    Together,
    levels_of,
    seen_without,
    what_goes_with,
)
from csp_engine.evaluation.ground_truth import independent_counts
from csp_engine.reading.tables import singular_key
from csp_engine.stats.intervals import auroc_interval
from csp_engine.stats.rank_sum import clustered_error, least_correlating, midranks
from csp_engine.types import NeuronRef
from csp_engine.views.audit.figures import Figure
from csp_engine.views.audit.interventions import audited, effects, models_with
from csp_engine.views.memo import Memo
from csp_engine.views.neuron.label import BestLabel, best_label
from csp_engine.views.sentence import listed
from csp_engine.words.concepts import ConceptSet

NOTHING = float("nan")
FINDABLE = 0.995
"""From here on an area is written as 1."""
LEAST_IMAGES = 20
"""Images of either kind without which the encoder is not asked."""
SHOWS = 0.6
"""AUROC above which something shows in images."""
SETTLED = ("valid", "neutral")
"""Tags by which somebody says that something may matter, or says nothing either way."""
LEAST_ELSE = 0.65
"""A further column is named beside a suspect from this AUROC on."""


@dataclass(frozen=True, slots=True)
class Area(Figure):
    """An AUROC with its interval, as a page writes it: ``.95 (.94 to .96)``."""

    @property
    def words(self) -> str:
        """The area, then its 95 % interval, if it has one."""
        if not self.is_known:
            return numbers.UNKNOWN
        ends = f"{area(self.low)} to {area(self.high)}" if self.has_interval else numbers.BARE
        return f"{area(self.value)} ({ends})"


NO_AREA = Area(NOTHING, NOTHING, NOTHING)


@dataclass(frozen=True, slots=True)
class Sought:
    """One column of one layer: what was looked for, and how it ended.

    ``n_with`` and ``n_without`` count groups, ``n_images`` and ``n_positive`` images. ``best`` is
    the area of the neuron that goes with it best; ``least`` the smallest area that would have been
    called with a chance of 80 %, by area and correlation. ``tag`` is that of the concept set, or
    empty.
    """

    name: str
    kind: str
    tag: str
    n_images: int
    n_positive: int
    n_with: int
    n_without: int
    is_tried: bool
    n_suspects: int
    n_associated: int
    best: Area
    best_unit: int
    least: float
    beside: str
    beside_v: float

    @property
    def is_findable(self) -> bool:
        """Whether any area below 1, as it is written, would have been found with that chance."""
        return not self.least >= FINDABLE

    @property
    def is_in_question(self) -> bool:
        """Whether it should not matter as far as anybody said: no class, nothing valid or neutral.

        What the concept set does not name counts too, so that no suspect is passed over for being
        called otherwise.
        """
        return self.kind == "concept" and self.tag not in SETTLED


@dataclass(frozen=True, slots=True)
class Linked:
    """A neuron and a column it excites for.

    ``within`` is the area among images alike in what goes with the column most. ``truth`` is the
    concept it was measured to respond to on other photographs, ``none``, or empty where unknown;
    ``is_right`` whether that is the column or of its kind. ``more`` is the column of another kind
    that it answers to most besides, with ``more_auroc``; empty where none reaches ``LEAST_ELSE``.
    """

    neuron: NeuronRef
    label: BestLabel
    auroc: Area
    difference: float
    p: float
    q_bh: float
    q_by: float
    p_family: float
    q_suspect: float
    within: Area
    truth: str
    is_right: bool
    more: str
    more_auroc: float


@dataclass(frozen=True, slots=True)
class TrueShare:
    """Of some calls, how many the truth bears out.

    ``n_right`` neurons truly respond to the column or one of its kind, ``n_other`` to something
    else, ``n_none`` to nothing that passes the stricter rule of truths, of which ``n_above`` have
    an AUROC above the bar on those photographs too.
    """

    n: int
    n_right: int
    n_other: int
    n_none: int
    n_above: int
    n_photographs: int

    def sentence(self) -> str:
        """As one would say it."""
        other = numbers.count(self.n_photographs)
        told = f"Of {_calls(self.n)}, {self.n_right} {'is' if self.n_right == 1 else 'are'} right "
        told += f"by the truth measured on {other} other photographs"
        parts = []
        if self.n_other:
            parts.append(f"{self.n_other} truly {_respond(self.n_other)} to something else")
        if self.n_none:
            parts.append(
                f"{self.n_none} {_respond(self.n_none)} to nothing that passes its stricter rule "
                f"({self.n_above} of them with an AUROC above the bar there too)"
            )
        return f"{told}; {' and '.join(parts)}." if parts else f"{told}."


@dataclass(frozen=True, slots=True)
class Looked:
    """All that association says of one layer and one column."""

    model: str
    layer: str
    n_units: int
    sought: Sought
    suspects: tuple[Linked, ...]
    truth: TrueShare | None
    goes_with: tuple[Together, ...]
    seen_without: Area
    rule: Mapping[str, Any]
    n_tests: int

    def sentence(self) -> str:
        """Who responds, or that nobody does and what would have been found."""
        return outcome(self.sought, self.layer, self.n_units, self.rule)

    def confounding(self) -> str:
        """What goes with the column in these images, or that nothing does."""
        name = self.sought.name
        same = [each.name for each in self.goes_with if each.is_same]
        others = [each for each in self.goes_with if not each.is_same]
        told = []
        if same:
            told.append(f"These images cannot tell {name} from {' or '.join(same)}.")
        if not others:
            told.append(
                f"Nothing else that is known of these images goes with {name} (Cramér's V below "
                ".10), so it is unlikely that another column is why its suspects respond; what no "
                "column marks still may be."
            )
            return " ".join(told)
        most = ", ".join(f"{each.name} ({area(each.v)})" for each in others[:3])
        told.append(
            f"What goes with {name} in these images, by Cramér's V: {most}. The column “within” "
            f"compares only images alike in {others[0].name}: a neuron whose AUROC falls there "
            f"towards .50 may answer to {others[0].name} instead."
        )
        if self.seen_without.is_known:
            told.append(
                f"On images without {name} the encoder tells {others[0].name} by "
                f"{self.seen_without.words}: "
                + (
                    "it shows in the images, so a neuron may well answer to it."
                    if self.seen_without.low > SHOWS
                    else "it hardly shows in the images by itself."
                )
            )
        return " ".join(told)


def area(value: float) -> str:
    """An area or share without its leading zero: ``.95``."""
    if math.isnan(value):
        return numbers.UNKNOWN
    text = f"{value:.2f}".replace("-", "−")
    return text[1:] if text.startswith("0.") else text


def outcome(sought: Sought, layer: str, n_units: int, rule: Mapping[str, Any]) -> str:
    """What came of looking for one column in one layer, in a sentence or two."""
    name, bar = sought.name, area(float(rule["auroc_min"]))
    least_n = int(rule["min_positive"])
    if not sought.is_tried:
        return (
            f"{_capital(name)} was not tried in {layer}: {numbers.count(sought.n_with)} images or "
            f"groups of images show it and {numbers.count(sought.n_without)} do not, and at least "
            f"{least_n} of each are needed."
        )
    if sought.n_suspects:
        n = sought.n_suspects
        neurons = f"{numbers.count(n)} of the {numbers.count(n_units)} neurons"
        return (
            f"{neurons} of {layer} {_respond(n)} to {name}: AUROC above {bar}, false discoveries "
            f"held at {100 * float(rule['q']):.0f} %; the best has {sought.best.words}."
        )
    found = (
        f"No neuron of {layer} was found to respond to {name} (AUROC above {bar}): the best has "
        f"{sought.best.words}."
    )
    if not sought.is_findable:
        return (
            f"{found} So few images show it, or do not, that one of any AUROC may have been missed."
        )
    return (
        f"{found} One of {area(sought.least)} or more would have been found with a chance of "
        "80 %; a weaker one may have been missed."
    )


def layers_with(bundle: Bundle, model: str) -> tuple[str, ...]:
    """Layers of a model in which associations were looked for."""
    return tuple(
        layer for layer in bundle.layers(model) if bundle.association(model, layer) is not None
    )


def models_associated(bundle: Bundle) -> tuple[str, ...]:
    """Models that have such layers; without those whose units were planted."""
    return tuple(model for model in bundle.model_names if layers_with(bundle, model))


def asked_of(bundle: Bundle, memo: Memo) -> ColumnsAsked:
    """The columns of a bundle's probe set, and what goes with each."""
    described = bundle.manifest.inputs["probe"]
    return memo.once(
        ("columns asked", bundle.digest),
        lambda: columns_asked(
            bundle.images(), described["concepts"], tuple(described.get("masks") or ())
        ),
    )


def tags_of(concepts: ConceptSet) -> dict[str, str]:
    """Tag of every name that a concept set gives a concept, by its ``singular_key``."""
    return {
        singular_key(name): group.tag
        for group in concepts.groups
        for names in group.concepts
        for name in names
    }


def in_question(names: Iterable[str], concepts: ConceptSet) -> list[str]:
    """Those of some names that a concept set calls neither valid nor neutral."""
    tags = tags_of(concepts)
    return [name for name in names if tags.get(singular_key(name)) not in SETTLED]


def sought_in(bundle: Bundle, model: str, layer: str, concepts: ConceptSet) -> tuple[Sought, ...]:
    """Every column of a layer: spurious ones first, then those with most suspects."""
    stored = bundle.association(model, layer)
    if stored is None:
        return ()
    tags = tags_of(concepts)
    rows = [_sought(stored, at, tags) for at in range(len(stored.columns))]
    return tuple(
        sorted(
            rows,
            key=lambda each: (
                each.tag != "spurious", each.kind == "class", -each.n_suspects, -each.best.value,
            ),
        )
    )  # fmt: skip


def columns_with(bundle: Bundle, model: str, concepts: ConceptSet) -> tuple[str, ...]:
    """Concept columns that can be chosen, those that should not matter first."""
    for layer in layers_with(bundle, model):
        return tuple(
            each.name
            for each in sought_in(bundle, model, layer, concepts)
            if each.kind == "concept"
        )
    return ()


def usual_column(bundle: Bundle, model: str, concepts: ConceptSet, artefact: str = "") -> str:
    """The artefact that is looked at, if it is a column, else the one with most suspects."""
    known = columns_with(bundle, model, concepts)
    if artefact in known:
        return artefact
    counts = dict.fromkeys(known, 0)
    for layer in layers_with(bundle, model):
        for each in sought_in(bundle, model, layer, concepts):
            if each.is_in_question:
                counts[each.name] += each.n_suspects
    return max(known, key=lambda name: counts[name], default="")


def usual_layer(bundle: Bundle, model: str, column: str, method: str) -> str:
    """Where an effect of the column is carried by fewest neurons, else where fewest respond to it.

    The last layer where none does.
    """
    layers = layers_with(bundle, model)
    if model in models_with(bundle):
        carried = audited(bundle, model, column, method)
        if carried is not None and carried.scope is not None and carried.scope.layer in layers:
            return carried.scope.layer
    counts = {}
    for layer in layers:
        stored = bundle.association(model, layer)
        assert stored is not None
        own = stored.columns[
            (stored.columns["name"] == column) & (stored.columns["kind"] == "concept")
        ]
        counts[layer] = int(own["n_suspects"].sum())
    found = [layer for layer in layers if counts[layer]]
    return min(found, key=lambda layer: counts[layer], default=layers[-1] if layers else "")


def look(
    bundle: Bundle,
    memo: Memo,
    model: str,
    layer: str,
    column: str,
    method: str,
    concepts: ConceptSet,
) -> Looked | None:
    """All that is known of one concept column in one layer; None where it was not looked for."""
    stored = bundle.association(model, layer)
    if stored is None:
        return None
    is_own = (stored.columns["name"] == column) & (stored.columns["kind"] == "concept")
    if not is_own.any():
        return None
    at = int(np.flatnonzero(is_own.to_numpy())[0])
    asked = asked_of(bundle, memo)
    kin = {asked.names[c] for c in np.flatnonzero(asked.asked.is_kin_cc[at])}
    of_kind = {asked.names[c] for c in np.flatnonzero(related(asked.asked.is_kin_cc)[at])}
    rows = stored.found[(stored.found["column"] == at) & stored.found["is_suspect"]]
    suspects = tuple(
        _linked(bundle, model, layer, row, kin, method) for row in rows.to_dict("records")
    )
    goes_with = _goes_with(bundle, memo, column, of_kind)
    return Looked(
        model,
        layer,
        bundle.n_units(model, layer),
        _sought(stored, at, tags_of(concepts)),
        suspects,
        _true_share(bundle, model, layer, suspects, kin, float(stored.rule["auroc_min"])),
        goes_with,
        _seen_without(bundle, memo, column, goes_with),
        stored.rule,
        stored.n_tests,
    )


def suspect_units(
    bundle: Bundle, model: str, layer: str, columns: Collection[str]
) -> tuple[int, ...]:
    """Units of a layer that are suspects of any of some concept columns, each once."""
    stored = bundle.association(model, layer)
    if stored is None:
        return ()
    is_wanted = stored.columns["name"].isin(columns) & (stored.columns["kind"] == "concept")
    wanted = np.flatnonzero(is_wanted.to_numpy())
    own = stored.found[stored.found["is_suspect"] & stored.found["column"].isin(wanted)]
    return tuple(sorted({int(unit) for unit in own["unit"]}))


def all_suspects(bundle: Bundle, model: str, concepts: ConceptSet) -> str:
    """How many neurons of a network are suspects of what is not known to matter, in words.

    Beside it what chance would give, and that seeing is not yet leaning; empty without suspects.
    """
    layers = layers_with(bundle, model)
    counts: dict[str, int] = {}
    for layer in layers:
        for each in sought_in(bundle, model, layer, concepts):
            if each.is_in_question and each.n_suspects:
                counts[each.name] = counts.get(each.name, 0) + each.n_suspects
    if not counts:
        return ""
    n = sum(len(suspect_units(bundle, model, layer, counts.keys())) for layer in layers)
    rules = [stored.rule for layer in layers if (stored := bundle.association(model, layer))]
    q = max(float(rule["q"]) for rule in rules)
    named = sorted(counts.items(), key=lambda each: -each[1])
    told = listed([f"{name} ({numbers.count(found)})" for name, found in named])
    neurons = "1 neuron is a suspect" if n == 1 else f"{numbers.count(n)} neurons are suspects"
    return (
        f"In all layers of {model}, {neurons} of what is not known to matter: {told}. Labels "
        f"shuffled among the images would leave hardly any, and at most {100 * q:.0f} % of these "
        "are expected to be false: they see it. But a network may see what its decision does not "
        "rest on."
    )


def rests_on(bundle: Bundle, model: str, column: str) -> str:
    """Whether the decision rests on a column, as pairs of images say; how to learn it otherwise."""
    stored = bundle.intervention(model)
    tried = () if stored is None else effects(stored)
    found = next((each for each in tried if each.artefact == column), None)
    if stored is None or found is None:
        return (
            f"Whether a decision of {model} rests on {column} was not tried; 'csp intervene' tries "
            "it on pairs of images."
        )
    return found.sentence(stored.output)


def as_json(
    bundle: Bundle, memo: Memo, model: str, layer: str, method: str, concepts: ConceptSet
) -> dict[str, Any]:
    """Every column of a layer with its suspects, as plain data."""
    stored = bundle.association(model, layer)
    assert stored is not None
    rows = []
    for sought in sought_in(bundle, model, layer, concepts):
        found = None
        if sought.kind == "concept":
            found = look(bundle, memo, model, layer, sought.name, method, concepts)
        rows.append(
            {
                "column": sought.name,
                "kind": sought.kind,
                "tag": sought.tag or None,
                "n_images": sought.n_images,
                "n_positive": sought.n_positive,
                "n_groups_with": sought.n_with,
                "n_groups_without": sought.n_without,
                "is_tried": sought.is_tried,
                "n_suspects": sought.n_suspects,
                "n_associated": sought.n_associated,
                "best": sought.best.as_json(),
                "least_found": sought.least,
                "beside": sought.beside or None,
                "beside_v": sought.beside_v,
                "suspects": [] if found is None else [_suspect_json(s) for s in found.suspects],
            }
        )
    return numbers.plain_json(
        {
            "model": model,
            "layer": layer,
            "rule": dict(stored.rule),
            "n_tests": stored.n_tests,
            "n_images": stored.n_images,
            "n_groups": stored.n_groups,
            "columns": rows,
        }
    )


def _suspect_json(each: Linked) -> dict[str, Any]:
    return {
        "neuron": f"{each.neuron.model}/{each.neuron.layer}/{each.neuron.unit}",
        "label": each.label.text if each.label.is_named else None,
        "auroc": each.auroc.as_json(),
        "within": each.within.as_json(),
        "difference_sd": each.difference,
        "p": each.p,
        "q_benjamini_hochberg": each.q_bh,
        "q_benjamini_yekutieli": each.q_by,
        "p_family_wise": each.p_family,
        "q_suspect": each.q_suspect,
        "truth": each.truth or None,
        "also": each.more or None,
        "also_auroc": each.more_auroc,
    }


def _area(row: Mapping[Any, Any], name: str) -> Area:
    return Area(*(float(row[f"{name}{end}"]) for end in ("", "_low", "_high")))


def _sought(stored: StoredAssociation, at: int, tags: Mapping[str, str]) -> Sought:
    row = stored.columns.iloc[at]
    own = stored.found[stored.found["column"] == at]
    counts = [int(row[name]) for name in ("n_known", "n_positive", "n_with", "n_without")]
    correlating = least_correlating(
        float(stored.rule["pearson_min"]), *counts[2:], counts[1] / max(counts[0], 1)
    )
    best = own.iloc[int(own["auroc"].to_numpy().argmax())] if len(own) else None
    return Sought(
        str(row["name"]),
        str(row["kind"]),
        tags.get(singular_key(str(row["name"])), ""),
        *counts,
        bool(row["is_tried"]),
        int(row["n_suspects"]),
        int(row["n_associated"]),
        NO_AREA if best is None else _area(best.to_dict(), "auroc"),
        -1 if best is None else int(best["unit"]),
        float(np.maximum(row["least"], correlating)),
        str(row["beside"]),
        float(row["beside_v"]),
    )


def _linked(
    bundle: Bundle, model: str, layer: str, row: Mapping[Any, Any], kin: set[str], method: str
) -> Linked:
    unit = int(row["unit"])
    neuron = NeuronRef(model, layer, unit)
    truth = bundle.truth(model, layer)
    said = "" if truth is None else truth.units["true_concept"].iloc[unit]
    named = "none" if truth is not None and pd.isna(said) else str(said)
    more, more_auroc = _more(bundle, model, layer, unit, kin)
    return Linked(
        neuron,
        best_label(bundle, neuron, method),
        _area(row, "auroc"),
        float(row["difference"]),
        *(float(row[name]) for name in ("p", "q_bh", "q_by", "p_family", "q_suspect")),
        _area(row, "within"),
        named,
        named in kin,
        more,
        more_auroc,
    )


def _more(bundle: Bundle, model: str, layer: str, unit: int, kin: set[str]) -> tuple[str, float]:
    """The column of another kind that a unit correlates with most, and its AUROC there."""
    held = bundle.columns(model, layer)
    if held is None:
        return "", float("nan")
    auroc_c = np.asarray(held.auroc_uc[unit], np.float64)
    is_other_c = ~held.columns["name"].isin(kin).to_numpy() & (np.nan_to_num(auroc_c) >= LEAST_ELSE)
    if not is_other_c.any():
        return "", float("nan")
    pearson_c = np.where(is_other_c, np.nan_to_num(held.pearson_uc[unit], nan=-2), -2)
    at = int(pearson_c.argmax())
    return str(held.columns["name"].iloc[at]), float(auroc_c[at])


def _true_share(
    bundle: Bundle,
    model: str,
    layer: str,
    suspects: tuple[Linked, ...],
    kin: set[str],
    bar: float,
) -> TrueShare | None:
    truth = bundle.truth(model, layer)
    if truth is None or not suspects:
        return None
    own_c = np.flatnonzero(truth.concepts["name"].isin(kin).to_numpy())
    unit_k = np.array([each.neuron.unit for each in suspects])
    area_k = np.asarray(truth.auroc_uc)[unit_k][:, own_c].max(axis=1, initial=0)
    is_none_k = np.array([each.truth == "none" for each in suspects])
    n_right = sum(each.is_right for each in suspects)
    n_none = int(is_none_k.sum())
    return TrueShare(
        len(suspects),
        n_right,
        len(suspects) - n_right - n_none,
        n_none,
        int((is_none_k & (area_k > bar)).sum()),
        truth.n_image,
    )


def _goes_with(bundle: Bundle, memo: Memo, column: str, kin: set[str]) -> tuple[Together, ...]:
    def found() -> tuple[Together, ...]:
        described = bundle.manifest.inputs["probe"]
        concepts = described["concepts"]
        images = bundle.table("probe", "probe")
        left_out = ("file", "sha256", "group", "split", *(described.get("masks") or ()))
        levels = levels_of(images, concepts, left_out)
        if column not in levels:
            return ()
        others = {name: code_n for name, code_n in levels.items() if name not in kin}
        return tuple(what_goes_with(levels[column], others))

    return memo.once(("goes with", bundle.digest, column), found)


def _seen_without(bundle: Bundle, memo: Memo, column: str, goes_with: tuple[Together, ...]) -> Area:
    """How well embeddings of images without a column tell its company, held out by groups.

    Of company with several levels, its last against the others.
    """
    others = [each for each in goes_with if not each.is_same]
    if not others or not bundle.has(kinds.EMBEDDINGS.name()):
        return NO_AREA

    def found() -> Area:
        described = bundle.manifest.inputs["probe"]
        images = bundle.table("probe", "probe")
        left_out = ("file", "sha256", "group", "split", *(described.get("masks") or ()))
        levels = levels_of(images, described["concepts"], left_out)
        code_n = levels[others[0].name]
        is_in_n = (levels[column] == 0) & (code_n >= 0)
        label_n = code_n[is_in_n] == code_n.max()
        counts = int(label_n.sum()), int((~label_n).sum())
        if min(counts) < LEAST_IMAGES:
            return NO_AREA
        group_n = groups_of(images)
        group_n = None if group_n is None else group_n[is_in_n]
        score_n = seen_without(np.asarray(bundle.image_vectors())[is_in_n], label_n, group_n)
        own, _ = clustered_error(midranks(score_n[None])[0], label_n, group_n)
        if group_n is not None:
            n_with_1, n_without_1 = independent_counts(label_n[:, None], group_n)
            counts = int(n_with_1[0]), int(n_without_1[0])
        low, high = auroc_interval(np.array(own), *counts)
        return Area(own, float(low), float(high))

    return memo.once(("seen without", bundle.digest, column), found)


def _calls(n: int) -> str:
    return "this 1 call" if n == 1 else f"these {numbers.count(n)} calls"


def _respond(n: int) -> str:
    return "responds" if n == 1 else "respond"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]

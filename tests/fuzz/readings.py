"""What people read of a bundle: each gives a text that must stay the same, or end in a sentence."""

from __future__ import annotations

import functools
import hashlib
import json
import tempfile
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout, suppress
from io import StringIO
from pathlib import Path
from typing import Any

import typer.main

from csp_engine.bundle import Bundle
from csp_engine.bundle.checks.later import settle
from csp_engine.cli import main as command
from csp_engine.errors import CspError
from csp_engine.exports.report import document_of, options_for
from csp_engine.types import NeuronRef
from csp_engine.views import confidence
from csp_engine.views.accuracy import kept_accuracy, reliable_claims
from csp_engine.views.audit import associations, factors, fixes, interventions
from csp_engine.views.audit.queue import queue
from csp_engine.views.benchmark import faithfulness
from csp_engine.views.case.accuracy import falls
from csp_engine.views.column_search import going_with
from csp_engine.views.conclusion.claims import conclusion_of
from csp_engine.views.curves import told as curves
from csp_engine.views.finding.index import searchable_methods
from csp_engine.views.images.choices import chosen_images
from csp_engine.views.images.separation import texts_in_words
from csp_engine.views.memo import Memo
from csp_engine.views.neuron.candidates import stored
from csp_engine.views.neuron.circuit import circuit, outputs_of
from csp_engine.views.neuron.columns import column_fits
from csp_engine.views.neuron.influence import driven_outputs
from csp_engine.views.neuron.label import heading_of
from csp_engine.views.neuron.looking import checks_of
from csp_engine.views.neuron.proposals import proposals
from csp_engine.views.neuron.statistics import histogram_of, statistics
from csp_engine.views.neuron_map import points_body, points_of
from csp_engine.views.overview.provenance import provenance
from csp_engine.views.overview.story import story_of
from csp_engine.views.overview.summary import summary_of
from csp_engine.views.places import scoring_methods
from csp_engine.views.table import summary
from csp_engine.views.table.rows import neuron_table
from csp_engine.words.concepts import find_concept_set
from tests.worlds import toys

NEURONS = (NeuronRef("small", "first@mean", 2), NeuronRef("small", "second@mean", 7))


typer.main.get_command = functools.cache(typer.main.get_command)
"""Read from the annotations of sixteen commands, whenever one is run: a quarter of the time."""


def _run(*arguments: str) -> str:
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err), suppress(SystemExit):
        command(list(arguments))
    if "unexpected" in err.getvalue():
        raise AssertionError(f"csp {arguments[0]}: {err.getvalue()[:300]}")
    if err.getvalue().startswith("csp: "):
        raise CspError(err.getvalue())
    return out.getvalue()


def _export(bundle: Path) -> str:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "labels.jsonl"
        _run("export", str(bundle), str(out), "-n", "4")
        return out.read_text("utf-8")


def _info(bundle: Path) -> str:
    """Without the bundle's own record of itself, which a mutation may change openly."""
    told = json.loads(_run("info", str(bundle), "--json"))
    return json.dumps(told["layers"])


def _search(bundle: Path) -> str:
    return _run("search", str(bundle), "red", "--json", "-n", "8")


def _pages(bundle: Path) -> str:
    opened, memo = Bundle.open(bundle), Memo()
    parts: list[Any] = [neuron_table(opened, memo, "csp").to_json()]
    for neuron in NEURONS:
        for method in opened.methods(neuron.model, neuron.layer):
            parts.append(repr(heading_of(opened, neuron, method)))
            parts.append(repr(stored(opened, neuron, method)))
        parts.append(repr(statistics(opened, neuron)))
        parts.append(repr(histogram_of(opened, neuron)))
        for show in ("contrast", "exemplars", "stratified", "random"):
            parts.append(repr(chosen_images(opened, memo, neuron, show, limit=6, is_hiding=False)))
    settle()
    return json.dumps([str(part) for part in parts])


def _thumbnails(bundle: Path) -> str:
    opened = Bundle.open(bundle)
    digest = hashlib.sha256()
    for _ in range(2):  # a large file is hashed in the background; whoever reads again is told
        for image in range(opened.n_images):
            digest.update(opened.thumbnail(image))
        settle()
    return digest.hexdigest()


def _labels(bundle: Path) -> str:
    """What the page of labels, concept columns and a captioner's answers show."""
    opened, memo = Bundle.open(bundle), Memo()
    parts: list[Any] = [reliable_claims(opened), kept_accuracy(opened, memo)]
    for method in scoring_methods(opened):
        rows = neuron_table(opened, memo, method)
        learnt = confidence.learnt(opened, memo, method)
        parts += [None if learnt is None else (learnt.n_known, learnt.error, learnt.bins)]
        parts += [summary.by_layer(opened, memo, method), summary.meanings(rows, opened, memo)]
        parts += [summary.disagreements(opened, memo, method)]
    for neuron in NEURONS:
        parts += [proposals(opened, memo, neuron), column_fits(opened, neuron)]
    said = [row for row in provenance(opened) if row[0] != "Bundle"]  # its folder and own hash
    parts += [going_with(opened, toys.CONCEPTS[0]), said, texts_in_words(opened)]
    settle()
    return json.dumps([repr(part) for part in parts])


def _evaluate(bundle: Path) -> str:
    told = json.loads(_run("evaluate", str(bundle), "--json"))
    return json.dumps({name: told[name] for name in told if name not in ("bundle", "digest")})


def _figures(bundle: Path) -> str:
    """What was measured of outputs, circuits and labels, and which figures to believe."""
    opened, memo = Bundle.open(bundle), Memo()
    parts: list[Any] = [faithfulness.kept_faithfulness(opened, memo)]
    parts += [faithfulness.trusted(opened), faithfulness.which_to_believe(opened)]
    tables = {name: opened.performance(name) for name in opened.model_names}
    parts.append(falls({name: table for name, table in tables.items() if table is not None}))
    for model in opened.model_names:
        for output in outputs_of(opened, model):
            parts.append(circuit(opened, model, output, "csp"))
    for neuron in NEURONS:
        parts += [driven_outputs(opened, neuron), faithfulness.of_label(opened, neuron, "csp")]
    settle()
    return json.dumps([repr(part) for part in parts])


def _audit(bundle: Path) -> str:
    """What the audit page says: effects, carriers, suspects, fixes, the queue, the report."""
    opened, memo = Bundle.open(bundle), Memo()
    concepts = find_concept_set("melanoma")
    parts: list[Any] = [story_of(opened, memo, "csp"), summary_of(opened, memo, "csp")]
    parts += [conclusion_of(opened, memo, neuron, "csp") for neuron in NEURONS]
    for model in opened.model_names:
        parts.append(queue(opened, memo, model, concepts).to_json())
        parts += [fixes.as_json(fixes.kept(opened, memo, model, n)) for n in opened.fixes(model)]
        parts += [fixes.turned(opened.fix(model, name)) for name in opened.fixes(model)]
        for layer in associations.layers_with(opened, model):
            parts.append(associations.as_json(opened, memo, model, layer, "csp", concepts))
    if interventions.models_with(opened):
        document_of(opened, options_for(opened), None, memo)  # names hashes, which may differ
    for model in interventions.models_with(opened):
        parts.append(interventions.as_json(opened, model, "csp"))
        stored = opened.intervention(model)
        for effect in () if stored is None else interventions.effects(stored):
            parts.append(interventions.pictures(stored, effect))
            parts.append(interventions.audited(opened, model, effect.artefact, "csp"))
    settle()
    return json.dumps([repr(part) for part in parts])


def _places(bundle: Path) -> str:
    """The map of neurons, neurons like another by every method, and what checks of maps say."""
    opened, memo = Bundle.open(bundle), Memo()
    laid = points_of(opened, memo)
    parts: list[Any] = [None if laid is None else points_body(opened, laid).hex()]
    for neuron in NEURONS:
        parts += [each.as_json() for each in checks_of(opened, neuron.model, neuron.layer)]
        like = ("search", str(bundle), "--like", str(neuron), "--json", "-n", "8")
        parts += [_run(*like, "--method", method) for method in searchable_methods(opened)]
    parts += [opened.seen(model) for model in opened.model_names]
    settle()
    return json.dumps([str(part) for part in parts])


def _curves(bundle: Path) -> str:
    """What becomes of decisions with more and more of a layer held still."""
    opened, memo = Bundle.open(bundle), Memo()
    parts: list[Any] = []
    for model in opened.model_names:
        for layer in curves.layers_curved(opened, model):
            found = curves.kept(opened, memo, model, layer)
            parts += [found.sentence, found.details, curves.as_json(found)]
    settle()
    return json.dumps([repr(part) for part in parts])


def _factors(bundle: Path) -> str:
    """Which factors of a layer push wrong decisions, and the photographs that are shown of them."""
    opened = Bundle.open(bundle)
    parts: list[Any] = []
    for model in factors.models_factored(opened):
        for layer in factors.layers_factored(opened, model):
            found = factors.factored(opened, model, layer, "csp")
            kept = opened.factors(model, layer)
            assert found is not None
            assert kept is not None
            shown = kept.photographs.iloc[kept.shown["row"]]
            parts += [found, found.sentence, found.photographs, factors.as_json(found)]
            parts += [shown[["class", "decided"]].to_json(), kept.thumbs]
    settle()
    return json.dumps([repr(part) for part in parts])


READINGS: dict[str, Callable[[Path], str]] = {
    "info": _info,
    "export": _export,
    "search": _search,
    "pages": _pages,
    "labels": _labels,
    "evaluate": _evaluate,
    "figures": _figures,
    "audit": _audit,
    "curves": _curves,
    "factors": _factors,
    "places": _places,
    "thumbnails": _thumbnails,
}

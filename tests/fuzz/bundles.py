"""Mutates a small bundle by a seed and tries every way to read it: nothing may be silently wrong.

    python -m tests.fuzz.bundles --n 10000 --seed 0
    python -m tests.fuzz.bundles --first 1234 --n 1 --seed 0

The second line tries one of these again. Each case copies a toy bundle that holds labels of several
methods, answers of a model that is shown pictures, circuits, interventions with gates, a fix,
checks of maps, suspects by column, ground truth, concept columns and what was measured of labels,
changes its manifest or one or two of its files, redoes the hashes in half of the cases, and then
opens it and runs what people run. What each gives is compared with the same of the undamaged
bundle. Counted are tracebacks (any exception that is no
``CspError``), deaths of the process, hangs, and *wrong*:
results that differ without an error. Where hashes were redone the bundle says of itself that it is
whole, so results that differ are looked up in ``verify``: those that it tells of are counted as
*forged, told by verify*, the others as *forged, told by nobody*: nothing else in the bundle
determines them, such as the text of a label.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import typer.main

from csp_engine.bundle import Bundle, verify
from csp_engine.bundle.checks.later import settle
from csp_engine.captioners.generators.asking import Question
from csp_engine.captioners.generators.kept import Answer
from csp_engine.cli import main as command
from csp_engine.errors import CspError
from csp_engine.exports.report import document_of, options_for
from csp_engine.pipeline import (
    add_fix,
    add_interventions,
    add_map_checks,
    add_performance,
    build,
)
from csp_engine.pipeline.recipe import changed
from csp_engine.types import NeuronRef
from csp_engine.views import confidence
from csp_engine.views.accuracy import kept_accuracy, reliable_claims
from csp_engine.views.audit import associations, fixes, interventions
from csp_engine.views.audit.queue import queue
from csp_engine.views.benchmark import faithfulness
from csp_engine.views.case.accuracy import falls
from csp_engine.views.column_search import going_with
from csp_engine.views.conclusion.claims import conclusion_of
from csp_engine.views.images.choices import chosen_images
from csp_engine.views.images.separation import texts_in_words
from csp_engine.views.memo import Memo
from csp_engine.views.neuron.candidates import stored
from csp_engine.views.neuron.circuit import circuit, outputs_of
from csp_engine.views.neuron.columns import column_fits
from csp_engine.views.neuron.influence import driven_outputs
from csp_engine.views.neuron.label import heading_of
from csp_engine.views.neuron.proposals import proposals
from csp_engine.views.neuron.statistics import histogram_of, statistics
from csp_engine.views.overview.provenance import provenance
from csp_engine.views.overview.story import story_of
from csp_engine.views.overview.summary import summary_of
from csp_engine.views.places import scoring_methods
from csp_engine.views.table import summary
from csp_engine.views.table.rows import neuron_table
from csp_engine.words.concepts import find_concept_set
from tests.worlds import toys
from tests.worlds.damage import body_of, redo, write_body

SECONDS = 60
"""A reading that takes longer hangs; the whole of them takes a second."""

NEURONS = (NeuronRef("small", "first@mean", 2), NeuronRef("small", "second@mean", 7))


# ------------------------------------------------------------------ mutations


def _odd_value(rng: np.random.Generator) -> Any:
    deep: Any = 1
    for _ in range(int(rng.integers(1, 400))):
        deep = [deep]
    odd = [None, -1, 0, 3, 1 << 40, 1 << 70, 0.5, True, "", "x", "../x", "/etc", [], [1], {}, deep]
    return odd[int(rng.integers(len(odd)))]


def _paths(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    else:
        return
    for key, inner in items:
        yield (*at, key)
        yield from _paths(inner, (*at, key))


def mutate_manifest(bundle: Path, rng: np.random.Generator, is_redone: bool) -> str:
    """Change one to three entries of the manifest, or its text."""
    if rng.random() < 0.1:
        return _mutate_bytes(bundle / "manifest.json", rng)
    body = body_of(bundle)
    told = []
    for _ in range(int(rng.integers(1, 4))):
        paths = list(_paths(body))
        path = paths[int(rng.integers(len(paths)))]
        holder = body
        for key in path[:-1]:
            holder = holder[key]
        if rng.random() < 0.3:
            del holder[path[-1]]
        else:
            holder[path[-1]] = _odd_value(rng)
        told.append(".".join(map(str, path))[:100])
    if is_redone:
        write_body(bundle, body)
    else:
        (bundle / "manifest.json").write_text(json.dumps(body))
    return f"manifest {', '.join(told)}"


def _mutate_bytes(path: Path, rng: np.random.Generator) -> str:
    content = bytearray(path.read_bytes())
    how = ("flip", "cut", "more", "zeros", "shuffle")[int(rng.integers(5))]
    if how == "flip" and content:
        for _ in range(int(rng.integers(1, 9))):
            content[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))
    elif how == "cut":
        del content[int(rng.integers(len(content) + 1)) :]
    elif how == "more":
        content += rng.bytes(int(rng.integers(1, 200)))
    elif how == "zeros" and content:
        start = int(rng.integers(len(content)))
        content[start : start + 64] = b"\0" * min(64, len(content) - start)
    elif content:
        start = int(rng.integers(len(content)))
        part = list(content[start : start + 256])
        rng.shuffle(part)
        content[start : start + 256] = bytes(part)
    path.write_bytes(content)
    return f"{how} {path.parent.name}/{path.name}"


def _replace(path: Path, files: list[Path], rng: np.random.Generator) -> str:
    how = ("delete", "other", "link", "pipe", "folder", "empty")[int(rng.integers(6))]
    other = files[int(rng.integers(len(files)))].read_bytes()
    path.unlink()
    if how == "other":
        path.write_bytes(other)
    elif how == "link":
        path.symlink_to("/dev/zero" if rng.random() < 0.5 else "/etc/hostname")
    elif how == "pipe":
        os.mkfifo(path)
    elif how == "folder":
        path.mkdir()
    elif how == "empty":
        path.write_bytes(b"")
    return f"{how} {path.parent.name}/{path.name}"


def _mutate_array(path: Path, rng: np.random.Generator) -> str:
    values = np.load(path)
    how = ("roll", "reverse", "set", "nan", "add", "type", "fewer")[int(rng.integers(7))]
    flat = values.reshape(-1)
    if how == "roll":
        values = np.roll(values, 1, axis=0)
    elif how == "reverse":
        values = np.flip(values, axis=-1).copy()
    elif how == "set" and flat.size:
        odd = (-1, 0, 1, 7, 1 << 20)[int(rng.integers(5))]
        with np.errstate(all="ignore"):
            flat[int(rng.integers(flat.size))] = np.array(odd).astype(values.dtype)
    elif how == "nan" and flat.size and values.dtype.kind == "f":
        flat[int(rng.integers(flat.size))] = (np.nan, np.inf, 1e30)[int(rng.integers(3))]
    elif how == "add" and values.dtype.kind in "fi":
        values = values + values.dtype.type(1)
    elif how == "type":
        values = values.astype((np.float64, np.int64, np.int8, bool)[int(rng.integers(4))])
    else:
        values = values[:-1]
    np.save(path, values)
    return f"{how} {path.parent.name}/{path.name}"


def _mutate_table(path: Path, rng: np.random.Generator) -> str:
    rows = pd.read_parquet(path)
    ways = ("reverse", "fewer", "null", "column", "text", "number", "rename", "shuffle", "one")
    how = ways[int(rng.integers(len(ways)))]
    columns = list(rows.columns)
    column = columns[int(rng.integers(len(columns)))]
    if how == "reverse":
        rows = rows.iloc[::-1]
    elif how == "fewer":
        rows = rows.iloc[:-1]
    elif how == "null":
        rows[column] = None
    elif how == "column":
        rows = rows.drop(columns=column)
    elif how == "text":
        rows[column] = "x"
    elif how == "rename":
        rows = rows.rename(columns={column: f"{column}_"})
    elif how == "shuffle":
        rows[column] = rng.permutation(rows[column].to_numpy())
    elif how == "one":
        values = rows[column].to_numpy(object, copy=True)
        odd = (None, np.nan, np.inf, -1, 0, 1, 1 << 40, "x", True)
        if len(values):
            values[int(rng.integers(len(values)))] = odd[int(rng.integers(len(odd)))]
        rows[column] = (
            values if pd.api.types.is_string_dtype(rows[column]) else values.astype(float)
        )
    else:
        rows[column] = -1
    rows.to_parquet(path, index=False)
    return f"{how} {column} of {path.parent.name}/{path.name}"


def mutate(bundle: Path, rng: np.random.Generator) -> tuple[str, bool]:
    """One case: what was done, and whether the hashes were redone."""
    is_redone = bool(rng.random() < 0.5)
    if rng.random() < 0.3:
        return mutate_manifest(bundle, rng, is_redone), is_redone
    files = sorted(p for p in bundle.rglob("*") if p.is_file() and p.name != "manifest.json")
    told = []
    for _ in range(1 + int(rng.random() < 0.2)):
        path = files[int(rng.integers(len(files)))]
        if not path.is_file() or path.is_symlink():
            continue
        means = rng.random()
        with suppress(ValueError, OSError, EOFError, TypeError, IndexError, OverflowError):
            if means < 0.35:
                told.append(_mutate_bytes(path, rng))
            elif means < 0.5:
                told.append(_replace(path, [p for p in files if p.is_file()], rng))
            elif path.suffix == ".npy":
                told.append(_mutate_array(path, rng))
            elif path.suffix == ".parquet":
                told.append(_mutate_table(path, rng))
            else:
                told.append(_mutate_bytes(path, rng))
    if is_redone:
        redo(bundle)
    return "; ".join(told) or "nothing", is_redone


# ------------------------------------------------------------------ readings


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
        parts.append(queue(opened, memo, model).to_json())
        parts += [fixes.as_json(fixes.kept(opened, memo, model, n)) for n in opened.fixes(model)]
        parts += [fixes.turned(opened.fix(model, name)) for name in opened.fixes(model)]
        for layer in associations.layers_with(opened, model):
            parts.append(associations.as_json(opened, memo, model, layer, "csp", concepts))
    if interventions.models_with(opened):
        document_of(opened, options_for(opened), None, memo)  # names hashes, which may differ
    for model in interventions.models_with(opened):
        parts.append(interventions.as_json(opened, model, "csp"))
        stored = opened.intervention(model)
        for artefact in [] if stored is None else stored.effects["artefact"]:
            parts.append(interventions.pictures(stored, artefact))
            parts.append(interventions.audited(opened, model, artefact, "csp"))
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
    "thumbnails": _thumbnails,
}


class _Late(BaseException):
    pass


@contextmanager
def _limited() -> Iterator[None]:
    def late(*_: Any) -> None:
        raise _Late

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def tried(reading: Callable[[Path], Any], bundle: Path) -> tuple[str, Any]:
    """How it failed, if it did, and what it gave or what is to be said of the failure."""
    try:
        with _limited():
            return "", reading(bundle)
    except CspError as error:
        return "told", str(error)
    except _Late:
        return "hang", "late"
    except Exception:
        last = traceback.format_exc().strip().splitlines()
        return "traceback", f"{last[-1][:200]} {last[-3][:150]}"


def one_case(whole: Path, truth: dict[str, str], seed: int, number: int) -> list[tuple[str, str]]:
    """Kinds of outcome of one case, each with what to look at."""
    rng = np.random.default_rng([seed, number])
    found: list[tuple[str, str]] = []
    with tempfile.TemporaryDirectory(prefix="csp-fuzz-") as folder:
        bundle = Path(shutil.copytree(whole, Path(folder) / "a.csp"))
        done, is_redone = mutate(bundle, rng)
        about = f"case {number}: {done}{' (redone)' if is_redone else ''}"
        differs = []
        for name, reading in READINGS.items():
            failure, result = tried(reading, bundle)
            if failure == "told":
                found.append(("told", ""))
            elif failure:
                found.append((failure, f"{about}: {name}: {result}"))
            elif result == truth[name]:
                found.append(("same", ""))
            else:
                differs.append(name)
        failure, problems = tried(lambda path: verify(Bundle.open(path)), bundle)
        if failure in ("hang", "traceback"):
            found.append((failure, f"{about}: verify: {problems}"))
        kind = "wrong"
        if is_redone:
            kind = "forged, told by verify" if problems else "forged, told by nobody"
        found += [(kind, f"{about}: {name}") for name in differs]
    return found


# ------------------------------------------------------------------ many cases


class Speaking:
    """A model that is shown pictures and says the same of all."""

    spec, fingerprint, description = "transformers/said", "5" * 64, {"kind": "toy"}
    n_images, n_at_once = 9, 8

    def answer(self, questions: Sequence[Question], keep: Callable[[int, Answer], None]) -> None:
        for place in range(len(questions)):
            keep(place, Answer('["deep red", "noisy pixels"]', "", 5, 7))


METHODS = "csp,csp_plus,invert,falcon,linear_explanations"


def make_world(folder: Path) -> tuple[Path, dict[str, str]]:
    """The undamaged bundle, and what every reading gives of it."""
    os.environ["CSP_ANSWERS"] = str(folder / "answers")
    recipe = changed(replace(toys.SMALL, n_candidates=2), {"methods": METHODS})
    more = {"probe": toys.with_columns(folder), "captioner": Speaking(), "recipe": recipe}
    request = toys.request(folder, folder / "whole.csp", n_circuit_images=8, **more)
    built = toys.with_truth(build(request), planted_layer="second@mean")
    whole = add_performance(toys.with_faithfulness(built).path, {"small": toys.slices()}).path
    asked = {"gates": toys.open_gate(), "n_random": 4}
    add_interventions(whole, toys.target(), toys.CornerPairs(), "red", **asked)
    fix = toys.tried_fix(folder, toys.target(), ("second@mean", "first@mean"))
    add_fix(whole, "small", "two neurons", fix)
    add_map_checks(whole, toys.target(), toys.CornerPairs(), maps=["activation"])
    return whole, {name: reading(whole) for name, reading in READINGS.items()}


def _chunk(whole: Path, truth: dict[str, str], seed: int, numbers: range, out: Any) -> None:
    for number in numbers:
        out.put((number, one_case(whole, truth, seed, number)))
    out.close()
    out.join_thread()


def fuzz(n: int, seed: int, first: int = 0, chunk: int = 100) -> tuple[Counter[str], list[str]]:
    """Run many cases in processes of their own, so that one that dies is counted."""
    counts: Counter[str] = Counter()
    examples: list[str] = []
    context = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory(prefix="csp-fuzz-") as folder:
        whole, truth = make_world(Path(folder))
        start, stop = first, first + n
        while start < stop:
            numbers = range(start, min(stop, start + chunk))
            results = context.Queue()
            worker = context.Process(target=_chunk, args=(whole, truth, seed, numbers, results))
            worker.start()
            done = _collect(worker, results, counts, examples, numbers)
            start += done
            if done < len(numbers):
                counts["death"] += 1
                examples.append(f"death: case {start}")
                start += 1
            sys.stderr.write(f"{start}/{stop} {dict(counts)}\n")
    return counts, examples


def _collect(
    worker: Any, results: Any, counts: Counter[str], examples: list[str], numbers: range
) -> int:
    done = 0
    while done < len(numbers):
        try:
            _, found = results.get(timeout=2)
        except Exception:
            if not worker.is_alive():
                break
            continue
        done += 1
        counts["cases"] += 1
        for kind, about in found:
            counts[kind] += 1
            if about and kind != "forged, told by verify":
                examples.append(f"{kind}: {about}")
    worker.join()
    return done


def main() -> None:
    """Print the counts, and what to look at."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="case to begin with")
    options = parser.parse_args()
    counts, examples = fuzz(options.n, options.seed, options.first)
    for line in examples:
        sys.stdout.write(f"{line}\n")
    sys.stdout.write(json.dumps(dict(sorted(counts.items())), indent=1) + "\n")
    bad = sum(counts[kind] for kind in ("traceback", "hang", "death", "wrong"))
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()

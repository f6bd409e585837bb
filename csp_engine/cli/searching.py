"""``csp search``: neurons by texts, an image, another neuron, or a concept column."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from csp_engine.cli.declared import AsJson, BundlePath
from csp_engine.cli.shown import write_json, write_lines, write_table
from csp_engine.errors import InputError, MissingModelError
from csp_engine.files import given_bytes

if TYPE_CHECKING:
    from csp_engine.bundle import Bundle
    from csp_engine.views.finding.query import Query
    from csp_engine.views.memo import Memo


def search(
    bundle: BundlePath,
    text: Annotated[
        list[str] | None,
        typer.Argument(
            help="Texts to search for, as separate arguments or with commas between them; neurons "
            "nearest to their mean come first."
        ),
    ] = None,
    but_not: Annotated[list[str] | None, typer.Option("--not", help="Texts to avoid.")] = None,
    image: Annotated[Path | None, typer.Option(help="An image file to search by.")] = None,
    like: Annotated[
        str | None, typer.Option(help="A neuron, model/layer/unit, to find others like it.")
    ] = None,
    column: Annotated[
        str | None,
        typer.Option(
            help="A concept column of the probe set, to find the neurons that go with it."
        ),
    ] = None,
    method: Annotated[
        str | None, typer.Option(help="Method whose concept vectors are searched.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Only this target model.")] = None,
    layer: Annotated[
        list[str] | None, typer.Option("--layer", "-l", help="Only these layers.")
    ] = None,
    n: Annotated[int, typer.Option("-n", min=1, help="How many neurons.")] = 10,
    encoder: Annotated[
        str | None,
        typer.Option("--encoder", "-e", help="Where the bundle's encoder is now, if it moved."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Find neurons by texts, an image, another neuron, or a concept column.

    Examples:
        csp search resnet50.csp "striped fur" --not zebra -n 5
        csp search resnet50.csp --column ruler
    """
    from csp_engine import search as searching
    from csp_engine.bundle import Bundle
    from csp_engine.views.address import Narrowing
    from csp_engine.views.column_search import going_with
    from csp_engine.views.finding.index import listing_note
    from csp_engine.views.finding.query import spelt_like
    from csp_engine.views.finding.standing import judged, judgement
    from csp_engine.views.images.separation import doubt
    from csp_engine.views.lists import found_neurons
    from csp_engine.views.memo import Memo
    from csp_engine.views.places import places
    from csp_engine.views.table.narrowed import narrowed

    opened, memo = Bundle.open(bundle), Memo()
    if sum(map(bool, (text, image, like, column))) != 1:
        raise InputError(
            "Search by texts, by --image, by --like or by --column: give one of the four."
        )
    _require_layers(opened, model, layer)
    if column:
        if but_not:
            raise InputError(
                "--not goes with texts, --image or --like; leave it out with --column."
            )
        found = going_with(opened, column, method, model=model, layers=layer, n=n)
        _write_going_with(column, found, doubt(opened), as_json)
        return
    method = _method(opened, method)
    searching.open_index(opened, method)  # raises the sentence that fits where it is damaged
    texts, avoided = _concepts(opened, text), _concepts(opened, but_not)
    if text and not texts:
        raise InputError("The query is empty; type a word or a short description.")
    typed = [
        ", ".join(filter(None, map(str.strip, each or ()))) if concepts else ""
        for each, concepts in ((text, texts), (but_not, avoided))
    ]
    query = _query(opened, memo, typed, texts, avoided, image, like, method, encoder)
    within = None
    if model or layer:
        within = [
            at
            for at, (name, of) in enumerate(places(opened))
            if (not model or name == model) and (not layer or of in layer)
        ]
    rows = found_neurons(opened, memo, method, query, within=within)
    chance = judged(opened, memo, query, method, rows, within)
    said = judgement(query, method, chance)
    is_clear = chance is None or chance.best == "clear"
    near = [] if is_clear else spelt_like(opened, texts)
    standing = {} if chance is None else chance.standing
    best = narrowed(rows, Narrowing(sort="-match")).iloc[:n]
    found = [
        {
            "neuron": f"{row['model']}/{row['layer']}/{row['unit']}",
            "score": float(row["match"]),
            "label": row["label"] or None,
            "reliable": bool(row["reliable"]),
            "standing": standing.get(at),
        }
        for at, row in zip(best.index.tolist(), best.to_dict("records"), strict=True)
    ]
    note = listing_note(opened, method)
    if as_json:
        whole = {"standing": None if chance is None else chance.best, "words": str(said)}
        answer = {"method": method, "doubt": doubt(opened) or None, "judgement": whole}
        answer |= {"note": note} if note else {}
        write_json({**answer, "did_you_mean": near, "found": _rounded(found)})
        return
    write_lines([*filter(None, [doubt(opened), note]), str(said), ""])
    if near:
        write_lines([f"Did you mean {', '.join(near)}?", ""])
    write_table(
        ("score", "neuron", "label", "reliable", *(("against chance",) if standing else ())),
        [_found_row(each, bool(standing)) for each in found],
    )


def _write_going_with(column: str, found: list[dict[str, Any]], doubt: str, as_json: bool) -> None:
    if as_json:
        write_json({"column": column, "doubt": doubt or None, "found": _rounded(found)})
        return
    if doubt:
        write_lines([doubt, ""])
    figures = ("auroc", "pearson", "auprc")
    rows = []
    for each in found:
        shown = ["–" if each[name] is None else each[name] for name in figures]
        trust = "yes" if each["reliable"] else "no"
        rows.append((*shown, each["neuron"], each["label"] or "none", trust))
    write_table(("AUROC", "Pearson", "AUPRC", "neuron", "label", "reliable"), rows)


def _rounded(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same with four decimals, for JSON alone: what is rounded twice differs from the page."""
    return [
        {
            name: round(value, 4) if isinstance(value, float) else value
            for name, value in row.items()
        }
        for row in found
    ]


def _concepts(bundle: Bundle, given: list[str] | None) -> list[str]:
    """The concepts in some texts, each read as the search page reads its box."""
    from csp_engine.views.finding.query import texts_of

    return [concept for text in given or [] for concept in texts_of(bundle, text)]


def _method(bundle: Bundle, asked: str | None) -> str:
    """The method to search by: the one asked for, or the first."""
    from csp_engine.views.finding.index import searchable_methods

    known = searchable_methods(bundle)
    if not known:
        raise InputError(f"Bundle {bundle.name} has no search index; complete it with 'csp build'.")
    if asked is not None and asked not in known:
        raise InputError(
            f"Method {asked!r} cannot be searched in bundle {bundle.name}; --method "
            f"can be {', '.join(known)}."
        )
    return asked or known[0]


def _require_layers(bundle: Bundle, model: str | None, wanted: list[str] | None) -> None:
    from csp_engine.bundle.names import require_model

    names = bundle.model_names
    if model is not None:
        require_model(bundle, model, "--model")
    within = names if model is None else (model,)
    known = {layer: None for name in within for layer in bundle.layers(name)}
    unknown = [layer for layer in wanted or () if layer not in known]
    if unknown:
        where = "the bundle" if model is None else f"model {model}"
        raise InputError(
            f"Layer {unknown[0]!r} is not in {where}; --layer can be {', '.join(known)}."
        )


def _query_encoder(bundle: Bundle, texts: list[str], image: Path | None, spec: str | None) -> Any:
    from csp_engine import search as searching

    stored = [searching.stored_label(bundle, text) is not None for text in texts]
    if image is None and all(stored):
        return None
    from csp_engine.encoders import open_clip_alone

    try:
        open_clip_alone.prepare(searching.encoder_description(bundle))
        return searching.bundle_encoder(bundle, spec)
    except MissingModelError as error:
        if spec is None and "--encoder" not in str(error):
            raise MissingModelError(f"{error} If it moved, name it with --encoder.") from None
        raise


def _read_image(path: Path) -> Any:
    from csp_engine.probe.decoding import decode

    try:
        return decode(given_bytes(path))
    except OSError as error:
        raise InputError(f"Cannot read image {path} ({error.strerror}).") from None


def _query(
    bundle: Bundle,
    memo: Memo,
    typed: list[str],
    texts: list[str],
    but_not: list[str],
    image: Path | None,
    like: str | None,
    method: str,
    encoder: str | None,
) -> Query:
    """What is searched for, as the search page would make it of the same words.

    ``typed`` is what was typed to look for and to avoid, in whose words the answer is given.
    """
    from csp_engine import search as searching
    from csp_engine.types import NeuronRef
    from csp_engine.views.finding import query as asking

    picture = None if image is None else _read_image(image)
    loaded = _query_encoder(bundle, [*texts, *but_not], image, encoder)

    def encode(_: Bundle, asked: Sequence[str]) -> np.ndarray:
        return np.stack([searching.query_vector(bundle, text, loaded) for text in asked])

    wanted, unlike = typed
    if texts:
        title = asking.less(f"“{wanted}”", unlike)
        return asking.text_query(bundle, memo, texts, but_not, encode, title=title)
    neuron = None
    if like is not None:
        neuron = NeuronRef.parse(like)
        searching.row_of(bundle.index_rows(method), neuron)
        vector_d = asking.neuron_vector(bundle, neuron, method)
    else:
        vector_d = searching.image_query_vector(bundle, picture, loaded)
    title = asking.less(f"likeness to {like}" if neuron else f"the image {image}", unlike)
    kind = "neuron" if neuron else "image"
    return asking.vector_query(
        bundle, memo, vector_d, kind, but_not, encode, title=title, neuron=neuron
    )


def _found_row(found: dict[str, Any], is_judged: bool) -> tuple[Any, ...]:
    from csp_engine.views.finding.standing import STANDING_WORDS

    row = (found["score"], found["neuron"], found["label"] or "none")
    row = (*row, "yes" if found["reliable"] else "no")
    return (*row, STANDING_WORDS.get(found["standing"], "")) if is_judged else row

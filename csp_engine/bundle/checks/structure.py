"""What a manifest must look like before anything believes it: types, names, shapes that agree.

All of it follows from the manifest and ``kinds``; no file is opened for it, so opening stays fast.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from csp_engine.bundle import kinds
from csp_engine.bundle.checks.held import MODES

PLAIN_NAME = re.compile(r"[^./\\\x00-\x1f][^/\\\x00-\x1f]{0,254}")
"""One step of a path: no separator, no dot to begin with, no control character."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_LARGEST = 1 << 50


class Malformed(ValueError):
    """A manifest that cannot be one; the message completes "its manifest.json …"."""


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _LARGEST


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _share(value: Any) -> bool:
    return _number(value) and 0 <= value <= 1


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _object(value: Any) -> bool:
    return isinstance(value, dict)


def _list_of(one: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(one, value))


def _one_of(*texts: str) -> Callable[[Any], bool]:
    return lambda value: _text(value) and value in texts


def _or_none(one: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or one(value)


def _trials(value: Any) -> bool:
    """What came of trying to run a network faster, by layer."""
    return _object(value) and all(
        _object(trial)
        and all(_whole(trial.get(name)) for name in ("n_folded", "n_images"))
        and all(_or_none(_number)(trial.get(name)) for name in ("off", "largest"))
        and _or_none(_text)(trial.get("reason"))
        for trial in value.values()
    )


_TOP = {
    "engine_version": _text,
    "created": _text,
    "updated": _text,
    "inputs": _object,
    "recipe": _object,
    "stages": _object,
}
_RECORD = {
    "key": lambda value: _text(value) and _SHA256.fullmatch(value) is not None,
    "version": _whole,
    "params": _object,
    "needs": _object,
    "inputs": _object,
    "directory": lambda value: _text(value) and PLAIN_NAME.fullmatch(value) is not None,
    "files": _object,
    "seconds": _number,
    "facts": _object,
}
_FILE = {
    "sha256": lambda value: _text(value) and _SHA256.fullmatch(value) is not None,
    "bytes": _whole,
    "dtype": _or_none(_text),
    "shape": _or_none(_list_of(_whole)),
}


def _is_left_out(value: Any) -> bool:
    texts = ("ending", "first", "why")
    return (
        _object(value)
        and _whole(value.get("n_files"))
        and all(_text(value.get(name)) for name in texts)
    )


_INPUTS: dict[str, dict[str, Callable[[Any], bool]]] = {
    "probe": {
        "name": _or_none(_text),
        "notice": _text,
        "n_images": _whole,
        "n_skipped": _whole,
        "left_out": _list_of(_is_left_out),
        "content_sha256": _text,
        "concepts": _list_of(_text),
    },
    "encoder": {
        "spec": _text,
        "fingerprint": _text,
        "dim": _whole,
        "description": _or_none(_object),
        "files": _object,
        "places": _list_of(_text),
    },
    "vocabulary": {
        "name": _or_none(_text),
        "n_labels": _whole,
        "templates": _list_of(_text),
        "renormalise": _flag,
        "subtract_empty": _flag,
        "sha256": _text,
    },
    "captioner": {"spec": _text, "fingerprint": _text, "places": _list_of(_text)},
}
_NEEDED = {"encoder": ("spec", "fingerprint")}
_MODEL: dict[str, Callable[[Any], bool]] = {
    "spec": _text,
    "fingerprint": _text,
    "layers": _list_of(_text),
    "order": _whole,
    "class_names": _or_none(_list_of(_text)),
    "passes": _trials,
}
_MODEL_NEEDED = ("spec", "fingerprint")
_FACTS: dict[str, dict[str, Callable[[Any], bool]]] = {
    "images": {"n_images": _whole},
    "index": {
        **dict.fromkeys(("recall_at_20", "recall_at_200"), _share),
        "n_asked": _whole,
        "n_reranked": lambda value: _whole(value) and value > 0,
    },
    "neurons": {"n_units": _whole, "quantile_levels": _list_of(_number)},
    "influence": {"is_predicted_class": _flag},
    "circuit": {"is_predicted_class": _flag},
    "intervention": {"output": _text, "images": _text, "has_neutral": _flag},
    "fix": {
        **dict.fromkeys(("output", "images", "clean", "chosen_on"), _text),
        "mode": _one_of(*MODES),
        "classes": _list_of(_text),
        "n_photographs": _whole,
    },
    "curves": {
        **dict.fromkeys(("output", "images", "method"), _text),
        "mode": _one_of(*MODES),
        **dict.fromkeys(("words", "classes"), _list_of(_text)),
        **dict.fromkeys(("seed", "n_photographs"), _whole),
    },
    "factors": {
        "images": _text,
        "classes": _list_of(_text),
        **dict.fromkeys(("n_tried", "n_random", "n_photographs"), _whole),
    },
    "maps": {"images": _text},
    "separation": {
        "is_separated": _or_none(_flag),
        "n_named": _whole,
        "n_images": _whole,
        "n_texts": _whole,
        **dict.fromkeys(
            ("lean", "lean_p", "auroc", "shuffled", "auroc_p", "auroc_p_least"), _or_none(_number)
        ),
    },
    "columns": {"n_units": _whole, "n_columns": _whole},
    "truth": {"n_images": _whole, "n_groups": _whole},
    "projection": {"kind": _one_of("umap", "pca")},
    "candidates": {
        "cost": _number,
        **dict.fromkeys(
            (
                "n_unanswered",
                "n_without_phrase",
                "n_same_answer",
                "n_tokens_in",
                "n_tokens_out",
            ),
            _whole,
        ),
    },
}
_PARAMS_OF_TRUTH = {"auroc_min": _number, "pearson_min": _number, "provenance": _object}
_PARAMS_OF_RULE = {
    **dict.fromkeys(("auroc_min", "pearson_min", "q", "level"), _number),
    **dict.fromkeys(("min_positive", "n_resamples", "n_permutations", "seed"), _whole),
}
_PARAMS_OF_HALVES = {"gamma": _number, "n_score": _whole}
_PARAMS = {
    "n_score": _whole,
    "n_draws": _whole,
    "imported": lambda value: _flag(value) or _text(value),
    "subtract_empty": _flag,
    "seed": lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= 0,
    "prompts": lambda value: _object(value) and all(map(_text, value.values())),
}
_COUNTS = re.compile(r"n_[a-z_]+")


def require_types(body: Mapping[str, Any]) -> None:
    """Check the types of all that stands in a manifest.

    Raises:
        Malformed: at the first that is another.
    """
    _check(body, _TOP, "", tuple(_TOP))
    for name, record in body["stages"].items():
        where = f"stage {name[:80]}"
        if not isinstance(record, dict):
            raise Malformed(f"has a {where} that is not a record")
        _check(record, _RECORD, where, tuple(_RECORD))
        if not isinstance(record.get("omitted", False), bool):
            raise Malformed(f"has omitted {record['omitted']!r} in {where}")
        for which in ("needs", "inputs"):
            if not all(isinstance(value, str) for value in record[which].values()):
                raise Malformed(f"has {which} that are not hashes in {where}")
        for file, entry in record["files"].items():
            if PLAIN_NAME.fullmatch(file) is None:
                raise Malformed(f"names a file outside of its folder, {file[:80]!r}, in {where}")
            if not isinstance(entry, dict):
                raise Malformed(f"has no record of {file[:80]} in {where}")
            _check(entry, _FILE, where, tuple(_FILE))
            _check(entry, {"kept_in": _text}, where, ())
        rules = _FACTS.get(kinds.stage_kind(name), {})
        is_coded = kinds.INDEX.is_of(name) and record["facts"].get("kind") == "codes"
        _check(record["facts"], rules, f"facts of {where}", tuple(rules) if is_coded else ())
        _check(record["params"], _PARAMS, f"params of {where}", ())
        if "anchor.npy" in record["files"]:
            _check(record["params"], _PARAMS_OF_HALVES, where, tuple(_PARAMS_OF_HALVES))
        if kinds.ASSOCIATION.is_of(name):
            _check(record["params"], _PARAMS_OF_RULE, where, tuple(_PARAMS_OF_RULE))
            if strange := sorted(record["params"].keys() - _PARAMS_OF_RULE.keys()):
                raise Malformed(f"has a rule with {strange[0][:80]!r} in {where}")
        if kinds.TRUTH.is_of(name):
            _check(record["params"], _PARAMS_OF_TRUTH, where, tuple(_PARAMS_OF_TRUTH))
        for fact, value in record["facts"].items():
            if _COUNTS.fullmatch(fact) and value is not None and not _whole(value):
                raise Malformed(f"has {fact} {str(value)[:40]!r} in {where}")
    _require_inputs(body["inputs"])
    _check(body["recipe"], {"methods": _list_of(_text)}, "recipe", ())


def _require_inputs(inputs: Mapping[str, Any]) -> None:
    for part, rules in _INPUTS.items():
        if part in inputs:
            if not isinstance(inputs[part], dict):
                raise Malformed(f"has no record of its {part}")
            _check(inputs[part], rules, f"inputs, {part}", _NEEDED.get(part, ()))
    models = inputs.get("models", {})
    if not isinstance(models, dict):
        raise Malformed("has no record of its models")
    for name, model in models.items():
        if not isinstance(model, dict):
            raise Malformed(f"has no record of model {name[:80]}")
        _check(model, _MODEL, f"inputs, model {name[:80]}", _MODEL_NEEDED)


def _check(
    found: Mapping[str, Any],
    rules: Mapping[str, Callable[[Any], bool]],
    where: str,
    needed: tuple[str, ...],
) -> None:
    for key, rule in rules.items():
        if key not in found:
            if key in needed:
                raise Malformed(f"lacks {key}{where and ' in '}{where}")
        elif not rule(found[key]):
            place = f"{where and ' in '}{where}"
            raise Malformed(f"has {key} {str(found[key])[:40]!r}{place}, which it cannot be")


def require_holders(stages: Mapping[str, Any]) -> None:
    """Check that each file that another stage holds is there, in one step.

    Args:
        stages: the records of a manifest, by name.

    Raises:
        Malformed: at the first that is not.
    """
    for name, record in stages.items():
        for file, entry in record.files.items():
            if entry.kept_in is None:
                continue
            holder = stages.get(entry.kept_in)
            if holder is None or holder.omitted:
                raise Malformed(
                    f"keeps {file[:80]} of stage {name[:80]} in {entry.kept_in[:80]!r}, which has "
                    "no files here"
                )
            if not any(
                other.kept_in is None and (other.sha256, other.bytes) == (entry.sha256, entry.bytes)
                for other in holder.files.values()
            ):
                raise Malformed(
                    f"keeps {file[:80]} of stage {name[:80]} in {entry.kept_in[:80]!r}, which does "
                    "not hold it"
                )


def require_shapes(stages: Mapping[str, Any]) -> None:
    """Check that the shapes and types of all arrays fit ``kinds`` and one another.

    Args:
        stages: the records of a manifest, by name.

    Raises:
        Malformed: at the first that does not.
    """
    folders: dict[str, str] = {}
    for name, record in stages.items():
        if folders.setdefault(record.directory, name) != name:
            raise Malformed(f"gives {name[:80]} and {folders[record.directory][:80]} one folder")
    everywhere = _everywhere(stages)
    for name, record in stages.items():
        kind = kinds.KINDS.get(kinds.stage_kind(name))
        if kind is None:
            continue
        known = dict(everywhere)
        if kind.of[:2] == ("model", "layer"):
            neurons = stages.get(kinds.NEURONS.name(*kind.parts(name)[:2]))
            if neurons is not None and "n_units" in neurons.facts:
                known["u"] = neurons.facts["n_units"]
        known |= _own_sizes(kind, record, stages)
        for file in kind.files:
            entry = record.files.get(file.name)
            if entry is None or not file.name.endswith(".npy"):
                continue
            _require_shape(known, f"{file.name} of stage {name[:80]}", file, entry)
        if kind in (kinds.SCORES, kinds.STATISTIC):
            _require_rows(known, name, record.files, {file.name for file in kind.files})


def _require_rows(
    known: dict[str, int], stage: str, files: Mapping[str, Any], declared: set[str]
) -> None:
    """What a method or a statistic keeps of its own has a row for each unit, or each random set."""
    for file, entry in files.items():
        if not file.endswith(".npy") or file in declared:
            continue
        n_rows = entry.shape[0] if entry.shape else 0
        wanted = known.setdefault("r" if file.startswith("null_") else "u", n_rows)
        if n_rows != wanted:
            what = f"{file[:80]} of stage {stage[:80]}"
            raise Malformed(f"gives {what} {n_rows} rows where others have {wanted}")


def _own_sizes(kind: kinds.StageKind, record: Any, stages: Mapping[str, Any]) -> dict[str, int]:
    """The sizes that follow from a stage's own facts and parameters."""
    if kind is kinds.PROJECTION:
        return {"x": 2}
    n_draws = record.params.get("n_draws")
    if kind is kinds.NULL and isinstance(n_draws, int):
        return {"r": n_draws}
    levels = record.facts.get("quantile_levels")
    if kind is kinds.NEURONS and isinstance(levels, list):
        return {"q": len(levels)}
    n_score = record.params.get("n_score")
    if kind is kinds.AUDIT and isinstance(n_score, int):
        for needed in record.needs:
            ranked = stages[needed].files.get("exemplar_image.npy") if needed in stages else None
            if ranked is not None and ranked.shape is not None and len(ranked.shape) == 2:
                return {"k": min(n_score, ranked.shape[1])}
    return {}


def _everywhere(stages: Mapping[str, Any]) -> dict[str, int]:
    """The sizes that all stages share: images, labels, width of the encoder's vectors."""
    known: dict[str, int] = {}
    images = stages.get(kinds.IMAGES.name())
    if images is not None and "n_images" in images.facts:
        known["n"] = images.facts["n_images"]
    for stage, file, axis, letter in (
        (kinds.EMBEDDINGS.name(), "image.npy", 1, "d"),
        (kinds.VOCABULARY.name(), "text.npy", 0, "t"),
    ):
        entry = stages[stage].files.get(file) if stage in stages else None
        if entry is not None and entry.shape is not None and len(entry.shape) > axis:
            known[letter] = entry.shape[axis]
    return known


def _require_shape(known: dict[str, int], what: str, file: kinds.StageFile, entry: Any) -> None:
    if entry.dtype != file.holds:
        raise Malformed(f"gives {what} as {str(entry.dtype)[:40]} instead of {file.holds}")
    letters = file.axes.split()
    if entry.shape is None or len(entry.shape) != len(letters):
        raise Malformed(f"gives {what} the shape {entry.shape} instead of ({file.axes})")
    for letter, size in zip(letters, entry.shape, strict=True):
        name, _, more = letter.partition("+")
        wanted = known.setdefault(name, size - int(more or 0)) + int(more or 0)
        if size != wanted:
            raise Malformed(f"gives {what} {size} along {name!r} where others have {wanted}")

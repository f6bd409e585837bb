"""What the commands that make bundles are told, and what they say in the end."""

from __future__ import annotations

from collections.abc import Sequence
from shlex import quote
from typing import TYPE_CHECKING, Any

from csp_engine.cli.shown import write_json, write_lines
from csp_engine.errors import InputError

if TYPE_CHECKING:
    from csp_engine.bundle import Bundle


def assignments(given: list[str] | None) -> dict[str, Any]:
    """What ``--set`` was given: parameters of the recipe and their values."""
    return dict(split(text, "--set", "PARAMETER=VALUE") for text in given or [])


def split(text: str, option: str, form: str) -> tuple[str, str]:
    """The two sides of ``KEY=VALUE`` as an option was given."""
    key, equals, value = text.partition("=")
    if not equals:
        raise InputError(f"{option} {text!r} lacks '='; write it as {form}.")
    return key.strip(), value.strip()


def report(
    bundle: Bundle, as_json: bool, left_out: Sequence[str] = (), place: str | None = None
) -> None:
    """Print what a bundle holds, and what whoever made it must know.

    Args:
        bundle: an open bundle.
        as_json: whether to print JSON.
        left_out: sentences about what was not made.
        place: where it is for whoever reads this; by default its path.
    """
    from csp_engine.bundle import kinds
    from csp_engine.views.images.seen import cut_notices
    from csp_engine.views.images.separation import doubt, texts_in_words
    from csp_engine.views.neuron.proposals import proposal_notices
    from csp_engine.views.overview.concepts import concept_sentences
    from csp_engine.views.overview.passes import pass_sentences
    from csp_engine.views.overview.unused import unused_files

    concepts = concept_sentences(bundle)
    unused = unused_files(bundle)
    place = place or str(bundle.path)
    summary = {
        "bundle": place,
        "images": bundle.n_images,
        "skipped": len(bundle.skipped()),
        "neurons": {
            f"{model}/{layer}": bundle.n_units(model, layer)
            for model in bundle.model_names
            for layer in bundle.layers(model)
        },
        "reliable": {
            "/".join(kinds.SCORES.parts(name)): record.facts.get("n_reliable")
            for name, record in bundle.manifest.stages.items()
            if kinds.SCORES.is_of(name)
        },
    }
    notices = list(left_out)
    notices += [
        f"{name}: {notice}"
        for name, model in bundle.manifest.inputs.get("models", {}).items()
        for notice in model.get("notices", ())
    ]
    notices += cut_notices(bundle)
    notices += [
        f"{'/'.join(kinds.INFLUENCE.parts(name))}: influence is measured on predicted "
        "classes, because not every class of the images is the name of an output."
        for name, record in bundle.manifest.stages.items()
        if kinds.INFLUENCE.is_of(name)
        and record.facts.get("is_predicted_class")
        and "class" in bundle.table("probe", "probe")
    ]
    notices += proposal_notices(bundle)
    passes = pass_sentences(bundle)
    texts = texts_in_words(bundle)
    if as_json:
        told = {"notices": notices, "unused": unused, "concepts": concepts, "texts": texts}
        told["passes"] = passes
        write_json({**summary, **told, "doubt": doubt(bundle) or None})
        return
    n_neurons = sum(summary["neurons"].values())
    skipped = f", {summary['skipped']} unreadable" if summary["skipped"] else ""
    write_lines(
        [
            *notices,
            *passes,
            *unused,
            *concepts,
            texts,
            f"{place}: {n_neurons:,} neurons, {bundle.n_images:,} images{skipped}.",
            f"Browse it with: csp serve {quote(place)}",
        ]
    )

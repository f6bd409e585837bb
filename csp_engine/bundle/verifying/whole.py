"""Checking a bundle against its manifest, byte for byte, and its stages against one another."""

from __future__ import annotations

import hashlib

from csp_engine.bundle import kinds
from csp_engine.bundle.checks.inside import NotInside, open_plain
from csp_engine.bundle.manifest import UNFINISHED, stage_key
from csp_engine.bundle.reader import Bundle
from csp_engine.bundle.verifying.sampling import is_here
from csp_engine.evidence.speaker import Speaker
from csp_engine.types import Progress, silent


def verify(
    bundle: Bundle, progress: Progress = silent, speaker: Speaker | None = None
) -> list[str]:
    """Hash every file again, check keys and needs, and compute again what follows from others.

    Files that this copy leaves out (``Bundle.omitted``) are no problem; keys are checked all the
    same. ``crosscheck`` says what is computed again, once all hashes are right.

    Args:
        bundle: an open bundle.
        progress: called with the files done.
        speaker: the captioner of the bundle, where it is at hand; methods that asked it are then
            followed too.

    Returns:
        Sentences that name the file or stage; none if the bundle is whole.
    """
    from csp_engine.bundle.verifying.crosscheck import contradictions

    problems = [*unfinished(bundle), *altered(bundle, progress)]
    return problems or [sentence for _, sentence in contradictions(bundle, speaker=speaker)]


def unchecked(bundle: Bundle, speaker: Speaker | None = None) -> list[str]:
    """What of a bundle ``verify`` could not compute again, though it can of others, and why."""
    from csp_engine.bundle.verifying.scored import why_not
    from csp_engine.bundle.verifying.separated import why_not_separation

    found: dict[str, int] = {}
    for model in bundle.model_names:
        for layer in bundle.layers(model):
            if not is_here(bundle, kinds.ACTIVATIONS.name(model, layer)):
                said = "Exemplars and statistics of {}: this copy leaves activations out."
                found[said] = found.get(said, 0) + 1
            for method in bundle.methods(model, layer):
                if why := why_not(bundle, model, layer, method, speaker):
                    said = f"Labels by {method} of {{}}: {why}."
                    found[said] = found.get(said, 0) + 1
    sentences = [said.format("1 layer" if n == 1 else f"{n} layers") for said, n in found.items()]
    if bundle.has(kinds.SEPARATION.name()) and (why := why_not_separation(bundle)):
        sentences.append(f"Whether texts separate the images: {why}.")
    return sentences


def unfinished(bundle: Bundle) -> list[str]:
    """What a build that was interrupted has left to do."""
    again = "run the same 'csp build' again to continue"
    found = []
    if (bundle.path / ".pass").exists():
        found.append(f"A pass over the images was interrupted; {again}.")
    elif (bundle.path / UNFINISHED).exists() or not bundle.manifest.recipe:
        found.append(
            "A build or labelling was begun and not finished; run the same command again to "
            "continue."
        )
    described = bundle.manifest.inputs.get("models", {})
    for model, about in described.items():
        for layer in about.get("layers", []):
            if not bundle.has(kinds.NEURONS.name(model, layer)):
                found.append(f"Layer {model}/{layer} was asked for and is not there; {again}.")
    places = [(model, layer) for model in bundle.model_names for layer in bundle.layers(model)]
    for kind in (kinds.AUDIT, kinds.COLUMNS):  # all layers have them, or none by an old version
        lacking = [place for place in places if not bundle.has(kind.name(*place))]
        if len(lacking) < len(places):
            found += [f"Stage {kind.name(*place)} is not there; {again}." for place in lacking]
    methods = bundle.manifest.recipe.get("methods", [])
    for model in bundle.model_names:
        for layer in bundle.layers(model):
            lacking = [each for each in methods if each not in bundle.methods(model, layer)]
            found += [f"Layer {model}/{layer} has no labels by {m}; {again}." for m in lacking]
    return found


def altered(bundle: Bundle, progress: Progress = silent) -> list[str]:
    """What of a bundle is not as its manifest says: files, keys, and stages made from others."""
    problems: list[str] = []
    stages = bundle.manifest.stages
    total = sum(len(record.files) for record in stages.values() if not record.omitted)
    done = 0
    for name, record in stages.items():
        key = stage_key(name, record.version, record.params, record.needs, record.inputs)
        if key != record.key:
            problems.append(f"Stage {name} has key {record.key[:12]} but describes {key[:12]}.")
        for need, need_key in record.needs.items():
            held = stages.get(need)
            if held is None:
                problems.append(f"Stage {name} was made from {need}, which is not in the bundle.")
            elif held.key != need_key:
                problems.append(f"Stage {name} is older than the {need} now in the bundle.")
        if record.omitted:
            continue
        for file, entry in record.files.items():
            directory, held = bundle.manifest.place(name, file)
            where = f"{directory}/{held}"
            try:
                with open_plain(bundle.path / directory, held) as handle:
                    digest = hashlib.file_digest(handle, hashlib.sha256)
                    size = handle.tell()
                if size != entry.bytes:
                    problems.append(f"{where} has {size} bytes, not {entry.bytes}.")
                elif digest.hexdigest() != entry.sha256:
                    problems.append(f"{where} was altered: its sha256 does not match the manifest.")
            except FileNotFoundError:
                problems.append(f"{where} is missing.")
            except NotInside as error:
                problems.append(f"{where} cannot be used: {error}.")
            except OSError as error:
                problems.append(f"{where} cannot be read ({error.strerror}).")
            done += 1
            progress("verify", done, total)
    return problems

"""What a bundle was made from, in words."""

from __future__ import annotations

from csp_engine import numbers
from csp_engine.bundle import Bundle
from csp_engine.printable import shown_spec
from csp_engine.views.finding.index import search_sentences
from csp_engine.views.images.separation import texts_in_words
from csp_engine.views.overview.concepts import concept_sentences
from csp_engine.views.overview.passes import pass_sentences
from csp_engine.views.overview.unused import unused_files


def provenance(bundle: Bundle) -> list[tuple[str, str]]:
    """Models, probe set, encoder, vocabulary and bundle, each with the start of its hash."""
    inputs, recipe = bundle.manifest.inputs, bundle.manifest.recipe
    probe, encoder = inputs.get("probe", {}), inputs.get("encoder", {})
    vocabulary = inputs.get("vocabulary", {})
    rows = [
        (
            f"Model {name}",
            f"{shown_spec(model.get('spec', '?'))} · {model.get('fingerprint', '')[:12]}",
        )
        for name, model in inputs.get("models", {}).items()
    ]
    rows += [("Passes", sentence) for sentence in pass_sentences(bundle)]
    n_skipped = int(probe.get("n_skipped", 0))
    skipped = f", {numbers.count(n_skipped)} unreadable" if n_skipped else ""
    rows += [
        (
            "Probe set",
            f"{probe.get('name', '?')} · {numbers.count(bundle.n_images)} images{skipped} · "
            f"{probe.get('content_sha256', '')[:12]}",
        ),
        *(("Not used", sentence) for sentence in unused_files(bundle)),
        *(("Concepts", sentence) for sentence in concept_sentences(bundle)),
        (
            "Encoder",
            f"{shown_spec(encoder.get('spec', '?'))} · {encoder.get('fingerprint', '')[:12]}",
        ),
        (
            "Vocabulary",
            f"{vocabulary.get('name', '?')} · {numbers.count(vocabulary.get('n_labels', 0))} "
            f"labels · {vocabulary.get('sha256', '')[:12]}",
        ),
        ("Texts", texts_in_words(bundle)),
        (
            "Contrast images",
            f"quiet below {recipe.get('threshold', '?')}, γ = {recipe.get('gamma')}",
        ),
        *(("Search", sentence) for sentence in search_sentences(bundle)),
        ("Built", f"{bundle.manifest.updated[:16].replace('T', ' ')} UTC"),
        ("Bundle", f"{bundle.path.name} · {bundle.digest[:12]}"),
    ]
    return rows

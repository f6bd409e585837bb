"""Steps of the melanoma walk that show the audit: the plot, and the spurious neurons."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from csp_engine import numbers
from csp_engine.bundle import Bundle
from csp_engine.cells import csv_text
from csp_engine.stats.intervals import share_of
from csp_engine.types import NeuronRef
from csp_engine.views.address import View
from csp_engine.views.case.audit import (
    Case,
    coverage,
    examine,
    melanoma,
    neuron_of,
    signed_share,
    with_interval,
)
from csp_engine.views.comparison import named
from csp_engine.views.images.pairs import pair_tiles
from csp_engine.views.neuron.label import best_label
from csp_engine.views.neuron.shared import shared
from csp_engine.views.sentence import listed
from csp_engine.views.table.rows import neuron_ids
from pages.ui.case import charts as case_charts
from pages.ui.case.charts import CHART, lead, theme
from pages.ui.parts import words
from pages.ui.parts.cards import Packs, markdown_text, page_url, plain, show, tile_grid
from pages.ui.parts.exporting import csv_button
from pages.ui.parts.strips import strip_urls
from pages.ui.shell import store
from pages.ui.shell.page import go
from pages.ui.table.neuron_rows import chosen, label_column

N_SPURIOUS, N_PAIRS, N_UNEXPECTED, N_SHARED = 4, 4, 5, 3
NEEDS = "This follows from step 3, for which something is missing in this bundle."


NAMES = {"valid": "clinical criteria", "spurious": "artefacts", "neutral": "neutral concepts"}
"""What the walk calls the concepts of each tag."""


def here(view: View, neuron: NeuronRef) -> View:
    """The view of a neuron, by the method of the walk."""
    return View(view.bundle, neuron.model, neuron.layer, neuron.unit, view.method)


def examined(bundle: Bundle, view: View, layers: tuple[str, ...], lacking: str = "") -> Case | None:
    """The case, or None after saying what is missing, in other words where it was said before."""
    concepts = melanoma(store.MEMO)
    case = examine(bundle, store.MEMO, concepts, view.model, layers, view.method)
    if isinstance(case, str):
        lead(plain(lacking or case))
        return None
    return case


def alignment(bundle: Bundle, view: View, layers: tuple[str, ...]) -> None:
    """The plot of the SemanticLens paper, and the same as a table."""
    case = examined(bundle, view, layers)
    if case is None:
        return
    shown = case.influential
    among = "images that it assigns to that class" if case.is_predicted else "images of that class"
    lead(
        f"Each point is one of the {numbers.count(len(shown))} neurons that together "
        f"carry half of the influence on <i>{plain(case.output)}</i> in their layer "
        f"({words.term('gradient × activation')}, mean over "
        f"{numbers.count(case.n_images)} probe {among}); larger points carry more. The "
        "higher a point, the more its neuron aligns with an artefact; the further right, "
        "with a clinical criterion. 95 % of random image sets stay below the dotted "
        "lines. Beyond both lines, a neuron is named after the alignment that exceeds "
        "its line by more. Below both, it is <b>unexpected</b>: it matters, and neither "
        "list says why."
    )
    empty = " − cos(z, ∅)" if case.has_empty else ""
    show(
        "<p class='csp-formula'>a<sub>valid</sub> = max<sub>t ∈ criteria</sub> cos(z, t)"
        f"{empty}&emsp; a<sub>spurious</sub> = max<sub>t ∈ artefacts</sub> cos(z, t){empty}</p>"
        f"<p class='csp-quiet csp-left'>z: concept vector by {words.method(view.method)}; t: "
        "vector of a text"
        + ("; ∅: vector of the templates without a text" if case.has_empty else "")
        + ". After SemanticLens (Dreyer et al. 2025, Fig. 4). Select a point or a row to open its "
        "neuron.</p>"
    )
    figure, described = case_charts.alignment_plot(case, theme())
    event = st.plotly_chart(
        figure,
        key="alignment",
        on_select="rerun",
        selection_mode="points",
        config=CHART,
        alt=described,
    )
    picked = [point.get("customdata") for point in event["selection"]["points"]]
    for at in picked[:1]:
        at = at[0] if isinstance(at, list) and at else at
        if isinstance(at, (int, float)) and 0 <= at < len(case.rows):
            go("neuron", here(view, neuron_of(case.rows.iloc[int(at)])).params())
    counts(view, case)
    twin(bundle, view, case)
    with st.expander("Which concepts, and who says so"):
        show(sources(case))


def counts(view: View, case: Case) -> None:
    """How many of each kind, and the unexpected ones by name."""
    first, *rest = [
        (f"<b>{numbers.count(len(case.of_kind(kind)))}</b>", kind) for kind in case.kinds
    ]
    each = [f"{first[0]} are {first[1]}", *(f"{n} {kind}" for n, kind in rest)]
    rows = case.of_kind("unexpected").head(N_UNEXPECTED)
    links = []
    for _, row in rows.iterrows():
        href = page_url("neuron", here(view, neuron_of(row)).params())
        links.append(
            f"<a href='{plain(href)}' target='_self'>{plain(row['layer'])}/{row['unit']}</a> "
            f"({plain(signed_share(row['share']))})"
        )
    named = f" The most influential unexpected ones: {', '.join(links)}." if links else ""
    lead(f"Of these neurons, {listed(each)}.{named}{true_of_unexpected(case)}")


def true_of_unexpected(case: Case) -> str:
    """What the unexpected neurons were measured to respond to, where that is known."""
    rows = case.of_kind("unexpected")
    if "truth" not in rows or rows.empty:
        return ""
    found = rows["truth"].value_counts()
    parts = [
        f"{plain(name) if name else 'none'} ({numbers.count(n)})"
        for name, n in found.head(3).items()
    ]
    n_other = int(found.iloc[3:].sum())
    parts += [f"others ({numbers.count(n_other)})"] if n_other else []
    return (
        f" {words.term('true concept', 'True concepts')} of the unexpected ones: {listed(parts)}."
    )


def twin(bundle: Bundle, view: View, case: Case) -> None:
    """The influential neurons as a table: for keyboards, and for sorting."""
    rows = case.influential
    shown = pd.DataFrame(
        {
            "strip": strip_urls(view.bundle, bundle, rows),
            "neuron": neuron_ids(rows),
            "kind": rows["kind"],
            "label": named(rows["label"], rows["reliable"]),
            "share": 100 * rows["share"],
            "spurious": rows["spurious"],
            "spurious_text": rows["spurious_text"],
            "valid": rows["valid"],
            "valid_text": rows["valid_text"],
        }
    )
    if "truth" in rows:
        shown["truth"] = rows["truth"]
    kinds = st.column_config
    event = st.dataframe(
        shown,
        hide_index=True,
        height=min(330, 40 + 50 * len(shown)),
        row_height=50,
        column_config={
            "strip": kinds.ImageColumn("Exemplars", width=216),
            "neuron": kinds.TextColumn("Neuron"),
            "kind": kinds.TextColumn(
                "Kind",
                help=words.tooltip(
                    "Valid, spurious or unexpected, as in the plot.", "unexpected neuron"
                ),
            ),
            "label": label_column(
                "Best label",
                "opened",
                words.tooltip("“Unclear” where it is not reliable.", "reliable label"),
            ),
            "share": kinds.NumberColumn(
                "Influence",
                format="%+.2f %%",
                help=words.tooltip(
                    f"Share of its layer's influence; + is towards {markdown_text(case.output)}.",
                    "gradient × activation",
                ),
            ),
            "spurious": kinds.NumberColumn(
                "a spurious",
                format="%.3f",
                help=words.tooltip("Alignment to artefacts, as in the plot.", "alignment"),
            ),
            "spurious_text": kinds.TextColumn("Nearest artefact"),
            "valid": kinds.NumberColumn(
                "a valid",
                format="%.3f",
                help=words.tooltip("Alignment to clinical criteria, as in the plot.", "alignment"),
            ),
            "valid_text": kinds.TextColumn("Nearest criterion"),
            "truth": kinds.TextColumn(
                "Truth",
                help=words.tooltip(
                    "What it responds to on other images; empty if unclear.", "true concept"
                ),
            ),
        },
        key="influential",
        on_select="rerun",
        selection_mode="single-row",
        placeholder="–",
        alt=f"{len(shown)} influential neurons with alignments, influence and labels",
    )
    csv_button(
        "these neurons",
        lambda: csv_text(shown.drop(columns="strip")).encode(),
        file_name="influential.csv",
        key="export",
    )
    at = chosen(event, "opened", len(rows))
    if at is not None:
        go("neuron", here(view, neuron_of(rows.iloc[at])).params())


def sources(case: Case) -> str:
    """The groups of concepts by source, with what of each this vocabulary names."""
    parts = []
    for each in coverage(case):
        held, lacking = (", ".join(map(plain, names)) for names in (each.held, each.lacking))
        missing = (
            f" <span class='csp-quiet'>Not in this vocabulary: {lacking}.</span>" if lacking else ""
        )
        parts.append(
            f"<dt>{plain(each.group.name)} <span class='csp-quiet'>({NAMES[each.group.tag]})"
            f"</span></dt><dd>{held or 'none'}.{missing}<br>"
            f"<span class='csp-quiet'>{plain(each.group.source)}</span></dd>"
        )
    return f"<div class='csp-words'><dl>{''.join(parts)}</dl></div>"


def spurious(bundle: Bundle, view: View, layers: tuple[str, ...]) -> None:
    """The most influential spurious neurons beside what leaves them quiet."""
    case = examined(bundle, view, layers, NEEDS)
    if case is None:
        return
    rows = case.of_kind("spurious")
    if rows.empty:
        lead("No influential neuron aligns with an artefact better than chance would.")
        return
    first = min(N_SPURIOUS, len(rows))
    lead(
        f"The {first} most influential of {numbers.count(len(rows))}. In each pair, the "
        "left image excites the neuron and the right one is the most similar image that "
        "leaves it quiet: what the left image shows and the right one lacks is what the "
        "network takes into account."
    )
    if "truth" in rows:
        lead(truth_check(case, bundle))
    else:
        lead("This bundle does not say what these neurons truly respond to: look at the "
             "images, and at what is recorded about them.")  # fmt: skip
    for at, (_, row) in enumerate(rows.head(N_SPURIOUS).iterrows()):
        neuron(bundle, view, case, row, at)


def truth_check(case: Case, bundle: Bundle) -> str:
    """How the calls compare with what the neurons were measured to respond to."""
    truth = bundle.truth(case.model, case.layers[0])
    n_images = numbers.count(truth.n_image) if truth else "?"
    is_own = truth is not None and truth.rule["provenance"].get("in_probe_set", False)
    where = "photographs of the probe set itself" if is_own else "held-out images"
    called = case.of_kind("spurious")
    right = case.true_share(called, "spurious")
    wrong = case.true_share(called, "valid")
    is_known = truth is not None and bool(case.is_of(truth.concepts["name"], "valid").any())
    criterion = f"{numbers.count(wrong.n_hits)} to a clinical criterion, " if is_known else ""
    truly = case.influential[case.is_of(case.influential["truth"], "spurious")]
    found = share_of(int((truly["kind"] == "spurious").sum()), len(truly))
    return (
        f"Checked against the {words.term('true concept')} of each neuron, measured on "
        f"{n_images} {where}: of the neurons called spurious, {with_interval(right)} "
        f"truly respond to an artefact on the list, {criterion}and the others to nothing "
        "clearly enough. Of the influential neurons that truly respond to an artefact, "
        f"{with_interval(found)} are called spurious."
    )


def neuron(bundle: Bundle, view: View, case: Case, row: pd.Series, at: int) -> None:
    """One spurious neuron: name, figures, pairs."""
    found = neuron_of(row)
    label = best_label(bundle, found, view.method)
    way = "towards" if row["share"] > 0 else "away from"
    facts = [
        f"influence {signed_share(row['share'])} of its layer, {way} {case.output}",
        f"artefact {row['spurious_text']} {numbers.score(row['spurious'])}, "
        f"criterion {row['valid_text']} {numbers.score(row['valid'])}",
    ]
    if "truth" in row:
        ends = f"{row['auroc_low']:.2f} to {row['auroc_high']:.2f}"
        facts.append(
            f"truth {row['truth']}, AUROC {row['auroc']:.2f} ({ends})"
            if row["truth"]
            else "truth: no concept is clear enough"
        )
    facts += recorded(bundle, found)
    href = page_url("neuron", here(view, found).params())
    show(
        f"<div class='csp-case'><h3 dir='auto'>{plain(label.title)}</h3>"
        f"<p><a href='{plain(href)}' target='_self'>{plain(found)}</a>"
        f" · {' · '.join(plain(fact) for fact in facts)}</p></div>"
    )
    image = tile_grid(
        pair_tiles(bundle, store.MEMO, found, N_PAIRS),
        Packs(view.bundle, bundle),
        label=f"Exemplars of {found} beside their contrast images",
        key=f"spurious-{at}",
    )
    if image is not None:
        go("search", view.search_params("", image=image))


def recorded(bundle: Bundle, found: NeuronRef) -> list[str]:
    """What is recorded about the exemplars more often than chance would have it, in words."""
    named = [
        f"{row.name} {numbers.share(row.share)} (all images {numbers.share(row.base)})"
        for row in shared(bundle, store.MEMO, found).striking[:N_SHARED]
    ]
    return [f"its exemplars show {', '.join(named)}"] if named else []

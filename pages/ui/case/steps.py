"""Steps of the melanoma walk around the audit: accuracy, searches, and what was not shown."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import streamlit as st

from csp_engine import numbers
from csp_engine.bundle import Bundle
from csp_engine.files import ROOT
from csp_engine.search import NullLevel, allowed_rows, rank, stored_label
from csp_engine.stats.intervals import difference_of_shares, share_of
from csp_engine.types import NeuronRef
from csp_engine.views import lists, random_sets
from csp_engine.views.address import View
from csp_engine.views.finding.index import index_of, searchable_methods
from csp_engine.views.finding.standing import STANDING_WORDS, judged
from csp_engine.views.neuron.card import neuron_card
from pages.ui.case import charts as case_charts
from pages.ui.case.charts import CHART, lead, points, theme
from pages.ui.parts import words
from pages.ui.parts.cards import Packs, bar_table, base_url, card_list, plain, show
from pages.ui.shell import store
from pages.ui.shell.page import link
from pages.ui.views import case as audit

N_FOUND = 3
UNSURE = "On images of which some may have taken part in training"
N_FEW_SLICES = 3
"""With more slices than this, the two furthest apart are a choice that has to be told."""


def accuracy(bundle: Bundle, view: View, other: str | None) -> None:
    """Test figures of the classifier and of the one it is compared with."""
    tables = {
        model: found
        for model in (view.model, other)
        if model is not None and (found := bundle.performance(model)) is not None
    }
    if not tables:
        lead(
            f"This bundle holds no test figures of {plain(view.model)}, so how often it is right "
            "on images with and without artefacts cannot be shown."
        )
        return
    case = audit.expected()
    models = bundle.manifest.inputs.get("models", {})
    about = {model: case.about.get(str(models.get(model, {}).get("spec"))) for model in tables}
    told = [f"<b>{plain(m)}</b>: {plain(text)}." for m, text in about.items() if text]
    if told:
        lead(" ".join(told))
    lead(" ".join(falls(tables)))
    left, right = st.columns([1, 1.1], gap="medium")
    with left:
        figure, described = case_charts.accuracy_plot(tables, theme())
        st.plotly_chart(figure, key="accuracy", config=CHART, alt=described)
        if any(about.values()):
            names = [name for name in next(iter(tables.values()))["slice"] if name in case.slices]
            each = "; ".join(f"<i>{plain(n)}</i>: {plain(case.slices[n])}" for n in names)
            show(f"<p class='csp-quiet'>{each}. Bars: 95 % intervals (Wilson).</p>")
    with right:
        show(accuracy_table(tables))


def falls(tables: dict[str, pd.DataFrame]) -> list[str]:
    """How far each classifier falls between the best and the worst slice of the first."""
    first = next(iter(tables.values()))
    best = str(first["slice"].iloc[int(first["accuracy"].argmax())])
    worst = str(first["slice"].iloc[int(first["accuracy"].argmin())])
    told = []
    for model, rows in tables.items():
        by_name = rows.set_index("slice")
        if best == worst or not {best, worst} <= set(by_name.index):
            continue
        high, low = (
            share_of(int(by_name.loc[n, "n_correct"]), int(by_name.loc[n, "n"]))
            for n in (best, worst)
        )
        gap, least, most = difference_of_shares(high, low)
        n_points = round(abs(100 * gap))
        told.append(
            f"<b>{plain(model)}</b> is right on {numbers.share(high.share)} of "
            f"<i>{plain(best)}</i> images and on {numbers.share(low.share)} of "
            f"<i>{plain(worst)}</i> images: {n_points} point{'' if n_points == 1 else 's'} "
            f"{'fewer' if gap >= 0 else 'more'} (95 % interval of the fall: {points(least)} to "
            f"{points(most)})."
        )
    if told and len(first) > N_FEW_SLICES:
        told.append(
            f"Of {len(first)} slices these two lie furthest apart, so chance has a part in the gap."
        )
    return told


def accuracy_table(tables: dict[str, pd.DataFrame]) -> str:
    """Every figure behind the plot."""
    extra = [
        (column, title)
        for column, title in (
            ("melanoma_found", "melanomas found"),
            ("benign_cleared", "others cleared"),
        )
        if all(column in rows for rows in tables.values())
    ]
    rows = []
    for model, table_ in tables.items():
        for row in table_.to_dict("records"):
            ends = f"{numbers.share(row['low'])} to {numbers.share(row['high'])}"
            cells = [numbers.share(row["accuracy"]), ends, numbers.count(row["n"])]
            cells += [numbers.share(row[column]) for column, _ in extra]
            rows.append((f"{model} · {row['slice']}", float(row["accuracy"]), cells))
    columns = ("classifier · test images", "right", "95 % interval", "n", *(t for _, t in extra))
    is_unseen = all(rows["unseen"].all() for rows in tables.values() if "unseen" in rows)
    title = "On images that took no part in training" if is_unseen else UNSURE
    return bar_table(title, columns, rows)


def searches(bundle: Bundle, view: View) -> None:
    """What the searches of the walk find, and the way to each."""
    if view.method not in searchable_methods(bundle):
        lead("This bundle has no search index of these concept vectors.")
        return
    lead(
        "Words are compared with every neuron's "
        f"{words.term('concept vector')} by cosine. A ruler or a patch of colour should move "
        "nothing in a classifier of lesions; a blue-white veil should."
    )
    columns = st.columns(len(audit.expected().searches), gap="medium")
    for at, (column, text) in enumerate(zip(columns, audit.expected().searches, strict=True)):
        with column:
            with st.container(key=f"open-{at}"):
                link("search", f"Search “{text}”", view.search_params(text))
            label = stored_label(bundle, text)
            if label is None:
                show(
                    "<p class='csp-quiet'>Not in this vocabulary: the search loads the encoder.</p>"
                )
            else:
                preview(
                    bundle, view, text, np.asarray(bundle.label_vectors()[label]), f"found-{at}"
                )


def preview(bundle: Bundle, view: View, text: str, query_d: np.ndarray, key: str) -> None:
    """The first neurons of a search within one classifier."""
    index, rows = index_of(bundle, store.MEMO, view.method)
    standing = standings(bundle, view, text)
    ranking = rank(index, query_d, N_FOUND, allowed_u=allowed_rows(rows, model=view.model))
    cards = []
    for row, score in zip(ranking.row_m.tolist(), ranking.score_m.tolist(), strict=True):
        model, layer, unit = rows.iloc[row][["model", "layer", "unit"]]
        null_rd = random_sets.null_of(bundle, store.MEMO, model, layer, view.method)
        note = ""
        if null_rd is not None:
            level = NullLevel.of(null_rd, query_d)
            share = float(level.percentile(np.array([score], np.float32))[0])
            note = numbers.beats(share, len(level.score_r)).replace(" image", "")
        stands = standing.get((model, layer, int(unit)), "none")
        neuron = NeuronRef(str(model), str(layer), int(unit))
        card = neuron_card(
            bundle,
            neuron,
            view.method,
            view.params(model=neuron.model, layer=neuron.layer, unit=neuron.unit),
            score=numbers.score(score),
            note=note,
            n=4,
            mark=STANDING_WORDS[stands],
            is_marked=stands == "clear",
        )
        cards.append(card)
    packs = Packs(view.bundle, bundle)
    card_list(cards, packs, label=f"Neurons nearest to {text}", key=key, compact=True)


def standings(bundle: Bundle, view: View, text: str) -> dict[tuple[str, str, int], str]:
    """How the nearest neurons stand to chance by model, layer, unit: what the page Search says."""
    asked = replace(view, q=text, but_not="", like="", image=None, vec="", is_all_layers=True)
    query = store.query_of(bundle, asked)
    assert query is not None
    whole = lists.searched(bundle, store.MEMO, asked, query)
    found = judged(bundle, store.MEMO, query, asked.method, whole)
    if found is None:
        return {}
    rows = whole.loc[list(found.standing), ["model", "layer", "unit"]]
    names = rows.itertuples(index=False, name=None)
    return {(str(m), str(la), int(u)): said
            for (m, la, u), said in zip(names, found.standing.values(), strict=True)}  # fmt: skip


def limits(bundle: Bundle) -> None:
    """What follows from the walk and what does not."""
    is_simulated = any(spec_of(bundle, m) in audit.expected().about for m in bundle.model_names)
    first = (
        "The photographs are simulated: drawn by a program, with artefacts put in at known rates."
        if is_simulated
        else "The photographs are those of this bundle's probe set."
    )
    items = [
        f"{first} Nothing here says how good a classifier is in a clinic.",
        "Shown: which neurons move the output, what their images and words have in common, and how "
        "that compares with chance. Not shown: that removing such a neuron would change a "
        "decision; gradient × activation is a first-order estimate, and networks make up for what "
        "is removed.",
        "In the skin study of SemanticLens, pruning spurious neurons and retraining both raised "
        "accuracy, and only retraining made the network much less sensitive to artefacts: accuracy "
        "alone, as in step 1, is not enough, and neither are neurons alone.",
        "A neuron can stand for what no list names. “Unexpected” means just that, and may as well "
        "be a gap in the lists, in the vocabulary, or in what the encoder can see.",
        "What the probe set does not show cannot be found in it.",
    ]  # fmt: skip
    links = [
        f"<a href='{plain(base_url(f'csp/docs/{name}'))}' target='_blank'>{plain(text)}</a>"
        for name, text in (
            ("demo.md", "How the demo is made"),
            ("melanoma.md", "The same on real photographs"),
            ("methods.md", "Methods"),
        )
        if (ROOT / "docs" / name).is_file()
    ]
    show(
        "<ul class='csp-limits'>" + "".join(f"<li>{item}</li>" for item in items) + "</ul>"
        f"<p class='csp-links'>{' · '.join(links)}</p>"
    )


def spec_of(bundle: Bundle, model: str) -> str:
    """Where a target model came from."""
    return str(bundle.manifest.inputs.get("models", {}).get(model, {}).get("spec"))

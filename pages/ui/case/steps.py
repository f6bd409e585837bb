"""Steps of the melanoma walk around the audit: accuracy, searches, and what was not shown."""

from __future__ import annotations

from dataclasses import asdict, replace

import pandas as pd
import streamlit as st

from csp_engine import numbers
from csp_engine.bundle import Bundle
from csp_engine.files import ROOT
from csp_engine.search import stored_label
from csp_engine.views.address import View
from csp_engine.views.audit.interventions import models_with
from csp_engine.views.case.accuracy import falls
from csp_engine.views.case.audit import melanoma
from csp_engine.views.case.searches import nearest_of
from csp_engine.views.case.story import found_less
from csp_engine.views.finding.index import searchable_methods
from csp_engine.views.finding.standing import STANDING_WORDS
from csp_engine.views.neuron.card import neuron_card
from pages.ui.case import charts as case_charts
from pages.ui.case.charts import CHART, lead, points, theme
from pages.ui.parts import words
from pages.ui.parts.cards import Packs, bar_table, base_url, card_list, page_url, plain, show
from pages.ui.shell import store
from pages.ui.shell.page import link

N_FOUND = 3
UNSURE = "On images of which some may have been used in training"
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
    case = melanoma(store.MEMO)
    models = bundle.manifest.inputs.get("models", {})
    about = {model: case.about.get(str(models.get(model, {}).get("spec"))) for model in tables}
    told = [f"<b>{plain(m)}</b>: {plain(text)}." for m, text in about.items() if text]
    less = [found_less(rows, model) for model, rows in tables.items()]
    missed = [f"<b>{plain(each.sentence)}</b>" for each in less[:1] if each is not None]
    missed += [plain(each.sentence) for each in less[1:] if each is not None]
    left, right = st.columns([1, 1.1], gap="large")
    with left:
        # What it misses comes first, and how it was made last.
        for each in (missed, fallen(tables), told):
            if each:
                lead(" ".join(each))
    with right:
        figure, described = case_charts.accuracy_plot(tables, theme())
        st.plotly_chart(figure, key="accuracy", config=CHART, alt=described)
        if any(about.values()):
            names = [name for name in next(iter(tables.values()))["slice"] if name in case.slices]
            slices = "; ".join(f"<i>{plain(n)}</i>: {plain(case.slices[n])}" for n in names)
            show(f"<p class='csp-quiet'>{slices}. Bars: 95 % intervals (Wilson).</p>")
    show(accuracy_table(tables))


def fallen(tables: dict[str, pd.DataFrame]) -> list[str]:
    """How far each classifier falls between the best and the worst slice of the first, as HTML."""
    told = []
    for fall in falls(tables):
        told.append(
            f"<b>{plain(fall.model)}</b> is right on {numbers.share(fall.high.share)} of "
            f"<i>{plain(fall.best)}</i> images and on {numbers.share(fall.low.share)} of "
            f"<i>{plain(fall.worst)}</i> images, a change of "
            f"{points(-fall.gap)} percentage points (95 % interval: {points(-fall.most)} to "
            f"{points(-fall.least)})."
        )
    n_slices = len(next(iter(tables.values())))
    if told and n_slices > N_FEW_SLICES:
        told.append(
            f"Of {n_slices} slices, these two are the furthest apart, so part of the gap is chance."
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
            ends = numbers.share_range(row["low"], row["high"])
            cells = [numbers.share(row["accuracy"]), ends, numbers.count(row["n"])]
            cells += [numbers.share(row[column]) for column, _ in extra]
            rows.append((f"{model} · {row['slice']}", float(row["accuracy"]), cells))
    columns = ("classifier · test images", "right", "95 % interval", "n", *(t for _, t in extra))
    is_unseen = all(rows["unseen"].all() for rows in tables.values() if "unseen" in rows)
    title = "On images that were not used in training" if is_unseen else UNSURE
    return bar_table(title, columns, rows)


def searches(bundle: Bundle, view: View) -> None:
    """What the searches of the walk find, and the way to each."""
    if view.method not in searchable_methods(bundle):
        lead("This bundle has no search index of these concept vectors.")
        return
    lead(
        f"Words are compared with every neuron's {words.term('concept vector')} by "
        "cosine. In a classifier of lesions, no neuron should respond to a ruler or a "
        "patch of colour; some should respond to a blue-white veil."
    )
    columns = st.columns(len(melanoma(store.MEMO).searches), gap="medium")
    for at, (column, text) in enumerate(zip(columns, melanoma(store.MEMO).searches, strict=True)):
        with column:
            with st.container(key=f"open-{at}"):
                link("search", f"Search “{text}”", view.search_params(text))
            if stored_label(bundle, text) is None:
                show(
                    "<p class='csp-quiet'>Not in this vocabulary: the search loads the encoder.</p>"
                )
            else:
                preview(bundle, view, text, f"found-{at}")


def preview(bundle: Bundle, view: View, text: str, key: str) -> None:
    """The first neurons of a search within one classifier, judged as the page Search does."""
    asked = replace(view, q=text, but_not="", like="", image=None, vec="")
    query = store.query_of(bundle, asked)
    assert query is not None
    cards = []
    for each in nearest_of(bundle, store.MEMO, query, view.model, view.method, N_FOUND):
        note = ""
        if each.percentile is not None:
            beaten = numbers.beats(each.percentile, each.n_draws).replace(" image", "")
            note = f"above {beaten}"
        card = neuron_card(
            bundle,
            each.neuron,
            view.method,
            view.params(**asdict(each.neuron)),
            score=numbers.score(each.score),
            note=note,
            n=4,
            mark=STANDING_WORDS[each.standing],
            is_marked=each.standing == "clear",
        )
        cards.append(card)
    packs = Packs(view.bundle, bundle)
    card_list(cards, packs, label=f"Neurons nearest to {text}", key=key, compact=True)


def limits(bundle: Bundle, view: View, has_story: bool = False) -> None:
    """What follows from the walk and what does not; a story has interventions behind it."""
    is_simulated = any(spec_of(bundle, m) in melanoma(store.MEMO).about for m in bundle.model_names)
    first = (
        "The photographs are simulated: drawn by a program, with artefacts put in at known rates."
        if is_simulated
        else "The photographs are those of this bundle's probe set."
    )
    items = [
        f"{first} Nothing here says how good a classifier is in a clinic.",
        "Shown: what an artefact does to decisions on photographs like these, through which "
        "neurons, and what holding those still changes. Not shown: that no other artefact matters, "
        "and that a fix holds on other photographs."
        if has_story
        else "Shown: which neurons move the output, what their images and words have in "
        "common, and how that compares with chance. Not shown: that removing such a "
        "neuron would change a decision; gradient × activation is a first-order "
        f"estimate, and networks compensate for what is removed.{audited(bundle, view)}",
        "In the skin study of SemanticLens, pruning spurious neurons and retraining both "
        "raised accuracy, but only retraining made the network much less sensitive to "
        "artefacts: accuracy alone, as in step 1, is not enough, and neither are neurons "
        "alone.",
        "A neuron can respond to something that is on neither list. “Unexpected” means "
        "no more than that; the gap may be in the lists, in the vocabulary, or in what "
        "the encoder can see.",
        "What the probe set does not show cannot be found in it, and single photographs cannot "
        "show evolution, the E of the ABCDE criteria.",
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


def audited(bundle: Bundle, view: View) -> str:
    """The way to stronger evidence, where the bundle has it."""
    if not models_with(bundle):
        return ""
    address = page_url("audit", {"bundle": view.bundle})
    return (
        f" The page <a target='_self' href='{plain(address)}'>Audit</a> adds an artefact to "
        "photographs and swaps activations, which shows more."
    )


def spec_of(bundle: Bundle, model: str) -> str:
    """Where a target model came from."""
    return str(bundle.manifest.inputs.get("models", {}).get(model, {}).get("spec"))

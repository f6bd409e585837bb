"""The results of a search: cards or images, what they are worth, and what was asked."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from csp_engine import numbers
from csp_engine.bundle import Bundle
from csp_engine.methods import method_title
from csp_engine.types import NeuronRef
from csp_engine.views import lists
from csp_engine.views.address import RESULT_COUNTS, Narrowing, View
from csp_engine.views.finding.index import listing_note
from csp_engine.views.finding.query import Query, spelt_like, texts_of
from csp_engine.views.finding.standing import STANDING_WORDS, Judged, judgement, where_clear
from csp_engine.views.images.facts import known_facts
from csp_engine.views.images.tiles import ShownImage, Tile
from csp_engine.views.neuron.card import NeuronCard, neuron_card
from csp_engine.views.places import places
from csp_engine.views.random_sets import n_drawn
from pages.ui.parts.cards import Packs, card_list, plain, show, tile_grid
from pages.ui.parts.words import term
from pages.ui.search.asking import NOTHING
from pages.ui.shell import store
from pages.ui.shell.page import go, hold, link, set_params, uncut

N_PER_LAYER, N_OF_FAMILY, N_WORDINGS = 6, 3, 3


def summary(
    bundle: Bundle, view: View, query: Query, judged: Judged | None, rows: pd.DataFrame, n_all: int
) -> None:
    """What was found in plain words, and behind it how many were searched and how it is judged."""
    count = f"{numbers.count(n_all)} neurons searched"
    if listing_note(bundle, view.method):
        count = f"The {numbers.count(n_all)} neurons that match best are listed"
    if len(rows) < n_all:
        count += f", {numbers.count(len(rows))} pass the filters"
    said = judgement(query, view.method, judged)
    if judged is None:
        show(f"<p class='csp-quiet'>{plain(count)}. {plain(said.why)}</p>")
        return
    if judged.best == "clear":
        where = where_clear(bundle, judged, rows)
        lie = f": {where}" if where else ", none of those that pass the filters"
        # The last place where the words stand is ours: what was asked for stands before it.
        strength = term("strength", "more of it").join(plain(said.why).rsplit("more of it", 1))
        show(
            f"<p class='csp-lead csp-answer' role='status'><b>{plain(said.lead)}</b> for "
            f"{plain(query.title)}{plain(lie)}.</p>{judging(count, f'They stand out {strength}')}"
        )
        return
    show(
        f"<p class='csp-note csp-answer' role='status'><b>{plain(said.lead)}</b> "
        f"{plain(said.why)}</p>{judging(count, '')}"
    )


def judging(count: str, why: str) -> str:
    """How many neurons were searched and what the numbers of a card are, to unfold; as HTML."""
    return (
        f"<details class='csp-fold csp-left'><summary>{plain(count)}; what the numbers are"
        f"</summary><p>{why} {_on_cards()}</p></details>"
    )


def did_you_mean(bundle: Bundle, view: View, judged: Judged | None) -> None:
    """Labels spelt like what was asked, where nothing stands out for it."""
    is_clear = judged is None or judged.best == "clear"
    near = [] if is_clear else spelt_like(bundle, texts_of(bundle, view.q))
    if not near:
        return
    with st.container(horizontal=True, vertical_alignment="center", gap="xsmall", key="examples"):
        st.caption("Did you mean", width="content")
        for text in near:
            link("search", text, view.params(q=text, unit="", page=""))


def _on_cards() -> str:
    """What the two numbers of a card are."""
    return (
        f"Each card shows the cosine with the {term('concept vector')} and its "
        f"{term('percentile')} among {term('random image set', 'random image sets')}."
    )


def cards_of(
    bundle: Bundle, view: View, keep: Narrowing, rows: pd.DataFrame, judged: Judged | None, n: int
) -> list[NeuronCard]:
    """A card for each row."""
    cards = []
    n_draws = n_drawn(bundle)
    for index, row in rows.iterrows():
        standing = judged.standing.get(index, "none") if judged else "none"
        share = row.get("match_null", np.nan)
        note = "" if pd.isna(share) else f"percentile {numbers.percentile(float(share), n_draws)}"
        where = {"model": str(row["model"]), "layer": str(row["layer"]), "unit": int(row["unit"])}
        cards.append(
            neuron_card(
                bundle,
                NeuronRef(**where),
                view.method,
                lists.neuron_params(view, keep, **where),
                score=numbers.score(float(row["match"])),
                note=note,
                n=n,
                mark=STANDING_WORDS[standing],
                is_marked=standing == "clear",
            )
        )
    return cards


def merged(
    bundle: Bundle, view: View, keep: Narrowing, rows: pd.DataFrame, judged: Judged | None
) -> None:
    """All layers together, a page at a time."""
    shown = rows.iloc[window(view, len(rows))]
    cards = cards_of(bundle, view, keep, shown, judged, 6)
    packs = Packs(view.bundle, bundle)
    card_list(cards, packs, label="Neurons found", key="results")
    pages_of(view, len(rows))


def by_layer(
    bundle: Bundle, view: View, keep: Narrowing, rows: pd.DataFrame, judged: Judged | None
) -> None:
    """The first few of each layer."""
    packs = Packs(view.bundle, bundle)
    for place, (model, layer) in enumerate(places(bundle)):
        mine = rows[rows["place"] == place]
        if mine.empty:
            continue
        where = layer if len(bundle.model_names) == 1 else f"{model} / {layer}"
        with st.container(horizontal=True, vertical_alignment="center"):
            show(
                f"<h2 class='csp-h'>{plain(where)} <span class='csp-quiet'>"
                f"{numbers.count(len(mine))} neurons</span></h2>"
            )
            if len(mine) > N_PER_LAYER:
                here = view.params(model=model, layer=layer, unit="", find="", page="")
                link("search", "all of this layer", here)
        cards = cards_of(bundle, view, keep, mine.iloc[:N_PER_LAYER], judged, 6)
        card_list(cards, packs, label=f"Neurons of {where}", key=f"results_{place}")


def by_family(
    bundle: Bundle, view: View, keep: Narrowing, rows: pd.DataFrame, judged: Judged | None
) -> None:
    """Neurons that mean the same together: the best few of each family, the best family first."""
    packs = Packs(view.bundle, bundle)
    names = [*pd.unique(rows["family"].dropna()), None]
    for place, name in enumerate(names[window(view, len(names))]):
        mine = rows[rows["family"].isna() if name is None else (rows["family"] == name)]
        if mine.empty:
            continue
        with st.container(horizontal=True, vertical_alignment="center"):
            show(family_heading(name, mine))
            if name is not None and len(mine) > N_OF_FAMILY:
                held = {key: value for key, value in keep.params().items() if value}
                here = view.params(find="", page="", unit="")
                link(
                    "search",
                    f"all {numbers.count(len(mine))}",
                    {**here, **held, "family": str(name)},
                )
        cards = cards_of(bundle, view, keep, mine.iloc[:N_OF_FAMILY], judged, 6)
        label = f"Neurons of the family {name}" if name else "Neurons of no family"
        card_list(cards, packs, label=label, key=f"results_{place}")
    pages_of(view, len(names))


def family_heading(name: str | None, mine: pd.DataFrame) -> str:
    """What a family is called, how large it is, and its other wordings, as HTML."""
    n = f"{numbers.count(len(mine))} neuron{'' if len(mine) == 1 else 's'}"
    if name is None:
        return f"<h2 class='csp-h'>No reliable label <span class='csp-quiet'>{n}</span></h2>"
    said = mine["label"].value_counts().drop(name, errors="ignore")
    other = [f"<bdi>{plain(text)}</bdi> ({numbers.count(int(k))})" for text, k in said.items()]
    rest = len(other) - N_WORDINGS
    also = f", also called {', '.join(other[:N_WORDINGS])}" if other else ""
    also += f" and {numbers.count(rest)} more" if rest > 0 else ""
    return (
        f"<h2 class='csp-h'><bdi>{plain(name)}</bdi> <span class='csp-quiet'>{n}{also}</span></h2>"
    )


def images(bundle: Bundle, view: View, query: Query) -> None:
    """The probe images nearest to the query."""
    if query.kind == "neuron":
        show("<p class='csp-quiet'>Images nearest to the neuron's concept vector.</p>")
    score_n = np.asarray(bundle.image_vectors()) @ query.vector_d
    order = np.argsort(-score_n, kind="stable")
    show(
        f"<p class='csp-quiet'>{numbers.count(len(order))} probe images by their cosine with "
        f"{plain(query.title)}, nearest first. Only the encoder decides here; no neuron does.</p>"
    )
    shown = order[window(view, len(order))].tolist()
    facts = known_facts(bundle, store.MEMO, shown)
    tiles = []
    for image in shown:
        value = numbers.score(float(score_n[image]))
        shot = ShownImage(
            image,
            f"Image {image} of the probe set, cosine {value}",
            value,
            f"Image {image}",
            facts=(("cosine", value), *facts[image]),
        )
        tiles.append(Tile(f"Image {image}", (shot,)))
    packs = Packs(view.bundle, bundle)
    picked = tile_grid(tiles, packs, label="Probe images found", key="images", tile_px=130)
    pages_of(view, len(order))
    if picked is not None:
        go("search", view.params(**{**NOTHING, "image": picked, "find": ""}, unit=""))


def window(view: View, n: int) -> slice:
    """The rows of the page that the URL names, or of the last one."""
    page = min(view.page, _n_pages(view, n))
    return slice((page - 1) * view.k, page * view.k)


def _n_pages(view: View, n: int) -> int:
    return max(1, -(-n // view.k))


def pages_of(view: View, n: int) -> None:
    """The way to the other pages of the results, where there are any, and how many one holds."""
    n_pages = _n_pages(view, n)
    hold("_k", view.k)
    with st.container(horizontal=True, vertical_alignment="center", key="pages_of"):
        if n_pages > 1:
            page = min(view.page, n_pages)
            # The page of the URL is its default, so another page is another widget.
            key = f"_page_{page}"
            st.pagination(
                n_pages,
                default=page,
                key=key,
                on_change=uncut(lambda: set_params(page=st.session_state[key])),
            )
        if n > min(RESULT_COUNTS):
            st.selectbox(
                "Per page",
                RESULT_COUNTS,
                key="_k",
                width=160,
                on_change=uncut(lambda: set_params(k=st.session_state["_k"], page="")),
            )


def asked(view: View, query: Query) -> None:
    """The exact texts that were embedded."""
    if not query.prompts and not query.negative_prompts:
        return
    with st.expander("What the encoder was asked", icon=None):
        lines = "".join(f"<li dir='auto'>{plain(text)}</li>" for text in query.prompts)
        minus = "".join(f"<li dir='auto'>{plain(text)}</li>" for text in query.negative_prompts)
        with_what = (
            "the probe images"
            if view.find == "images"
            else f"the {term('concept vector', 'concept vectors')} of "
            f"{plain(method_title(view.method))}"
        )
        show(
            (f"<p class='csp-quiet'>Averaged:</p><ul>{lines}</ul>" if lines else "")
            + (f"<p class='csp-quiet'>Subtracted:</p><ul>{minus}</ul>" if minus else "")
            + f"<p class='csp-quiet'>Compared by cosine with {with_what}.</p>"
        )

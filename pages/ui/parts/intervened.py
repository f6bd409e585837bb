"""Evidence of interventions as HTML: pairs of photographs, swaps by layer, a fix slice by slice."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from csp_engine import numbers
from csp_engine.bundle import Bundle, StoredIntervention
from csp_engine.pasting.pairs import VERSIONS
from csp_engine.views.audit.fixes import SliceOutcome, Tested
from csp_engine.views.audit.interventions import Asked, Carried, Effect, pictures
from pages.ui.parts.cards import plain
from pages.ui.parts.words import term

ABOVE = {"without": "without", "neutral": "neutral paste", "with": "with"}


def pairs(bundle: Bundle, model: str, stored: StoredIntervention, effect: Effect) -> str:
    """Photographs with and without an artefact, as HTML; empty where no pictures are kept.

    Of an effect that is withheld, the photographs alone: neither effects nor decisions.
    """
    found = pictures(stored, effect)
    if not found:
        return ""
    output = "" if effect.is_withheld else stored.output
    shown = "".join(pair(bundle, model, each, output) for each in found)
    if not output:
        return f"<div class='csp-pairs' role='list'>{shown}</div>"
    return (
        f"<div class='csp-pairs' role='list'>{shown}</div><p class='csp-quiet'>Pairs at equal "
        "steps from the lowest effect to the highest, so none is picked by hand. An amber "
        f"frame: the network does not call it {plain(stored.output)}.</p>"
    )


def pair(bundle: Bundle, model: str, row: Mapping[str, Any], output: str) -> str:
    """The versions of one photograph, with decisions and the effect where an output is named."""
    cells = []
    for version in VERSIONS:
        if version not in row["picture"]:
            continue
        content = base64.b64encode(bundle.shown_pair(model, row["picture"][version])).decode()
        is_called = not output or row["called"][version]
        told = ABOVE[version]
        if output:
            told += f": {'' if is_called else 'not '}called {output}"
        cells.append(
            f"<figure class='{'called' if is_called else 'other'}'><img alt='{plain(told)}' "
            f"title='{plain(told)}' src='data:image/webp;base64,{content}'>"
            f"<figcaption>{ABOVE[version]}</figcaption></figure>"
        )
    effect = f"effect {row['effect']:+.2f}".replace("-", "−") if output else "effect withheld"
    return f"<div class='pair' role='listitem'><div>{''.join(cells)}</div><p>{effect}</p></div>"


def swaps(layers: tuple[Carried, ...]) -> str:
    """By layer, the share of the effect that leaves with sets of neurons, as a table."""
    sizes = sorted({s.n_units for each in layers for s in each.strongest})
    head = "".join(f"<th scope='col'>{size}</th>" for size in sizes)
    of_sets = {each.random_size for each in layers if each.n_random}
    body = []
    for each in layers:
        of = {s.n_units: s for s in each.strongest}
        cells = [
            f"<td>{of[size].necessity.value:.2f}</td>".replace("-", "−")
            if size in of
            else f"<td>{numbers.UNKNOWN}</td>"
            for size in sizes
        ]
        random = numbers.UNKNOWN if each.random_most is None else f"{each.random_most:.2f}"
        if len(of_sets) > 1 and each.random_most is not None:
            random += f" ({each.random_size})"
        along = numbers.UNKNOWN if each.direction is None else each.direction.necessity.share
        cells += [f"<td>{plain(random.replace('-', '−'))}</td>", f"<td>{plain(along)}</td>"]
        body.append(
            f"<tr><th scope='row'>{plain(each.layer)} <span class='csp-quiet'>of "
            f"{numbers.count(each.n_units)}</span></th>{''.join(cells)}</tr>"
        )
    n_random = {each.n_random for each in layers if each.n_random}
    up_to = "up to " if len(n_random) > 1 else ""
    size = f" {min(of_sets)}" if len(of_sets) == 1 else ""
    caption = (
        "Share of the effect that is gone when the activations of that many strongest carriers "
        "come from the other version"
    )
    note = (
        f"Carriers are ranked by {term('attribution')} on one half of the photographs and swapped "
        "on the other. A share above 1 means that what is left works the other way. Random: the "
        f"most that any of {up_to}{max(n_random, default=0)} sets of other neurons, as active and "
        "as influential, removes"
        f"{'; in brackets, neurons of a set' if len(of_sets) > 1 else ''}."
    )
    return (
        f"<table class='csp-table' style='--cells: {len(sizes) + 2}'><caption>{caption}</caption>"
        f"<thead><tr><th scope='col'>layer</th>{head}<th scope='col'>random{size}</th>"
        f"<th scope='col'>one direction</th></tr></thead><tbody>{''.join(body)}</tbody></table>"
        f"<p class='csp-quiet'>{note}</p>"
    )


def given(parts: tuple[Asked, ...]) -> str:
    """Parts of layers that somebody gave: the share that leaves and comes with each, as a table."""
    rows = "".join(
        f"<tr><th scope='row' dir='auto'>{plain(each.words)}</th>"
        f"<td data-heading='gone with it'>{plain(each.swapped.necessity.share)}</td>"
        f"<td data-heading='comes with it alone'>{plain(each.swapped.sufficiency.share)}</td></tr>"
        for each in parts
    )
    return (
        "<table class='csp-table' style='--cells: 2'><caption>The same of parts that were asked "
        "for with <code>csp intervene --swap</code></caption><thead><tr><th scope='col'>part</th>"
        "<th scope='col'>gone with it (95 %)</th><th scope='col'>comes with it alone</th></tr>"
        f"</thead><tbody>{rows}</tbody></table>"
    )


def drawing(found: Tested) -> str:
    """Of every slice the share that is right, before and after, on one scale."""
    shares = [
        share
        for each in found.slices
        for share in (
            each.right.before.share,
            each.right.after.share,
            *(right.share for _, right, _, _ in each.beside),
            *((each.right.before.share + end for end in each.random) if each.random else ()),
        )
    ]
    low = max(0.0, min(shares) - 0.02)
    high = min(1.0, max(shares) + 0.02)

    def at(share: float) -> str:
        return f"{100 * (share - low) / (high - low):.2f}%"

    rows = "".join(_row(each, found, at, high - low) for each in found.slices)
    others = "".join(
        f"<span><i class='dot beside'></i>{plain(name)}</span>"
        for name, *_ in found.slices[0].beside
    )
    band = "<span><i class='band'></i>random controls</span>" if found.n_random else ""
    return (
        "<figure class='csp-fix'><figcaption>Share of photographs decided rightly"
        f"<span class='key'><span><i class='dot before'></i>before</span><span><i class='dot "
        f"after'></i>after</span>{band}{others}</span></figcaption>{rows}"
        f"<div class='scale' aria-hidden='true'><span>{100 * low:.0f} %</span>"
        f"<span>{100 * high:.0f} %</span></div></figure>"
    )


def _row(each: SliceOutcome, found: Tested, at: object, reach: float) -> str:
    assert callable(at)
    before, after = each.right.before.share, each.right.after.share
    marks = ""
    if each.random is not None:
        start, width = at(before + each.random[0]), (each.random[1] - each.random[0]) / reach
        marks += f"<i class='band' style='left:{start};width:{max(0.4, 100 * width):.2f}%'></i>"
    line = f"left:{at(min(before, after))};width:{100 * abs(after - before) / reach:.2f}%"
    marks += f"<i class='line{' down' if after < before else ''}' style='{line}'></i>"
    marks += f"<i class='dot before' style='left:{at(before)}'></i>"
    for _, right, _, _ in each.beside:
        marks += f"<i class='dot beside' style='left:{at(right.share)}'></i>"
    marks += f"<i class='dot after' style='left:{at(after)}'></i>"
    told = (
        f"{each.name}: {100 * before:.1f} % before, {100 * after:.1f} % after, "
        + ", ".join(f"{name} {100 * right.share:.1f} %" for name, right, _, _ in each.beside)
    ).rstrip(", ")
    return (
        f"<div class='row'><span class='name' dir='auto'>{plain(each.name)}</span><span "
        f"class='track' role='img' aria-label='{plain(told)}'>{marks}</span><span class='told'>"
        f"{plain(each.right.change.signed.split(' ')[0])}</span></div>"
    )

"""Which neurons of a table or a map a URL asks for, and in what order."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from csp_engine.views.address.parameters import FIRST, OF_NARROWING, ONLY, PARAMETERS, REVIEWS
from csp_engine.views.address.picking import pick, shorten
from csp_engine.views.address.view import MAX_QUERY

Range = tuple[float | None, float | None]
MAX_WHERE = 1000
_NUMBER = r"-?[0-9]{1,9}(?:\.[0-9]{1,9})?"


@dataclass(frozen=True, slots=True)
class Narrowing:
    """Which neurons a table keeps, and in what order; ``OF_NARROWING`` holds its parameters.

    ``network`` is a target model, or empty for all; ``family`` the name of a family, or empty for
    any; ``of`` the class that the exemplars show, or
    empty for any; ``review`` one of ``REVIEWS``.
    ``where`` holds ``column:low..high`` parts, either end open; ``sort`` is a column, after ``-``
    if the largest come first, ``FIRST`` for the order in which a table opens, or empty for the
    neurons' own order.
    """

    has: str = ""
    only: str = ONLY[0]
    where: tuple[tuple[str, Range], ...] = ()
    sort: str = ""
    of: str = ""
    review: str = REVIEWS[0]
    network: str = ""
    family: str = ""
    notes: tuple[str, ...] = ()

    def params(self) -> dict[str, str]:
        """The same as query parameters; what equals a default is empty."""
        held = {p.name: getattr(self, p.field or p.name) for p in OF_NARROWING}
        held["where"] = where_text(self.where)
        return {
            name: "" if PARAMETERS[name].default == text else text for name, text in held.items()
        }


def where_text(where: Sequence[tuple[str, Range]]) -> str:
    """Ranges as the URL writes them: ``clarity:0.3..,density:..0.5``."""

    def end(value: float | None) -> str:
        return "" if value is None else f"{value:.9f}".rstrip("0").rstrip(".")

    return ",".join(f"{name}:{end(low)}..{end(high)}" for name, (low, high) in where)


def read_narrowing(
    params: Mapping[str, str],
    sortable: Sequence[str],
    ranged: Sequence[str],
    classes: Sequence[str] = (),
    models: Sequence[str] = (),
    families: Sequence[str] = (),
) -> Narrowing:
    """What a URL asks of a table, made valid: columns that exist, numbers that are numbers."""
    notes: list[str | None] = []
    chosen: dict[str, str] = {}
    for each in OF_NARROWING:
        if each.choices:
            chosen[each.name], note = pick(each.noun, params.get(each.name), each.choices)
            notes.append(note)
    of = _known(
        "class", params.get("class", ""), classes, notes,
        "No neuron here shows one class more than others, so any class is shown.",
    )  # fmt: skip
    network = params.get("network", "") if models else ""
    if network:
        network, note = pick("model", network, models)
        notes.append(note)
    family = _known(
        "family", params.get("family", ""), families, notes,
        "No neuron here has a reliable label, so none belongs to a family.",
    )  # fmt: skip
    asked = params.get("sort", "")
    sign = "-" if asked.startswith("-") else ""
    sort = FIRST if asked == FIRST else ""
    if asked and not sort:
        sort, note = pick("column to sort by", asked.removeprefix("-") or asked, sortable)
        sort = sign + sort
        notes.append(note)
    where: dict[str, Range] = {}
    ranges = params.get("where", "")
    if len(ranges) > MAX_WHERE:
        notes.append(f"Ranges were cut to their first {MAX_WHERE:,} characters.")
    for part in ranges[:MAX_WHERE].split(",") if ranges else ():
        match = re.fullmatch(rf"([a-z_]+):({_NUMBER})?\.\.({_NUMBER})?", part)
        if match is None or match[1] not in ranged:
            notes.append(f"“{shorten(part)}” is not a range of a column here, so it is left out.")
            continue
        low, high = (None if text is None else float(text) for text in match.group(2, 3))
        if match[1] in where:
            notes.append(f"There are several ranges of {match[1]}; the last one counts.")
        where[match[1]] = (low, high)
    has = params.get("has", "").strip()
    if params.get("has") and not has:
        notes.append("A label cannot be looked for by spaces alone, so any label is shown.")
    if len(has) > MAX_QUERY:
        notes.append(f"What labels contain was cut to its first {MAX_QUERY} characters.")
    has = has[:MAX_QUERY]
    kept = tuple(note for note in notes if note)
    return Narrowing(
        has,
        where=tuple(where.items()),
        sort=sort,
        of=of,
        network=network,
        family=family,
        notes=kept,
        **chosen,
    )


def _known(noun: str, asked: str, names: Sequence[str], notes: list[str | None], none: str) -> str:
    """What a URL chooses of some names, empty for any; ``none`` is noted where there are none."""
    if not asked:
        return ""
    if not names:
        notes.append(none)
        return ""
    found, note = pick(noun, asked, names)
    notes.append(note)
    return found


MAP_GRID, MAX_CORNERS = 65535, 60


def read_area(params: Mapping[str, str]) -> tuple[tuple[int, ...], str | None]:
    """The polygon of ``?area=x-y-x-y-x-y…`` in steps of the map's grid, or none and a note."""
    text = params.get("area", "")
    if not text:
        return (), None
    if re.fullmatch(r"[0-9]{1,5}(?:-[0-9]{1,5}){5,119}", text):
        corners = tuple(int(part) for part in text.split("-"))
        if len(corners) % 2 == 0 and max(corners) <= MAP_GRID:
            return corners, None
    return (), f"“{shorten(text)}” is not an area of the map, so no neurons are selected."


def area_text(area: Sequence[int]) -> str:
    """A polygon as the URL writes it."""
    return "-".join(map(str, area[: 2 * MAX_CORNERS]))

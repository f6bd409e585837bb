"""The planted benchmark as one picture (SVG): how often each method is right, as things change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from csp_engine.methods import method_title

WIDTH, HEIGHT = 300, 200
"""Of one panel in pixels, its heading and axis included."""
N_COLUMNS = 3
TOP = 46
LEFT, RIGHT, ABOVE, BELOW = 38, 12, 26, 34
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#555555", "#56b4e9", "#e69f00")
"""Told apart by people who see colours differently (after Okabe and Ito); dashes differ too."""
DASHES = ("", "6 3", "2 2", "8 3 2 3", "1 3", "", "6 3", "2 2")
IN_LINE, LINE = 6, 16
"""Methods that stand beside one another above the panels, and the height of such a line."""
CO_OCCURRENCE = "co-occurrence "
HEADINGS = {
    "co-occurrence": "Strong images with a companion",
    "gamma": "Share of the common part removed (γ)",
    "depth": "Images looked at",
    "partners": "Contrast images of each",
    "images": "Images in the probe set",
    "encoder noise": "Noise on the embeddings (deviations)",
    "candidates": "Candidates that may be chosen",
}
"""Panels, in their order, and what is said above them."""
NOMINAL = ("candidates",)


@dataclass(frozen=True, slots=True)
class Panel:
    """Shares by setting and method: for each method places on the axis with share and bounds.

    Settings that are no numbers (``is_ordered`` is false) are not joined by lines.
    """

    heading: str
    ticks: tuple[str, ...]
    is_ordered: bool
    lines: Mapping[str, Sequence[tuple[int, float, float, float]]]


def panels(figures: Mapping[str, Any]) -> list[Panel]:
    """What ``planted_benchmark`` found, panel by panel; what was not tried has none."""
    found: dict[str, dict[str, dict[str, Mapping[str, float]]]] = {}
    for row in figures["rows"]:
        name = str(row["row"])
        if name.startswith(CO_OCCURRENCE) and row["method"] in figures["methods"]:
            tick = name.removeprefix(CO_OCCURRENCE)
            of_method = found.setdefault("co-occurrence", {}).setdefault(row["method"], {})
            of_method[tick] = row["right"]
    for row in figures["tries"]:
        value = row["value"]
        tick = value if isinstance(value, str) else f"{value:g}"
        found.setdefault(row["setting"], {}).setdefault(row["method"], {})[tick] = row["right"]
    drawn = []
    for name, heading in HEADINGS.items():
        methods = found.get(name, {})
        ticks = tuple(dict.fromkeys(tick for own in methods.values() for tick in own))
        lines = {
            method: [
                (ticks.index(tick), each["share"], each["low"], each["high"])
                for tick, each in own.items()
            ]
            for method, own in methods.items()
        }
        if ticks:
            drawn.append(Panel(heading, ticks, name not in NOMINAL, lines))
    return drawn


def planted_svg(figures: Mapping[str, Any]) -> str:
    """The picture: a panel for each thing that changes, with Wilson's 95 % intervals."""
    drawn, methods = panels(figures), list(figures["methods"])
    n_rows = -(-len(drawn) // N_COLUMNS)
    top = TOP + LINE * max(0, (len(methods) - 1) // IN_LINE)
    width, height = N_COLUMNS * WIDTH, top + n_rows * HEIGHT
    said = (
        "How often the best label of planted units is right, by method, on "
        f"{figures['n_images']:,} images. Bars are 95 % intervals."
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" font-family="sans-serif" font-size="11" fill="#222" role="img">',
        f"<title>{escape(said)}</title>",
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        f'<text x="{LEFT}" y="16" font-size="12">{escape(said)}</text>',
        *_legend(methods),
    ]
    for place, panel in enumerate(drawn):
        row, column = divmod(place, N_COLUMNS)
        parts.append(f'<g transform="translate({column * WIDTH},{top + row * HEIGHT})">')
        parts += [*_frame(panel), *_lines(panel, methods), "</g>"]
    return "\n".join([*parts, "</svg>", ""])


def _style(place: int) -> str:
    colour, dash = COLOURS[place % len(COLOURS)], DASHES[place % len(DASHES)]
    return f'stroke="{colour}" stroke-width="1.6" stroke-dasharray="{dash}" fill="none"'


def _legend(methods: Sequence[str]) -> list[str]:
    parts = []
    for place, method in enumerate(methods):
        line, column = divmod(place, IN_LINE)
        x, y = LEFT + column * 142, 32 + line * LINE
        parts.append(f'<path d="M{x} {y}h26" {_style(place)}/>')
        parts.append(f'<text x="{x + 32}" y="{y + 4}">{escape(method_title(method))}</text>')
    return parts


def _x(place: float | int, n_ticks: int) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * (place + 0.5) / n_ticks


def _y(share: float | int) -> float:
    return ABOVE + (HEIGHT - ABOVE - BELOW) * (1 - share)


def _frame(panel: Panel) -> list[str]:
    parts = [f'<text x="{LEFT}" y="16" font-weight="bold">{escape(panel.heading)}</text>']
    for percent in (0, 25, 50, 75, 100):
        y = _y(percent / 100)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">{percent} %</text>')
    for place, tick in enumerate(panel.ticks):
        where = f'x="{_x(place, len(panel.ticks)):.1f}" y="{HEIGHT - BELOW + 15}"'
        parts.append(f'<text {where} text-anchor="middle">{escape(tick)}</text>')
    return parts


def _lines(panel: Panel, methods: Sequence[str]) -> list[str]:
    parts = []
    for place, method in enumerate(methods):
        # A little aside of one another, so that bars do not hide bars.
        aside = (place - (len(methods) - 1) / 2) * 0.06
        points = [
            (_x(tick + aside, len(panel.ticks)), _y(share), _y(low), _y(high))
            for tick, share, low, high in panel.lines.get(method, ())
        ]
        if not points:
            continue
        colour = COLOURS[place % len(COLOURS)]
        line = " ".join(f"{'ML'[i > 0]}{x:.1f} {y:.1f}" for i, (x, y, *_) in enumerate(points))
        if panel.is_ordered:
            parts.append(f'<path d="{line}" {_style(place)}/>')
        for x, y, low, high in points:
            parts.append(f'<path d="M{x:.1f} {low:.1f}V{high:.1f}" stroke="{colour}"/>')
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.4" fill="{colour}"/>')
    return parts

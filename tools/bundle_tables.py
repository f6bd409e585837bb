"""Write the tables of stages in docs/bundle.md from their declarations; ``make docs`` runs this."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from csp_engine.bundle.kinds import KINDS, StageKind
from csp_engine.pipeline.registered import STAGES

ROOT = Path(__file__).resolve().parents[1]
BUNDLE_PATH = ROOT / "docs" / "bundle.md"
KINDS_HEAD = "| stage | version | made from | what it holds | facts |"
FILES_HEAD = "| stage | file | dtype | axes | meaning |"


def render(page: str) -> str:
    """The page with both tables written anew."""
    kinds = {**KINDS, **{stage.name: stage.kind for stage in STAGES}}.values()
    page = _replaced(
        page,
        KINDS_HEAD,
        [
            (
                _stage(kind),
                str(kind.version),
                ", ".join(f"`{need}`" for need in kind.needs),
                kind.meaning,
                ", ".join(f"`{fact}`" for fact in kind.facts),
            )
            for kind in kinds
        ],
    )
    rows = [(_stage(k), f"`{f.name}`", f.holds, f.axes, f.meaning) for k in kinds for f in k.files]
    return _replaced(page, FILES_HEAD, rows)


def _stage(kind: StageKind) -> str:
    return f"`{kind.prefix}:*`" if kind.of else f"`{kind.prefix}`"


def _replaced(page: str, head: str, rows: Iterable[Sequence[str]]) -> str:
    before, found, rest = page.partition(f"{head}\n")
    assert found, f"docs/bundle.md has no table with the head {head}"
    lines = rest.split("\n")
    end = next(at for at, line in enumerate(lines) if not line.startswith("|"))
    written = [f"| {' | '.join(row)} |".replace("  |", " |") for row in rows]
    rule = "|---" * head.count(" | ") + "|---|"
    return "\n".join([before + head, rule, *written, *lines[end:]])


if __name__ == "__main__":
    BUNDLE_PATH.write_text(render(BUNDLE_PATH.read_text("utf-8")), "utf-8")

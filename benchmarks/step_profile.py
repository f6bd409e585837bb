"""Where the time of one step to the next neuron goes: the server, then the browser's main thread.

Chromium's own counters and the process's, over steps by a key on the page of 30 + 30 images.
Run: python -m benchmarks.step_profile [--runs N]
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from playwright.sync_api import CDPSession

from benchmarks import synthetic
from benchmarks.browser import DEMO, DEMO_NAME, steps
from benchmarks.served import chromium, new_page, serving

RESULT = Path(__file__).parent / "results" / "step_profile.json"
COUNTERS = {
    "TaskDuration": "main_thread_ms",
    "ScriptDuration": "script_ms",
    "LayoutDuration": "layout_ms",
    "RecalcStyleDuration": "style_ms",
}
TITLES = {
    "step_ms": "From the key to the painted page (median)",
    "server_cpu_ms": "Server, processor time (the pictures of the next step included)",
    "main_thread_ms": "Browser's main thread, busy",
    "script_ms": "of which scripts (Streamlit's own, nearly all)",
    "layout_ms": "of which layout",
    "style_ms": "of which style",
    "painting_ms": "of which the rest: painting, decoding, reading messages",
}


def counters(session: CDPSession) -> dict[str, float]:
    """Milliseconds that the main thread has been busy so far, by what it did."""
    found = session.send("Performance.getMetrics")["metrics"]
    return {COUNTERS[m["name"]]: 1000 * m["value"] for m in found if m["name"] in COUNTERS}


def profiled(browser: Any, name: str, path: Path, layer: str, runs: int) -> dict[str, float]:
    """Mean milliseconds of one step, by where they go."""
    with serving([path]) as server:
        page = new_page(browser)
        session = page.context.new_cdp_session(page)
        session.send("Performance.enable")
        work = steps(page, server, name, layer, runs + 3)
        for _ in range(3):  # the first ones still load scripts
            next(work)
        before, spent = counters(session), server.cpu_seconds()
        times = [milliseconds for _, milliseconds in work]
        after = counters(session)
        found = {key: (after[key] - before[key]) / len(times) for key in after}
        found["server_cpu_ms"] = 1000 * (server.cpu_seconds() - spent) / len(times)
        found["step_ms"] = statistics.median(times)
        page.context.close()
    parts = ("script_ms", "layout_ms", "style_ms")
    found["painting_ms"] = found["main_thread_ms"] - sum(found[key] for key in parts)
    return {key: round(found[key], 1) for key in TITLES}


def markdown(result: dict[str, Any]) -> list[str]:
    """The table in docs/benchmarks.md."""
    names = list(result["bundles"])
    head = " | ".join("demo" if name == DEMO_NAME else name for name in names)
    return [
        f"| One step to the next neuron, milliseconds | {head} |",
        "|---|" + "---|" * len(names),
        *(
            f"| {title} | " + " | ".join(f"{result['bundles'][n][key]:.0f}" for n in names) + " |"
            for key, title in TITLES.items()
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=30)
    options = parser.parse_args()
    cases = {
        DEMO_NAME: (DEMO, "layer4@mean"),
        "synthetic": (synthetic.bundle("synthetic"), synthetic.LAYER),
    }
    with chromium() as browser:
        bundles = {
            name: profiled(browser, name, path, layer, options.runs)
            for name, (path, layer) in cases.items()
        }
    result = {"runs": options.runs, "bundles": bundles}
    print(*markdown(result), sep="\n")
    RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

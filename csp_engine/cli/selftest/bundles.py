"""A damaged or altered bundle is told of, and built whole again."""

from __future__ import annotations

import json

import numpy as np

from csp_engine.bundle import Bundle, verify
from csp_engine.cli.selftest import kind, refused, require
from csp_engine.cli.selftest.world import World

AREA = "damaged bundles"


@kind(AREA, "a whole bundle is called whole")
def whole(world: World) -> str:
    """Nothing done to it."""
    problems = verify(world.bundle())
    return require(not problems, "; ".join(problems[:1]) or "no problem found")


@kind(AREA, "a flipped bit is found")
def flipped(world: World) -> str:
    """One bit of one array, its size as before."""
    victim = next(world.bundle().path.rglob("activation.npy"))
    content = bytearray(victim.read_bytes())
    content[-3] ^= 4
    victim.write_bytes(bytes(content))
    problems = verify(Bundle.open(world.folder / "a.csp"))
    return require(any("activation.npy" in each for each in problems), "; ".join(problems[:1]))


@kind(AREA, "an altered manifest is refused")
def manifest(world: World) -> str:
    """Another number in it."""
    path = world.bundle().path / "manifest.json"
    text = path.read_text("utf-8")
    path.write_text(text.replace('"n_exemplars": 5', '"n_exemplars": 6', 1), "utf-8")
    require(path.read_text("utf-8") != text, "the case changed nothing")
    return refused(lambda: Bundle.open(world.folder / "a.csp"))


@kind(AREA, "a manifest nested very deep is refused")
def deep_manifest(world: World) -> str:
    """What exhausts a parser."""
    path = world.bundle().path / "manifest.json"
    path.write_text("[" * 100_000 + "]" * 100_000)
    return refused(lambda: Bundle.open(world.folder / "a.csp"))


@kind(AREA, "a stage that is gone is named")
def gone(world: World) -> str:
    """An array deleted."""
    bundle = world.bundle()
    victim = next(bundle.path.rglob("label_uk.npy"))
    victim.unlink()
    problems = verify(Bundle.open(bundle.path))
    return require(any("label_uk.npy" in each for each in problems), "; ".join(problems[:1]))


@kind(AREA, "an array cut off is refused, not read short")
def cut(world: World) -> str:
    """Half of the scores."""
    bundle = world.bundle()
    victim = next(bundle.path.rglob("score_uk.npy"))
    victim.write_bytes(victim.read_bytes()[: victim.stat().st_size // 2])
    opened = Bundle.open(bundle.path)
    layer, method = opened.layers("small")[0], opened.manifest.recipe["methods"][0]
    return refused(
        lambda: [
            np.asarray(opened.scores("small", layer, each).score_uk).sum()
            for each in opened.methods("small", layer)
        ],
        "score_uk" if method else "",
    )


@kind(AREA, "a build repairs what verify finds")
def repaired(world: World) -> str:
    """The same build over a bundle with a flipped bit."""
    from csp_engine.pipeline import build

    bundle = world.bundle()
    victim = next(bundle.path.rglob("score_uk.npy"))
    content = bytearray(victim.read_bytes())
    content[-1] ^= 1
    victim.write_bytes(bytes(content))
    before = len(verify(Bundle.open(bundle.path)))
    after = verify(build(world.request(bundle.path)))
    return require(before and not after, f"{before} problem before, {len(after)} after")


@kind(AREA, "a bundle inside another is not built")
def inside(world: World) -> str:
    """An output below a bundle, and one without a name."""
    from csp_engine.bundle import refuse_strangers

    bundle = world.bundle()
    refused(lambda: refuse_strangers(world.folder / ".csp"), "NAME.csp")
    json.loads((bundle.path / "manifest.json").read_text("utf-8"))
    return refused(lambda: refuse_strangers(bundle.path / "x.csp"), "another place")

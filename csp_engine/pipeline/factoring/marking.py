"""A direction of a layer from a handful of marked images, and the images that it ranks first."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from csp_engine import numbers
from csp_engine.bundle import Bundle
from csp_engine.evaluation.directions import LEAST_OF_EACH, Direction, marked_direction
from csp_engine.files import write_whole
from csp_engine.networks.autoencoders.directions import write_directions

N_RANKED = 20
FACTS, DIRECTION = "facts.json", "direction.safetensors"


@dataclass(frozen=True, slots=True)
class Ranking:
    """What a direction from marked images ranks first, by numbers of images.

    ``unlike`` is empty where all images that are not marked count as without it, but for copies and
    near copies of those that are; ``n_images`` are those that count. ``ranked`` leaves out what is
    marked, and copies and near copies of it and of one another; ``score`` belongs to it
    image by image.
    """

    layer: str
    name: str
    like: tuple[int, ...]
    unlike: tuple[int, ...]
    n_images: int
    ranked: tuple[int, ...]
    score: tuple[float, ...]

    @property
    def note(self) -> str:
        """What it was made of, and how far that goes."""
        n, m = len(self.like), len(self.unlike)
        rest = (
            f"{numbers.count(m)} that {'does' if m == 1 else 'do'} not"
            if m
            else f"all {numbers.count(self.n_images - n)} others, taken not to"
        )
        least = numbers.count(2 * LEAST_OF_EACH)
        return (
            f"A direction of {self.layer} from {numbers.count(n)} images that show it and {rest}. "
            "None of them was held out, so nothing but the images that it ranks first says how "
            f"good it is: look at them, mark more, and go again. With a column of 0 and 1 that "
            f"has {least} images or more of each kind, 'csp directions --column' holds half out."
        )


def find_marked(
    bundle: Bundle,
    model: str,
    layer: str,
    like: Sequence[int],
    unlike: Sequence[int],
    name: str,
) -> tuple[Ranking, Direction, Float32[np.ndarray, " u"]]:
    """The direction that marked images give, the layer's mean activation, and what ranks first.

    Args:
        bundle: with the layer's activations.
        model: of the layer.
        layer: where to look.
        like: numbers of images that show what is meant.
        unlike: of images that do not; all others without them, but for copies of the first.
        name: of what is meant.

    Raises:
        InputError: as ``marked_direction``.
        LeftOutError: if this copy of the bundle leaves activations out.
    """
    activation_un = np.asarray(bundle.activations(model, layer))
    like, unlike = (tuple(dict.fromkeys(map(int, each))) for each in (like, unlike))
    images = bundle.images()
    group_n = images["duplicate_group"].to_numpy() if "duplicate_group" in images else (
        np.arange(len(images))
    )  # fmt: skip
    against = np.array(unlike, int)
    if not unlike:  # copies of what shows it show it too
        against = np.flatnonzero(~np.isin(group_n, group_n[list(like)]))
    found = marked_direction(activation_un, np.array(like, int), against, name)
    mean_u = activation_un.mean(axis=1, dtype=np.float64).astype(np.float32)
    score_n = (activation_un - mean_u[:, None]).T @ found.weight_u
    seen = {int(group_n[each]) for each in (*like, *unlike)}
    ranked: list[int] = []
    for image in np.argsort(-score_n, kind="stable"):
        if len(ranked) == N_RANKED:
            break
        if int(group_n[image]) not in seen:
            seen.add(int(group_n[image]))
            ranked.append(int(image))
    score = tuple(float(score_n[each]) for each in ranked)
    ranking = Ranking(
        layer, name, like, unlike, found.n_with + found.n_without, tuple(ranked), score
    )
    return ranking, found, mean_u


def leave_marked(
    path: Path, ranking: Ranking, found: Direction, mean_u: Float32[np.ndarray, " u"]
) -> None:
    """Write it into a folder, outside of any bundle, for ``read_marked``; and its direction."""
    path.mkdir(parents=True, exist_ok=True)
    write_directions(path / DIRECTION, found.weight_u[:, None], mean_u, [found.name])
    write_whole(path / FACTS, json.dumps(asdict(ranking)))


def read_marked(folder: Path) -> Ranking:
    """What ``leave_marked`` left in a folder of this computer's own."""
    told = json.loads((folder / FACTS).read_text("utf-8"))
    lists = {name: tuple(told[name]) for name in ("like", "unlike", "ranked", "score")}
    return Ranking(str(told["layer"]), str(told["name"]), n_images=int(told["n_images"]), **lists)

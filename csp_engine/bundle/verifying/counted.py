"""Whether numbers of exemplars, what is counted among them, and copies of images can be right.

And whether small pictures can be those of the images that they stand for.
"""

from __future__ import annotations

import numpy as np

from csp_engine.bundle import kinds
from csp_engine.bundle.reader import Bundle
from csp_engine.bundle.verifying.sampling import Found, is_here, sampled
from csp_engine.errors import UnreadableImageError
from csp_engine.evidence.exemplars import stratified_samples
from csp_engine.probe.decoding import decode
from csp_engine.probe.images import NO_INFORMATION, near_duplicate_groups, perceptual_hash

N_PICTURES = 200
"""Small pictures that are looked at, spread over all."""
UNLIKE = 20
"""Bits of 64 by which a picture may differ from its image: shrunk ones do by 5, others by 32."""


def images(bundle: Bundle) -> Found:
    """Copies and near copies of images again, and pictures against what is said of images."""
    stage = kinds.IMAGES.name()
    rows, record = bundle.table(stage, "images"), bundle.stage(stage)
    content_n, hash_n = rows["sha256"].astype(str), rows["perceptual_hash"].to_numpy(np.uint64)
    place_n = np.arange(len(rows))
    first_n = content_n.groupby(content_n).transform(lambda own: own.index[0]).to_numpy()
    if not np.array_equal(rows["duplicate_of"].to_numpy(), first_n):
        yield stage, f"duplicate_of of {stage} is not the first image with the same bytes."
    distance = record.params.get("near_duplicate_distance")
    group_n = rows["duplicate_group"].to_numpy()
    if isinstance(distance, int) and not np.array_equal(
        group_n, near_duplicate_groups(hash_n, list(content_n), distance)
    ):
        yield stage, f"duplicate_group of {stage} is not what its perceptual hashes say."
    counts = {
        "n_images": len(rows),
        "n_skipped": len(bundle.table(stage, "skipped")),
        "n_exact_duplicates": int((first_n != place_n).sum()),
        "n_near_duplicates": int((group_n != place_n).sum()),
    }
    for name, count in counts.items():
        if record.facts.get(name, count) != count:
            yield stage, f"{name} of {stage} is not what its tables say."
    described = bundle.manifest.inputs.get("probe", {})
    for name in ("n_images", "n_skipped"):
        if described.get(name, counts[name]) != counts[name]:
            yield stage, f"{name} of the probe set is not what the tables of {stage} say."
    side = record.params.get("thumbnail_side")
    if "thumbs.bin" in record.files and isinstance(side, int):
        for image in sampled(len(rows), N_PICTURES).tolist():
            size = (int(rows["width"].iat[image]), int(rows["height"].iat[image]))
            if fault := _fault_of_picture(bundle, image, size, int(hash_n[image]), side):
                yield stage, f"The small picture of image {image} of {stage} {fault}."
                return


def _fault_of_picture(
    bundle: Bundle, image: int, size: tuple[int, int], hashed: int, side: int
) -> str:
    """Why it cannot be that of an image of this size and hash; empty where it can."""
    try:
        picture = decode(bundle.thumbnail(image))
    except UnreadableImageError:
        return "cannot be read"
    factor = min(1.0, side / max(size))
    expected = tuple(max(1, round(length * factor)) for length in size)
    if picture.size != expected:
        return f"measures {picture.size}, and the image {size}"
    own = perceptual_hash(picture)
    is_known = NO_INFORMATION not in (own, hashed)
    return "is of another image" if is_known and (own ^ hashed).bit_count() > UNLIKE else ""


def counts(bundle: Bundle, model: str, layer: str) -> Found:
    """Numbers of exemplars of all units, as far as activations or histograms tell them."""
    stage = kinds.NEURONS.name(model, layer)
    units, exemplars = bundle.table(stage, "units"), bundle.exemplars(model, layer)
    count_u, n_ranks = np.asarray(exemplars.count_u), exemplars.image_uk.shape[1]
    if not np.array_equal(units["n_exemplars"], count_u):
        yield stage, f"n_exemplars of {stage} is not exemplar_count."
    if count_u[units["is_constant"].to_numpy()].any():
        yield stage, f"A unit of {stage} that is constant has exemplars."
    n_copies = 0
    is_first_n = np.ones(bundle.n_images, bool)
    if bundle.stage(stage).params.get("copies") == "once":
        first_n = bundle.first_copies()
        is_first_n = first_n == np.arange(len(first_n))
        n_copies = int((~is_first_n).sum())
    # All images above the lowest bin are above the minimum, and so are exemplars.
    histogram_ub = np.asarray(bundle.array(stage, "histogram"))
    least_u = np.minimum(n_ranks, histogram_ub[:, 1:].sum(axis=1) - n_copies)
    if (count_u < least_u).any():
        unit = int(np.flatnonzero(count_u < least_u)[0])
        yield stage, f"Unit {unit} of {stage} has fewer exemplars than images that excite it."
    _, _, stratum_s = stratified_samples(np.zeros((1, bundle.n_images), np.float32), seed=0)
    if not np.array_equal(bundle.array(stage, "stratum"), stratum_s):
        yield stage, f"stratum of {stage} is not the bands that its samples are drawn from."
    activations = kinds.ACTIVATIONS.name(model, layer)
    if is_here(bundle, activations):
        for unit in sampled(len(count_u)).tolist():
            own_n = np.asarray(bundle.activations(model, layer)[unit])[is_first_n]
            if count_u[unit] != min(n_ranks, np.count_nonzero(own_n > own_n.min(initial=np.inf))):
                yield stage, f"Unit {unit} of {stage} has another number of exemplars."
    yield from _classes(bundle, stage, exemplars.image_uk, count_u)
    facts = bundle.stage(stage).facts
    for name in ("is_dead", "is_dense", "is_constant", "never_positive"):
        fact = f"n_{name.removeprefix('is_')}"
        if fact in facts and facts[fact] != int(units[name].sum()):
            yield stage, f"{fact} of {stage} is not what its table of units says."


def _classes(bundle: Bundle, stage: str, image_uk: np.ndarray, count_u: np.ndarray) -> Found:
    """Classes among the exemplars, counted again."""
    held = bundle.table(stage, "class_counts")
    probe = bundle.table(kinds.PROBE.name(), "probe")
    names = bundle.table(kinds.PROBE.name(), "classes")["name"].tolist()
    class_n = np.full(len(probe), -1)
    if names:
        number = {name: at for at, name in enumerate(names)}
        class_n = probe["class"].map(lambda c: number.get(str(c), -1)).to_numpy(int)
    said: dict[int, dict[int, int]] = {}
    for unit, of, count in held[["unit", "class", "count"]].itertuples(index=False):
        said.setdefault(int(unit), {})[int(of)] = int(count)
    for unit in sampled(len(count_u)).tolist():
        of_k = class_n[image_uk[unit, : count_u[unit]]]
        counted = np.unique_counts(of_k[of_k >= 0])
        fresh = dict(zip(counted.values.tolist(), counted.counts.tolist(), strict=True))
        if fresh != said.get(unit, {}):
            yield stage, f"Classes of unit {unit} of {stage} are not those of its exemplars."

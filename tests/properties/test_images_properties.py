"""The banded search for near-duplicates equals the comparison of all pairs."""

from __future__ import annotations

import io

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from csp_engine.errors import UnreadableImageError
from csp_engine.probe.decoding import decode
from csp_engine.probe.images import NO_INFORMATION, near_duplicate_groups

BITS = st.integers(0, 63)


@st.composite
def crowded_hashes(draw) -> tuple[list[int], list[str]]:
    """Hashes a few bits from one another, with some equal, some empty, some doubled files."""
    centres = draw(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=3))
    hashes = []
    for flips in draw(st.lists(st.lists(BITS, max_size=8), max_size=24)):
        value = draw(st.sampled_from([*centres, NO_INFORMATION]))
        for bit in flips:
            value ^= 1 << bit
        hashes.append(value)
    contents = draw(
        st.lists(st.sampled_from("abcdefghijklmno"), min_size=len(hashes), max_size=len(hashes))
    )
    return hashes, [c if c < "d" else f"{c}{i}" for i, c in enumerate(contents)]


def all_pairs_groups(hashes: list[int], contents: list[str], distance: int) -> list[int]:
    group = list(range(len(hashes)))
    for i in range(len(hashes)):
        for j in range(i):
            informative = NO_INFORMATION not in (hashes[i], hashes[j])
            close = informative and (hashes[i] ^ hashes[j]).bit_count() <= distance
            if close or contents[i] == contents[j]:
                low, high = sorted((group[i], group[j]))
                group = [low if g == high else g for g in group]
    return group


@given(crowded_hashes(), st.integers(0, 10))
@settings(deadline=None, max_examples=150)
def test_groups_equal_those_of_all_pairs(drawn, distance):
    hashes, contents = drawn
    group = near_duplicate_groups(np.array(hashes, np.uint64), contents, distance)
    assert group.dtype == np.int32
    assert group.tolist() == all_pairs_groups(hashes, contents, distance)


@given(crowded_hashes(), st.integers(0, 10), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=50)
def test_reordering_images_only_renames_groups(drawn, distance, random):
    hashes, contents = drawn
    order = list(range(len(hashes)))
    random.shuffle(order)
    group = near_duplicate_groups(np.array(hashes, np.uint64), contents, distance)
    shuffled = near_duplicate_groups(
        np.array(hashes, np.uint64)[order], [contents[i] for i in order], distance
    )
    together = {(i, j) for i in order for j in order if group[i] == group[j]}
    after = [(a, b) for a in range(len(order)) for b in range(len(order))]
    assert together == {(order[a], order[b]) for a, b in after if shuffled[a] == shuffled[b]}


def sample_file(kind: str) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


SAMPLES = {kind: sample_file(kind) for kind in ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")}


DAMAGES = st.lists(st.tuples(st.integers(0, 400), st.binary(max_size=4)), max_size=4)


@given(st.sampled_from(sorted(SAMPLES)), DAMAGES)
@settings(deadline=None, max_examples=300)
def test_damaged_bytes_give_an_rgb_image_or_the_one_error(kind, damages):
    content = bytearray(SAMPLES[kind])
    for place, replacement in damages:
        at = place % len(content)
        content[at : at + len(replacement)] = replacement
    try:
        image = decode(bytes(content))
    except UnreadableImageError:
        return
    assert image.mode == "RGB"
    assert np.asarray(image).shape == (image.height, image.width, 3)


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_random_bytes_never_crash(content):
    try:
        image = decode(content)
    except UnreadableImageError:
        return
    assert image.mode == "RGB"

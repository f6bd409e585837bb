"""A build in shards: the bundle is that of one process, or one sentence says why there is none."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from csp_engine import pipeline
from csp_engine.bundle import Bundle, verify
from csp_engine.encoders.threads import threads
from csp_engine.errors import BundleError, CspError, InputError, StaleError
from csp_engine.hashing import canonical_json, sha256_json
from csp_engine.jobs.workers import THREADS, threads_each, threads_said
from csp_engine.networks.driving import influence
from csp_engine.pipeline import BuildRequest
from csp_engine.pipeline.sharding.measuring import measure_shard
from csp_engine.pipeline.sharding.merging import merge
from csp_engine.pipeline.sharding.shards import Shard
from csp_engine.pipeline.stages import influence as stage
from csp_engine.probe.listing import read_probe_set
from tests.worlds import toys


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """Images, one of which cannot be read, and the bundle that one process makes of them."""
    folder = tmp_path_factory.mktemp("shards")
    toys.draw_images(folder / "images")
    (folder / "images" / "green" / "0003.png").write_bytes(b"no picture")
    pipeline.build(request(folder, folder / "whole.csp"))
    return folder


def request(folder: Path, out: Path, **changes: Any) -> BuildRequest:
    """29 listed images in batches of three."""
    return toys.request(folder, out, batch_size=3, n_circuit_images=8, **changes)


def parts(out: Path) -> Path:
    return out.with_name(out.name + ".parts")


def in_shards(world: Path, out: Path, of: int, order: list[int] | None = None) -> None:
    """Each worker lists the images, and reads no more than its own."""
    asked = request(world, out, probe=read_probe_set(world / "images", is_hashed=False))
    for number in order or range(1, of + 1):
        measure_shard(asked, Shard(number, of))


def described(path: Path) -> Any:
    """What the manifest says of its inputs, beside the keys and hashes of the stages."""
    manifest = Bundle.open(path).manifest
    return [manifest.inputs, manifest.recipe, {n: s.facts for n, s in manifest.stages.items()}]


@pytest.mark.slow
@pytest.mark.parametrize("of", [1, 2, 7, 64])
def test_the_bundle_is_that_of_one_process(world, tmp_path, of):
    out = tmp_path / "a.csp"
    order = list(range(1, of + 1))
    random.Random(of).shuffle(order)
    in_shards(world, out, of, order)
    assert not out.exists()
    merge(request(world, out))
    assert toys.content(out) == toys.content(world / "whole.csp")
    assert described(out) == described(world / "whole.csp")
    assert verify(Bundle.open(out)) == []
    assert not parts(out).exists()


@given(st.integers(1, 400), st.integers(1, 40), st.integers(1, 90))
def test_shards_take_every_image_once_in_whole_batches(n_listed, batch_size, of):
    shares = [Shard(number, of).images(n_listed, batch_size) for number in range(1, of + 1)]
    assert [image for share in shares for image in share] == list(range(n_listed))
    assert all(share.start % batch_size == 0 for share in shares if share)
    n_batches = [-(-len(share) // batch_size) for share in shares]
    assert max(n_batches) - min(n_batches) <= 1


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("3", "--shard is '3'; write it as I/N"),
        ("a/b", "--shard is 'a/b'; write it as I/N"),
        ("1/-2", "--shard is '1/-2'; write it as I/N"),
        ("0/7", "There is no shard 0 of 7; shards are counted from 1 to 7"),
        ("8/7", "There is no shard 8 of 7"),
        ("1/0", "0 shards cannot be had"),
        ("1/100001", "100001 shards cannot be had; ask for 1 to 100,000"),
    ],
)
def test_what_is_no_shard_is_refused(text, sentence):
    with pytest.raises(InputError) as said:
        Shard.parse(text)
    assert sentence in str(said.value)


@pytest.mark.slow
def test_an_interrupted_shard_goes_on_where_it_stopped(world, tmp_path):
    out = tmp_path / "a.csp"

    class StopHereError(Exception):
        pass

    def stop(stage: str, done: int, total: int) -> None:
        if (stage, done) == ("images", 6):
            raise StopHereError

    with pytest.raises(StopHereError):
        measure_shard(request(world, out), Shard(1, 2), stop)
    with pytest.raises(StaleError, match="no finished shards"):
        merge(request(world, out))
    seen: list[int] = []
    for _ in range(2):  # the second time nothing is left to do
        measure_shard(request(world, out), Shard(1, 2), lambda s, done, t: seen.append(done))
    assert seen[0] == 6
    assert seen[-1] == seen[-2]
    in_shards(world, out, 2, [2])
    merge(request(world, out))
    assert toys.content(out) == toys.content(world / "whole.csp")


@pytest.mark.slow
def test_a_merge_takes_up_where_it_stopped(world, tmp_path):
    out = tmp_path / "a.csp"
    in_shards(world, out, 3)

    class StopHereError(Exception):
        pass

    def stop_at(number: int) -> Callable[[str, int, int], None]:
        count = itertools.count(1)

        def stop(stage: str, done: int, total: int) -> None:
            if next(count) == number:
                raise StopHereError

        return stop

    for number in (2, 6, 9):  # while shards are taken over, then in later and later stages
        with pytest.raises(StopHereError):
            merge(request(world, out), stop_at(number))
    merge(request(world, out))
    assert toys.content(out) == toys.content(world / "whole.csp")
    merge(request(world, out))  # nothing is missing, and nothing needed
    assert toys.content(out) == toys.content(world / "whole.csp")


@pytest.mark.slow
def test_a_merge_that_is_killed_while_it_deletes_its_shards_goes_on(world, tmp_path, monkeypatch):
    out = tmp_path / "a.csp"
    in_shards(world, out, 3)

    def stop(folder: Path, **_: Any) -> None:
        if (folder / "part.json").exists():
            (folder / "part.json").unlink()
            raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", stop)
    with pytest.raises(KeyboardInterrupt):
        merge(request(world, out))
    monkeypatch.undo()
    merge(request(world, out))
    assert toys.content(out) == toys.content(world / "whole.csp")
    assert not parts(out).exists()


@pytest.mark.slow
def test_a_layer_joins_a_bundle_in_shards(world, tmp_path):
    out = tmp_path / "a.csp"
    pipeline.build(request(world, out, targets=(toys.target(["first"]),)))
    in_shards(world, out, 2)
    merge(request(world, out))
    assert toys.content(out) == toys.content(world / "whole.csp")


@pytest.mark.slow
@pytest.mark.parametrize("is_merged", [False, True])
def test_layers_keep_their_numbers_when_they_are_named_in_another_order(world, tmp_path, is_merged):
    """Two layers of one width: what the first half of a pass measured is of the same layer."""
    out = tmp_path / "a.csp"
    one, other = (
        request(world, out, targets=(toys.target(names),))
        for names in (["second", "last"], ["last", "second"])
    )

    class StopHereError(Exception):
        pass

    def stop(stage: str, done: int, total: int) -> None:
        if stage == "images" and done >= 15:
            raise StopHereError

    if is_merged:
        for number in (1, 2):
            measure_shard(one, Shard(number, 2))
        with pytest.raises(StaleError, match="with the layers in another order than asked"):
            merge(other)
    with pytest.raises(StopHereError):
        (merge if is_merged else pipeline.build)(one, stop)
    found = pipeline.build(other)
    whole = pipeline.build(replace(one, out=tmp_path / "whole.csp"))
    for layer in ("second@mean", "last@mean"):
        values_un, expected_un = (each.activations("small", layer) for each in (found, whole))
        np.testing.assert_array_equal(values_un, expected_un)
    assert verify(found) == []


@pytest.mark.slow
def test_an_image_that_a_worker_could_not_read_is_not_left_out_for_good(world, tmp_path):
    """A disk that did not answer on one node: all others read the image."""
    shutil.copytree(world / "images", tmp_path / "images")
    out, away = tmp_path / "a.csp", tmp_path / "away.png"
    image = tmp_path / "images" / "red" / "0008.png"
    asked = request(tmp_path, out, probe=read_probe_set(tmp_path / "images", is_hashed=False))
    image.rename(away)
    for number in (1, 2):
        measure_shard(asked, Shard(number, 2))
    away.rename(image)
    with pytest.raises(
        StaleError, match=r"red/0008\.png can be read now, and could not when shard"
    ):
        merge(request(tmp_path, out))
    (part,) = parts(out).glob("2-of-2-*")
    shutil.rmtree(part)
    measure_shard(asked, Shard(2, 2))
    image.rename(away)
    unread = request(tmp_path, out, probe=replace(asked.probe, table=hashed_without(world, image)))
    with pytest.raises(StaleError, match=r"red/0008\.png cannot be read now, and could when shard"):
        merge(unread)
    away.rename(image)
    merge(request(tmp_path, out))
    assert toys.content(out) == toys.content(world / "whole.csp")


@pytest.fixture
def counted(monkeypatch) -> list[int]:
    """Batches whose gradients are taken from now on: the images of each."""
    seen: list[int] = []
    measured = influence.batch_influence

    def count(*args: Any, **options: Any) -> Any:
        found = measured(*args, **options)
        seen.append(found.n_images)
        return found

    monkeypatch.setattr(influence, "batch_influence", count)
    monkeypatch.setattr(stage, "batch_influence", count)
    return seen


@pytest.mark.slow
@pytest.mark.parametrize("of", [1, 2, 7])
def test_shards_measure_influence_and_the_merge_sums_it_up(tmp_path, counted, of):
    """24 images in eight batches: the merge measures the first and the last, whoever damaged what.

    It does so on as many threads as the shards did.
    """
    toys.draw_images(tmp_path / "images")
    asked = {"n_influence_images": 24}
    with threads(1):
        whole = pipeline.build(request(tmp_path, tmp_path / "whole.csp", **asked))
        out, probe = tmp_path / "a.csp", read_probe_set(tmp_path / "images", is_hashed=False)
        counted.clear()
        for number in range(1, of + 1):
            measure_shard(request(tmp_path, out, probe=probe, **asked), Shard(number, of))
    assert counted == [3] * 6
    held = sorted(parts(out).glob(".gradients-*"))
    assert len(held) == 6
    held[0].write_bytes(held[0].read_bytes()[:-40] + bytes(40))
    held[1].unlink()
    counted.clear()
    with threads(3):
        merge(request(tmp_path, out, **asked))
        assert torch.get_num_threads() == 3
    assert counted == [3] * 4
    assert toys.content(out) == toys.content(whole.path)
    assert described(out) == described(whole.path)
    assert not parts(out).exists()


@pytest.mark.slow
def test_influence_that_shards_took_of_other_images_is_not_used(world, tmp_path, counted):
    """One image cannot be read, so the sample is another from there on."""
    out = tmp_path / "a.csp"
    in_shards(world, out, 2)
    n_kept = len(list(parts(out).glob(".gradients-*")))
    assert n_kept
    counted.clear()
    merge(request(world, out))
    assert len(counted) > 2
    assert toys.content(out) == toys.content(world / "whole.csp")


def hashed_without(world: Path, image: Path) -> Any:
    """The table of the world's images, one of which cannot be read."""
    table = read_probe_set(world / "images").table
    is_it = table["file"] == f"{image.parent.name}/{image.name}"
    return table.assign(sha256=table["sha256"].mask(is_it, ""))


@pytest.mark.slow
def test_a_merge_that_is_to_stop_at_unreadable_images_does(world, tmp_path):
    """Shards that skipped one must not stand for a build that was to have all."""
    out = tmp_path / "a.csp"
    in_shards(world, out, 2)
    with pytest.raises(
        InputError, match=r"green/0003\.png cannot be read: .* --on-unreadable skip"
    ):
        merge(request(world, out, stop_on_unreadable=True))
    merge(request(world, out))
    with pytest.raises(InputError, match=r"green/0003\.png cannot be read: "):
        pipeline.build(request(world, out, stop_on_unreadable=True))
    assert toys.content(out) == toys.content(world / "whole.csp")


@pytest.mark.slow
def test_a_merge_deletes_nothing_that_another_pass_measured(world, tmp_path):
    """Days of work on another layer may lie beside a bundle that is whole."""
    out = tmp_path / "a.csp"
    first = {"targets": (toys.target(["first"]),)}
    pipeline.build(request(world, out, **first))
    in_shards(world, out, 2, [1])
    unfinished = parts(out) / ".2-of-2"

    def stop(stage: str, done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure_shard(request(world, out), Shard(2, 2), stop)
    before = sorted(path.relative_to(tmp_path) for path in parts(out).rglob("*.part"))
    assert unfinished.is_dir()
    merge(request(world, out, **first))
    assert sorted(path.relative_to(tmp_path) for path in parts(out).rglob("*.part")) == before
    in_shards(world, out, 2)
    merge(request(world, out))
    assert toys.content(out) == toys.content(world / "whole.csp")
    assert not parts(out).exists()


@pytest.mark.parametrize(
    ("said", "n_threads"), [("3", 3), ("4,2", 4), ("²", None), ("0", None), ("-1", None)]
)
def test_threads_are_those_of_the_environment(monkeypatch, said, n_threads):
    monkeypatch.setenv(THREADS, said)
    assert threads_each(1) == (n_threads or os.cpu_count())
    assert threads_said() == (n_threads or 0)


class TestNothingIsMergedThatIsNotWhole:
    @pytest.fixture
    def out(self, world, tmp_path) -> Path:
        """Three shards of three, and the bundle not made yet."""
        kept = world / "three.csp"
        if not parts(kept).exists():
            in_shards(world, kept, 3)
        shutil.copytree(parts(kept), tmp_path / "a.csp.parts")
        return tmp_path / "a.csp"

    def refused(self, world: Path, out: Path, sentence: str, **changes: Any) -> None:
        before = sorted(p.name for p in parts(out).rglob("*"))
        with pytest.raises(CspError) as said:
            merge(request(world, out, **changes))
        assert sentence in str(said.value), str(said.value)
        assert sorted(p.name for p in parts(out).rglob("*")) == before
        assert not (out / "manifest.json").exists()

    def part(self, out: Path, number: int) -> Path:
        (found,) = parts(out).glob(f"{number}-of-3-*")
        return found

    def rewritten(self, out: Path, number: int, **changes: Any) -> Path:
        """A part that says something else of itself, under the name that then is its own."""
        path = self.part(out, number)
        about = json.loads((path / "part.json").read_text()) | changes
        (path / "part.json").write_text(canonical_json(about))
        return path.rename(path.with_name(f"{path.name[:-12]}{sha256_json(about)[:12]}"))

    def test_a_missing_shard(self, world, out):
        shutil.rmtree(self.part(out, 2))
        self.refused(world, out, "1 of 3 shards are not finished")
        self.refused(world, out, ": 2; run the same 'csp build' with --shard 2/3")
        assert not out.exists()

    def test_a_shard_of_another_number(self, world, out):
        measured = parts(out).with_name("b.csp")
        in_shards(world, measured, 4, [4])
        (one,) = parts(measured).glob("4-of-4-*")
        one.rename(parts(out) / one.name)
        self.refused(world, out, "holds shard 4 of 4, and 3 shards are asked for")

    def test_a_shard_twice_with_other_values(self, world, out):
        first = self.part(out, 1)
        shutil.copytree(first, first.with_name("copy"))
        self.rewritten(out, 1, rows=2)
        (parts(out) / "copy").rename(first)
        self.refused(world, out, "Shard 1 of 3 is there twice with different values")

    @pytest.mark.parametrize("stream", ["rows", "thumbs", "embeddings", "layer-0-1"])
    def test_a_changed_byte(self, world, out, stream):
        path = self.part(out, 2) / f"{stream}.part"
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        self.refused(world, out, f"Shard 2 of 3 is not what was written ({stream}.part)")

    def test_a_file_that_is_cut_off_or_gone(self, world, out):
        path = self.part(out, 3) / "embeddings.part"
        path.write_bytes(path.read_bytes()[:-1])
        self.refused(world, out, "Shard 3 of 3 is not what was written; delete")
        path.unlink()
        self.refused(world, out, "Shard 3 of 3 is not what was written; delete")

    def test_what_it_says_of_itself_was_edited(self, world, out):
        path = self.part(out, 1) / "part.json"
        path.write_text(path.read_text().replace("[1,3]", "[2,3]"))
        self.refused(world, out, "is not as a shard wrote it; delete that folder")
        path.write_text("{")
        self.refused(world, out, "is not as a shard wrote it; delete that folder")

    @pytest.mark.parametrize(
        "changes",
        [
            {"shard": ["1", 3]},
            {"shard": [1, 3, 3]},
            {"images": [0, "9"]},
            {"images": [-9, 9]},
            {"rows": "9"},
            {"rows": True},
            {"rows": 9.5},
            {"header": []},
            {"header": {"stages": 3}},
            {"conditions": ["torch"]},
            {"streams": {"rows": ["9", "0" * 64]}},
            {"streams": {"../../../rows": [3]}},
        ],
        ids=canonical_json,
    )
    def test_what_it_says_of_itself_is_of_another_kind(self, world, out, changes):
        """Somebody else's file, under the name that its content gives it."""
        self.rewritten(out, 1, **changes)
        self.refused(world, out, "is not as a shard wrote it; delete that folder")

    @pytest.mark.parametrize("content", ["[" * 100_000, '{"format":1e999}', "null", '{"shard":9}'])
    def test_what_it_says_of_itself_cannot_be_read(self, world, out, content):
        path = self.part(out, 1)
        (path / "part.json").write_text(content)
        digest = hashlib.sha256(content.encode()).hexdigest()[:12]
        path.rename(path.with_name(f"1-of-3-{digest}"))
        self.refused(world, out, "is not as a shard wrote it; delete that folder")

    def restated(self, out: Path, stream: str, change: Callable[[bytes], bytes]) -> None:
        """A file of the first part that is another, which its hash agrees with."""
        path = self.part(out, 1)
        content = change((path / f"{stream}.part").read_bytes())
        (path / f"{stream}.part").write_bytes(content)
        streams = json.loads((path / "part.json").read_text())["streams"]
        streams[stream] = [len(content), hashlib.sha256(content).hexdigest()]
        self.rewritten(out, 1, streams=streams)

    @pytest.mark.parametrize(
        ("stream", "change"),
        [
            ("rows", lambda rows: b"".join(reversed(rows.splitlines(keepends=True)))),
            ("rows", lambda rows: rows.replace(b'"listed": 0', b'"listed": 999999')),
            ("rows", lambda rows: rows.replace(b'"thumb_bytes"', b'"thumb"')),
            ("rows", lambda rows: b"{}" + rows[2:]),
            ("rows", lambda rows: rows + rows.splitlines(keepends=True)[0]),
            ("thumbs", lambda thumbs: thumbs + b"more"),
            ("layer-0-0", lambda values: values[:-4]),
            ("embeddings", lambda values: values + values[:4]),
        ],
    )
    def test_files_that_do_not_fit_each_other(self, world, out, stream, change):
        self.restated(out, stream, change)
        self.refused(world, out, f"Shard 1 of 3 is not what was written ({stream}.part)")

    def test_a_link_in_place_of_a_file(self, world, out, tmp_path):
        """What lies elsewhere must not become part of a bundle."""
        path = self.part(out, 2) / "layer-0-1.part"
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere")
        self.refused(world, out, "Shard 2 of 3 is not what was written")

    def test_a_part_of_other_images_under_its_own_name(self, world, out):
        self.rewritten(out, 1, images=[3, 12])
        self.refused(world, out, "Shard 1 of 3 is not what was written")

    @pytest.mark.parametrize(
        ("name", "sentence"),
        [
            ("csp_engine", "measured with csp_engine 0123 and shard 1 of 3 with "),
            ("torch", "measured with torch 0123 and shard 1 of 3 with "),
            ("threads", "(OMP_NUM_THREADS sets how many)"),
            ("device", "measured with device 0123 and shard 1 of 3 with cpu"),
        ],
    )
    def test_other_code_or_another_device(self, world, out, name, sentence):
        about = json.loads((self.part(out, 2) / "part.json").read_text())
        self.rewritten(out, 2, conditions=about["conditions"] | {name: "0123"})
        self.refused(world, out, sentence)

    def test_all_by_other_code_than_the_merge(self, world, out):
        about = json.loads((self.part(out, 2) / "part.json").read_text())
        for number in (1, 2, 3):
            self.rewritten(out, number, conditions=about["conditions"] | {"torch": "1.0"})
        self.refused(world, out, "Shard 1 of 3 was measured with torch 1.0 and this merge with ")

    def test_other_options(self, world, out):
        lively = toys.target(factory="lively")
        self.refused(world, out, "other weights or other reading of small/", targets=(lively,))
        more = toys.target(["first", "second", "last"])
        self.refused(world, out, "other layers (it lacks small/last", targets=(more,))
        self.refused(world, out, "another encoder", encoder=toys.Judge())
        self.refused(world, out, "other images or thumbnails", thumbnail_side=90)
        asked = replace(request(world, out), batch_size=4)
        with pytest.raises(StaleError, match=r"another batch size \(3\)"):
            merge(asked)

    def test_an_image_that_changed_meanwhile(self, world, out):
        asked = request(world, out)
        other = asked.probe.table.assign(sha256=asked.probe.table["sha256"][::-1].to_numpy())
        changed = replace(asked.probe, table=other)
        self.refused(world, out, "is another image now than when shard 1 of 3", probe=changed)

    def test_images_under_other_names(self, world, out):
        asked = request(world, out)
        other = asked.probe.table.assign(file=asked.probe.table["file"][::-1].to_numpy())
        self.refused(
            world, out, "other images or thumbnails", probe=replace(asked.probe, table=other)
        )

    def test_a_worker_sees_it_before_it_measures(self, world, out):
        about = json.loads((self.part(out, 2) / "part.json").read_text())
        shutil.rmtree(self.part(out, 1))
        with pytest.raises(StaleError, match="another encoder"):
            measure_shard(request(world, out, encoder=toys.Judge()), Shard(1, 3))
        with pytest.raises(StaleError, match="holds shard 2 of 3, and 4 shards are asked for"):
            measure_shard(request(world, out), Shard(1, 4))
        self.rewritten(out, 2, conditions=about["conditions"] | {"timm": "0123"})
        with pytest.raises(StaleError, match="with timm 0123 and shard 1 now with"):
            measure_shard(request(world, out), Shard(1, 3))

    @pytest.mark.slow
    def test_a_damaged_part_is_measured_again_by_its_shard(self, world, out):
        (self.part(out, 2) / "thumbs.part").unlink()
        measure_shard(request(world, out), Shard(2, 3))
        merge(request(world, out))
        assert toys.content(out) == toys.content(world / "whole.csp")

    @pytest.mark.slow
    def test_two_processes_at_one_shard(self, world, out):
        shutil.rmtree(self.part(out, 2))

        def second(stage: str, done: int, total: int) -> None:
            if done == 3:
                with pytest.raises(BundleError, match="Another process measures shard 2/3"):
                    measure_shard(request(world, out), Shard(2, 3))

        measure_shard(request(world, out), Shard(2, 3), second)

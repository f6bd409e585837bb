"""Builds to an address: the bundle is whole there or not there, and a stopped one goes on."""

from __future__ import annotations

import errno
import os
import shutil
import signal
from pathlib import Path

import pytest

from csp_engine.bundle import Bundle, verify
from csp_engine.cli import main
from csp_engine.errors import BundleError
from csp_engine.exchange import working_copies
from csp_engine.exchange.addresses import fetched, held_at
from csp_engine.exchange.working_copies import WorkingCopy
from csp_engine.pipeline.stages import measured
from tests.worlds import launched, toys
from tests.worlds.buckets import BUCKET, bucket
from tests.worlds.killing import in_child

AT = "memory://lab/toy.csp"


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    return launched.world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def near(world) -> Bundle:
    """What the same build makes on this disk."""
    out = world / "toy.csp"
    assert ended(["build", *launched.arguments(world, out)]) == 0
    return Bundle.open(out)


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "csp-neuron-browser"


@pytest.fixture
def memory():
    import fsspec

    system = fsspec.filesystem("memory")
    system.store.clear()
    yield system
    system.store.clear()


def ended(command: list[str]) -> int | str | None:
    with pytest.raises(SystemExit) as stop:
        main(command)
    return stop.value.code


def to(place: str, world: Path, *more: str) -> list[str]:
    return ["build", *launched.arguments(world, Path("unused"))[:-1], place, *more]


def left(cache: Path) -> list[str]:
    """Folders of builds that are not over."""
    return [path.name for path in (cache / "building").iterdir() if path.is_dir()]


def no_pass(monkeypatch) -> None:
    """From now on, nothing may be measured."""

    def refuse(*_: object) -> None:
        raise AssertionError("there was a pass over the images")

    monkeypatch.setattr(measured, "run_pass", refuse)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [(), ("--workers", "2")])
def test_it_is_the_bundle_that_is_built_on_a_disk(memory, world, near, cache, capsys, workers):
    assert ended(to(AT, world, *workers)) == 0
    said = capsys.readouterr().out
    assert f"Built in {cache / 'building'}" in said
    assert f"{AT}: 8 neurons, 28 images." in said
    assert f"csp serve {AT}" in said
    there = Bundle.open(fetched(AT))
    assert toys.content(there.path) == toys.content(near.path)
    assert verify(there) == []
    assert left(cache) == []


@pytest.mark.slow
def test_what_is_at_the_address_is_not_measured_again_by_anybody(memory, world, cache, monkeypatch):
    assert ended(to(AT, world)) == 0
    before = held_at(AT)
    shutil.rmtree(cache)  # as on another machine
    no_pass(monkeypatch)
    assert ended(to(AT, world)) == 0
    assert held_at(AT) == before
    assert ended(to(AT, world, "--set", "gamma=0.25")) == 0
    manifest = Bundle.open(fetched(AT)).manifest
    assert manifest.recipe["gamma"] == 0.25
    assert left(cache) == []


@pytest.mark.slow
def test_a_copy_that_is_refused_goes_on_and_nothing_is_measured_twice(
    memory, world, near, cache, capsys, monkeypatch
):
    put, sent = type(memory).put_file, list[str]()

    def full(self, here: str, there: str, **more: object) -> None:
        if len(sent) == 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        sent.append(there)
        put(self, here, there, **more)

    with monkeypatch.context() as patch:
        patch.setattr(type(memory), "put_file", full)
        assert ended(to(AT, world)) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "No space left on device" in said
    assert "run the same command again" in said
    assert held_at(AT) is None
    assert len(left(cache)) == 1
    no_pass(monkeypatch)
    second: list[str] = []

    def noted(self, here: str, there: str, **more: object) -> None:
        second.append(there)
        put(self, here, there, **more)

    monkeypatch.setattr(type(memory), "put_file", noted)
    assert ended(to(AT, world)) == 0
    assert not set(sent) & set(second)
    assert toys.content(fetched(AT)) == toys.content(near.path)
    assert left(cache) == []


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")
@pytest.mark.parametrize("number", [1, 7, 15, 100])
def test_a_copy_that_is_killed_is_not_there_and_goes_on(
    world, near, cache, tmp_path, monkeypatch, number
):
    """A hundredth file is more than there are, so that is the manifest."""
    from fsspec.implementations.local import LocalFileSystem

    place = f"file://{tmp_path}/far/toy.csp"

    def killed() -> None:
        count, put = 0, LocalFileSystem.put_file

        def dying(self, *given: object, **more: object) -> None:
            nonlocal count
            count += 1
            if count == number:
                os.kill(os.getpid(), signal.SIGKILL)
            put(self, *given, **more)

        def last(*_: object) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        with WorkingCopy(place) as copy:
            copy.begin(near.manifest.stages["images"].inputs["probe"])
            shutil.copytree(near.path, copy.path)
            LocalFileSystem.put_file, LocalFileSystem.pipe_file = dying, last
            copy.send(Bundle.open(copy.path))

    assert in_child(killed) == -signal.SIGKILL
    assert held_at(place) is None
    no_pass(monkeypatch)
    assert ended(to(place, world)) == 0
    assert toys.content(tmp_path / "far" / "toy.csp") == toys.content(near.path)
    assert left(cache) == []


@pytest.mark.slow
def test_another_bundle_there_stays(memory, world, cache, tmp_path, capsys):
    assert ended(to(AT, world)) == 0
    before = held_at(AT)
    other = launched.world(tmp_path / "other")
    toys.draw_images(other / "images", launched.N_IMAGES, seed=1)
    assert ended(to(AT, other)) == 2
    assert f"'{AT}' holds a bundle of other images" in capsys.readouterr().err
    assert held_at(AT) == before


@pytest.mark.slow
def test_what_somebody_put_there_meanwhile_stays(memory, world, cache, capsys, monkeypatch):
    assert ended(to("memory://lab/other/toy.csp", world, "--set", "gamma=0.25")) == 0
    put = working_copies.copy_to_address

    def meanwhile(*given: object) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(working_copies, "copy_to_address", meanwhile)
        assert ended(to(AT, world)) != 0
    put(Bundle.open(fetched("memory://lab/other/toy.csp")), AT)
    before = held_at(AT)
    for _ in range(2):
        assert ended(to(AT, world)) == 2
        assert "is another than when this build began" in capsys.readouterr().err
    assert held_at(AT) == before
    shutil.rmtree(cache / "building" / left(cache)[0])  # as the sentence says
    assert ended(to(AT, world)) == 0
    assert held_at(AT) != before


@pytest.mark.slow
def test_a_list_that_is_wrong_does_no_harm(memory, world, near, monkeypatch):
    """Files that are listed are not there, or the other way round."""
    find = type(memory).find

    def wrong(self, path: str, **more: object) -> dict[str, dict[str, object]]:
        found = find(self, path, **more)
        if not found:
            return {f"{path}/images-0123456789ab/gone.npy": {"size": 9}}
        return dict(list(found.items())[::2])

    monkeypatch.setattr(type(memory), "find", wrong)
    for _ in range(2):
        assert ended(to(AT, world)) == 0
    assert toys.content(fetched(AT)) == toys.content(near.path)


@pytest.mark.slow
def test_whoever_may_write_and_not_delete_can_build(memory, world, near, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("Access Denied")

    monkeypatch.setattr(type(memory), "rm_file", refuse)
    for _ in range(2):
        assert ended(to(AT, world)) == 0
    assert toys.content(fetched(AT)) == toys.content(near.path)


def test_one_process_at_a_time_builds_to_an_address(memory):
    with WorkingCopy(AT), pytest.raises(BundleError, match="Another process is building"):
        WorkingCopy(f"{AT}/")
    with WorkingCopy(AT):
        pass


@pytest.mark.parametrize(
    ("place", "more", "sentence"),
    [
        ("memory://lab/folder", (), "let it end in NAME.csp"),
        ("memory://lab/.csp", (), "let it end in NAME.csp"),
        ("nosuch://lab/a.csp", (), "nosuch"),
        (AT, ("--shard", "1/2"), "shards meet in a folder"),
        (AT, ("--workers", "2", "--engine", "ray"), "shards meet in a folder"),
    ],
)
def test_an_address_that_cannot_be_built_to(memory, world, capsys, place, more, sentence):
    assert ended(to(place, world, *more)) == 2
    assert sentence in capsys.readouterr().err
    assert memory.store == {}


def test_shards_are_not_merged_to_an_address(world, capsys):
    command = ["merge", *launched.arguments(world, Path("unused"))[:-1], AT]
    assert ended(command) == 2
    assert (
        "name one such as toy.csp, and copy the bundle with 'csp copy'" in capsys.readouterr().err
    )


def test_a_refusal_is_told_before_anything_is_measured(memory, world, capsys, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("Access Denied")

    monkeypatch.setattr(type(memory), "pipe_file", refuse)
    no_pass(monkeypatch)
    assert ended(to(AT, world)) == 2
    said = capsys.readouterr().err.strip()
    assert "PermissionError: Access Denied" in said
    assert "\n" not in said


@pytest.mark.slow
def test_the_same_at_an_s3_server(world, near, capsys):
    with bucket() as door:
        import fsspec

        place = f"s3://{BUCKET}/deep/toy.csp"
        assert ended(to(f"s3://{BUCKET}ed/toy.csp", world)) == 2
        assert "bucket does not exist" in capsys.readouterr().err
        assert fsspec.filesystem("s3").ls("") == [BUCKET]
        door.change = lambda method, path, answer: (
            (403, {"Content-Length": "0"}, b"") if method == "PUT" else answer
        )
        assert ended(to(place, world)) == 2
        assert "check the address and your rights" in capsys.readouterr().err

        def cut(method, path, answer):
            status, headers, body = answer
            is_hit = method == "GET" and "image.npy" in path
            return (status, headers, body[: len(body) // 2]) if is_hit else answer

        door.change = cut
        assert ended(to(place, world)) == 2
        door.change = None
        assert held_at(place) is None
        assert ended(to(place, world)) == 0
        assert toys.content(fetched(place)) == toys.content(near.path)

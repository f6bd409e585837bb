from __future__ import annotations

import json
import os
import shutil
import threading
from pathlib import Path
from urllib.parse import quote

import pytest

from csp_engine.errors import BundleError
from pages.ui.shell import store
from tests.pages.conftest import open_page, rewrite_manifest, visiting


def test_bundles_of_one_name_in_two_folders_stay_apart(serve, small_bundle, copied):
    serve(small_bundle, copied.parent)
    assert store.known_bundles() == {"small": small_bundle, "small~2": copied}


def _said(path: str) -> dict:
    answer = visiting().get(f"/csp/api/v1/bundles{path}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_bundle_whose_name_is_no_utf_8_spoils_no_other(serve, small_bundle, tmp_path):
    """Every page lists the bundles of the server."""
    odd = tmp_path / os.fsdecode(b"caf\xe9.csp")
    for path in (odd, tmp_path / "plain.csp"):
        shutil.copytree(small_bundle, path)
    serve(tmp_path)
    assert store.known_bundles() == {"caf\ufffd": odd, "plain": tmp_path / "plain.csp"}
    assert [each["name"] for each in _said("")["bundles"]] == ["caf\ufffd", "plain"]
    for name in ("caf\ufffd", "plain"):
        assert not open_page("overview", bundle=name).exception
        assert not open_page("neuron", bundle=name).exception
        assert _said(f"/{quote(name)}/neurons")["bundle"] == name


@pytest.mark.parametrize("part", ["probe", "vocabulary"])
def test_what_a_bundle_was_made_from_may_have_such_a_name_too(serve, copied, part):
    inputs = json.loads((copied / "manifest.json").read_text())["inputs"]
    inputs[part]["name"] = "caf\udce9"
    inputs["models"]["small"]["notices"] = ["half a pair: \ud800"]
    rewrite_manifest(copied, inputs=inputs)
    serve(copied)
    assert not open_page("overview").exception
    of = "images" if part == "probe" else part
    assert _said("/small")["inputs"][of]["name"] == "caf\ufffd"
    assert "half a pair: \ufffd" in _said("/small")["notices"]


def test_a_folder_that_is_not_there_holds_no_bundles(serve, tmp_path):
    serve(tmp_path / "nowhere")
    assert store.known_bundles() == {}


def test_a_bundle_that_changed_on_disk_is_opened_again(serve, copied):
    serve(copied)
    first = store.open_bundle("small")
    assert store.open_bundle("small") is first
    recipe = json.loads((copied / "manifest.json").read_text())["recipe"]
    rewrite_manifest(copied, recipe={**recipe, "note": "changed on disk"})
    assert store.open_bundle("small").digest != first.digest


def test_a_bundle_of_equal_time_size_and_inode_is_another_all_the_same(serve, copied, monkeypatch):
    serve(copied)
    path = copied / "manifest.json"
    recipe = json.loads(path.read_text())["recipe"]
    rewrite_manifest(copied, recipe={**recipe, "note": "one"})
    # A clock that does not tick between the two, and an inode that is used again.
    seen, stat = path.stat(), Path.stat
    monkeypatch.setattr(
        Path, "stat", lambda self, **how: seen if self == path else stat(self, **how)
    )
    first = store.open_bundle("small")
    assert store.open_bundle("small") is first
    rewrite_manifest(copied, recipe={**recipe, "note": "two"})
    assert store.open_bundle("small").digest != first.digest


def test_a_name_is_never_a_path(serve, small_bundle):
    serve(small_bundle)
    for name in (str(small_bundle), "../small", "small.csp", ""):
        with pytest.raises(BundleError, match="no bundle"):
            store.open_bundle(name)


def test_what_two_sessions_ask_for_is_made_once_and_holds_up_nobody_else():
    began, go_on, made = threading.Event(), threading.Event(), []

    def slowly() -> int:
        began.set()
        assert go_on.wait(10)
        made.append(1)
        return 7

    answers: list[int] = []
    key = ("test", object())
    sessions = [
        threading.Thread(target=lambda: answers.append(store.MEMO.once(key, slowly)))
        for _ in range(2)
    ]
    for session in sessions:
        session.start()
    assert began.wait(10)
    assert store.MEMO.once(("test", object()), lambda: 3) == 3
    go_on.set()
    for session in sessions:
        session.join(10)
    assert answers == [7, 7]
    assert made == [1]


def test_what_failed_is_tried_again():
    key = ("test", object())
    with pytest.raises(BundleError):
        store.MEMO.once(key, lambda: (_ for _ in ()).throw(BundleError("not now")))
    assert store.MEMO.once(key, lambda: 5) == 5

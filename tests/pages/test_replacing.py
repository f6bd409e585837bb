"""A bundle is replaced while replicas serve it: by a link that is renamed, or a folder that is."""

from __future__ import annotations

import itertools
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from csp_engine.bundle import Bundle
from csp_engine.pipeline import relabel
from tests.pages.conftest import visiting
from tests.worlds import toys

NEURONS = "/csp/api/v1/bundles/small/neurons?limit=3"


@pytest.fixture(scope="module")
def versions(small_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two builds of a bundle, under the same name in two folders."""
    folder = tmp_path_factory.mktemp("versions")
    made = [Path(shutil.copytree(small_bundle, folder / name / "small.csp")) for name in "ab"]
    relabel(made[1], replace(toys.SMALL, gamma=0.25))
    assert Bundle.open(made[0]).digest != Bundle.open(made[1]).digest
    return made


def point(link: Path, target: Path) -> None:
    """Have a link lead elsewhere, in one step."""
    new = link.with_name("next")
    new.symlink_to(target)
    new.replace(link)


def shown(client) -> tuple[str, dict]:
    answer = client.get(NEURONS)
    assert answer.status_code == 200, answer.text
    return answer.json()["digest"], answer.json()


def digests(client) -> set[str]:
    families = text_string_to_metric_families(client.get("/metrics").text)
    (family,) = (each for each in families if each.name == "csp_bundle_ready")
    return {sample.labels["digest"] for sample in family.samples if sample.value == 1}


@pytest.mark.slow
def test_no_answer_is_lost_or_mixed_while_a_link_is_turned(serve, versions, tmp_path):
    link = tmp_path / "small.csp"
    link.symlink_to(versions[0])
    serve(tmp_path)
    expected = {}
    for version in versions:
        point(link, version)
        digest, body = shown(visiting())
        assert digest == Bundle.open(version).digest
        assert digests(visiting()) == {digest}
        expected[digest] = body
    assert len(expected) == 2
    stop, wrong, seen = threading.Event(), [], []

    def ask() -> None:
        client = visiting()
        while not stop.is_set():
            try:
                digest, body = shown(client)
                seen.append(digest)
                if body != expected[digest] or client.get("/csp/ready").status_code != 200:
                    wrong.append(body)
            except Exception as error:
                wrong.append(error)

    asking = [threading.Thread(target=ask) for _ in range(3)]
    for each in asking:
        each.start()
    end = time.monotonic() + 1.5
    for version in itertools.cycle(versions):
        point(link, version)
        time.sleep(0.02)
        if time.monotonic() > end:
            break
    stop.set()
    for each in asking:
        each.join()
    assert wrong == []
    assert set(seen) == set(expected)

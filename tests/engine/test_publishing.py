"""A published site: the pages of the export in parts, whole or not there, and a search index."""

from __future__ import annotations

import errno
import hashlib
import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from filelock import FileLock

from csp_engine import numbers
from csp_engine.bundle import Bundle, BundleWriter
from csp_engine.cli import main
from csp_engine.errors import BundleError, BusyError, InputError
from csp_engine.exchange.label_tables import label_rows
from csp_engine.exports.folders import RECORD
from csp_engine.exports.html import of_layers, of_neurons, write_folder
from csp_engine.exports.html.site import POLICY, one_way
from csp_engine.exports.html.tables import labels_in, table_of
from csp_engine.exports.publishing import finding, parts, publish, writing
from csp_engine.exports.publishing.finding import words_of
from csp_engine.exports.publishing.parts import PublishedSite, pager_of
from csp_engine.pipeline import build
from csp_engine.types import NeuronRef
from tests.worlds import damage, toys
from tests.worlds.killing import die_at_write, in_child
from tests.worlds.static_pages import HOSTILE, OURS, Page, files_of, hostile_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Bundle:
    return hostile_bundle(tmp_path_factory.mktemp("publish"))


@pytest.fixture
def in_threes(monkeypatch) -> None:
    """Lists of three neurons a page, so that a toy has many parts."""
    monkeypatch.setattr(parts, "PER_LIST", 3)
    monkeypatch.setattr(parts, "PER_LABEL_LIST", 2)


@pytest.fixture(scope="module")
def site(bundle, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("out") / "site"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "PER_LIST", 3)
        patch.setattr(parts, "PER_LABEL_LIST", 2)
        publish(bundle, of_layers(bundle), out)
    return out


@pytest.fixture(scope="module")
def exported(bundle, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("exported") / "pages"
    write_folder(bundle, of_layers(bundle), out)
    return out


def every_label(bundle: Bundle):
    method = PublishedSite(bundle, of_layers(bundle)).method
    return labels_in([table_of(bundle, each, method) for each in of_layers(bundle).lists])


def index_of(site: Path):
    """The index as the page reads it: its table, and the labels of each shard."""
    index = re.fullmatch(r"cspIndex\((.*)\)\n", (site / "search/index.js").read_text("ascii"), re.S)
    shards = {}
    for path in site.glob("search/[0-9]*.js"):
        found = re.fullmatch(r"cspShard\((\d+), (\[.*\])\)\n", path.read_text("ascii"), re.S)
        assert int(found[1]) == int(path.stem)
        shards[int(found[1])] = json.loads(found[2])
    return json.loads(index[1]), shards


def found_by(word: str, index, shards) -> dict[str, list]:
    """The labels that the page finds with a word, by its rule for buckets."""
    labels = {}
    for start, is_word, n, first, n_shards in index["buckets"]:
        if start.startswith(word) or (not is_word and word.startswith(start)):
            held = [label for k in range(first, first + n_shards) for label in shards[k]]
            assert len(held) == n
            labels |= {label[0]: label for label in held if any(
                own.startswith(word) for own in words_of(label[0]))}  # fmt: skip
    return labels


def test_a_neuron_has_the_same_page_as_in_the_export(site, exported):
    """Letter by letter, but for where pictures and the list lie."""
    pages = sorted(exported.glob("neurons/*/*.html"))
    assert len(pages) > 10
    for page in pages:
        other = site / page.relative_to(exported)
        texts = []
        for each in (page, other):
            inside = re.search(r"<main.*</main>", each.read_text("utf-8"), re.S)[0]

            def content(found: re.Match[str], each: Path = each) -> str:
                picture = (each.parent / found[1]).read_bytes()
                return f'src="{hashlib.sha256(picture).hexdigest()}"'

            texts.append(re.sub(r'src="([^"]*\.webp)"', content, inside))
        assert texts[0] == texts[1]
        steps = [[(a["rel"], a["href"]) for a in Page(each).all("a") if "rel" in a]
                 for each in (page, other)]  # fmt: skip
        assert steps[0] == steps[1]


def test_pages_and_lists_have_the_figures_of_the_exported_table(bundle, site):
    rows = label_rows(bundle, n_labels=3)
    (model,) = bundle.model_names
    checked = 0
    for place, layer in enumerate(bundle.layers(model), 1):
        for unit in range(bundle.n_units(model, layer)):
            neuron = str(NeuronRef(model, layer, unit))
            mine = rows[rows["neuron"] == neuron]
            page = Page(next(site.glob(f"neurons/{place}-*/{unit}.html")))
            (listed,) = site.glob(f"lists/{place}-*/{unit // 3 + 1}.html")
            line = next(row for row in table_rows(listed) if row[1] == str(unit))
            for _, row in mine.iterrows():
                if row["description"]:
                    assert one_way(row["description"]) in page.text
                    assert numbers.score(float(row["score"])) in page.text
                    checked += 1
            best = mine[(mine["method"] == "csp") & (mine["rank"] == 1)]
            if len(best) and best["description"].iloc[0]:
                assert one_way(best["description"].iloc[0]) in line[2]
                assert numbers.score(float(best["score"].iloc[0])) == line[3]
    assert checked > 30


def table_rows(path: Path) -> list[list[str]]:
    import html

    body = path.read_text("utf-8").split("<tbody>")[1].split("</tbody>")[0]
    rows = re.findall(r"<tr.*?</tr>", body, re.S)
    return [[html.unescape(re.sub(r"<[^>]+>", "", cell)).strip()
             for cell in re.findall(r"<t[hd].*?</t[hd]>", row, re.S)] for row in rows]  # fmt: skip


def test_lists_come_in_pages_that_hold_every_neuron_once_and_in_order(bundle, site):
    (model,) = bundle.model_names
    for place, layer in enumerate(bundle.layers(model), 1):
        n_units = bundle.n_units(model, layer)
        pages = sorted(site.glob(f"lists/{place}-*/*.html"), key=lambda p: int(p.stem))
        assert len(pages) == -(-n_units // 3) > 1
        rows = [table_rows(page) for page in pages]
        assert [int(row[1]) for page in rows for row in page] == list(range(n_units))
        assert all(len(page) <= 3 for page in rows)
        last = Page(pages[-1])
        assert f"Neurons {3 * len(pages) - 2} to {n_units} of {n_units}" in last.text
    overview = Page(site / "index.html").text
    assert f"{len(files_of(site)) - 1} files" in overview


def test_the_overview_counts_what_the_parts_counted(bundle, site, exported):
    first, second = (table_rows(each / "index.html") for each in (site, exported))
    assert first == second
    assert len(first) == 2


@pytest.mark.parametrize(
    ("number", "per_page", "n", "numbers_shown", "first", "last"),
    [
        (1, 100, 0, [1], 1, 0),
        (1, 100, 100, [1], 1, 100),
        (2, 100, 101, [1, 2], 101, 101),
        (1, 10, 95, [1, 2, 3, 0, 10], 1, 10),
        (50, 1, 100, [1, 0, 40, 0, 48, 49, 50, 51, 52, 0, 60, 0, 100], 50, 50),
    ],
)
def test_a_page_of_a_list_leads_to_its_neighbours_and_far_on(
    number, per_page, n, numbers_shown, first, last
):
    pager = pager_of(number, per_page, n)
    assert [each for each, _ in pager.links] == numbers_shown
    assert (pager.first, pager.last) == (first, last)
    linked = {each: href for each, href in pager.links if href}
    assert all(href == f"{each}.html" for each, href in linked.items())
    assert number not in linked


def test_the_index_finds_every_label_by_how_its_words_begin(bundle, site):
    """Against all labels looked at one by one, for every beginning that there is and some more."""
    labels = every_label(bundle)
    index, shards = index_of(site)
    assert index["nLabels"] == len(labels) > 3
    words = {word for label in labels for word in words_of(one_way(label.text))}
    beginnings = {word[:k] for word in words for k in range(1, len(word) + 1)} | {"zzz", "1x"}
    for start in sorted(beginnings):
        mine = {
            one_way(label.text)
            for label in labels
            if any(word.startswith(start) for word in words_of(one_way(label.text)))
        }
        assert set(found_by(start, index, shards)) == mine, start


def test_a_label_in_the_index_leads_to_the_neurons_that_carry_it(bundle, site):
    index, shards = index_of(site)
    held = {label[0]: label for labels in shards.values() for label in labels}
    for label in every_label(bundle):
        if not words_of(one_way(label.text)):
            continue
        text, n_reliable, n_neurons, groups = held[one_way(label.text)]
        assert (n_reliable, n_neurons) == (label.n_reliable, len(label.neurons))
        led = []
        for folder, good, others in groups:
            path, name = index["folders"][folder]
            for unit in (*good, *others):
                page = Page(site / path / f"{unit}.html")
                assert text in page.text
                led.append(f"{name}/{unit}")
        assert sorted(led) == sorted(one_way(str(neuron)) for neuron in label.neurons)
        assert sum(len(good) for _, good, _ in groups) == label.n_reliable


def test_shards_stay_small_however_many_labels_begin_alike(monkeypatch, bundle, tmp_path):
    texts = [f"word {i}" for i in range(400)] + ["w", "wo", "wordy " + "é" * 90, "one"]
    neuron = NeuronRef("m", "l", 0)
    labels = [finding.NamedLabel(text, 1, (neuron,)) for text in texts]
    monkeypatch.setattr(finding, "SHARD_BYTES", 500)
    reliable = {text: {neuron: True} for text in texts}
    for path, content in finding.shards_of(labels, reliable, {neuron: "neurons/1-m-l/0.html"}):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(content)
        assert path == "search/index.js" or len(content) < 700
    index, shards = index_of(tmp_path)
    for start in ("w", "wo", "word", "wordy", "1", "12", "123", "39", "one", "é"):
        mine = {t for t in texts if any(word.startswith(start) for word in words_of(t))}
        assert set(found_by(start, index, shards)) == mine, start


def test_every_link_leads_to_a_file_and_every_string_is_text(site):
    root = site.resolve()
    linked = set()
    for path in site.rglob("*.html"):
        page = Page(path)
        assert {tag for tag, _ in page.elements} <= OURS
        assert not any(k.startswith("on") or k == "style" for _, a in page.elements for k in a)
        (policy,) = [m["content"] for m in page.all("meta") if m.get("http-equiv")]
        assert policy == POLICY
        for _, attributes in page.elements:
            for target in (attributes.get("href"), attributes.get("src")):
                if target is None or target.startswith("#"):
                    continue
                parts_of = urlsplit(target)
                assert (parts_of.scheme, parts_of.netloc) == ("", "")
                found = (path.parent / unquote(parts_of.path)).resolve()
                assert found.is_file(), (path, target)
                linked.add(found.relative_to(root).as_posix())
    alone = {p for p in files_of(site) if p not in linked and not p.startswith("search/")}
    assert alone <= {"export.json", "index.html"}
    assert all(re.fullmatch(r"[a-z0-9./-]+", name) for name in files_of(site))
    for path in site.glob("search/*.js"):
        text = path.read_text("ascii")
        assert "<" not in text
        assert "\\u202e" not in text.lower()
    everything = "".join(Page(p).text for p in site.glob("labels/*.html"))
    assert sum(text.replace("\u202e", "") in everything for text in HOSTILE) > 3


def test_pictures_that_are_equal_are_one_file(bundle, site):
    pictures = sorted(site.rglob("*.webp"))
    contents = {path.read_bytes() for path in pictures}
    assert len(contents) == len(pictures) > 10
    assert contents <= {bundle.thumbnail(image) for image in range(bundle.n_images)}


def test_the_record_lists_every_other_file(bundle, site):
    record = json.loads((site / "export.json").read_text())
    held = {k: v for k, v in files_of(site).items() if k != "export.json"}
    assert {name: entry["sha256"] for name, entry in record["files"].items()} == {
        name: hashlib.sha256(content).hexdigest() for name, content in held.items()
    }
    assert record["bundle"]["sha256"] == bundle.digest


@pytest.mark.slow
def test_any_number_of_workers_writes_the_same_bytes(bundle, tmp_path):
    for n in (1, 2):
        publish(bundle, of_layers(bundle), tmp_path / str(n), n_workers=n)
    assert files_of(tmp_path / "1") == files_of(tmp_path / "2")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["1", "2"]


@pytest.mark.slow
def test_workers_do_not_run_the_script_that_publishes(bundle, tmp_path):
    script = tmp_path / "mine.py"
    script.write_text(
        "from csp_engine.bundle import Bundle\n"
        "from csp_engine.exports.html import of_layers\n"
        "from csp_engine.exports.publishing import publish\n"
        "from pathlib import Path\n"
        "print('begun', flush=True)\n"
        f"bundle = Bundle.open(Path({str(bundle.path)!r}))\n"
        "print(publish(bundle, of_layers(bundle), Path('out'), n_workers=2).n_neurons)\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "begun\n20\n"), done.stderr


@pytest.mark.slow
def test_killed_at_any_write_it_goes_on_and_the_bytes_are_the_same(
    in_threes, bundle, site, tmp_path
):
    """Nothing stands under the site's name before all of it is right; no part is written twice."""
    out = tmp_path / "site"
    n_parts = len(PublishedSite(bundle, of_layers(bundle)).parts())
    kills, at = 0, 1
    while True:
        code = in_child(lambda n=at: (die_at_write(n), publish(bundle, of_layers(bundle), out)))
        if code == 0:
            break
        assert code == -signal.SIGKILL
        kills += 1
        if out.exists():  # killed after the rename
            assert files_of(out) == files_of(site)
        at += 7
    assert kills > 5
    assert files_of(out) == files_of(site)
    begun = tmp_path / ".part-site"
    shutil.rmtree(begun, ignore_errors=True)
    shutil.rmtree(out)
    code = in_child(lambda: (die_at_write(120), publish(bundle, of_layers(bundle), out)))
    assert code == -signal.SIGKILL
    kept = len(list((begun / "parts").glob("[0-9c]*.json")))
    assert 0 < kept < n_parts
    assert not out.exists()
    written = publish(bundle, of_layers(bundle), out)
    assert written.n_written == n_parts - kept
    assert files_of(out) == files_of(site)


def begun_with(bundle: Bundle, out: Path, n_parts: int) -> Path:
    """A run that stops when so many parts are written; the folder that it leaves."""
    left = n_parts

    def stop(stage: str, done: int, total: int) -> None:
        nonlocal left
        left -= done > 0
        if left == 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        publish(bundle, of_layers(bundle), out, progress=stop)
    return out.with_name(f".part-{out.name}")


def test_what_a_disk_lost_is_written_again(in_threes, bundle, site, tmp_path):
    out = tmp_path / "site"
    begun = begun_with(bundle, out, 4)
    pages = sorted((begun / "site").glob("neurons/*/*.html"))
    pages[0].write_text("half")
    pages[5].unlink()
    (begun / "parts" / "1-0.json").write_text('{"files":')
    (begun / "site" / "left behind.txt").write_text("x")
    publish(bundle, of_layers(bundle), out)
    assert files_of(out) == files_of(site)


def test_parts_of_another_selection_are_not_mixed_in(in_threes, bundle, tmp_path):
    out = tmp_path / "site"
    begun_with(bundle, out, 4)
    neuron = NeuronRef(bundle.model_names[0], bundle.layers(bundle.model_names[0])[1], 2)
    publish(bundle, of_neurons(bundle, [neuron], title="One", about="One."), out)
    assert len(list(out.glob("neurons/*/*.html"))) == 1


@pytest.mark.parametrize("n_workers", [1, 2])
def test_a_bundle_that_is_replaced_meanwhile_gives_no_site(bundle, tmp_path, n_workers):
    """Neither pages of two bundles, nor a site that says it is of one that is gone."""
    own = Path(shutil.copytree(bundle.path, tmp_path / "own.csp"))
    other = Path(shutil.copytree(bundle.path, tmp_path / "other.csp"))
    damage.edit(other, lambda body: body.update(updated="2031-01-01T00:00:00+00:00"))
    opened, out = Bundle.open(own), tmp_path / "site"

    def replace(stage: str, done: int, total: int) -> None:
        if done and other.exists():
            shutil.rmtree(own)
            other.rename(own)

    with pytest.raises(BundleError):
        publish(opened, of_layers(opened), out, n_workers=n_workers, progress=replace)
    assert not out.exists()
    now = Bundle.open(own)
    publish(now, of_layers(now), out, n_workers=n_workers)
    record = json.loads((out / RECORD).read_text("utf-8"))
    assert record["bundle"]["sha256"] == now.digest != opened.digest


def test_two_at_once_are_refused(bundle, tmp_path):
    out = tmp_path / "site"
    begun = begun_with(bundle, out, 1)
    with FileLock(begun / ".lock"), pytest.raises(BusyError, match="Another process is publishing"):
        publish(bundle, of_layers(bundle), out)


def test_a_full_disk_is_one_sentence_and_what_is_written_is_kept(
    in_threes, bundle, site, tmp_path, monkeypatch
):
    out = tmp_path / "site"
    real = Path.write_bytes
    left = 30

    def full(path: Path, content: bytes) -> int:
        nonlocal left
        left -= 1
        if left < 0:
            real(path, content[: len(content) // 2])
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return real(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(InputError, match="is full; free some space"):
            publish(bundle, of_layers(bundle), out)
    assert not out.exists()
    parts_there = len(list((tmp_path / ".part-site" / "parts").glob("[0-9c]*.json")))
    assert parts_there > 0
    written = publish(bundle, of_layers(bundle), out)
    assert written.n_parts - written.n_written == parts_there
    assert files_of(out) == files_of(site)


def test_what_others_wrote_is_left_alone(bundle, tmp_path):
    out = tmp_path / "site"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds notes\.txt"):
        publish(bundle, of_layers(bundle), out)
    other = tmp_path / "other"
    (tmp_path / ".part-other").mkdir()
    (tmp_path / ".part-other" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="is in the way"):
        publish(bundle, of_layers(bundle), other)
    assert (tmp_path / ".part-other" / "mine.txt").read_text() == "mine"
    assert (out / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("place", ["site", "parts", "site/images", "site/index.html"])
def test_nothing_is_written_or_deleted_through_a_link(bundle, tmp_path, place):
    """In the folder of a stopped run, which the next one goes on with and tidies."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "mine.txt").write_text("mine")
    begun = tmp_path / ".part-out"
    for each in ("parts", "site"):
        (begun / each).mkdir(parents=True)
    (begun / writing.HEADER).write_text(json.dumps(writing._header(bundle, of_layers(bundle))))
    link = begun / place
    if link.is_dir():
        link.rmdir()
    link.symlink_to(elsewhere / "mine.txt" if link.suffix else elsewhere)
    with pytest.raises(InputError, match="is in the way"):
        publish(bundle, of_layers(bundle), tmp_path / "out")
    assert files_of(elsewhere) == {"mine.txt": b"mine"}


@pytest.mark.parametrize("write", [publish, write_folder])
def test_a_folder_that_holds_a_link_is_not_replaced(bundle, tmp_path, write):
    """A link to a folder leads to no file of an export, and is somebody's all the same."""
    (tmp_path / "mine").mkdir()
    out = tmp_path / "out"
    for _ in range(2):  # in a folder without an export, and beside one
        out.mkdir(exist_ok=True)
        (out / "photos").symlink_to(tmp_path / "mine")
        with pytest.raises(InputError, match="out holds photos, which no export wrote"):
            write(bundle, of_layers(bundle), out)
        assert (out / "photos").is_symlink()
        (out / "photos").unlink()
        write(bundle, of_layers(bundle), out)


def test_an_earlier_site_is_replaced(bundle, tmp_path):
    out = tmp_path / "site"
    layers = bundle.layers(bundle.model_names[0])
    publish(bundle, of_layers(bundle, layers=[layers[1]]), out)
    before = files_of(out)
    publish(bundle, of_layers(bundle, layers=[layers[0]]), out)
    assert files_of(out) != before
    assert [p.name for p in tmp_path.iterdir()] == ["site"]


def test_a_process_that_is_killed_is_said(bundle, tmp_path, monkeypatch):
    def die(*given):
        raise writing.BrokenProcessPool

    monkeypatch.setattr(writing.ProcessPoolExecutor, "submit", die)
    with pytest.raises(InputError, match="fewer --workers"):
        publish(bundle, of_layers(bundle), tmp_path / "site", n_workers=2)


@pytest.mark.slow
def test_a_bundle_without_labels_is_published_too(tmp_path):
    toys.draw_images(tmp_path / "images")
    whole = build(toys.request(tmp_path, tmp_path / "a.csp"))
    names = [name for name in whole.manifest.stages if name.partition(":")[0] in
             ("scores", "index", "projection")]  # fmt: skip
    with BundleWriter(whole.path) as writer:
        writer.drop(names)
    bare = Bundle.open(whole.path)
    publish(bare, of_layers(bare), tmp_path / "site")
    index, shards = index_of(tmp_path / "site")
    assert (index["nLabels"], shards) == (0, {})
    page = Page(next((tmp_path / "site").glob("neurons/*/1.html")))
    assert "No method has labelled this layer." in page.text


@pytest.mark.slow
def test_the_command(bundle, tmp_path, capsys):
    def csp(*arguments: str) -> int:
        with pytest.raises(SystemExit) as stop:
            main(["publish", str(bundle.path), *arguments])
        return int(stop.value.code or 0)

    out = tmp_path / "site"
    (model,) = bundle.model_names
    assert csp("--to", str(out), "--layer", "first", "--workers", "1", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["neurons"] == bundle.n_units(model, "first@mean")
    assert told["files"] == len(files_of(out))
    assert told["bytes"] == sum(map(len, files_of(out).values()))
    assert csp("--to", str(out), "--neuron", f"{model}/first@mean/1", "--workers", "1") == 0
    assert "1 neurons" in capsys.readouterr().out
    assert csp("--to", str(out), "--layer", "nowhere") == 2
    (out / "mine").write_text("x")
    assert csp("--to", str(out)) == 2
    assert "which no export wrote" in capsys.readouterr().err

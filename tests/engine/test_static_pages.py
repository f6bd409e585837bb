"""The static export: it says what the bundle says, is self-contained, and text in it stays text."""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
import torch

from csp_engine import numbers
from csp_engine.bundle import Bundle, copy_slim
from csp_engine.cli import main
from csp_engine.errors import InputError
from csp_engine.exports.html import estimated_bytes, of_layers, of_neurons, write_folder, write_zip
from csp_engine.exports.html.site import POLICY, slug
from csp_engine.exports.publishing import publish
from csp_engine.pipeline import build
from csp_engine.types import NeuronRef
from csp_engine.views import confidence
from csp_engine.views.memo import Memo
from csp_engine.views.neuron.circuit import circuit, outputs_of
from csp_engine.views.neuron.label import when_reliable
from tests.worlds import toys
from tests.worlds.static_pages import HOSTILE, OURS, Page, files_of, hostile_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Bundle:
    return hostile_bundle(tmp_path_factory.mktemp("static"))


@pytest.fixture(scope="module")
def site(bundle, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("out") / "pages"
    write_folder(bundle, of_layers(bundle), out)
    return out


def test_there_is_a_page_for_every_neuron_and_a_row_in_its_table(bundle, site):
    (model,) = bundle.model_names
    pages = [Page(p) for p in sorted(site.glob("neurons/*/*.html"))]
    tables = [Page(p) for p in sorted(site.glob("tables/*.html"))]
    n_units = [bundle.n_units(model, layer) for layer in bundle.layers(model)]
    assert len(pages) == sum(n_units)
    assert [len(t.all("tr")) - 1 for t in tables] == n_units
    overview = Page(site / "index.html")
    assert f"{sum(n_units)} neurons" in overview.text
    assert bundle.digest in overview.text


@pytest.mark.parametrize("write", [write_folder, publish])
def test_the_overview_counts_states_one_by_one(tmp_path, write):
    """A unit that is 0 everywhere is dead and constant; one near 0 may be never positive, too."""
    target = toys.target()
    second = target.model.network.second
    with torch.no_grad():
        second.weight[:3], second.bias[:3] = 0, torch.tensor([0.0, 2.0, -5e-7])
        second.weight[2] = 1e-10
    asked = {"targets": (target,), "n_influence_images": 0}
    bundle = build(toys.request(tmp_path, tmp_path / "a.csp", **asked))
    write(bundle, of_layers(bundle), tmp_path / "site")
    overview = (tmp_path / "site" / "index.html").read_text("utf-8")
    rows = re.findall(r"<tr><th scope=\"row\">.*?</tr>", overview, re.S)
    for layer, row in zip(bundle.layers("small"), rows, strict=True):
        act_un = np.asarray(bundle.activations("small", layer)[:], np.float64)
        dead_u = np.abs(act_un).max(1) <= 1e-6
        constant_u = act_un.min(1) == act_un.max(1)
        dense_u = (act_un > 1e-6).mean(1) >= 0.95
        dense_u &= dense_u.mean() < 0.5
        counts = [len(act_un), dead_u.sum(), dense_u.sum(), constant_u.sum()]
        told = [int(n) for n in re.findall(r'<td class="number">(\d+)</td>', row)]
        assert [told[0], *told[2:]] == counts
        if layer.startswith("second"):
            assert (dead_u.sum(), constant_u.sum(), (dead_u & ~constant_u).sum()) == (2, 2, 1)


def test_a_neurons_page_says_what_the_bundle_says(bundle, site):
    (model,) = bundle.model_names
    for place, layer in enumerate(bundle.layers(model), 1):
        exemplars, contrast = bundle.exemplars(model, layer), bundle.contrast(model, layer)
        scores = bundle.scores(model, layer, "csp")
        texts = bundle.method_labels(model, layer, "csp")["text"]
        for unit in range(bundle.n_units(model, layer)):
            page = Page(next(site.glob(f"neurons/{place}-*/{unit}.html")))
            shown = [(i["class"], int(re.findall(r"(\d+)\.webp", i["src"])[0]), i["alt"])
                     for i in page.all("img")]  # fmt: skip
            wanted = []
            for k in range(int(exemplars.count_u[unit])):
                value = numbers.activation(float(exemplars.activation_uk[unit, k]))
                image = int(exemplars.image_uk[unit, k])
                wanted.append(
                    ("exemplar", image, f"image {image} of the probe set, activation {value}")
                )
                if contrast.n_partner_uk[unit, k]:
                    value = numbers.activation(float(contrast.activation_ukj[unit, k, 0]))
                    alike = numbers.score(float(contrast.similarity_ukj[unit, k, 0]))
                    image = int(contrast.image_ukj[unit, k, 0])
                    wanted.append(("contrast", image, f"activation {value}, similarity {alike}"))
            assert [s[:2] for s in shown] == [w[:2] for w in wanted]
            assert all(w[2] in s[2] for s, w in zip(shown, wanted, strict=True))
            for k in range(int(scores.count_u[unit])):
                text = texts.iloc[int(scores.label_uk[unit, k])].replace("\u202e", "")
                assert text in page.text
                assert numbers.score(float(scores.score_uk[unit, k])) in page.text
            # Nothing is known of these images that would teach how often labels are right.
            assert confidence.NOT_CALIBRATED in page.text
            n_counted = int(np.asarray(bundle.histograms(model, layer)[unit]).sum())
            if not bundle.units(model, layer)["is_constant"].iloc[unit]:
                words = [each["aria-label"] for each in page.all("svg") if "role" in each]
                assert f"over {n_counted} images" in words[0]


def test_every_circuit_has_a_page_with_its_neurons_and_what_feeds_them(bundle, site):
    (model,) = bundle.model_names
    outputs = outputs_of(bundle, model)
    ways = [a["href"] for a in Page(site / "circuits.html").all("a") if "circuits/" in a["href"]]
    assert len(ways) == len(outputs) >= 1
    for way, output in zip(ways, outputs, strict=True):
        page, found = Page(site / unquote(way)), circuit(bundle, model, output, "csp")
        assert f"What {output} rests on" in page.text
        linked = [a["href"] for a in page.all("a") if "neurons/" in a["href"]]
        shown = [found.nodes[place] for _, places in found.layers for place in places]
        assert [href.rsplit("/", 1)[1] for href in linked] == [
            f"{node.neuron.unit}.html" for node in shown
        ]
        for node in shown:
            assert node.effect_text in page.text
            assert all(f"{fed.name} " in page.text for fed in node.fed_by[:3])
    led = {
        a["href"]
        for path in site.glob("neurons/*/*.html")
        for a in Page(path).all("a")
        if "circuits/" in a["href"]
    }
    assert {href.removeprefix("../../") for href in led} == set(ways)


def test_what_reliable_means_is_said_of_the_method_itself():
    chance = "scores higher than the best labels of 95 % of random image sets"
    assert when_reliable("csp") == chance
    assert when_reliable("csp_plus").startswith(chance)
    assert "passes the other checks" in when_reliable("csp_plus")
    assert "false discoveries" in when_reliable("invert")
    assert when_reliable("imported by somebody") == chance


def test_a_neuron_without_evidence_has_a_page_that_says_so(site):
    page = Page(next(site.glob("neurons/2-*/0.html")))
    assert "No image excites this neuron more than another" in page.text
    assert "It gives the same activation for every probe image." in page.text
    assert page.all("img") == []


def test_thumbnails_are_those_of_the_bundle_each_once(bundle, site):
    images = sorted(site.rglob("*.webp"))
    shown = {i["src"].rpartition("/")[2] for p in site.rglob("*.html") for i in Page(p).all("img")}
    assert {p.name for p in images} == shown
    assert all(p.read_bytes() == bundle.thumbnail(int(p.stem)) for p in images)


def test_previous_and_next_walk_the_list_round_and_back(bundle, site):
    start = here = next(site.glob("neurons/1-*/0.html")).resolve()
    seen = []
    while True:
        seen.append(here)
        links = {a.get("rel"): a["href"] for a in Page(here).all("a")}
        after = (here.parent / unquote(links["next"])).resolve()
        back = {a.get("rel"): a["href"] for a in Page(after).all("a")}["prev"]
        assert (after.parent / unquote(back)).resolve() == here
        here = after
        if here == start:
            break
    assert len(seen) == bundle.n_units(
        bundle.model_names[0], bundle.layers(bundle.model_names[0])[0]
    )


def test_every_link_leads_to_a_file_of_the_export(site):
    root = site.resolve()
    for path in site.rglob("*.html"):
        for tag, attributes in Page(path).elements:
            for key in ("href", "src"):
                target = attributes.get(key)
                if target is None or target.startswith("#"):
                    continue
                parts = urlsplit(target)
                assert (parts.scheme, parts.netloc) == ("", ""), (path, tag, target)
                assert not parts.path.startswith("/")
                found = (path.parent / unquote(parts.path)).resolve()
                assert found.is_file(), (path, target)
                assert found.is_relative_to(root), (path, target)


def test_strings_are_text_everywhere(site):
    for path in site.rglob("*.html"):
        raw = path.read_text("utf-8")
        page = Page(path)
        assert {tag for tag, _ in page.elements} <= OURS
        assert "\u202e" not in raw
        assert not any(k.startswith("on") or k == "style" for _, a in page.elements for k in a)
        (policy,) = [m["content"] for m in page.all("meta") if m.get("http-equiv")]
        assert policy == POLICY
        assert all(s.get("src", "").endswith("table.js") for s in page.all("script"))
    assert all(re.fullmatch(r"[a-z0-9./-]+", name) for name in files_of(site))
    everything = Page(site / "labels.html").text
    used = [text for text in HOSTILE if text.replace("\u202e", "") in everything]
    assert len(used) > 3  # the labels that some neuron carries are all there, letter by letter
    known = "".join(Page(p).text for p in site.glob("neurons/*/*.html"))
    assert "<img src=x onerror=alert(1)>" in known  # file names
    assert "<b>bold" in known  # classes


def test_names_of_files_are_safe_on_any_system():
    assert slug("../../etc/passwd") == "etc-passwd"
    assert slug("Ünïcode/CON:<>|?*") == "n-code-con"
    assert slug("\u202e🦓") == "unnamed"
    assert len(slug("x" * 10_000)) == 40


@pytest.mark.slow
def test_the_same_bundle_gives_the_same_bytes_in_a_folder_and_in_a_zip(bundle, site, tmp_path):
    write_folder(bundle, of_layers(bundle), tmp_path / "again")
    assert files_of(tmp_path / "again") == files_of(site)
    packed = [io.BytesIO(), io.BytesIO()]
    for each in packed:
        write_zip(bundle, of_layers(bundle), each)
    assert packed[0].getvalue() == packed[1].getvalue()
    with zipfile.ZipFile(packed[0]) as archive:
        held = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    assert held == files_of(site)


def test_the_record_lists_every_other_file_and_what_the_overview_counts(bundle, site):
    record = json.loads((site / "export.json").read_text())
    held = {k: v for k, v in files_of(site).items() if k != "export.json"}
    assert {name: entry["sha256"] for name, entry in record["files"].items()} == {
        name: hashlib.sha256(content).hexdigest() for name, content in held.items()
    }
    assert f"{len(held)} files" in Page(site / "index.html").text
    assert record["bundle"]["sha256"] == bundle.digest


def test_a_slim_copy_gives_the_same_pages(bundle, tmp_path):
    slim = copy_slim(bundle, tmp_path / bundle.path.name)
    (model,) = bundle.model_names
    chosen = [NeuronRef(model, bundle.layers(model)[0], unit) for unit in (3, 1)]
    pages = []
    for each in (bundle, slim):
        out = tmp_path / f"pages{len(pages)}"
        write_folder(each, of_neurons(each, chosen, title="t", about="a"), out)
        name = f"neurons/1-{slug(f'{model} {chosen[0].layer}')}/3.html"
        pages.append((out / name).read_text("utf-8").partition("<footer>")[0])
    assert pages[0] == pages[1]


def test_a_selection_keeps_its_order_and_links_only_what_it_holds(bundle, tmp_path):
    (model,) = bundle.model_names
    first, second = bundle.layers(model)
    chosen = [NeuronRef(model, second, 5), NeuronRef(model, first, 2), NeuronRef(model, second, 5)]
    write_folder(bundle, of_neurons(bundle, chosen, title="<i>/..", about="x"), tmp_path / "out")
    (table,) = (tmp_path / "out" / "tables").iterdir()
    rows = [a["aria-label"] for a in Page(table).all("a") if "Neuron" in a.get("aria-label", "")]
    assert rows == [f"Neuron {chosen[0]}", f"Neuron {chosen[1]}"]
    assert len(list((tmp_path / "out").glob("neurons/*/*.html"))) == 2
    test_every_link_leads_to_a_file_of_the_export(tmp_path / "out")


def test_nothing_but_an_export_is_ever_replaced(bundle, tmp_path):
    model = bundle.model_names[0]
    neuron = NeuronRef(model, bundle.layers(model)[0], 0)
    few = of_neurons(bundle, [neuron], title="t", about="a")
    out = tmp_path / "out"
    out.mkdir()
    write_folder(bundle, few, out)
    write_folder(bundle, few, out)
    (out / "my notes.txt").write_text("mine")
    with pytest.raises(InputError, match="holds my notes"):
        write_folder(bundle, few, out)
    assert (out / "my notes.txt").read_text() == "mine"
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="not a folder"):
        write_folder(bundle, few, tmp_path / "file")


@pytest.mark.slow
def test_a_stopped_export_leaves_nothing_and_keeps_the_one_before(bundle, tmp_path):
    out = tmp_path / "out"
    write_folder(bundle, of_layers(bundle, layers=["first"]), out)
    before = files_of(out)

    def stop(stage: str, done: int, total: int) -> None:
        if stage == "images":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_folder(bundle, of_layers(bundle), out, stop)
    assert files_of(out) == before
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_the_size_is_known_roughly_beforehand(bundle, site):
    real = sum(map(len, files_of(site).values()))
    assert real / 4 < estimated_bytes(bundle, of_layers(bundle).n_neurons) < real * 4


@pytest.mark.parametrize(
    ("neurons", "words"),
    [
        ([], "no neurons"),
        (["no/such@mean/1"], "Model 'no' is not in the bundle"),
        (["{m}/{l}/999"], "999"),
    ],
)
def test_a_selection_must_exist(bundle, neurons, words):
    model = bundle.model_names[0]
    names = [n.format(m=model, l=bundle.layers(model)[0]) for n in neurons]
    with pytest.raises(InputError, match=words):
        of_neurons(bundle, [NeuronRef.parse(n) for n in names], title="t", about="a")


@pytest.mark.slow
def test_the_command_writes_pages_of_layers_or_of_neurons(bundle, tmp_path, capsys):
    def run(*arguments: str) -> int:
        with pytest.raises(SystemExit) as stop:
            main(["export", str(bundle.path), *arguments])
        return int(stop.value.code or 0)

    (model,) = bundle.model_names
    ids = [f"{model}/{layer}/1" for layer in bundle.layers(model)]
    (tmp_path / "ids.txt").write_text(f"{ids[1]}\n\n{ids[0]}\n")
    out = str(tmp_path / "out")
    assert run(out, "--format", "html", "--neuron", str(tmp_path / "ids.txt")) == 0
    assert "2 neurons" in capsys.readouterr().out
    assert run(out, "--format", "html", "-l", "second", "--json") == 0
    assert json.loads(capsys.readouterr().out)["neurons"] == bundle.n_units(model, "second@mean")
    assert len(list(Path(out).glob("neurons/*/*.html"))) == bundle.n_units(model, "second@mean")
    assert run(out) == 2
    assert run(out, "--format", "html", "--neuron", ids[0], "-l", "first") == 2
    assert run(str(tmp_path / "x.csv"), "--neuron", ids[0]) == 2
    assert run(out, "--format", "html", "--method", "csp") == 2


@pytest.mark.slow
def test_pages_say_how_likely_a_label_is_right_as_the_app_does(shipped_bundle, tmp_path):
    """Where a bundle has taught that: a label that beats chance may still be probably wrong."""
    demo, memo = Bundle.open(shipped_bundle), Memo()
    model, layer = "planted", "planted@none"
    p_u = confidence.probabilities(demo, memo, model, layer, "csp_plus")
    reliable_u = np.asarray(demo.scores(model, layer, "csp_plus").reliable_u)
    doubted = int(np.flatnonzero(reliable_u & (p_u < confidence.PLAUSIBLE))[0])
    likely = int(np.flatnonzero(reliable_u & (p_u >= confidence.LIKELY))[0])
    neurons = [NeuronRef(model, layer, unit) for unit in (doubted, likely)]
    write_folder(demo, of_neurons(demo, neurons, title="Two", about=""), tmp_path / "site")
    for neuron, is_doubted in zip(neurons, (True, False), strict=True):
        page = Page(next((tmp_path / "site").glob(f"neurons/*/{neuron.unit}.html")))
        for method in demo.methods(model, layer):
            p = confidence.probability(demo, memo, neuron, method)
            assert confidence.in_words(p) in page.text, method
        assert ("labels like it are right" in page.text) == is_doubted
        assert confidence.NOT_CALIBRATED not in page.text

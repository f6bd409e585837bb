"""The command line from outside: what it does, and one sentence for everything that cannot be."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from csp_engine import encoders, numbers
from csp_engine.bundle import Bundle
from csp_engine.cli import main
from csp_engine.networks import models
from csp_engine.search import query_vector
from csp_engine.views.address import Narrowing, read_view
from csp_engine.views.finding.query import query_of, spelt_like, texts_of
from csp_engine.views.finding.standing import judged, judgement
from csp_engine.views.lists import ordered, searched
from csp_engine.views.memo import Memo
from csp_engine.views.table.rows import neuron_ids
from tests.worlds import toys
from tests.worlds.loopback import Reply, colours, loopback
from tests.worlds.small_captioner import small_captioner


def run(capsys, *arguments: object) -> tuple[int, str, str]:
    """Exit code, standard output and the last line on standard error."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    lines = captured.err.strip().splitlines()
    return int(stop.value.code or 0), captured.out, lines[-1] if lines else ""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    toys.draw_images(folder / "images")
    toys.words(folder)
    (folder / "pixels.json").write_text(json.dumps(toys.PREPROCESSING))
    (folder / "classes.txt").write_text("\n".join(sorted(toys.COLOURS)))
    return folder


def build_arguments(folder: Path, **changes: object) -> list[object]:
    """``csp build`` of the toy world, with some arguments replaced (None leaves one out)."""
    options: dict[str, object] = {
        "--model": "python:tests.worlds.toys:network",
        "--name": "small",
        "--preprocessing": folder / "pixels.json",
        "--class-names": folder / "classes.txt",
        "--layer": "first",
        "--encoder": "python:tests.worlds.toys:ColourEncoder",
        "--vocabulary": folder / "words.txt",
        "--out": folder / "a.csp",
        "--exemplars": 6,
        "--set": "n_null=30",
        "--batch-size": 8,
    }
    images = changes.pop("images", folder / "images")
    options |= {f"--{name.replace('_', '-')}": value for name, value in changes.items()}
    given = [part for pair in options.items() if pair[1] is not None for part in pair]
    return ["build", images, *given]


@pytest.fixture(scope="module")
def bundle(folder):
    with pytest.raises(SystemExit) as stop:
        main([str(a) for a in build_arguments(folder)])
    assert stop.value.code in (0, None)
    return folder / "a.csp"


# ---------------------------------------------------------------- what it does


def test_info(bundle, capsys):
    code, out, _ = run(capsys, "info", bundle, "--json")
    summary = json.loads(out)
    assert code == 0
    assert summary["layers"][0]["layer"] == "first@mean"
    assert summary["layers"][0]["n_units"] == 8
    methods = {"csp_plus", "csp", "semanticlens", "clip_dissect"}
    assert set(summary["layers"][0]["reliable"]) == methods
    code, out, _ = run(capsys, "info", bundle)
    assert code == 0
    assert "small/first@mean" in out


def test_verify_says_whole_or_names_the_file(bundle, tmp_path, capsys):
    code, out, _ = run(capsys, "verify", bundle)
    assert code == 0
    assert "whole" in out
    copy = tmp_path / "copy.csp"
    shutil.copytree(bundle, copy)
    victim = next(copy.rglob("activation.npy"))
    content = bytearray(victim.read_bytes())
    content[-3] ^= 4
    victim.write_bytes(bytes(content))
    code, out, _ = run(capsys, "verify", copy, "--json")
    assert code == 1
    assert "activation.npy" in json.loads(out)["problems"][0]


def test_layers(folder, capsys):
    code, out, _ = run(
        capsys,
        "layers",
        "python:tests.worlds.toys:network",
        "--preprocessing",
        folder / "pixels.json",
        "--json",
    )
    found = {row["layer"]: row for row in json.loads(out)}
    assert code == 0
    assert found["first"]["units"] == 8
    assert found["first"]["shape"] == [8, 16, 16]
    assert found["head"]["kind"] == "vector"


@pytest.mark.slow
def test_search_by_text_image_and_neuron(bundle, folder, capsys, monkeypatch):
    code, out, _ = run(capsys, "search", bundle, "red", "--json")
    by_text = json.loads(out)["found"]
    assert code == 0
    assert len(by_text) == 8
    scores = [entry["score"] for entry in by_text]
    assert scores == sorted(scores, reverse=True)
    query = ["search", bundle, "very red things", "--not", "blue", "--json"]
    code, _, line = run(capsys, *query)
    assert_one_sentence(code, line, "Python code", "CSP_TRUST_PYTHON")
    code, out, _ = run(capsys, *query, "--encoder", "python:tests.worlds.toys:ColourEncoder")
    assert code == 0
    monkeypatch.setenv("CSP_TRUST_PYTHON", "1")
    assert run(capsys, *query) == (0, out, "")
    image = folder / "images" / "red" / "0000.png"
    code, out, _ = run(capsys, "search", bundle, "--image", image, "-n", "3", "--json")
    assert code == 0
    assert len(json.loads(out)["found"]) == 3
    code, out, _ = run(capsys, "search", bundle, "--like", "small/first@mean/2", "--json")
    found = [entry["neuron"] for entry in json.loads(out)["found"]]
    assert code == 0
    assert "small/first@mean/2" not in found
    assert len(found) == 7


@pytest.mark.slow
def test_label_again(bundle, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("CSP_TRUST_PYTHON", "1")
    copy = tmp_path / "copy.csp"
    shutil.copytree(bundle, copy)
    code, _, _ = run(capsys, "label", copy, "--gamma", "0.25", "--method", "csp")
    assert code == 0
    opened = Bundle.open(copy)
    assert opened.manifest.recipe["gamma"] == 0.25
    assert opened.methods("small", "first@mean") == ("csp",)
    words = tmp_path / "other.txt"
    words.write_text("crimson\nnavy\nlime\n")
    code, _, _ = run(capsys, "label", copy, "--vocabulary", words)
    assert code == 0
    assert list(Bundle.open(copy).labels()["text"]) == ["crimson", "navy", "lime"]


@pytest.mark.slow
def test_layers_and_label_take_a_device_as_build_does(bundle, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("CSP_TRUST_PYTHON", "1")
    given = []

    def loading(module, name):
        load = getattr(module, name)

        def spy(*args, device="cpu", **more):
            given.append(device)
            return load(*args, **more)

        monkeypatch.setattr(module, name, spy)

    loading(encoders, "load_encoder")
    loading(models, "load_model")
    words = tmp_path / "other.txt"
    words.write_text("crimson\nnavy\nlime\n")
    copy = tmp_path / "copy.csp"
    shutil.copytree(bundle, copy)
    label = ("label", copy, "--vocabulary", words)
    layers = ("layers", "python:tests.worlds.toys:network", "--preprocessing", "whole")
    for command in (label, layers):
        for device, line in (
            ("cuda:99", "cuda:99"),
            ("gpu", "gpu"),
            ("cpu,", "empty name"),
            ("cpu,cuda", "mixes cpu and cuda"),
        ):
            code, _, error = run(capsys, *command, "--device", device)
            assert code == 2
            assert line in error
    assert given == []
    assert run(capsys, *label, "--device", "cpu,cpu")[0] == 0
    assert given == ["cpu"]


@pytest.mark.slow
def test_a_captioner_on_the_command_line(folder, bundle, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("CSP_TRUST_PYTHON", "1")
    fingerprint = toys.ColourEncoder().fingerprint
    small_captioner(tmp_path / "c", encoder_fingerprint=fingerprint)
    small_captioner(tmp_path / "stranger", encoder_fingerprint="f" * 64)
    copy = tmp_path / "copy.csp"
    shutil.copytree(bundle, copy)
    for wrong, sentence in [("stranger", "was made for the encoder"), ("none", "no captioner")]:
        code, _, line = run(capsys, "label", copy, "--captioner", tmp_path / wrong)
        assert code == 2
        assert sentence in line
    code, _, _ = run(capsys, "label", copy, "--captioner", tmp_path / "c")
    assert code == 0
    built = tmp_path / "built.csp"
    code, _, _ = run(capsys, *build_arguments(folder, out=built, captioner=tmp_path / "c"))
    assert code == 0
    assert toys.content(copy) == toys.content(built)
    code, _, _ = run(capsys, "label", copy, "--set", "n_partners=2")
    assert code == 0
    assert Bundle.open(copy).stage("contrast:small/first@mean").params["n_partners"] == 2
    assert Bundle.open(copy).candidates("small", "first@mean") is not None
    shutil.rmtree(tmp_path / "c")
    before = toys.content(copy)
    code, _, line = run(capsys, "label", copy, "--set", "n_partners=1")
    assert code == 2
    assert "There is no captioner" in line
    assert toys.content(copy) == before
    code, _, _ = run(capsys, "label", copy, "--gamma", "0.5")
    assert code == 0


def test_export_and_import(bundle, tmp_path, capsys):
    out_path = tmp_path / "labels.csv"
    code, _, _ = run(capsys, "export", bundle, out_path, "--method", "csp")
    assert code == 0
    table = pd.read_csv(out_path)
    assert list(table.columns[:4]) == ["layer", "unit", "description", "score"]
    assert set(table["layer"]) == {"first"}
    copy = tmp_path / "copy.csp"
    shutil.copytree(bundle, copy)
    code, _, _ = run(capsys, "import", out_path, copy, "--name", "theirs")
    assert code == 0
    assert "imported-theirs" in Bundle.open(copy).methods("small", "first@mean")


def test_doctor(capsys):
    code, out, _ = run(
        capsys, "doctor", "--encoder", "python:tests.worlds.toys:ColourEncoder", "--json"
    )
    report = json.loads(out)
    assert code == 0
    assert report["packages"]["torch"]
    assert "python:tests.worlds.toys:ColourEncoder" in report["encoders"]
    assert {"general", "dermoscopy", "textures", "colours"} <= set(report["vocabularies"])


@pytest.mark.slow
def test_sae_latents_are_neurons(folder, tmp_path, capsys):
    torch.manual_seed(0)
    weights = tmp_path / "topk.safetensors"
    save_file(
        {"W_enc": torch.randn(8, 20), "b_enc": torch.zeros(20), "b_dec": torch.zeros(8)}, weights
    )
    out = tmp_path / "sae.csp"
    code, _, error = run(capsys, *build_arguments(folder, sae=f"first={weights}", out=out))
    assert code == 0, error
    layers = Bundle.open(out).layers("small")
    assert any(layer.startswith("first+topk@") for layer in layers)
    latent = next(layer for layer in layers if "+" in layer)
    assert Bundle.open(out).n_units("small", latent) == 20
    assert np.asarray(Bundle.open(out).activations("small", latent)).min() >= 0


# ---------------------------------------------------------------- what cannot be


def assert_one_sentence(code: int, line: str, *parts: str) -> None:
    assert code == 2, line
    assert line.startswith("csp: ")
    assert "Traceback" not in line
    assert len(line) < 500
    for part in parts:
        assert part in line, line


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"images": "nowhere"}, ["nowhere"]),
        ({"layer": "frist"}, ["frist", "first"]),
        ({"layer": "first@sideways"}, ["sideways", "mean"]),
        ({"exemplars": 500}, ["28", "500"]),
        ({"vocabulary": "nonsense"}, ["nonsense", "general"]),
        ({"set": "gama=1"}, ["gama", "gamma"]),
        ({"set": "gamma"}, ["="]),
        ({"set": "gamma=7"}, ["gamma", "7"]),
        ({"set": "threshold=median"}, ["median", "mean"]),
        ({"preset": "fast"}, ["fast", "default", "paper"]),
        ({"on_unreadable": "cry"}, ["cry", "skip"]),
        ({"model": "resnet50"}, ["resnet50", "torchvision/"]),
        ({"model": "torchvision/resnet5000"}, ["resnet5000"]),
        ({"model": "python:tests.worlds.toys:nothing"}, ["nothing"]),
        ({"preprocessing": None}, ["preprocessing"]),
        ({"encoder": "clip"}, ["clip", "open_clip/"]),
        ({"encoder": "open_clip/nowhere/at/all"}, ["nowhere"]),
        ({"pooling": "cls"}, ["cls", "mean"]),
        ({"class_names": "absent.txt"}, ["absent.txt"]),
    ],
)
def test_bad_builds(folder, tmp_path, capsys, changes, parts):
    out = tmp_path / "bad.csp"
    code, _, line = run(capsys, *build_arguments(folder, **{"out": out, **changes}))
    assert_one_sentence(code, line, *parts)
    assert not (out / "manifest.json").exists()


@pytest.mark.parametrize("texts", ["", "one\n", "# only\n# comments\n"])
def test_vocabulary_too_small(folder, tmp_path, capsys, texts):
    (tmp_path / "words.txt").write_text(texts)
    code, _, line = run(
        capsys,
        *build_arguments(folder, vocabulary=tmp_path / "words.txt", out=tmp_path / "bad.csp"),
    )
    assert_one_sentence(code, line, "words", "at least two")


def test_folder_without_images(folder, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("no images here")
    code, _, line = run(
        capsys, *build_arguments(folder, images=tmp_path / "empty", out=tmp_path / "bad.csp")
    )
    assert_one_sentence(code, line, "empty")


def test_no_readable_image(folder, tmp_path, capsys):
    (tmp_path / "broken").mkdir()
    for i in range(8):
        (tmp_path / "broken" / f"{i}.jpg").write_bytes(b"\xff\xd8 broken")
    code, _, line = run(
        capsys, *build_arguments(folder, images=tmp_path / "broken", out=tmp_path / "bad.csp")
    )
    assert_one_sentence(code, line, "None of the 8 images")


def test_weights_that_do_not_fit(folder, tmp_path, capsys):
    save_file({"conv1.weight": torch.zeros(4, 3, 3, 3)}, tmp_path / "other.safetensors")
    code, _, line = run(
        capsys,
        *build_arguments(
            folder,
            model="torchvision/squeezenet1_1",
            weights=tmp_path / "other.safetensors",
            out=tmp_path / "bad.csp",
        ),
    )
    assert_one_sentence(code, line, "other.safetensors")


def test_encoder_that_would_be_downloaded(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    encoder = "open_clip/ViT-B-32/laion2b_s34b_b79k"
    code, _, line = run(capsys, *build_arguments(folder, encoder=encoder, out=tmp_path / "bad.csp"))
    assert_one_sentence(code, line, "ViT-B-32")


def test_output_that_is_something_else(folder, tmp_path, capsys):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("precious")
    code, _, line = run(capsys, *build_arguments(folder, out=tmp_path / "thesis"))
    assert_one_sentence(code, line, "thesis", "not a bundle")
    assert (tmp_path / "thesis" / "chapter.tex").read_text() == "precious"


@pytest.mark.slow
def test_a_server_proposes_labels_and_its_absence_is_one_sentence(
    bundle, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("CSP_ANSWERS", str(tmp_path / "answers"))
    monkeypatch.setenv("CSP_TRUST_PYTHON", "1")
    copy = shutil.copytree(bundle, tmp_path / "a.csp")
    with loopback(colours) as running:
        spec = running.spec("timeout=60,price_in=5,concurrency=2")
        code, _, line = run(capsys, "label", copy, "--captioner", running.spec("speed=9"))
        assert code == 2
        assert "'speed', which openai/ does not know" in line
        code, out, _ = run(capsys, "label", copy, "--captioner", spec)
        assert code == 0
        assert "small/first@mean, candidates: 5 answers are the same" in out
        assert "800 tokens asked and 56 answered, for 0.004 in all." in out
        n = len(running.asked)
        code, out, _ = run(capsys, "label", copy, "--captioner", spec, "--json")
        assert (code, len(running.asked)) == (0, n)
        assert "800 tokens asked" in json.loads(out)["notices"][-1]
        running.reply = lambda _: Reply(status=401)
        wanted = ("--set", "n_candidates=2")
        code, _, line = run(capsys, "label", copy, "--captioner", spec, *wanted)
        assert code == 2
        assert "answers 401 to no key" in line
        assert "CSP_CAPTIONER_KEY" in line
        code, _, line = run(capsys, "label", copy, *wanted)
        assert code == 2
        assert "name it with --captioner" in line
        running.reply = colours
        code, _, _ = run(capsys, "label", copy, "--captioner", spec, *wanted)
        assert code == 0
    assert "noisy pixels" in set(Bundle.open(copy).labels()["text"])


@pytest.mark.parametrize("command", ["info", "verify", "search", "label", "export", "serve"])
@pytest.mark.parametrize("damage", ["missing", "cut", "newer"])
def test_bad_bundles(bundle, tmp_path, capsys, command, damage):
    copy = tmp_path / "copy.csp"
    if damage != "missing":
        copy.mkdir()
        text = (bundle / "manifest.json").read_text()
        if damage == "cut":
            text = text[: len(text) // 2]
        else:
            text = json.dumps({**json.loads(text), "schema": 2})
        (copy / "manifest.json").write_text(text)
    extra = {
        "search": ["red"],
        "export": [tmp_path / "x.csv"],
        "label": ["--gamma", "0.5"],
    }.get(command, [])
    code, _, line = run(capsys, command, copy, *extra)
    assert_one_sentence(code, line, "copy")
    assert not (tmp_path / "x.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "params"),
    [
        (["red"], {"q": "red"}),
        (["red", "blue"], {"q": "red, blue"}),
        (["red, blue"], {"q": "red, blue"}),
        ([" red ", "--not", "blue, grey"], {"q": "red", "not": "blue, grey"}),
        (["red", "--not", ", ;"], {"q": "red", "not": ", ;"}),
        (["red", "--model", "small"], {"q": "red", "model": "small"}),
        (["red", "--not", "blue"], {"q": "red", "not": "blue"}),
        (["red", "--layer", "first@mean"], {"q": "red", "layer": "first@mean"}),
        (["an unheard-of red thing"], {"q": "an unheard-of red thing"}),
        (["gren"], {"q": "gren"}),
        (["red;blue,, green "], {"q": "red;blue,, green "}),
        (["red, blue", "--not", "grey;dark"], {"q": "red, blue", "not": "grey;dark"}),
        (["green", "--method", "semanticlens"], {"q": "green", "method": "semanticlens"}),
        (["--like", "small/first@mean/2"], {"like": "small/first@mean/2"}),
        (["--image", "images/red/0000.png"], {"image": "red/0000.png"}),
    ],
    ids=str,
)
def test_search_answers_as_the_page_does(bundle, folder, capsys, monkeypatch, arguments, params):
    """In the same order, with the same standings, judgement and suggestions."""
    monkeypatch.setenv("CSP_TRUST_PYTHON", "1")
    monkeypatch.chdir(folder)
    code, out, error = run(capsys, "search", bundle, *arguments, "-n", "20", "--json")
    assert code == 0, error
    said = json.loads(out)
    opened, memo = Bundle.open(bundle), Memo()
    if "image" in params:
        files = opened.images()["file"].tolist()
        at = next(at for at, file in enumerate(files) if file.endswith(params["image"]))
        params = {"image": str(at)}
    view = read_view(params, "small", opened)
    encoder = toys.ColourEncoder()

    def encode(bundle, texts):
        return [query_vector(bundle, text, encoder) for text in texts]

    query = query_of(opened, memo, view, encode)
    rows = searched(opened, memo, view, query)
    shown = ordered(rows, view, Narrowing()).iloc[:20]
    assert [each["neuron"] for each in said["found"]] == neuron_ids(shown)
    scores = [each["score"] for each in said["found"]]
    np.testing.assert_allclose(scores, shown["match"], atol=6e-5)
    chance = judged(opened, memo, query, view.method, rows)
    words = str(judgement(query, view.method, chance))
    if view.image is not None:
        words = words.replace(query.title, "the image images/red/0000.png")
    assert said["judgement"]["words"] == words
    assert said["judgement"]["standing"] == (chance.best if chance else None)
    standings = chance.standing if chance else {}
    expected = [standings.get(at) for at in shown.index]
    assert [each["standing"] for each in said["found"]] == expected
    if chance and chance.best != "clear":
        assert said["did_you_mean"] == spelt_like(opened, texts_of(opened, view.q))
    code, out, _ = run(capsys, "search", bundle, *arguments, "-n", "20")
    assert said["judgement"]["words"] in " ".join(out.split())
    lines = out.splitlines()[-len(shown) :]
    printed = [line.split()[0].replace("-", "−") for line in lines]
    assert printed == [numbers.score(value) for value in shown["match"]]  # rounded once


@pytest.mark.slow
def test_search_that_cannot_be(bundle, capsys):
    for arguments, part in (
        ([], "one of the four"),
        ([""], "The query is empty"),
        ([" , "], "The query is empty"),
        (["red", "--model", "large"], "--model can be small"),
        (["red", "--like", "small/first@mean/1"], "one of the four"),
        (["--like", "small/first@mean/99"], "99"),
        (["--like", "nonsense"], "nonsense"),
        (["--image", "absent.png"], "absent.png"),
        (["red", "--method", "magic"], "--method can be csp_plus, csp, semanticlens"),
        (["red", "--layer", "third@mean"], "third@mean"),
    ):
        code, _, line = run(capsys, "search", bundle, *arguments)
        assert_one_sentence(code, line, part)


def test_wrong_encoder_is_refused(bundle, capsys, monkeypatch):
    class Other(toys.ColourEncoder):
        def __init__(self) -> None:
            super().__init__()
            self.fingerprint = "e" * 64

    monkeypatch.setattr(toys, "ColourEncoder", Other)
    monkeypatch.setenv("CSP_TRUST_PYTHON", "1")
    code, _, line = run(capsys, "search", bundle, "something unheard of")
    assert_one_sentence(code, line, "fingerprint")


@pytest.mark.slow
def test_stored_vectors_as_encoder(folder, tmp_path, capsys):
    encoder = toys.ColourEncoder()
    stored = tmp_path / "vectors"
    stored.mkdir()
    from PIL import Image

    files = sorted(p.relative_to(folder / "images") for p in (folder / "images").rglob("*.png"))
    pixels = [encoder.preprocess(Image.open(folder / "images" / f).convert("RGB")) for f in files]
    np.save(stored / "image_vectors.npy", encoder.embed_images(np.stack(pixels)))
    np.save(stored / "text_vectors.npy", encoder.embed_texts(toys.WORDS))
    (stored / "image_names.txt").write_text("\n".join(map(str, files)))
    (stored / "text_names.txt").write_text("\n".join(toys.WORDS))
    out = tmp_path / "stored.csp"
    code, _, line = run(capsys, *build_arguments(folder, encoder=f"precomputed/{stored}", out=out))
    assert code == 0, line
    code, found, _ = run(capsys, "search", out, "red", "--json")
    assert code == 0
    assert len(json.loads(found)["found"]) == 8
    code, _, line = run(capsys, "search", out, "crimson", "--json")
    assert_one_sentence(code, line, "crimson")

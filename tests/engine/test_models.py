"""Target models: every kind of spec, real weights, and weights that do not fit."""

from __future__ import annotations

import json
import shutil
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from csp_engine.errors import InputError, MissingModelError
from csp_engine.networks.models import (
    load_model,
    read_class_names,
    state_sha256,
    target_model,
)

RECIPE = {"resize": [8, 8], "crop": None, "interpolation": "bilinear", "mean": 0.5, "std": 0.5}


def tiny(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5))


@pytest.fixture(scope="session")
def squeezenet_file(tmp_path_factory):
    from torchvision.models import squeezenet1_1

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "squeezenet.safetensors"
    save_file(squeezenet1_1(num_classes=5).state_dict(), path)
    return path


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Write ``factories.py`` into the working directory and import it afresh."""

    def write(body: str) -> None:
        sys.modules.pop("factories", None)
        shutil.rmtree(tmp_path / "__pycache__", ignore_errors=True)
        (tmp_path / "factories.py").write_text("import torch\nfrom torch import nn\n" + body)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    monkeypatch.delitem(sys.modules, "factories", raising=False)
    yield write
    sys.modules.pop("factories", None)


# --- local checkpoints ------------------------------------------------------------------------


def test_local_torchvision_checkpoint_gets_v1_preprocessing(squeezenet_file):
    model = load_model("torchvision/squeezenet1_1", weights=squeezenet_file, n_classes=5)
    assert model.name == "squeezenet1_1"
    assert model.preprocessing["resize"] == 256
    assert model.preprocessing["crop"] == [224, 224]
    assert model.input_shape == (3, 224, 224)
    assert model.class_names is None
    assert not model.network.training
    assert not any(p.requires_grad for p in model.network.parameters())
    stored = load_file(squeezenet_file)
    for name, tensor in model.network.state_dict().items():
        torch.testing.assert_close(tensor, stored[name])


@pytest.mark.parametrize("form", ["plain", "state_dict", "model", "module", "compiled", "half"])
def test_forms_of_a_pytorch_checkpoint_load_alike(squeezenet_file, tmp_path, form):
    tensors = load_file(squeezenet_file)
    content = {
        "plain": tensors,
        "state_dict": {"state_dict": tensors, "epoch": 3, "best_prec1": 0.5},
        "model": {"model": {f"module.{k}": v for k, v in tensors.items()}},
        "module": {f"module.{k}": v for k, v in tensors.items()},
        "compiled": {f"module._orig_mod.{k}": v for k, v in tensors.items()},
        "half": {k: v.half() for k, v in tensors.items()},
    }[form]
    path = tmp_path / "w.pth"
    torch.save(content, path)
    model = load_model("torchvision/squeezenet1_1", weights=path, n_classes=5)
    weight = model.network.state_dict()["features.0.weight"]
    assert weight.dtype == torch.float32
    torch.testing.assert_close(weight, tensors["features.0.weight"], atol=1e-3, rtol=1e-2)


def test_local_timm_checkpoint_with_timms_preprocessing(tmp_path):
    import timm

    torch.manual_seed(0)
    network = timm.create_model("test_vit", num_classes=3)
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    model = load_model("timm/test_vit", weights=tmp_path / "w.safetensors", n_classes=3)
    assert model.input_shape == network.pretrained_cfg["input_size"]
    assert (model.n_prefix_tokens, model.has_class_token) == (1, True)
    x = torch.rand(2, *model.input_shape)
    with torch.inference_mode():
        torch.testing.assert_close(model.network(x), network.eval()(x))


def test_weights_of_another_class_count_are_read_without_being_told(squeezenet_file):
    model = load_model("torchvision/squeezenet1_1", weights=squeezenet_file)
    assert model.network.classifier[1].weight.shape == (5, 512, 1, 1)
    assert model.class_names is None
    told = load_model("torchvision/squeezenet1_1", weights=squeezenet_file, n_classes=5)
    assert model.fingerprint == told.fingerprint


def test_weights_of_another_class_count_than_asked_for_say_how_to_load_them(squeezenet_file):
    with pytest.raises(
        InputError,
        match=r"2 of another shape \(classifier.1.weight is 5x512x1x1 "
        r"instead of 7x512x1x1.*n_classes=5",
    ):
        load_model("torchvision/squeezenet1_1", weights=squeezenet_file, n_classes=7)


def test_weights_of_another_network_name_the_first_keys(squeezenet_file):
    with pytest.raises(InputError) as caught:
        load_model("torchvision/resnet18", weights=squeezenet_file)
    text = str(caught.value)
    assert "102 missing (conv1.weight, bn1.weight, bn1.bias, …)" in text
    assert "52 unexpected (classifier.1.bias" in text
    assert "architecture" in text
    assert "\n" not in text


def test_a_checkpoint_lacking_one_key_is_refused(squeezenet_file, tmp_path):
    tensors = load_file(squeezenet_file)
    del tensors["features.0.bias"]
    save_file(tensors, tmp_path / "w.safetensors")
    with pytest.raises(InputError, match=r"1 missing \(features.0.bias\)"):
        load_model("torchvision/squeezenet1_1", weights=tmp_path / "w.safetensors", n_classes=5)


def test_damaged_pickled_or_wrong_files_are_refused(squeezenet_file, tmp_path):
    def load(path):
        return load_model("torchvision/squeezenet1_1", weights=path, n_classes=5)

    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(squeezenet_file.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"cut\.safetensors cannot be read"):
        load(cut)
    torch.save(tiny(), tmp_path / "whole.pt")
    with pytest.raises(InputError, match="pickled Python objects"):
        load(tmp_path / "whole.pt")
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(InputError, match=r"text\.pt cannot be read"):
        load(tmp_path / "text.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(InputError, match="holds a list"):
        load(tmp_path / "list.pt")
    torch.save({"epoch": 1}, tmp_path / "empty.pt")
    with pytest.raises(InputError, match="no tensors"):
        load(tmp_path / "empty.pt")
    with pytest.raises(InputError, match="does not exist"):
        load(tmp_path / "nowhere.pt")
    (tmp_path / "w.h5").write_bytes(b"x")
    with pytest.raises(InputError, match=r"w.h5 is not a weights file"):
        load(tmp_path / "w.h5")


# --- specs that name nothing ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("resnet50", "torchvision/NAME"),
        ("torchvision/", "torchvision/NAME"),
        ("torchvision/resnet5O", "no model 'resnet5O'.*resnet50"),
        ("torchvision/resnet18:V9", "no weights 'V9'; it has IMAGENET1K_V1"),
        ("timm/resnett18", "no model 'resnett18'.*resnet18"),
        ("timm/resnet18.zz", "no weights 'zz'; it has .*a1_in1k"),
        ("transformers/./nowhere", "folder ./nowhere does not exist"),
        ("python:factories", "write python:package.module:factory"),
        ("python:no_such_module_x:f", "no_such_module_x cannot be imported"),
        ("python:json:lods", "json has no 'lods'.*loads"),
    ],
)
def test_a_spec_that_names_nothing_says_what_exists(spec, words):
    with pytest.raises(InputError, match=words):
        load_model(spec)


def test_bad_options():
    with pytest.raises(InputError, match="not a model name"):
        load_model("torchvision/resnet18", name="a b")
    with pytest.raises(InputError, match="device 'gpu'"):
        load_model("torchvision/resnet18", device="gpu")
    with pytest.raises(InputError, match="needs a weights file"):
        load_model("torchvision/resnet18", n_classes=3)


# --- downloads --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spec",
    ["torchvision/resnet18", "timm/test_vit", "hf-hub:timm/test_vit.r160_in1k", "transformers/a/b"],
)
def test_offline_weights_are_missing_in_one_sentence(spec, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    began = time.monotonic()
    with pytest.raises(MissingModelError, match="not on this machine") as caught:
        load_model(spec)
    assert "\n" not in str(caught.value)
    assert time.monotonic() - began < 10


def test_a_failed_download_is_one_sentence(monkeypatch, tmp_path):
    from torchvision.models import ResNet18_Weights

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    # A port nobody listens on: the connection is refused at once, wherever the test runs.
    nowhere = "http://127.0.0.1:9/w.pth"
    monkeypatch.setattr(ResNet18_Weights.IMAGENET1K_V1.value, "url", nowhere)
    with pytest.raises(MissingModelError, match=r"download failed.*local file"):
        load_model("torchvision/resnet18:IMAGENET1K_V1")


# --- python factories -------------------------------------------------------------------------

BODY = """
class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3)
        self.fc = nn.Linear(4, 5)
    def forward(self, x):
        return self.fc(self.conv(x).mean((2, 3)))
RECIPE = dict(resize=[8, 8], crop=None, interpolation="bilinear", mean=0.5, std=0.5)
def bare(): return Tiny()
def pair(): return Tiny(), RECIPE
def whole():
    from csp_engine.networks.models import target_model
    return target_model(Tiny(), RECIPE, name="mine", class_names=list("abcde"), n_prefix_tokens=2)
def broken(): raise ValueError("no disk")
def quits(): raise SystemExit(3)
def number(): return 7
value = 7
"""


def test_a_factory_may_return_module_pair_or_target_model(package):
    package(BODY)
    pair = load_model("python:factories:pair")
    bare = load_model("python:factories:bare", preprocessing=RECIPE, name="bare")
    whole = load_model("python:factories:whole")
    assert (pair.name, bare.name, whole.name) == ("pair", "bare", "mine")
    assert pair.fingerprint == bare.fingerprint == whole.fingerprint
    assert whole.class_names == tuple("abcde")
    assert whole.n_prefix_tokens == 2
    assert pair.input_shape == (3, 8, 8)


def test_a_factory_without_preprocessing_is_refused_not_guessed(package):
    package(BODY)
    with pytest.raises(InputError, match=r"python:factories:bare returns no preprocessing.*lacks"):
        load_model("python:factories:bare")
    with pytest.raises(InputError, match="returns no preprocessing"):
        load_model("python:factories:bare", preprocessing={"mean": 0})


def test_a_factory_that_fails_is_one_sentence(package):
    package(BODY)
    with pytest.raises(InputError, match=r"broken failed \(ValueError: no disk\)"):
        load_model("python:factories:broken")
    with pytest.raises(InputError, match=r"quits failed \(SystemExit: 3\)"):
        load_model("python:factories:quits")
    with pytest.raises(InputError, match="returned int"):
        load_model("python:factories:number")
    with pytest.raises(InputError, match="not a function"):
        load_model("python:factories:value")
    package("import nothing_of_this_name\n")
    with pytest.raises(InputError, match="nothing_of_this_name"):
        load_model("python:factories:pair")


def _lazy() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(5))


def _on_meta() -> nn.Module:
    with torch.device("meta"):
        return tiny()


def _buffer_on_meta() -> nn.Module:
    network = tiny()
    network.register_buffer("mean", torch.zeros(3, device="meta"))
    return network


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_lazy, r"lazy layers without weights \(first: 1\.weight\); run it once"),
        (_on_meta, r"on the meta device, which holds no numbers \(first: 0\.weight\)"),
        (_buffer_on_meta, r"on the meta device, which holds no numbers \(first: mean\)"),
    ],
)
def test_networks_without_weights_are_refused_by_the_first_that_is_missing(make, words):
    with pytest.raises(InputError, match=words):
        target_model(make(), RECIPE, name="net")


def test_a_lazy_network_that_ran_once_is_one_like_others():
    network = _lazy().eval()
    network(torch.zeros(1, 3, 8, 8))
    assert target_model(network, RECIPE, name="net").fingerprint


def test_a_factory_takes_weights_from_a_file(package, tmp_path):
    package(BODY)
    first = load_model("python:factories:pair")
    state = {k: v + 1 for k, v in first.network.state_dict().items()}
    save_file(state, tmp_path / "w.safetensors")
    second = load_model("python:factories:pair", weights=tmp_path / "w.safetensors")
    assert second.fingerprint != first.fingerprint
    torch.testing.assert_close(second.network.state_dict()["conv.bias"], state["conv.bias"])


# --- overriding -------------------------------------------------------------------------------


def test_preprocessing_can_be_overridden_by_mapping_or_file(squeezenet_file, tmp_path):
    options = {"weights": squeezenet_file, "n_classes": 5}
    plain = load_model("torchvision/squeezenet1_1", **options)
    path = tmp_path / "p.json"
    path.write_text(json.dumps({"resize": 64, "crop": 48}))
    changed = load_model("torchvision/squeezenet1_1", preprocessing=path, **options)
    assert changed.input_shape == (3, 48, 48)
    assert changed.preprocessing["mean"] == plain.preprocessing["mean"]
    assert changed.fingerprint != plain.fingerprint
    path.write_text("[1]")
    with pytest.raises(InputError, match="not a JSON object"):
        load_model("torchvision/squeezenet1_1", preprocessing=path, **options)
    path.write_text("{")
    with pytest.raises(InputError, match="cannot be read as JSON"):
        load_model("torchvision/squeezenet1_1", preprocessing=path, **options)


def test_class_names_from_file_drop_a_background_line(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("background\ncat\ndog \n\n")
    assert read_class_names(path, 2) == ("cat", "dog")
    assert read_class_names(path, 3) == ("background", "cat", "dog")
    assert read_class_names(["a"], 1) == ("a",)
    with pytest.raises(InputError, match="3 class names for 7 outputs"):
        read_class_names(path, 7)
    path.write_text("first\ncat\ndog\n")
    with pytest.raises(InputError, match="3 class names for 2 outputs"):
        read_class_names(path, 2)
    with pytest.raises(InputError, match="cannot be read"):
        read_class_names(tmp_path / "none.txt", 2)


def test_class_names_are_checked_against_the_outputs(squeezenet_file):
    options = {"weights": squeezenet_file, "n_classes": 5}
    model = load_model("torchvision/squeezenet1_1", class_names=list("abcde"), **options)
    assert model.class_names == tuple("abcde")
    with pytest.raises(InputError, match="2 class names for 5"):
        load_model("torchvision/squeezenet1_1", class_names=["a", "b"], **options)


# --- identity ---------------------------------------------------------------------------------


def test_fingerprint_follows_weights_architecture_and_preprocessing_only():
    def mark(network, recipe=RECIPE, name="a"):
        return target_model(network, recipe, name=name).fingerprint

    base = mark(tiny())
    assert mark(tiny(), name="b") == base
    assert mark(tiny(1)) != base
    assert mark(tiny(), RECIPE | {"std": 0.25}) != base
    other = tiny()
    other[1] = nn.GELU()
    assert mark(other) != base


def test_state_hash_sees_one_bit_a_buffer_a_name_and_a_type():
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    base = state_sha256(network)
    assert state_sha256(network) == base
    network[1].running_mean[0] += 1e-7
    changed = state_sha256(network)
    assert changed != base
    assert state_sha256(network.double()) != changed
    assert state_sha256(nn.ModuleDict({"x": network})) != state_sha256(network)


def test_weights_that_are_no_parameters_are_of_the_fingerprint():
    """Those of quantised layers, what modules save beside tensors, and tensors they just keep."""

    class Kept(nn.Module):
        def __init__(self, value=1.0, extra=0):
            super().__init__()
            self.linear, self.scale, self.extra = nn.Linear(1, 1), torch.tensor([value]), extra

        def get_extra_state(self):
            return {"of": [self.extra]}

    def mark(network):
        return target_model(network, RECIPE, name="a").fingerprint

    def quantised(factor):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(3, 4))
        with torch.no_grad():
            net[0].weight.mul_(factor)
        return torch.ao.quantization.quantize_dynamic(net.eval(), {nn.Linear})

    def kept(**changes):
        torch.manual_seed(0)
        return Kept(**changes)

    for make in (kept, lambda **_: quantised(1.0)):
        assert mark(make()) == mark(make())
    marks = [
        mark(each)
        for each in (kept(), kept(value=2.0), kept(extra=1), quantised(1.0), quantised(1.1))
    ]
    assert len(set(marks)) == 5


# --- transformers -----------------------------------------------------------------------------


@pytest.fixture(scope="session")
def vit_folder(tmp_path_factory):
    import transformers

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("vit")
    config = transformers.ViTConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=32,
        patch_size=8,
        id2label={0: "cat", 1: "dog", 2: "owl"},
        label2id={"cat": 0, "dog": 1, "owl": 2},
    )
    transformers.ViTForImageClassification(config).save_pretrained(folder)
    transformers.ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def test_transformers_folder(vit_folder):
    model = load_model(f"transformers/{vit_folder}")
    assert model.class_names == ("cat", "dog", "owl")
    assert model.input_shape == (3, 32, 32)
    assert (model.n_prefix_tokens, model.has_class_token) == (1, True)
    assert model.preprocessing["resize"] == [32, 32]
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8))
    logits = model.logits(model.run(torch.from_numpy(model.preprocess(image))[None]))
    assert logits.shape == (1, 3)
    assert load_model(f"transformers/{vit_folder}").fingerprint == model.fingerprint


def copied(folder, target):
    target.mkdir()
    for file in folder.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    return target


def test_transformers_folder_that_lacks_something(vit_folder, tmp_path):
    no_pixels = copied(vit_folder, tmp_path / "a")
    (no_pixels / "preprocessor_config.json").unlink()
    with pytest.raises(InputError, match="no image processor"):
        load_model(f"transformers/{no_pixels}")
    assert load_model(f"transformers/{no_pixels}", preprocessing=RECIPE | {"resize": [32, 32]})

    headless = copied(vit_folder, tmp_path / "b")
    tensors = load_file(headless / "model.safetensors")
    tensors = {k: v for k, v in tensors.items() if not k.startswith("classifier")}
    save_file(tensors, headless / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"2 missing.*classifier.bias"):
        load_model(f"transformers/{headless}")

    weightless = copied(vit_folder, tmp_path / "c")
    (weightless / "model.safetensors").unlink()
    with pytest.raises(InputError, match="cannot be read"):
        load_model(f"transformers/{weightless}")
    (weightless / "config.json").unlink()
    with pytest.raises(InputError, match=r"no config\.json"):
        load_model(f"transformers/{weightless}")


def test_transformers_tower_of_an_image_text_model(tmp_path):
    import transformers

    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    shape |= {"intermediate_size": 32}
    config = transformers.CLIPConfig(
        text_config=shape | {"vocab_size": 50},
        vision_config=shape | {"image_size": 32, "patch_size": 8},
    )
    transformers.CLIPModel(config).save_pretrained(tmp_path)
    transformers.CLIPImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    ).save_pretrained(tmp_path)
    model = load_model(f"transformers/{tmp_path}")
    assert model.class_names is None
    assert (model.n_prefix_tokens, model.has_class_token) == (1, True)
    model.network(torch.zeros(1, *model.input_shape))
    with pytest.raises(InputError, match="not a classifier"):
        load_model(f"transformers/{tmp_path}", class_names=["a"])


# --- real weights -----------------------------------------------------------------------------

CIFAR = """
import torch.nn.functional as F
class Block(nn.Module):
    def __init__(self, i, o, s):
        super().__init__()
        self.conv1 = nn.Conv2d(i, o, 3, s, 1, bias=False); self.bn1 = nn.BatchNorm2d(o)
        self.conv2 = nn.Conv2d(o, o, 3, 1, 1, bias=False); self.bn2 = nn.BatchNorm2d(o)
        self.s, self.pad = s, (o - i) // 2
    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.s > 1:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.pad, self.pad))
        return F.relu(y + x)
class Net(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False); self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(*[Block(16, 16, 1) for _ in range(n)])
        self.layer2 = nn.Sequential(Block(16, 32, 2), *[Block(32, 32, 1) for _ in range(n - 1)])
        self.layer3 = nn.Sequential(Block(32, 64, 2), *[Block(64, 64, 1) for _ in range(n - 1)])
        self.linear = nn.Linear(64, 10)
    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x))))))
        return self.linear(x.mean((2, 3)))
def resnet20():
    return Net(3), dict(resize=None, crop=32, mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
def skin():
    import timm
    net = timm.create_model("mobilenetv2_035", pad_type="same", num_classes=9)
    net.classifier = nn.Sequential(nn.Linear(1280, 100), nn.ReLU(), nn.Linear(100, 9))
    return net, dict(resize=224, crop=224, interpolation="bilinear", mean=0.5, std=0.5)
"""


def accuracy(model, pairs) -> float:
    hits = 0
    for start in range(0, len(pairs), 25):
        part = pairs[start : start + 25]
        pixels = np.stack([model.preprocess(Image.open(f).convert("RGB")) for f, _ in part])
        with torch.inference_mode():
            logits = model.logits(model.run(torch.from_numpy(pixels)))
        assert logits is not None
        hits += int((logits.argmax(1).numpy() == np.array([c for _, c in part])).sum())
    return hits / len(pairs)


def by_folder(folder, names, n):
    return [
        (f, c) for c, name in enumerate(names) for f in sorted((folder / name).rglob("*.*"))[:n]
    ]


@pytest.mark.slow
def test_real_imagenet_networks_reach_their_accuracy(shared_data):
    labels = shared_data / "models/mobilenet_v2_imagenet/imagenet_labels.txt"
    files = sorted((shared_data / "images/imagenet_sample_1000").iterdir())
    pairs = [(f, c) for c, f in enumerate(files)][::10]
    mobile = load_model(
        "torchvision/mobilenet_v2",
        weights=next((shared_data / "models/mobilenet_v2_imagenet").glob("*.safetensors")),
        class_names=labels,
    )
    assert mobile.class_names is not None
    assert mobile.class_names[0].startswith("tench")
    squeeze = load_model(
        "torchvision/squeezenet1_1",
        weights=next((shared_data / "models/squeezenet1_1_imagenet").glob("*.safetensors")),
    )
    # 77.9 % and 61.4 % on all 1,000 images; a hundred leave about 4 points of standard error.
    assert 0.66 <= accuracy(mobile, pairs) <= 0.9
    assert 0.48 <= accuracy(squeeze, pairs) <= 0.75


@pytest.mark.slow
def test_real_cifar_and_skin_networks_reach_their_accuracy(shared_data, package):
    package(CIFAR)
    cifar = load_model(
        "python:factories:resnet20",
        weights=next((shared_data / "models/cifar10_resnet").glob("resnet20*.th")),
    )
    assert cifar.input_shape == (3, 32, 32)
    folder = shared_data / "images/cifar10"
    names = [
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    ]
    pairs = by_folder(folder, names, 12)
    assert len(pairs) == 120
    assert 0.7 <= accuracy(cifar, pairs) <= 0.93

    home = shared_data / "models/skin_isic9_teachable"
    skin = load_model(
        "python:factories:skin",
        weights=next(home.glob("*.safetensors")),
        class_names=home / "labels.txt",
    )
    assert skin.class_names is not None
    where = shared_data / "images/isic9/train"
    folders = sorted(f.name for f in where.iterdir() if f.is_dir())
    pairs = by_folder(where, folders, 12)
    assert len(folders) == 9
    assert 0.45 <= accuracy(skin, pairs) <= 0.85


def test_whole_is_a_word_for_no_crop(squeezenet_file):
    model = load_model(
        "torchvision/squeezenet1_1", weights=squeezenet_file, preprocessing="whole", name="whole"
    )
    assert (model.preprocessing["resize"], model.preprocessing["crop"]) == ([224, 224], None)
    assert model.input_shape == (3, 224, 224)

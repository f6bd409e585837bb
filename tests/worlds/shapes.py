"""A small world of drawn shapes in which the truth is known, with a network and an encoder for it.

Each image shows one shape in one colour and texture on one background; some carry a ruler along an
edge, and stars carry it far more often than the rest: a planted shortcut. ``make_world`` draws
them, trains a small classifier of shapes on other drawings from the same world, and trains a small
CLIP on captions from its grammar. Everything follows from the seed.
"""

from __future__ import annotations

import functools
import json
import math
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Int64, UInt8
from PIL import Image, ImageDraw
from safetensors.torch import load_file, save_file
from torch import nn

from csp_engine.encoders import load_encoder
from csp_engine.errors import InputError, MissingModelError
from csp_engine.files import write_whole
from csp_engine.networks.models import TargetModel
from csp_engine.networks.models import target_model as make_target_model
from csp_engine.types import Encoder, Progress, silent

SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
COLOURS = {
    "red": (214, 39, 40),
    "green": (44, 160, 44),
    "blue": (38, 84, 214),
    "yellow": (242, 206, 30),
    "purple": (140, 62, 180),
    "orange": (250, 130, 20),
    "white": (246, 246, 246),
    "black": (24, 24, 24),
}
TEXTURES = ("plain", "striped", "dotted", "checked")
BACKGROUNDS = {
    "grey": (150, 150, 150),
    "beige": (222, 200, 160),
    "pink": (246, 180, 200),
    "teal": (90, 190, 190),
}
ATTRIBUTES: tuple[tuple[str, ...], ...] = (
    SHAPES,
    tuple(COLOURS),
    TEXTURES,
    tuple(BACKGROUNDS),
    ("no ruler", "ruler"),
)
"""The five things that make a drawing, each with its values; a drawing is one number for each."""

SYNONYMS = {
    "circle": ("circle", "disc", "round shape"),
    "square": ("square", "box"),
    "triangle": ("triangle", "pyramid"),
    "star": ("star", "starburst"),
    "cross": ("cross", "plus sign"),
    "ring": ("ring", "hoop", "donut"),
    "red": ("red", "crimson"),
    "green": ("green", "emerald"),
    "blue": ("blue", "azure"),
    "yellow": ("yellow", "golden"),
    "purple": ("purple", "violet"),
    "orange": ("orange", "tangerine"),
    "white": ("white", "snowy"),
    "black": ("black", "dark"),
    "plain": ("plain", "solid", "smooth"),
    "striped": ("striped", "lined", "stripes"),
    "dotted": ("dotted", "spotted", "polka dot"),
    "checked": ("checked", "checkered", "chessboard"),
    "grey": ("grey", "gray"),
    "beige": ("beige", "sand"),
    "pink": ("pink", "rose"),
    "teal": ("teal", "turquoise"),
    "ruler": ("ruler", "measuring tape", "scale bar"),
}
DISTRACTORS = (
    "cat",
    "dog",
    "car",
    "tree",
    "house",
    "face",
    "water",
    "grass",
    "wood",
    "metal",
    "fabric",
    "letter",
    "map",
    "food",
    "flower",
    "bird",
)
PREFIXES = (
    "",
    "a ",
    "the ",
    "an image of a ",
    "a photo of a ",
    "a closeup of a ",
    "a drawing of a ",
)

Values = Sequence[int] | np.ndarray
"""What one drawing shows: five numbers, aligned with ``ATTRIBUTES``."""

SIDE = 128
NETWORK_SIDE = 64
RULER_SHARE = 0.06
STAR_RULER_SHARE = 0.7
WORLD_VERSION = 1
WORLD_VARIABLE = "CSP_SHAPES_WORLD"
DEFAULT_WORLD = Path("bundles/shapes-world")
MODEL_PIXELS = {
    "resize": [NETWORK_SIDE, NETWORK_SIDE],
    "interpolation": "bicubic",
    "crop": None,
    "mean": [0.5, 0.5, 0.5],
    "std": [0.25, 0.25, 0.25],
}
CONTEXT_LENGTH = 16
ENCODER_CONFIG: dict[str, Any] = {
    "model_cfg": {
        "embed_dim": 64,
        "vision_cfg": {
            "image_size": NETWORK_SIDE,
            "layers": [1, 1, 1, 1],
            "width": 8,
            "head_width": 32,
        },
        "text_cfg": {
            "context_length": CONTEXT_LENGTH,
            "vocab_size": 49408,
            "width": 32,
            "heads": 2,
            "layers": 1,
        },
    },
    "preprocess_cfg": {
        "size": [NETWORK_SIDE, NETWORK_SIDE],
        "mode": "RGB",
        "mean": [0.5, 0.5, 0.5],
        "std": [0.25, 0.25, 0.25],
        "interpolation": "bicubic",
        "resize_mode": "squash",
        "fill_color": 0,
    },
}


# --- drawing -----------------------------------------------------------------------------------


def draw_attributes(rng: np.random.Generator, n: int) -> Int64[np.ndarray, "n 5"]:
    """Draw what the images show: one value number per entry of ``ATTRIBUTES``."""
    value_n5 = np.stack([rng.integers(len(values), size=n) for values in ATTRIBUTES], axis=1)
    share_n = np.where(value_n5[:, 0] == SHAPES.index("star"), STAR_RULER_SHARE, RULER_SHARE)
    value_n5[:, 4] = rng.random(n) < share_n
    return value_n5.astype(np.int64)


def _polygon(shape: str, turn: float) -> list[tuple[float, float]]:
    """Corners on the unit circle's scale, the shape upright before ``turn`` (radians)."""
    if shape == "square":
        polar = [(1.0, math.pi / 4 + i * math.pi / 2) for i in range(4)]
    elif shape == "triangle":
        polar = [(1.0, -math.pi / 2 + i * math.tau / 3) for i in range(3)]
    elif shape == "star":
        polar = [(1.0 if i % 2 == 0 else 0.42, -math.pi / 2 + i * math.pi / 5) for i in range(10)]
    else:
        a, b = 0.95, 0.3
        corners = [(b, a), (b, b), (a, b), (a, -b), (b, -b), (b, -a)]
        corners += [(-x, -y) for x, y in corners]
        polar = [(math.hypot(x, y), math.atan2(y, x)) for x, y in corners]
    return [(r * math.cos(p + turn), r * math.sin(p + turn)) for r, p in polar]


def draw_image(values: Values, rng: np.random.Generator, side: int = SIDE) -> Image.Image:
    """Draw one image; place, size, turn, shade and noise come from ``rng``."""
    shape, colour, texture, background = (ATTRIBUTES[axis][int(values[axis])] for axis in range(4))
    radius = side * rng.uniform(0.24, 0.38)
    centre_x, centre_y = rng.uniform(radius * 1.05, side - radius * 1.05, size=2)
    turn = rng.uniform(-0.25, 0.25)
    mask = Image.new("L", (2 * side, 2 * side))
    pen = ImageDraw.Draw(mask)
    if shape in ("circle", "ring"):
        for r, fill in ((radius, 255), (radius * 0.55, 0))[: 2 if shape == "ring" else 1]:
            box = [2 * (centre_x - r), 2 * (centre_y - r), 2 * (centre_x + r), 2 * (centre_y + r)]
            pen.ellipse(box, fill=fill)
    else:
        corners = [
            (2 * (centre_x + radius * x), 2 * (centre_y + radius * y))
            for x, y in _polygon(shape, turn)
        ]
        pen.polygon(corners, fill=255)
    cover_hw1 = np.asarray(mask.reduce(2), np.float32)[:, :, None] / 255

    y_hw, x_hw = np.mgrid[0:side, 0:side].astype(np.float32)
    period = side * rng.uniform(0.09, 0.13)
    angle = rng.uniform(0, math.pi) if texture == "striped" else rng.uniform(-0.3, 0.3)
    along = (x_hw * math.cos(angle) + y_hw * math.sin(angle)) / period
    across = (y_hw * math.cos(angle) - x_hw * math.sin(angle)) / period
    if texture == "striped":
        second_hw = np.floor(along * 1.2) % 2
    elif texture == "checked":
        second_hw = (np.floor(along) + np.floor(across)) % 2
    elif texture == "dotted":
        second_hw = ((along % 1 - 0.5) ** 2 + (across % 1 - 0.5) ** 2 < 0.09).astype(np.float32)
    else:
        second_hw = np.zeros((side, side), np.float32)
    first = np.array(COLOURS[colour], np.float32) * rng.uniform(0.9, 1.0)
    second = first * 0.45 if first.mean() > 90 else first + 95
    paint_hwc = first + second_hw[:, :, None] * (second - first)
    ground = np.array(BACKGROUNDS[background], np.float32) * rng.uniform(0.88, 1.04)
    image_hwc = ground + cover_hw1 * (paint_hwc - ground)
    if values[4]:
        width, step = int(side * 0.1), max(4, int(side * 0.055))
        strip = np.full((width, side, 3), 236, np.float32)
        for i, x in enumerate(range(int(rng.integers(step)), side, step)):
            strip[: width if i % 5 == 0 else width // 2, x : x + max(1, side // 64)] = 20
        turned = strip if rng.random() < 0.5 else strip.transpose(1, 0, 2)
        flipped = rng.random() < 0.5
        rows = slice(side - turned.shape[0], side) if flipped else slice(0, turned.shape[0])
        columns = slice(side - turned.shape[1], side) if flipped else slice(0, turned.shape[1])
        image_hwc[rows, columns] = turned[::-1, ::-1] if flipped else turned
    image_hwc += rng.integers(-7, 8, size=image_hwc.shape, dtype=np.int8)
    return Image.fromarray(image_hwc.clip(0, 255).astype(np.uint8))


def concept_names() -> tuple[str, ...]:
    """The 0/1 columns of ``labels.csv``: every value that can be seen in an image."""
    return (*SHAPES, *COLOURS, *TEXTURES, *(f"{b} background" for b in BACKGROUNDS), "ruler")


def concepts(value_n5: Int64[np.ndarray, "n 5"]) -> Bool[np.ndarray, "n concept"]:
    """Which concept holds for which image, columns as ``concept_names``."""
    columns = [value_n5[:, axis, None] == np.arange(len(ATTRIBUTES[axis])) for axis in range(4)]
    return np.concatenate([*columns, value_n5[:, 4:] == 1], axis=1)


def vocabulary() -> list[str]:
    """Words and phrases of this world, synonyms, and words that fit nothing in it."""
    words = [w for name in SYNONYMS for w in SYNONYMS[name]]
    return [*words, *(f"{b} background" for b in BACKGROUNDS), *DISTRACTORS]


def caption(values: Values, rng: np.random.Generator) -> tuple[str, Bool[np.ndarray, " attribute"]]:
    """Say some of what an image shows, in one of many wordings.

    Returns:
        the caption, and which of the five attributes it mentions.
    """
    n_said = int(rng.choice([1, 2, 3, 4], p=[0.6, 0.2, 0.1, 0.1]))
    said = np.zeros(5, bool)
    # Shapes and textures are harder to tell than colours, so they are mentioned more often.
    said[rng.choice(5, n_said, replace=False, p=[0.34, 0.16, 0.3, 0.1, 0.1])] = True
    said[4] &= values[4] == 1
    if not said.any():
        said[rng.integers(4)] = True

    def word(axis: int) -> str:
        words = SYNONYMS[ATTRIBUTES[axis][int(values[axis])]]
        return words[rng.integers(len(words))]

    body = " ".join(word(axis) for axis in (2, 1, 0) if said[axis])
    if body and not said[0] and rng.random() < 0.3:
        body += " " + ("shape", "object", "thing")[rng.integers(3)]
    if said[3]:
        body = f"{body} on a {word(3)} background" if body else f"{word(3)} background"
    if said[4]:
        body = f"{body} with a {word(4)}" if body else word(4)
    if rng.random() < 0.15:
        return f"{body}-like", said
    end = "." if rng.random() < 0.3 else ""
    return PREFIXES[rng.integers(len(PREFIXES))] + body + end, said


# --- training ----------------------------------------------------------------------------------


def shape_network() -> nn.Module:
    """A classifier of shapes: three convolutions with 24, 48 and 64 channels, mean, linear head."""

    def block(n_in: int, n_out: int, kernel: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(n_in, n_out, kernel, stride=2, padding=kernel // 2, bias=False),
            nn.BatchNorm2d(n_out),
            nn.ReLU(),
        )

    network = nn.Sequential()
    for name, part in {
        "layer1": block(3, 24, 5),
        "layer2": block(24, 48, 3),
        "layer3": block(48, 64, 3),
        "pool": nn.AdaptiveAvgPool2d(1),
        "flat": nn.Flatten(),
        "head": nn.Linear(64, len(SHAPES)),
    }.items():
        network.add_module(name, part)
    return network


def _practice(
    seed: int, n: int
) -> tuple[Int64[np.ndarray, "n 5"], UInt8[np.ndarray, "n height width 3"]]:
    """Drawings to learn from, other than those of the probe set."""
    rng = np.random.default_rng([seed, 1])
    value_n5 = draw_attributes(rng, n)
    images = [np.asarray(draw_image(values, rng, NETWORK_SIDE)) for values in value_n5]
    return value_n5, np.stack(images)


def _as_pixels(image_nhwc: np.ndarray) -> torch.Tensor:
    # Both networks use mean 0.5 and deviation 0.25.
    pixels = (torch.from_numpy(image_nhwc).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.25
    return pixels.contiguous(memory_format=torch.channels_last)


def _optimiser(
    network: nn.Module, rate: float, n_steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    optimiser = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, rate, total_steps=n_steps, pct_start=0.15
    )
    return optimiser, schedule


def _train_model(
    value_n5: np.ndarray, image_nhwc: np.ndarray, seed: int, n_steps: int, progress: Progress
) -> dict[str, torch.Tensor]:
    network: Any = shape_network()
    network = network.to(memory_format=torch.channels_last).train()
    optimiser, schedule = _optimiser(network, 5e-3, n_steps)
    rng = np.random.default_rng([seed, 2])
    label_n = torch.from_numpy(value_n5[:, 0])
    for step in range(n_steps):
        rows = rng.integers(len(label_n), size=64)
        loss = nn.functional.cross_entropy(network(_as_pixels(image_nhwc[rows])), label_n[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        progress("classifier", step + 1, n_steps)
    return network.state_dict()


def _train_encoder(
    value_n5: np.ndarray, image_nhwc: np.ndarray, seed: int, n_steps: int, progress: Progress
) -> dict[str, torch.Tensor]:
    """Train a CLIP so that each caption finds every image it is true of, and the other way round.

    The usual loss takes the other images of a batch as wrong; here "red" is true of many of them,
    and the grammar says of which, so the target of each row is even over all of those. After 500
    steps the names of concepts rank fresh drawings with a mean area under the ROC curve of 0.97
    (``zero_shot_auroc``).
    """
    import open_clip

    network: Any = open_clip.CLIP(**ENCODER_CONFIG["model_cfg"])
    tokenizer = open_clip.SimpleTokenizer(context_length=CONTEXT_LENGTH)
    rng = np.random.default_rng([seed, 3])
    captions = [caption(values, rng) for values in value_n5 for _ in range(3)]
    token_cl = tokenizer([text for text, _ in captions])
    said_c5 = torch.from_numpy(np.stack([said for _, said in captions]))
    # A table of the few tokens that occur is trained in place of the full one; end-of-text keeps
    # the highest number, by which the network finds it.
    used, compact_n = torch.unique(token_cl, return_inverse=True)
    full = network.token_embedding
    network.token_embedding = nn.Embedding.from_pretrained(
        full.weight.detach()[used].clone(), freeze=False
    )
    network = network.to(memory_format=torch.channels_last).train()
    optimiser, schedule = _optimiser(network, 3e-3, n_steps)
    value = torch.from_numpy(value_n5)
    for step in range(n_steps):
        rows = rng.integers(len(value_n5), size=64)
        texts = np.concatenate([rows * 3, rows * 3 + 1 + rng.integers(2, size=64)])
        image_nd = network.encode_image(_as_pixels(image_nhwc[rows]), normalize=True)
        text_td = network.encode_text(compact_n[texts], normalize=True)
        logit_tn = network.logit_scale.exp() * text_td @ image_nd.T
        agrees = value[texts // 3][:, None] == value[rows][None]
        truth_tn = (agrees | ~said_c5[texts][:, None]).all(-1).float()
        loss = _even_cross_entropy(logit_tn, truth_tn) + _even_cross_entropy(logit_tn.T, truth_tn.T)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        with torch.no_grad():
            network.logit_scale.clamp_(0, math.log(100))
        progress("encoder", step + 1, n_steps)
    trained = network.token_embedding.weight.detach()
    network.token_embedding = full
    state = network.state_dict()
    state["token_embedding.weight"][used] = trained
    # Half precision halves the file; loading brings it back to float32.
    state["token_embedding.weight"] = state["token_embedding.weight"].half()
    return state


def _even_cross_entropy(logit: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    return -(truth / truth.sum(1, keepdim=True) * logit.log_softmax(1)).sum(1).mean()


# --- the world on disk -------------------------------------------------------------------------


def make_world(
    folder: Path,
    *,
    seed: int = 0,
    n_images: int = 600,
    quick: bool = False,
    progress: Progress = silent,
) -> Path:
    """Make the world's files, or those that are missing.

    ``images/CLASS/NUMBER.png``, ``labels.csv`` (file, class, 0/1 concept columns),
    ``vocabulary.txt``, ``model.safetensors`` and ``encoder/`` (an open_clip folder). What
    ``world.json`` records as done with the same settings is kept; a part is only recorded once
    it is whole.

    Args:
        folder: where; made if missing.
        seed: decides everything.
        n_images: how many probe images to draw.
        quick: for tests: at most 96 images and a few training steps. The networks then know little.
        progress: called with stages ``"images"``, ``"classifier"``, ``"encoder"``.

    Returns:
        ``folder``.

    Raises:
        InputError: if ``folder`` holds other files under these names.
    """
    settings = {
        "version": WORLD_VERSION,
        "seed": seed,
        "n_images": min(n_images, 96) if quick else n_images,
        "n_practice": 200 if quick else 4000,
        "classifier_steps": 20 if quick else 300,
        "encoder_steps": 10 if quick else 500,
    }
    folder.mkdir(parents=True, exist_ok=True)
    record_path = folder / "world.json"
    done: dict[str, Any] = {}
    if record_path.is_file():
        record = json.loads(record_path.read_text(encoding="utf-8"))
        done = record["parts"] if record["settings"] == settings else {}
    else:
        for name in ("images", "labels.csv", "vocabulary.txt", "model.safetensors", "encoder"):
            if (folder / name).exists():
                raise InputError(
                    f"{folder} already holds {name!r} and no world.json; choose an empty folder."
                )
    practice = functools.cache(lambda: _practice(seed, settings["n_practice"]))

    def train(run: Callable[..., dict[str, torch.Tensor]], n_steps: int) -> dict[str, torch.Tensor]:
        # One thread: these networks gain little from more, lose a lot on a busy machine, and would
        # come out different on machines with other numbers of cores.
        n_threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                return run(*practice(), seed, n_steps, progress)
        finally:
            torch.set_num_threads(n_threads)

    def draw(target: Path) -> None:
        _write_images(target, seed, settings["n_images"], progress)

    def train_model(target: Path) -> None:
        save_file(_plain_layout(train(_train_model, settings["classifier_steps"])), target)

    def train_encoder(target: Path) -> None:
        target.mkdir()
        state = train(_train_encoder, settings["encoder_steps"])
        save_file(_plain_layout(state), target / "open_clip_model.safetensors")
        config = json.dumps(ENCODER_CONFIG, indent=2) + "\n"
        (target / "open_clip_config.json").write_text(config, encoding="utf-8")

    parts: dict[str, Callable[[Path], None]] = {
        "images": draw,
        "labels.csv": lambda target: _labels(seed, settings["n_images"]).to_csv(
            target, index=False
        ),
        "vocabulary.txt": lambda target: _write_vocabulary(target),
        "model.safetensors": train_model,
        "encoder": train_encoder,
    }
    for name, write in parts.items():
        if name in done and (folder / name).exists():
            continue
        target, temporary = folder / name, folder / f".tmp-{name}"
        _remove(temporary)
        write(temporary)
        _remove(target)
        temporary.rename(target)
        done = {part: True for part in parts if part in done or part == name}
        record = json.dumps({"settings": settings, "parts": done}, indent=2) + "\n"
        write_whole(record_path, record)
    return folder


def _plain_layout(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().contiguous() for name, tensor in state.items()}


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _probe_values(seed: int, n_images: int) -> np.ndarray:
    return draw_attributes(np.random.default_rng([seed, 0]), n_images)


def _file(number: int, values: Values) -> str:
    return f"{SHAPES[int(values[0])]}/{number:05d}.png"


def _write_images(folder: Path, seed: int, n_images: int, progress: Progress) -> None:
    for shape in SHAPES:
        (folder / shape).mkdir(parents=True)
    for number, values in enumerate(_probe_values(seed, n_images)):
        image = draw_image(values, np.random.default_rng([seed, 4, number]))
        image.save(folder / _file(number, values), compress_level=1)
        progress("images", number + 1, n_images)


def _labels(seed: int, n_images: int) -> pd.DataFrame:
    value_n5 = _probe_values(seed, n_images)
    table = pd.DataFrame(
        {
            "file": [f"images/{_file(i, values)}" for i, values in enumerate(value_n5)],
            "class": [SHAPES[v] for v in value_n5[:, 0]],
        }
    )
    truth = concepts(value_n5).astype(np.int8)
    return pd.concat([table, pd.DataFrame(truth, columns=list(concept_names()))], axis=1)


def _write_vocabulary(path: Path) -> None:
    head = (
        "# Words of the world of drawn shapes: shapes, colours, textures, synonyms, distractors.\n"
    )
    path.write_text(head + "\n".join(vocabulary()) + "\n", encoding="utf-8")


# --- what the command line loads ---------------------------------------------------------------


def _world_folder() -> Path:
    folder = Path(os.environ.get(WORLD_VARIABLE, DEFAULT_WORLD))
    if not (folder / "world.json").is_file():
        raise MissingModelError(
            f"There is no world of shapes at {folder}; make it with make_world or 'csp demo', or "
            f"set {WORLD_VARIABLE} to where it is."
        )
    return folder


def target_model(folder: Path | None = None) -> TargetModel:
    """The classifier of a world; by default of the one that ``CSP_SHAPES_WORLD`` names."""
    network = shape_network()
    network.load_state_dict(load_file((folder or _world_folder()) / "model.safetensors"))
    return make_target_model(
        network,
        MODEL_PIXELS,
        name="shapes",
        spec="python:tests.worlds.shapes:target_model",
        class_names=SHAPES,
    )


def encoder(folder: Path | None = None) -> Encoder:
    """The encoder of a world; the same as ``load_encoder("open_clip/FOLDER/encoder")``."""
    return load_encoder(f"open_clip/{(folder or _world_folder()) / 'encoder'}")


def zero_shot_auroc(
    encoder: Encoder, *, n_images: int = 400, seed: int = 1000, template: str = "{}"
) -> dict[str, float]:
    """How well each concept's name ranks fresh drawings that show it above those that do not.

    Area under the ROC curve, in [0, 1], 0.5 by chance; concepts that all or no drawings show are
    left out.
    """
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(seed)
    value_n5 = draw_attributes(rng, n_images)
    pixels = np.stack([encoder.preprocess(draw_image(values, rng)) for values in value_n5])
    image_nd = np.concatenate(
        [encoder.embed_images(pixels[i : i + 64]) for i in range(0, n_images, 64)]
    )
    names = concept_names()
    text_td = encoder.embed_texts([template.replace("{}", name) for name in names])
    truth_nc = concepts(value_n5)
    score_nc = image_nd @ text_td.T
    return {
        name: float(roc_auc_score(truth_nc[:, c], score_nc[:, c]))
        for c, name in enumerate(names)
        if 0 < truth_nc[:, c].sum() < n_images
    }

"""Nothing that is data runs, leaves its folder, or is obeyed by a program that shows it."""

from __future__ import annotations

import csv
import io
import json
import os
import pickle
import sqlite3
import struct
import zlib
from pathlib import Path
from typing import Any
from unittest import mock

from csp_engine.cli.selftest import NotHeldError, kind, refused, require
from csp_engine.cli.selftest.world import World
from csp_engine.types import NeuronRef

AREA = "security"


class _Bomb:
    """Leaves a file behind where it is unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("ran",)


@kind(AREA, "a checkpoint cannot run code")
def checkpoint(world: World) -> str:
    """A pickled object in a .pt file."""
    from csp_engine.networks.loading.checkpoints import read_checkpoint

    path = world.folder / "weights.pt"
    path.write_bytes(pickle.dumps({"state_dict": _Bomb()}))
    said = refused(lambda: read_checkpoint(path), "weights.pt")
    return require(not Path("ran").exists(), said)


@kind(AREA, "an encoder folder cannot ask for remote code")
def encoder_folder(world: World) -> str:
    """The setting by which open_clip hands a tokenizer's code on."""
    from csp_engine.encoders import load_encoder

    towers = {"embed_dim": 4, "vision_cfg": {}, "text_cfg": {
        "hf_tokenizer_name": ".", "tokenizer_kwargs": {"trust_remote_code": True}}}  # fmt: skip
    pixels = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic",
              "resize_mode": "shortest"}  # fmt: skip
    config = {"model_cfg": towers, "preprocess_cfg": pixels}
    (world.folder / "open_clip_config.json").write_text(json.dumps(config))
    (world.folder / "open_clip_model.safetensors").write_bytes(b"")
    return refused(lambda: load_encoder(f"open_clip/{world.folder}"), "trust_remote_code")


@kind(AREA, "a bundle cannot name Python code to run")
def python_encoder(world: World) -> str:
    """A bundle whose encoder is Python code, without the trust for it."""
    from csp_engine.search import bundle_encoder

    bundle = world.bundle()
    return refused(lambda: bundle_encoder(bundle), "CSP_TRUST_PYTHON")


@kind(AREA, "links are not followed out of a bundle")
def link_out(world: World) -> str:
    """A stage's file replaced by a link to another place."""
    bundle = world.bundle()
    victim = next(bundle.path.rglob("embedding.npy"), None) or next(bundle.path.rglob("*.npy"))
    outside = world.folder / "outside.npy"
    victim.rename(outside)
    victim.symlink_to(outside)
    from csp_engine.bundle import Bundle, verify

    problems = verify(Bundle.open(bundle.path))
    return require(any(victim.name in problem for problem in problems), "; ".join(problems[:1]))


@kind(AREA, "an export replaces files only")
def export_over_link(world: World) -> str:
    """A link where the table would be written."""
    from csp_engine.exchange import export_labels

    precious, out = world.folder / "precious", world.folder / "labels.csv"
    precious.write_text("kept")
    out.symlink_to(precious)
    said = refused(lambda: export_labels(world.bundle(), out), "labels.csv")
    return require(precious.read_text() == "kept", said)


@kind(AREA, "CSV cells do not run in a spreadsheet")
def csv_cells(_: World) -> str:
    """Formulas as labels, and a negative number."""
    import pandas as pd

    from csp_engine.cells import csv_text, original

    texts = ["=1+1", "+1", "-1", "@x", "\t=1", "\r=1", "＝1", " =1"]
    written = csv_text(pd.DataFrame({"label": texts, "score": -0.5}))
    rows = list(csv.reader(io.StringIO(written, newline="")))[1:]
    bare = [label for label, _ in rows if not label.startswith("'")]
    require(not bare, f"written as it is: {bare[:1]}")
    require([original(label) for label, _ in rows] == texts, "does not come back")
    return require(csv_text(pd.DataFrame({"n": [-0.5]})) == "n\n-0.5\n", "numbers stay numbers")


@kind(AREA, "terminals obey nothing that is printed")
def terminal(_: World) -> str:
    """A colour, a carriage return and a turned direction."""
    from csp_engine.printable import one_line

    shown = one_line("damaged\r\x1b[2Kverified \u202egnp\x07")
    return require(shown == "damaged verified gnp", repr(shown))


@kind(AREA, "an image of very many pixels is refused")
def pixel_bomb(_: World) -> str:
    """A PNG of a few bytes that claims 60,000 x 60,000."""
    from csp_engine.probe.decoding import decode

    def chunk(name: bytes, body: bytes) -> bytes:
        sums = struct.pack(">I", zlib.crc32(name + body))
        return struct.pack(">I", len(body)) + name + body + sums

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 6, 0, 0, 0))
    png = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    return refused(lambda: decode(png), "million pixels")


@kind(AREA, "a path outside the allowed folders is not read")
def allowed_folders(world: World) -> str:
    """A link in an allowed folder that leads out."""
    from csp_engine.jobs.allowed import Allowed

    inside = (world.folder / "inside").resolve()
    inside.mkdir()
    (inside / "link").symlink_to("/etc")
    allowed = Allowed((inside,))
    allowed.require(inside / "own.csv", "own.csv")
    return refused(lambda: allowed.require(inside / "link" / "passwd", "link/passwd"), "--allow")


@kind(AREA, "another site's page and another name are refused")
def foreign_origin(_: World) -> str:
    """What the gate before every route goes by."""
    from csp_engine.http import hosts

    own = hosts.is_own("http://localhost:8501", "localhost:8501")
    foreign = hosts.is_own("http://evil.example", "localhost:8501")
    rebound = hosts.is_known("evil.example:8501", ["localhost"])
    return require(own and not foreign and not rebound, "Origin and Host are compared")


@kind(AREA, "verdicts are only added, and a change is found")
def reviews(world: World) -> str:
    """An update that the database refuses, and one without its triggers."""
    from csp_engine.reviews import Place, open_reviews

    path = world.folder / "reviews.sqlite"
    database = open_reviews(Place(file=path))
    for verdict in ("valid", "mixed"):
        database.add(NeuronRef("f" * 64, "fc@none", 0), reviewer="ada", verdict=verdict)
    require(not database.check().problems, "a sound history has problems")
    change = "update review set verdict = 'spurious' where number = 1"
    connection = sqlite3.connect(path)
    try:
        try:
            connection.execute(change)
            raise NotHeldError("the database took a change")
        except sqlite3.IntegrityError:
            connection.execute("drop trigger review_never_update")
        connection.execute(change)
        connection.commit()
    finally:
        connection.close()
    problems = database.check().problems
    return require(any("Entry 1" in problem for problem in problems), problems[-1])


@kind(AREA, "without the token a visitor looks, and no more")
def gate(_: World) -> str:
    """Requests through the gate of the server: a look, a costly one, two from elsewhere."""
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

    from csp_engine.http.guard import Guard, Rules
    from csp_engine.http.permissions import LOOKING

    rules = Rules(
        base="",
        hosts=["localhost"],
        origins=(),
        cookie="pass",
        token=lambda: "t" * 32,
        granted=lambda _: LOOKING,
        refusal=lambda need: f"needs {need}",
        too_much=lambda _: "",
        visitor=lambda _: "somebody",
        most_pages=1,
    )

    async def page(_scope: object, _receive: object, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    guarded: Any = Guard(page, lambda: rules)

    def status(method: str, path: str, **headers: str) -> int:
        given = {"host": "localhost:8501", **headers}
        scope = {
            "type": "http", "method": method, "path": path, "query_string": b"",
            "headers": [(name.encode(), value.encode()) for name, value in given.items()],
        }  # fmt: skip
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        # A thread of its own: the caller's may have a loop running, as in a notebook.
        with ThreadPoolExecutor(1) as pool:
            pool.submit(lambda: asyncio.run(guarded(scope, receive, send))).result()
        return sent[0]["status"]

    found = [
        status("GET", "/csp/thumb/a/0"),
        status("POST", "/csp/warm/a"),
        status("POST", "/csp/thumb/a/0", origin="http://evil.example"),
        status("GET", "/csp/thumb/a/0", host="evil.example"),
    ]
    return require(found == [200, 401, 403, 403], f"answered {found}")


@kind(AREA, "a visitor has no more pages open than allowed")
def pages(_: World) -> str:
    """One more than allowed, another visitor, and one more after a page was closed."""
    from csp_engine.http.sockets import Sockets, too_many

    held = Sockets()
    found = [held.enter("ada", 2), held.enter("ada", 2), held.enter("ada", 2), held.enter("bob", 2)]
    held.leave("ada")
    found.append(held.enter("ada", 2))
    return require(found == [True, True, False, True, True], too_many(2))


@kind(AREA, "a visitor takes no more of the encoder's time than allowed")
def seconds(_: World) -> str:
    """A turn that takes all there is, then another; somebody else has a turn all the same."""
    from csp_engine.serving import turns

    held = turns.Turns()
    with mock.patch.object(turns.time, "monotonic", return_value=0.0) as clock:
        with held.turn("ada"):
            clock.return_value = 31.0
        with held.turn("bob"):
            pass
        return refused(lambda: held.turn("ada").__enter__(), "30 s")

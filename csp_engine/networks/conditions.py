"""What decides the last digits of a pass, beside weights and images."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from csp_engine.hashing import sha256_file, sha256_json
from csp_engine.networks.devices import usable

PACKAGES = ("torch", "torchvision", "timm", "transformers", "open_clip_torch", "numpy", "pillow")
"""Libraries that the numbers of a pass come from."""
_ENGINE = Path(__file__).resolve().parents[1]


@cache
def code_conditions() -> dict[str, str]:
    """The code that runs here: this engine's, by its hash, and the versions of the libraries."""
    sources = sorted(path.relative_to(_ENGINE) for path in _ENGINE.rglob("*.py"))
    own = [path for path in sources if path.parts[0] != "_app"]  # pages, in an installed wheel
    hashes = {path.as_posix(): sha256_file(_ENGINE / path) for path in own}
    found = {"csp_engine": sha256_json(hashes)[:12]}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def place_conditions(device: str) -> dict[str, str]:
    """What a network runs on: the device, and on a processor its instructions and threads.

    With other instructions, or with its work spread over more threads, a processor takes sums in
    another order.
    """
    import torch  # who compares code alone does without

    place = usable(device)
    if place.type == "cuda":
        return {"device": torch.cuda.get_device_name(place)}
    if place.type != "cpu":
        return {"device": place.type}
    instructions = torch.backends.cpu.get_cpu_capability()
    return {"device": f"cpu ({instructions})", "threads": str(torch.get_num_threads())}

"""Install ``requirements.txt`` where this runs, without CUDA on a machine that has no GPU for it.

Run as a file and before anything else, so it needs the standard library and pip alone. Of the 6.5
GB that the requirements take on Linux, 3.4 GB are CUDA and Triton.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

REQUIREMENTS = Path(__file__).resolve().parents[1] / "requirements.txt"
CPU_INDEX = "CPU_INDEX"
"""The variable that names a second index for wheels without CUDA; the Makefile sets it."""
PAIR = ("torch", "torchvision")
CUDA = re.compile(r"(cuda|nvidia)-|triton=")
"""Lines of the requirements that wheels without CUDA have no use for."""
PIP = (sys.executable, "-m", "pip", "install", "--disable-pip-version-check")


def main() -> int:
    """Install, and say what of torch is installed; the exit code of pip.

    With ``--without-cuda``, CUDA is never installed, whatever this machine has.
    """
    lines = REQUIREMENTS.read_text("utf-8").splitlines()
    never = "--without-cuda" in sys.argv[1:]
    is_light = _is_light(_pinned(lines), never)
    if never and not is_light:
        return 1
    if not is_light:
        return _install("-r", str(REQUIREMENTS))
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / "requirements-cpu.txt"
        kept.write_text("\n".join(line for line in lines if not CUDA.match(line)), "utf-8")
        return _install("-r", str(kept))


def _is_light(pins: dict[str, str], never: bool) -> bool:
    """Whether torch is here without CUDA, once it was looked for where nobody needs CUDA."""
    held = _held("torch")
    if held.partition("+")[0] == pins["torch"]:
        return held.endswith("+cpu")  # whoever chose the other keeps it
    if not never and (sys.platform != "linux" or has_gpu()):
        return False
    wheels = [f"{name}=={pins[name]}+cpu" for name in PAIR]
    second = os.environ.get(CPU_INDEX, "").strip()
    for place in [[], ["--index-url", second]] if second else [[]]:
        found = subprocess.run(
            # One try: the index may be out of reach. Alone: nothing else is to come from there.
            [*PIP, "--no-deps", "--retries=0", "--timeout=15", *place, *wheels],
            capture_output=True,
            text=True,
            check=False,
        )
        if found.returncode == 0:
            print(f"torch {pins['torch']} came without CUDA.")
            return True
    if never:
        print(f"No package index that was asked has {wheels[0]}; name one that has by {CPU_INDEX}.")
        return False
    print(
        f"There is no NVIDIA GPU here, but no package index that was asked has {wheels[0]}: the "
        "ordinary wheels are installed, with 3.4 GB of CUDA that nothing will use."
    )
    return False


def has_gpu() -> bool:
    """Whether this machine has a GPU that CUDA can use."""
    if any(Path(each).exists() for each in ("/proc/driver/nvidia/version", "/dev/nvidiactl")):
        return True
    try:
        asked = subprocess.run(["nvidia-smi", "-L"], capture_output=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return asked.returncode == 0 and b"GPU" in asked.stdout


def _pinned(lines: list[str]) -> dict[str, str]:
    found = (re.match(r"([\w.-]+)==([^\s;]+)", line) for line in lines)
    return {each[1]: each[2] for each in found if each}


def _held(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _install(*arguments: str) -> int:
    sys.stdout.flush()
    return subprocess.run([*PIP, *arguments], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())

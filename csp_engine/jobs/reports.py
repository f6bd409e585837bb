"""A report made by a process of its own, so that pages stay quick while it is drawn."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from csp_engine.errors import BusyError, InputError
from csp_engine.jobs.process import command_line, complaint, environment

LIMIT_S = 120.0
"""A report takes seconds; one that takes this long never ends."""


def report_file(
    bundle: Path,
    file_format: str,
    *,
    model: str,
    method: str,
    headings: str,
    concepts: bytes,
    more: Mapping[str, str],
) -> bytes:
    """A file of a report, as ``csp report`` writes it.

    Args:
        bundle: folder of the bundle.
        file_format: html, pdf, json or csv.
        model: network to report on.
        method: that names the neurons; empty for none.
        headings: order of the sections.
        concepts: the file of the concept set.
        more: variables for the environment, such as where verdicts are.

    Raises:
        InputError: with the sentence of the command.
        BusyError: if it does not end.
    """
    with tempfile.TemporaryDirectory(prefix="csp-report-") as folder:
        out = Path(folder) / f"report.{file_format}"
        listed = Path(folder) / "concepts.toml"
        listed.write_bytes(concepts)
        options = ["--output", str(out), "--model", model, "--headings", headings]
        options += ["--concepts", str(listed)]
        options += ["--method", method] if method else []
        child = subprocess.Popen(
            command_line(["report", str(bundle.resolve()), *options]),
            env=environment(more),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            _, said = child.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            raise BusyError("The report took too long; make it with 'csp report'.") from None
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
        if child.returncode:
            raise InputError(complaint(said) or "The report could not be made.")
        return out.read_bytes()

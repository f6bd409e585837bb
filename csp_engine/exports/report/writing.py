"""Writing a report: each format as bytes with its seal, then to files that appear whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from csp_engine.bundle.writer import translated_os_errors
from csp_engine.errors import InputError
from csp_engine.exports.report.document import Document
from csp_engine.exports.report.figures import as_csv, as_json
from csp_engine.exports.report.page import as_html
from csp_engine.exports.report.paper import as_pdf
from csp_engine.exports.report.seal import Seal, sealed, split
from csp_engine.files import replacing

FORMATS: dict[str, Callable[[Document], bytes]] = {
    "html": as_html,
    "pdf": as_pdf,
    "json": as_json,
    "csv": as_csv,
}


def as_bytes(document: Document, file_format: str, key: Path | None = None) -> bytes:
    """A report in one format, with its seal; the same document gives the same bytes.

    Args:
        document: the report.
        file_format: a key of ``FORMATS``.
        key: a private key to sign with.

    Raises:
        InputError: if the key is none.
        MissingModelError: if a package that the format or the key needs is not installed.
    """
    options = document.options
    assert options.until is not None
    seal = Seal(
        sha256="",
        document=document.sha256(),
        bundle=document.digest,
        engine=document.engine,
        model=options.model,
        method=options.method,
        headings=options.headings,
        until=options.until,
        concepts=options.concepts,
        concepts_sha256=document.concepts,
    )
    return sealed(FORMATS[file_format](document), file_format, seal, key)


def targets(out: Path, formats: Sequence[str] | None) -> dict[str, Path]:
    """The file of each format: one that ``out`` names by its ending, or ``report.*`` in a folder.

    Raises:
        InputError: if a format is unknown, or the file is of another one.
    """
    strange = [each for each in formats or () if each not in FORMATS]
    if strange:
        raise InputError(
            f"There is no format {strange[0]!r:.40}; --formats can be {','.join(FORMATS)}."
        )
    ending = out.suffix.lower().removeprefix(".")
    if ending in FORMATS and not out.is_dir():
        if formats and list(formats) != [ending]:
            raise InputError(
                f"{out.name} is one file, and --formats asks for {','.join(formats)}; name a "
                "folder, or leave --formats out."
            )
        return {ending: out}
    if out.suffix and not out.is_dir() and formats is None:
        raise InputError(
            f"{out.name} does not say what to write: end it in .{', .'.join(FORMATS)}, or name a "
            "folder."
        )
    return {each: out / f"report.{each}" for each in dict.fromkeys(formats or FORMATS)}


def write(files: dict[Path, bytes]) -> None:
    """Write files of a report; each appears whole, and only an earlier report is replaced.

    Raises:
        InputError: if something else is in a place, or it cannot be written.
    """
    for path in files:
        _require_replaceable(path)
    for path, content in files.items():
        with translated_os_errors(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path, path.with_name(f".tmp-{path.name}")) as temporary:
                temporary.write_bytes(content)


def _require_replaceable(path: Path) -> None:
    if not path.exists() and not path.is_symlink():
        return
    try:
        split(path.read_bytes() if path.is_file() else b"", path.suffix.lower().removeprefix("."))
    except (OSError, InputError):
        raise InputError(
            f"{path} is there and is no report that this program wrote; choose another name."
        ) from None

"""Builds to an address: made in a folder of this machine, and copied there once they are whole.

The folder lies below the user's cache and is named by the address, so that the same command finds
it again: a build that was stopped goes on, and so does a copy. It is deleted when the address has
the bundle.
"""

from __future__ import annotations

import hashlib
import posixpath
import shutil

from filelock import FileLock, Timeout

from csp_engine.bundle import Bundle, translated_os_errors
from csp_engine.bundle.manifest import MANIFEST_NAME
from csp_engine.errors import BundleError, InputError, StaleError
from csp_engine.exchange.addresses import (
    copy_to_address,
    fetched,
    held_at,
    in_use,
    require_writable,
    usual_folder,
)
from csp_engine.files import write_whole
from csp_engine.types import Progress, silent

_BEGUN_FROM = "begun-from"
"""File beside the bundle: the sha256 of the manifest at the address when the work began."""


class WorkingCopy:
    """The folder in which a bundle for an address is built, by one process at a time.

    Raises:
        InputError: if the address refuses, does not answer, or holds anything else; or another
            package is needed for it.
        BundleError: if another process builds to this address.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        digest = hashlib.sha256(address.rstrip("/").encode()).hexdigest()[:16]
        self._folder = usual_folder().with_name("building") / digest
        self.path = self._folder / posixpath.basename(address.rstrip("/"))
        self._is_sent = False
        require_writable(address)
        self._lock = FileLock(self._folder.with_suffix(".lock"))
        with translated_os_errors(self._folder):
            self._folder.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._lock.acquire(timeout=0)
            except Timeout:
                raise BundleError(
                    f"Another process is building {address!r} from this machine; wait for it, or "
                    "choose another address."
                ) from None

    def __enter__(self) -> WorkingCopy:
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_sent:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._lock.release()

    def begin(self, images: str, progress: Progress = silent) -> None:
        """Bring the bundle that lies at the address, unless a build of it was stopped here.

        So finished parts are kept, as in a build on this disk.

        Args:
            images: the hash of the images that the build is of.
            progress: told of files.

        Raises:
            InputError: if the bundle there is of other images; a build would replace it.
            StaleError: if another was put there since the build began that was stopped here.
            BundleError: if the one there is damaged.
        """
        held = held_at(self.address)
        if held is not None:
            record = held[0].stages.get("images")
            if record is not None and record.inputs.get("probe") != images:
                raise InputError(
                    f"{self.address!r} holds a bundle of other images; choose another address, or "
                    "build on this disk and replace it there with 'csp copy'."
                )
        with translated_os_errors(self._folder):
            if (self._folder / _BEGUN_FROM).is_file():
                self._require_as_it_was()
            else:
                shutil.rmtree(self._folder, ignore_errors=True)
                self._folder.mkdir()
                if held is not None:
                    found = fetched(self.address, progress=progress)
                    with in_use(found):
                        shutil.copytree(found, self.path)
            write_whole(self._folder / _BEGUN_FROM, "" if held is None else held[1])

    def send(self, bundle: Bundle, progress: Progress = silent) -> int:
        """Copy the bundle to the address; the folder here is deleted when this is left.

        Returns:
            how many bytes the bundle has.

        Raises:
            InputError: as ``copy_to_address``.
            StaleError: if another bundle was put there since the build began.
        """
        self._require_as_it_was()
        n_bytes = copy_to_address(bundle, self.address, progress)
        self._is_sent = True
        return n_bytes

    def _require_as_it_was(self) -> None:
        """Refuse to replace a bundle that somebody else put there meanwhile."""
        held = held_at(self.address)
        now = "" if held is None else held[1]
        own = self.path / MANIFEST_NAME
        sent = hashlib.sha256(own.read_bytes()).hexdigest() if own.is_file() else None
        if now not in ((self._folder / _BEGUN_FROM).read_text("utf-8"), sent):
            raise StaleError(
                f"The bundle at {self.address!r} is another than when this build began; copy "
                f"{self.path} to another address with 'csp copy', or delete {self._folder} and "
                "build on what is there now."
            )

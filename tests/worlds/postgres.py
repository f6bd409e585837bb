"""A PostgreSQL server of the tests' own, where its programs are installed."""

from __future__ import annotations

import contextlib
import os
import pwd
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa

SECONDS = 30


def programs() -> Path | None:
    """The folder of ``initdb`` and ``pg_ctl``, of the newest version; None without any."""
    debian = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3])
    )
    found = debian[-1:] or [Path(path) for path in [shutil.which("initdb")] if path]
    folder = found[0].resolve().parent if found else None
    return folder if folder is not None and (folder / "pg_ctl").exists() else None


class Server:
    """It listens on the loopback; ``stop`` and ``start`` keep its data and its port."""

    def __init__(self, bin_folder: Path, folder: Path) -> None:
        self._bin, self._folder, self._n_databases = bin_folder, folder, 0
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:  # it refuses to run as root
            user = next(
                u for u in ("postgres", "nobody") if u in {p.pw_name for p in pwd.getpwall()}
            )
            record = pwd.getpwnam(user)
            self._as = {"user": record.pw_uid, "group": record.pw_gid, "extra_groups": []}
            os.chown(folder, record.pw_uid, record.pw_gid)
        with socket.socket() as held:
            held.bind(("127.0.0.1", 0))
            self.port = held.getsockname()[1]
        data = ("--pgdata", str(folder / "data"))
        self._run("initdb", *data, "--username=csp", "--auth=trust", "--encoding=UTF8", "--no-sync")
        self.start()

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._bin / program, *arguments], cwd=self._folder, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=SECONDS,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}, check=False, **self._as,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{program} failed: {done.stdout}")

    def _control(self, *what: str) -> None:
        # Its output goes to a file: a server that holds a pipe would be waited for.
        log = ("--log", str(self._folder / "log")) if what[0] == "start" else ()
        with (self._folder / "pg_ctl").open("w") as out:
            subprocess.run(
                [self._bin / "pg_ctl", *what, "--pgdata", str(self._folder / "data"), "-w", *log],
                cwd=self._folder, stdin=subprocess.DEVNULL, stdout=out, stderr=out, check=True,
                timeout=SECONDS, **self._as,
            )  # fmt: skip

    def start(self) -> None:
        """Have it listen, on the port that it had."""
        listens = f"-c listen_addresses=127.0.0.1 -c port={self.port}"
        # The system outlives the server here, so nothing has to reach the disk.
        own = f"-c unix_socket_directories={self._folder} -c fsync=off"
        self._control("start", "--options", f"{listens} {own}")

    def stop(self, how: str = "fast") -> None:
        """End it and all connections: ``fast`` in order, ``immediate`` as if it were killed."""
        self._control("stop", "--mode", how)

    @property
    def is_running(self) -> bool:
        return (self._folder / "data" / "postmaster.pid").exists()

    def close(self) -> None:
        if self.is_running:
            with contextlib.suppress(subprocess.SubprocessError):
                self.stop()
        with contextlib.suppress(OSError, ValueError, IndexError):  # it did not stop
            number = (self._folder / "data" / "postmaster.pid").read_text().split()[0]
            os.kill(int(number), signal.SIGQUIT)

    def url(self, database: str, port: int | None = None) -> str:
        return f"postgresql+psycopg://csp@127.0.0.1:{port or self.port}/{database}"

    def empty_database(self) -> str:
        """The address of a new database."""
        self._n_databases += 1
        name = f"reviews{self._n_databases}"
        engine = sa.create_engine(self.url("postgres"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql(f"create database {name}")
        engine.dispose()
        return self.url(name)


@contextlib.contextmanager
def running(bin_folder: Path) -> Iterator[Server]:
    """A server in a folder that is gone afterwards."""
    # Not below the folders of pytest, which are closed to the user that it runs as.
    with tempfile.TemporaryDirectory(prefix="csp-postgres-") as folder:
        server = Server(bin_folder, Path(folder))
        try:
            yield server
        finally:
            server.close()


class Cutting:
    """A line to a server that can be cut just after it was told to commit: nobody hears of it.

    ``is_armed`` cuts the connection that commits next; ``is_closed`` accepts no new ones.
    """

    def __init__(self, port: int) -> None:
        self.is_armed = self.is_closed = False
        self._to = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                if self.is_closed:
                    client.close()
                    continue
                threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._to)) as server:
            while True:
                for end in select.select([client, server], [], [])[0]:
                    content = end.recv(1 << 16)
                    if not content:
                        return
                    (server if end is client else client).sendall(content)
                    if end is client and self.is_armed and b"COMMIT" in content:
                        self.is_armed = False
                        server.recv(1 << 16)  # it is kept by now
                        return

"""Real Redis and PostgreSQL servers on loopback, each in a temporary folder, ended by their process ids.

A test that needs a program which is not installed is skipped:

    with redis_server() as redis:
        limiter = RedisLimiter(Secret(redis.url), failure="closed")
        redis.kill()
        redis.start()
"""

from __future__ import annotations

import atexit
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

START_LIMIT = 60.0
"""Seconds that a server may take until it accepts connections."""

_PAUSE = 0.02
"""Seconds between two looks at a server that starts."""


def free_port() -> int:
    """Return a port of 127.0.0.1 on which nothing listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


class Server:
    """A server program that can be ended and started again on the same port with the same data."""

    def __init__(self, command: Sequence[str], *, is_ready: Callable[[], bool], log: Path, stop: int) -> None:
        self._command = list(command)
        self._is_ready = is_ready
        self._log = log
        self._stop = stop
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The id of the server's first process."""
        assert self._process is not None, "the server does not run"
        return self._process.pid

    def start(self) -> None:
        """Start the server, and wait until it accepts connections."""
        assert self._process is None, "the server runs already"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        limit = time.monotonic() + START_LIMIT
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > limit:
                self.kill()
                raise RuntimeError(f"{self._command} did not start: {self._log.read_text(errors='replace')[-2000:]}")
            time.sleep(_PAUSE)

    def stop(self) -> None:
        """Ask the server to end, and wait until it has."""
        self._end(self._stop)

    def kill(self) -> None:
        """End the server at once, as a crash does."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop the server and start it again."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Make the server hang: its connections stay open, and nothing is answered until `resume`."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let a server go on that `pause` has stopped."""
        os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        """End the server in whatever state it is."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self.stop()

    def _end(self, how: int) -> None:
        process, self._process = self._process, None
        assert process is not None, "the server does not run"
        if process.poll() is None:
            process.send_signal(how)
        try:
            process.wait(START_LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class RedisServer(Server):
    """A Redis server without persistence, so that it forgets everything when it ends, unless `is_durable`."""

    def __init__(self, folder: Path, *, password: str | None, tls: tuple[Path, Path] | None, is_durable: bool) -> None:
        self.port = free_port()
        self.socket = folder / "redis.sock"
        self.password = password
        authority = f":{password}@" if password else ""
        scheme = "rediss" if tls else "redis"
        query = f"?ssl_ca_certs={tls[0]}" if tls else ""
        self.url = f"{scheme}://{authority}127.0.0.1:{self.port}/0{query}"
        self.unix_url = f"unix://{authority}{self.socket}"
        options = {
            "bind": "127.0.0.1",
            "port": "0" if tls else str(self.port),
            "unixsocket": str(self.socket),
            "dir": str(folder),
            "save": "",
            "appendonly": "yes" if is_durable else "no",
            "appendfsync": "always" if is_durable else "no",
        }
        if password:
            options["requirepass"] = password
        if tls:
            certificate, key = tls
            options |= {
                "tls-port": str(self.port),
                "tls-cert-file": str(certificate),
                "tls-key-file": str(key),
                "tls-auth-clients": "no",
            }
        command = [_redis_program(), *(part for name, value in options.items() for part in (f"--{name}", value))]
        super().__init__(command, is_ready=self._answers, log=folder / "redis.log", stop=signal.SIGTERM)

    def send(self, *words: str) -> str:
        """Send one command, and return the first line of the answer: `+OK`, `:1`, `-ERR …`."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self.socket))
            lines = connection.makefile("rwb")
            for command in ([["AUTH", self.password]] if self.password else []) + [list(words)]:
                parts = [word.encode() for word in command]
                lines.write(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts))
                lines.flush()
                answer = lines.readline().decode().rstrip()
            lines.close()
            return answer

    def _answers(self) -> bool:
        try:
            return self.send("PING") == "+PONG"
        except OSError:
            return False


class PostgresqlServer(Server):
    """A PostgreSQL server that trusts everybody on loopback and does not wait for the disk."""

    def __init__(self, folder: Path, data: Path) -> None:
        self.port = free_port()
        self.url = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"
        command = [
            *_as_postgres(),
            str(_postgresql_programs() / "postgres"),
            *("-D", str(data), "-p", str(self.port), "-k", ""),
            *(part for option in _POSTGRESQL_OPTIONS for part in ("-c", option)),
        ]
        # SIGINT ends it without waiting for its clients.
        super().__init__(command, is_ready=self._accepts, log=folder / "postgresql.log", stop=signal.SIGINT)

    def execute(self, statement: str, *, database: str = "postgres") -> str:
        """Run a statement, and return its rows, one a line, with `|` between the columns."""
        command = [str(_postgresql_programs() / "psql"), "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", self._url(database)]
        done = subprocess.run([*command, "-c", statement], capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr.strip())
        return done.stdout.strip()

    def database(self, name: str) -> str:
        """Make an empty database, and return its URL."""
        self.execute(f'CREATE DATABASE "{name}"')
        return self._url(name)

    def start(self) -> None:
        """Start the server. After `kill`, the other processes of the last one take a moment to notice and end."""
        for _ in range(200):
            try:
                return super().start()
            except RuntimeError as error:
                if "shared memory" not in str(error) and "lock file" not in str(error):
                    raise
                time.sleep(_PAUSE)
        return super().start()

    def _url(self, database: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def _accepts(self) -> bool:
        command = [str(_postgresql_programs() / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(command, check=False).returncode == 0


_POSTGRESQL_OPTIONS = (
    "listen_addresses=127.0.0.1",
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
    "shared_buffers=32MB",
    "max_connections=200",
)


@contextmanager
def redis_server(
    *, password: str | None = None, tls: tuple[Path, Path] | None = None, is_durable: bool = False
) -> Iterator[RedisServer]:
    """Run a Redis server for as long as the block runs. `tls` is a self-signed certificate and its key."""
    _redis_program()
    # The path of a socket may have about 100 characters, so pytest's folders are too deep.
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:
        server = RedisServer(Path(folder), password=password, tls=tls, is_durable=is_durable)
        server.start()
        try:
            yield server
        finally:
            server.close()


@contextmanager
def postgresql_server() -> Iterator[PostgresqlServer]:
    """Run a PostgreSQL server for as long as the block runs."""
    template = _cluster_template()
    with tempfile.TemporaryDirectory(prefix="postgresql-") as folder:
        data = Path(folder) / "data"
        subprocess.run(["cp", "-a", str(template), str(data)], check=True)
        # Its owner has to pass through the folder, which is open to its maker only.
        Path(folder).chmod(0o711)
        server = PostgresqlServer(Path(folder), data)
        server.start()
        try:
            yield server
        finally:
            server.close()


def _redis_program() -> str:
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return found
    pytest.skip("needs redis-server or valkey-server")


def _postgresql_programs() -> Path:
    def version(folder: Path) -> int:
        number = re.search(r"/(\d+)", str(folder))
        return int(number.group(1)) if number else 0

    folders = [folder.parent for folder in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if found := shutil.which("initdb"):
        folders.append(Path(found).resolve().parent)
    folders = [folder for folder in folders if (folder / "psql").exists() and (folder / "postgres").exists()]
    if not folders:
        pytest.skip("needs PostgreSQL: its initdb, postgres and psql")
    return max(folders, key=version)


def _as_postgres() -> list[str]:
    """How to run a program as somebody who is not root, for PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return []
    # It becomes the server, so that the process id is the server's. `runuser` and `su` wait beside it.
    if found := shutil.which("setpriv"):
        return [found, "--reuid=postgres", "--regid=postgres", "--init-groups"]
    pytest.skip("needs setpriv to start PostgreSQL, which refuses to run as root")


@cache
def _cluster_template() -> Path:
    """Make an empty cluster. Its folder lives as long as the process: `initdb` takes longer than a copy."""
    programs = _postgresql_programs()
    as_postgres = _as_postgres()
    folder = Path(tempfile.mkdtemp(prefix="postgresql-template-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    folder.chmod(0o711)
    template = folder / "data"
    template.mkdir(mode=0o700)
    if as_postgres:
        shutil.chown(template, "postgres", "postgres")
    command = [*as_postgres, str(programs / "initdb"), "-D", str(template), "-U", "postgres", "-A", "trust"]
    subprocess.run(
        [*command, "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions"],
        check=True,
        stdout=subprocess.DEVNULL,
        cwd="/",
    )
    return template

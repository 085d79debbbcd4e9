"""Plugins installed for one test, and the command as a user runs it: in the process, in a pipe, on a terminal."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

# A shell without job control starts its background commands with Ctrl-C switched off, and Python inherits that.
signal.signal(signal.SIGINT, signal.default_int_handler)

FAKES = Path(__file__).parent / "fakes"
RUN = [sys.executable, "-c", "import sys; from trunkline.cli import main; sys.exit(main())"]
PATIENCE = 60
"""Seconds after which a wait has failed; never waited for otherwise."""


class Site:
    """A folder on the import path, to install distributions in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def install(
        self,
        distribution: str,
        groups: Mapping[str, Mapping[str, str]],
        modules: Mapping[str, str] | None = None,
        version: str = "1.2",
    ) -> None:
        """Install a distribution: its entry points by group, and its modules' source by name."""
        info = self.folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        lines = []
        for group, names in groups.items():
            lines += [f"[{group}]", *(f"{name} = {value}" for name, value in names.items()), ""]
        (info / "entry_points.txt").write_text("\n".join(lines))
        for name, source in (modules or {}).items():
            (self.folder / f"{name}.py").write_text(source)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A site with the fake providers, a current folder of its own, and an environment without any settings."""
    folder = tmp_path / "site"
    folder.mkdir()
    for name in list(os.environ):
        if name.startswith(("TRUNKLINE_", "FAKE_", "OPENAI_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), str(FAKES)]))
    monkeypatch.setenv("FAKE_LOG", str(tmp_path / "log"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "state"))
    monkeypatch.syspath_prepend(str(FAKES))
    monkeypatch.syspath_prepend(str(folder))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    site = Site(folder)
    site.install(
        "trunkline-fake",
        {"trunkline.providers": {"fake": "fake_plugin:provider", "spare": "fake_plugin:spare"}},
    )
    return site


@pytest.fixture
def alone(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide from the command, in this process, what is installed beside this test's own distributions."""
    from trunkline._plugins.registry import InstalledPlugin, installed

    def own(group: str) -> tuple[InstalledPlugin, ...]:
        return tuple(item for item in installed(group) if item.distribution.startswith(("trunkline-fake", "dist-")))

    monkeypatch.setattr("trunkline.cli.selection.installed", own)
    monkeypatch.setattr("trunkline.cli.providers.installed", own)


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> str:
    """The fake's key, in the environment."""
    monkeypatch.setenv("FAKE_API_KEY", "canary-key-1234567890")
    return "canary-key-1234567890"


@pytest.fixture
def configured(site: Site, key: str) -> Path:
    """A configuration file in the current folder, with two services."""
    return write_trusted(
        '[services.one]\nprovider = "fake"\ndefault_model = "echo"\napi_key = { env = "FAKE_API_KEY" }\n'
        '[services.two]\nprovider = "fake"\ndefault_model = "turns"\n'
    )


def write_trusted(text: str) -> Path:
    """Write the configuration file of the current folder, and trust it as `trunkline trust` does."""
    from trunkline.cli.config_files import read_safely, trust_file

    path = Path("trunkline.toml").absolute()
    path.write_text(text)
    trust_file(read_safely(path))
    return path


@pytest.fixture
def write_config(site: Site) -> Callable[[str], Path]:
    """Write the configuration file of the current folder, and trust it."""
    return write_trusted


Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(site: Site, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    """Run the command in this process: exit status, stdout, stderr."""
    import io

    from trunkline.cli import main

    def run(*arguments: str, stdin: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        status = main(arguments)
        output = capsys.readouterr()
        return status, output.out, output.err

    return run


@pytest.fixture
def piped(site: Site) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command in a process of its own, with pipes."""

    def run(*arguments: str, stdin: str = "", **options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*RUN, *arguments], input=stdin, capture_output=True, text=True, timeout=PATIENCE, check=False, **options
        )

    return run


class Screen:
    """The command on a pseudo-terminal: what it shows, and what is typed."""

    def __init__(self, arguments: tuple[str, ...], stdout: int | None = None, kind: str = "dumb") -> None:
        import pty

        self._master, slave = pty.openpty()
        # A session of its own, with the terminal in control, so that Ctrl-C is a signal as at a user's.
        self.process = subprocess.Popen(
            [sys.executable, str(FAKES / "on_terminal.py"), *arguments],
            stdin=slave,
            stdout=slave if stdout is None else stdout,
            stderr=slave,
            start_new_session=True,
            env={**os.environ, "TERM": kind},
        )
        os.close(slave)
        self.shown = ""

    def wait_for(self, pattern: str, press: str = "") -> str:
        """Type `press`, and read until the screen matches; take what is read off it and return it.

        As in `end`, `press` is typed again if nothing happens.
        """
        deadline = time.monotonic() + PATIENCE
        self.enter(press)
        while not (match := re.search(pattern, self.shown)):
            ready, _, _ = select.select([self._master], [], [], 2 if press else max(deadline - time.monotonic(), 0))
            if press and not ready and time.monotonic() < deadline:
                self.enter(press)
                continue
            try:
                data = os.read(self._master, 4096) if ready else b""
            except OSError:
                data = b""  # Linux: the other side is closed
            press = press if data == b"^C" else ""  # the terminal's echo is not a reaction
            assert data, f"{pattern!r} is not on the screen: {self.shown!r}"
            self.shown += data.decode()
        seen, self.shown = self.shown[: match.end()], self.shown[match.end() :]
        return seen

    def enter(self, text: str) -> None:
        os.write(self._master, text.encode())

    def end(self, press: str = "") -> tuple[int, str]:
        """Type `press`, and read until the process has ended; its exit status, and what was left on the screen.

        Python loses a Ctrl-C that comes between showing a prompt and waiting for its answer. A person types it again.
        """
        deadline = time.monotonic() + PATIENCE
        self.enter(press)
        while True:
            ready, _, _ = select.select([self._master], [], [], 2 if press else max(deadline - time.monotonic(), 0))
            if not ready:
                assert time.monotonic() < deadline, f"it has not ended: {self.shown!r}"
                self.enter(press)
                continue
            try:
                data = os.read(self._master, 4096)
            except OSError:
                break
            if not data:
                break
            press = press if data == b"^C" else ""  # the terminal's echo is not a reaction
            self.shown += data.decode()
        return self.process.wait(PATIENCE), self.shown

    def converse(self, reply: Callable[[str], str]) -> tuple[int, str]:
        """Answer each question with `reply(question)` until the process ends; its exit status, and all that was shown.

        A question is a line that ends with a colon and a space, and waits.
        """
        whole, count = "", 0
        while True:
            ready, _, _ = select.select([self._master], [], [], PATIENCE)
            assert ready, f"nothing happens after {self.shown!r}"
            try:
                data = os.read(self._master, 4096)
            except OSError:
                data = b""  # Linux: the other side is closed
            if not data:
                return self.process.wait(PATIENCE), (whole + self.shown).replace("\r\n", "\n")
            self.shown += data.decode()
            if question := re.search(r"(?:\A|\n)([^\r\n]+): \Z", self.shown):
                whole, self.shown, count = whole + self.shown, "", count + 1
                assert count < 150, f"it asks for ever: {whole[-2000:]}"
                self.enter(f"{reply(question[1])}\n")

    def __enter__(self) -> Screen:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        os.close(self._master)


@pytest.fixture
def terminal(site: Site) -> Iterator[Callable[..., Screen]]:
    """Run the command on a pseudo-terminal."""
    pytest.importorskip("pty", reason="needs pseudo-terminals")
    from contextlib import ExitStack

    with ExitStack() as stack:

        def run(*arguments: str, stdout: int | None = None, kind: str = "dumb") -> Screen:
            return stack.enter_context(Screen(arguments, stdout, kind))

        yield run

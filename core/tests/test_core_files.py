"""Files that a configuration names: a device, a pipe, a folder or a huge file is a clear error, and nothing hangs."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest
from trunkline import _files, open_services
from trunkline._config.configuration import MAX_FILE_SIZE, read_configuration
from trunkline._config.references import MAX_SECRET_SIZE, resolve_reference
from trunkline._files import UnreadableFile, read_file
from trunkline._http.common import ConnectionOptions
from trunkline._http.tls import tls_context
from trunkline.errors import ConfigurationError

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs devices and named pipes")


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[str, str]]:
    """Files that cannot be read, and what is wrong with each."""
    monkeypatch.setattr(_files, "WRITER_LIMIT", 0.05)
    monkeypatch.setattr(_files, "SILENCE_LIMIT", 0.05)
    os.mkfifo(tmp_path / "pipe")
    os.mkfifo(tmp_path / "silent")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(10 * 2**40)
    return {
        "/dev/zero": ("/dev/zero", "is a device"),
        "/dev/tty": ("/dev/tty", "is a device|cannot be read"),
        "pipe": (str(tmp_path / "pipe"), "is a pipe into which nobody writes"),
        "silent": (str(tmp_path / "silent"), "is a pipe into which nothing was written"),
        "folder": (str(tmp_path / "folder"), "is a folder"),
        "huge": (str(tmp_path / "huge"), "has more than"),
        "loop": (str(tmp_path / "loop"), "cannot be read: "),
        "missing": (str(tmp_path / "missing"), "cannot be read: No such file"),
        "nul": (str(tmp_path / "a\0b"), "cannot be read: "),
        "long": (str(tmp_path / ("a" * 5000)), "cannot be read: "),
    }


NAMES = ("/dev/zero", "/dev/tty", "pipe", "silent", "folder", "huge", "loop", "missing", "nul", "long")


@pytest.mark.parametrize("name", NAMES)
def test_reference_to_what_is_no_small_file_is_a_clear_error(paths: dict[str, tuple[str, str]], name: str) -> None:
    path, problem = paths[name]
    writer = os.open(path, os.O_RDWR) if name == "silent" else None
    with pytest.raises(ConfigurationError, match=problem):
        resolve_reference({"file": path}, environ={}, folder=Path())
    if writer is not None:
        os.close(writer)


@pytest.mark.parametrize("name", NAMES)
def test_configuration_that_is_no_small_file_is_a_clear_error(paths: dict[str, tuple[str, str]], name: str) -> None:
    path, problem = paths[name]
    writer = os.open(path, os.O_RDWR) if name == "silent" else None
    with pytest.raises(ConfigurationError, match=problem):
        read_configuration(path)
    with pytest.raises(ConfigurationError, match=problem):
        open_services(path)
    if writer is not None:
        os.close(writer)


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")
def test_environment_of_a_process_is_no_secret() -> None:
    with pytest.raises(ConfigurationError, match=r"/proc/self/environ.*which is not text"):
        resolve_reference({"file": "/proc/self/environ"}, environ={}, folder=Path())


def test_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    def write() -> None:
        with pipe.open("wb") as file:
            for _ in range(3):
                file.write(b"x" * 100_000)
                file.flush()

    writer = threading.Thread(target=write)
    writer.start()
    assert read_file(pipe, 300_000) == b"x" * 300_000
    writer.join()


def test_open_pipe_of_a_shell_is_read() -> None:
    reader, writer = os.pipe()
    os.write(writer, b"a-key\n")
    os.close(writer)
    try:
        secret = resolve_reference({"file": f"/dev/fd/{reader}"}, environ={}, folder=Path())
    finally:
        os.close(reader)
    assert secret.reveal() == "a-key"


@pytest.mark.parametrize("limit", [MAX_SECRET_SIZE, MAX_FILE_SIZE])
def test_file_of_exactly_the_limit_is_read(tmp_path: Path, limit: int) -> None:
    path: Any = tmp_path / "file"
    path.write_bytes(b"x" * limit)
    assert len(read_file(path, limit)) == limit
    with pytest.raises(UnreadableFile, match=f"has more than {limit - 1} bytes"):
        read_file(path, limit - 1)


@pytest.mark.parametrize("setting", ["ca_bundle", "client_certificate", "client_key"])
@pytest.mark.parametrize("name", ["/dev/zero", "pipe"])
def test_certificate_that_is_no_file_is_a_clear_error(
    paths: dict[str, tuple[str, str]], setting: str, name: str
) -> None:
    path, problem = paths[name]
    if name == "pipe":
        problem = "is a pipe; use a regular file"
    # The certificate is read before OpenSSL looks at it, so any file will do.
    options: dict[str, Any] = {"client_certificate": __file__} if setting == "client_key" else {}
    options[setting] = path
    with pytest.raises(ConfigurationError, match=f"{setting}.*{problem}"):
        tls_context(ConnectionOptions(**options))


@pytest.mark.parametrize("setting", ["ca_bundle", "client_certificate", "client_key"])
@pytest.mark.parametrize("kind", ["named pipe", "pipe of a shell"])
def test_pipe_is_no_certificate(tmp_path: Path, setting: str, kind: str) -> None:
    if kind == "named pipe":
        path = str(tmp_path / "pipe")
        os.mkfifo(path)
        ends = [os.open(path, os.O_RDWR)]
    else:
        ends = list(os.pipe())
        path = f"/dev/fd/{ends[0]}"
    os.write(ends[-1], b"-----BEGIN CERTIFICATE-----\n")
    options: dict[str, Any] = {"client_certificate": __file__} if setting == "client_key" else {}
    options[setting] = path
    try:
        with pytest.raises(ConfigurationError, match=f"{setting}.* is a pipe; use a regular file"):
            tls_context(ConnectionOptions(**options))
    finally:
        for end in ends:
            os.close(end)


@pytest.mark.parametrize(
    "text",
    [
        'a = """' + '\\"""\n' * 150_000,
        'a = "' + '\\"' * 400_000,
        'a = "' + '\\"\n' * 250_000,
        "a = '''" + "''\n" * 250_000,
        "a = '" + "x" * 800_000,
    ],
    ids=["lines", "one line", "many lines", "single quotes", "one single quote"],
)
def test_string_without_an_end_is_refused_before_it_takes_long(tmp_path: Path, text: str) -> None:
    (tmp_path / "services.toml").write_text(f"{text}# {'.' * 100}")
    with pytest.raises(ConfigurationError, match="is not TOML"):
        read_configuration(tmp_path / "services.toml")


@pytest.mark.parametrize(
    "text",
    [
        "a" + ".a" * 30_000 + " = 1",
        "[services." + "'a' . " * 30_000 + "a]",
        "x = {" + "a." * 30_000 + "a = 1}",
        '"\\"".' * 30_000 + "a = 1",
        'x = ["""\'""""", \'\'\'"\'\'\'\']\n' + "'a'.\"b\"." * 15_000 + "a = 1  # '",
        "a" + ".a" * 100 + " = 1",
    ],
    ids=["key", "table", "inline table", "escapes", "behind odd quotes", "101 parts"],
)
def test_key_with_many_parts_is_refused_before_it_takes_long(tmp_path: Path, text: str) -> None:
    (tmp_path / "services.toml").write_text(text)
    with pytest.raises(ConfigurationError, match="more than 100 parts"):
        read_configuration(tmp_path / "services.toml")


def test_key_with_a_hundred_parts_is_read(tmp_path: Path) -> None:
    (tmp_path / "services.toml").write_text("[services.a]\nprovider = 'toy'\na" + ".a" * 99 + " = 1\n")
    assert "a" in read_configuration(tmp_path / "services.toml").services["a"]


def test_text_with_many_dots_is_no_key(tmp_path: Path) -> None:
    system = "One. Two words. " * 300 + "v1.2.3 " * 100
    (tmp_path / "services.toml").write_text(f'[services.a]\nprovider = "toy"\nsystem = "{system}"\n"{"." * 200}" = 1\n')
    assert read_configuration(tmp_path / "services.toml").services["a"]["system"] == system


def test_number_with_too_many_digits_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "services.toml").write_text(f"[services.a]\nmax_retries = {'9' * 5000}\n")
    with pytest.raises(ConfigurationError, match="is not TOML"):
        read_configuration(tmp_path / "services.toml")

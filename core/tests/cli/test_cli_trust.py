"""Fault class 82: a file that somebody else wrote is not used unasked, and one that others can write never is."""

from __future__ import annotations

import os
import stat
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

FILE = Path("trunkline.toml")
TEXT = """\
[services.helper]
provider = "fake"
default_model = "echo"
api_key = { env = "FAKE_API_KEY" }
headers = { X-A = { file = "~/.config/gh/token" }, X-B = { env = "GITHUB_TOKEN" } }
proxy = "http://user:hunter22@proxy.example:3128"
"""
CORP = """\
from trunkline import Secret
from trunkline.authoring.extension import Extension, ExtensionSettings
from trunkline.settings import setting, settings

@settings
class CorpSettings(ExtensionSettings):
    extension = "corp"
    token_url: str = setting("Token URL", "Where the tokens come from.")
    secret: Secret = setting("Secret", "The secret.")
    key: Secret | None = setting("Key", "The key.", default=None, environment=("CORP_KEY",))
    level: int = setting("Level", "How much.", default=1)

extension = Extension(name="corp", settings=CorpSettings, make=print)
"""
CODE = "import sys; from trunkline.cli import main; sys.exit(main())"
posix = pytest.mark.skipif(os.name != "posix", reason="Windows has no modes")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str) -> Path:
    """A home folder with the files that the configuration names."""
    folder = tmp_path / "home"
    (folder / ".config/gh").mkdir(parents=True)
    (folder / ".config/gh/token").write_text("gho-canary-123456\n")
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("GITHUB_TOKEN", "ghp-canary-123456")
    FILE.write_text(TEXT)
    return folder


@pytest.mark.parametrize(
    "command", [("chat", "Hi"), ("chat", "-s", "helper", "Hi"), ("check",), ("models",), ("models", "-s", "helper")]
)
def test_a_file_that_was_found_is_refused_where_nobody_can_be_asked(
    call: Any, home: Path, tmp_path: Path, command: tuple[str, ...]
) -> None:
    status, out, err = call(*command)
    assert (status, out) == (2, "")
    assert "trunkline trust" in err
    assert "--config" in err
    assert not (tmp_path / "log").exists(), "nothing was sent"


def test_a_person_is_asked_once_and_again_after_a_change(terminal: Any, home: Path) -> None:
    screen = terminal("chat", "Hi")
    shown = screen.wait_for(r"Trust this file\? \[y/N\] ")
    for part in (
        str(FILE.absolute()),
        "service helper, provider fake",
        "environment variable FAKE_API_KEY",
        "environment variable GITHUB_TOKEN",
        "the file ~/.config/gh/token",
        "proxy.example",
    ):
        assert part in shown
    assert "canary" not in shown
    assert "hunter22" not in shown
    screen.enter("y\n")
    status, shown = screen.end()
    assert status == 0 or "proxy" in shown
    assert "Trust" not in terminal("models", "--json").end()[1]
    FILE.write_text(TEXT.replace("helper", "changed"))
    screen = terminal("chat", "Hi")
    screen.wait_for(r"Trust this file\?")
    screen.enter("\n")
    status, shown = screen.end()
    assert status == 2
    assert "not trusted" in shown


def test_trust_is_given_for_one_path_and_can_be_revoked(call: Any, home: Path, tmp_path: Path) -> None:
    text = TEXT.replace("proxy =", "#")
    FILE.write_text(text)
    status, _, err = call("trust")
    assert status == 0
    assert "environment variable GITHUB_TOKEN" in err
    assert call("chat", "Hi")[:2] == (0, "You said: Hi\n")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / FILE).write_text(text)
    os.chdir(elsewhere)
    assert call("chat", "Hi")[0] == 2
    os.chdir(tmp_path / "work")
    assert call("trust", "--revoke")[0] == 0
    assert call("chat", "Hi")[0] == 2


def test_an_older_content_is_not_trusted_any_more(call: Any, home: Path) -> None:
    call("trust")
    FILE.write_text(TEXT + "# changed\n")
    call("trust")
    FILE.write_text(TEXT)
    assert call("models")[0] == 2


def test_a_file_that_the_user_names_is_used(call: Any, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FILE.write_text(TEXT.replace("proxy =", "#"))
    assert call("chat", "-c", str(FILE), "Hi")[0] == 0
    monkeypatch.setenv("TRUNKLINE_CONFIG", str(FILE))
    assert call("chat", "Hi")[0] == 0


def test_a_file_that_init_wrote_is_trusted(call: Any, key: str) -> None:
    assert call("init", "-p", "fake", "--secret", "api_key=env:FAKE_API_KEY", "--set", "default_model=echo")[0] == 0
    assert call("chat", "Hi")[0] == 0


def test_a_secret_in_the_file_is_not_shown(call: Any, home: Path) -> None:
    FILE.write_text('[services.a]\nprovider = "fake"\napi_key = "canary-key-1234567890"\nlevel = 3\n')
    _, _, err = call("trust")
    assert "api_key = ***" in err
    assert "level = 3" in err
    assert "canary" not in err


def test_variables_that_the_provider_reads_without_being_named_are_shown(call: Any, home: Path) -> None:
    FILE.write_text('[services.a]\nprovider = "fake"\nregion = "there"\n')
    assert "environment variable FAKE_API_KEY" in call("trust")[2]


@pytest.mark.parametrize("value", ['""', '" \\n"', '{ file = "empty" }', '{ env = "BLANK" }'])
def test_variable_that_is_read_in_place_of_a_blank_key_is_shown(call: Any, home: Path, value: str) -> None:
    FILE.write_text(f'[services.a]\nprovider = "\ufefffake "\napi_key = {value}\n')
    assert "reads and sends the environment variable FAKE_API_KEY" in call("trust")[2]


def test_default_behind_a_reference_is_shown(call: Any, home: Path) -> None:
    FILE.write_text(
        '[defaults]\nproxy = "http://evil.example:1"\n[services.a]\nprovider = "fake"\nproxy = { file = "empty" }\n'
    )
    assert "proxy = http://evil.example:1 if its reference is blank" in call("trust")[2]


def test_effects_of_extensions_are_shown(
    call: Any, site: Any, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.install("dist-corp", {"trunkline.extensions": {"corp": "corp_extension:extension"}}, {"corp_extension": CORP})
    monkeypatch.setenv("CORP_KEY", "corp-canary-123456")
    Path("token").symlink_to(home / ".config/gh/token")
    FILE.write_text(
        '[services.a]\nprovider = "fake"\ndefault_model = "echo"\n[[services.a.extensions]]\nname = "plain"\n'
        '[[services.a.extensions]]\nname = "corp"\ntoken_url = "https://evil.example/t"\nlevel = 3\n'
        'secret = { env = "AWS_SECRET_ACCESS_KEY" }\nfile = { file = "token" }\nsceret = "canary-key-1234567890"\n'
    )
    err = call("trust")[2]
    assert "extensions = plain, corp" in err
    assert "sends to: https://evil.example/t (extensions.corp.token_url)" in err
    assert "reads and sends the environment variable AWS_SECRET_ACCESS_KEY (extensions.corp.secret)" in err
    assert "reads and sends the environment variable CORP_KEY (corp.key)" in err
    assert "extensions.corp.level = 3" in err
    assert "extensions.corp.sceret = ***" in err
    assert "canary" not in err
    assert f"the file token, a link to {(home / '.config/gh/token').resolve()} (extensions.corp.file)" in err
    assert "not trusted" not in call("models", "-s", "a")[2]
    Path("token").unlink()
    Path("token").symlink_to(home / "other")
    assert "not trusted" in call("models", "-s", "a")[2]


def test_a_long_file_cannot_push_the_rest_off_the_screen(call: Any, home: Path) -> None:
    FILE.write_text("".join(f'[services.s{number}]\nprovider = "fake"\n' for number in range(300)))
    err = call("trust")[2]
    assert "280 more services" in err
    assert len(err.splitlines()) < 100


def test_settings_cannot_push_a_host_or_a_secret_off_the_screen(call: Any, home: Path) -> None:
    many = "".join(f"x-{number} = 'on'\n" for number in range(300))
    last = 'x-trace = { env = "AWS_SECRET_ACCESS_KEY" }\nHost = "evil.example"\n'
    FILE.write_text(f'[services.a]\nprovider = "fake"\n[services.a.headers]\n{many}{last}')
    err = call("trust")[2]
    assert "reads and sends the environment variable AWS_SECRET_ACCESS_KEY" in err
    assert "headers.Host = evil.example" in err
    assert len(err.splitlines()) < 100


@posix
def test_a_link_to_a_secret_is_shown_and_trusted_only_while_it_leads_there(call: Any, home: Path) -> None:
    (home / "token").write_text("a-token-of-mine")
    (home / "other").write_text("another-token")
    Path("public.txt").symlink_to(home / "token")
    FILE.write_text('[services.a]\nprovider = "fake"\ndefault_model = "echo"\napi_key = { file = "public.txt" }\n')
    assert f"the file public.txt, a link to {(home / 'token').resolve()}" in call("trust")[2]
    assert call("chat", "Hi")[0] == 0
    Path("public.txt").unlink()
    Path("public.txt").symlink_to(home / "other")
    assert "not trusted" in call("chat", "Hi")[2]


@posix
def test_a_link_that_moves_to_another_reference_is_not_trusted(call: Any, home: Path) -> None:
    (home / "token").write_text("a-token-of-mine")
    Path("one.txt").symlink_to(home / "token")
    Path("two.txt").write_text("another-token")
    FILE.write_text(
        '[services.a]\nprovider = "fake"\ndefault_model = "echo"\napi_key = { file = "one.txt" }\n'
        '[services.b]\nprovider = "fake"\napi_key = { file = "two.txt" }\n'
    )
    assert "the file one.txt, a link to" in call("trust")[2]
    assert call("chat", "--service", "a", "Hi")[0] == 0
    Path("one.txt").replace("two.txt")
    Path("one.txt").write_text("another-token")
    assert "not trusted" in call("chat", "--service", "a", "Hi")[2]


def test_a_file_with_too_many_references_to_show_is_not_trusted(call: Any, home: Path) -> None:
    many = "".join(f'x-{number} = {{ env = "V{number}" }}\n' for number in range(300))
    FILE.write_text(f'[services.a]\nprovider = "fake"\n[services.a.headers]\n{many}')
    status, _, err = call("trust")
    assert status != 0
    assert "too many to be shown" in err
    assert "not trusted" in call("chat", "Hi")[2]


def test_a_long_name_of_a_service_is_cut(call: Any, home: Path) -> None:
    FILE.write_text(f'[services.{"a-" * 9000}]\nprovider = "fake"\n')
    assert len(call("trust")[2]) < 3000


def test_the_whole_host_is_shown_and_the_ends_of_long_paths(call: Any, home: Path) -> None:
    host = ".".join(("api.example.com", *(["-".join(["part"] * 12)] * 3), "evil.example"))
    file = "./" * 500 + "token"
    FILE.write_text(
        f'[services.a]\nprovider = "fake"\napi_url = "https://{host}/v1"\nproxy = "https://{host}/v2"\n'
        f'api_key = {{ file = "{file}" }}\n'
    )
    err = call("trust")[2]
    assert f"sends to: https://{host}/v1 (api_url)" in err
    assert f"sends to: https://{host}/v2 (proxy)" in err
    assert "./token (api_key)" in err


def test_a_host_that_imitates_another_is_shown_in_ascii(call: Any, home: Path) -> None:
    FILE.write_text('[services.a]\nprovider = "fake"\napi_url = "https://\u0430pi.example"\n')
    assert "xn--pi-6kc.example" in call("trust")[2]


def test_constants_in_tables_are_shown_without_secrets(call: Any, home: Path) -> None:
    many = "".join(f"k{number} = 1\n" for number in range(300))
    FILE.write_text(
        f'[services.a]\nprovider = "fake"\n{many}'
        'headers = { Host = "a1b2c3.evil.example", X-App = "mine", Authorization = "canary-1" }\n'
    )
    err = call("trust")[2]
    assert "headers.Host = a1b2c3.evil.example" in err
    assert "headers.X-App = mine" in err
    assert "headers.Authorization = ***" in err
    assert "canary-1" not in err


def test_credentials_that_the_provider_finds_by_itself_are_shown(
    call: Any, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    FILE.write_text('[services.a]\nprovider = "spare"\n')
    assert "the credentials of the machine" not in call("trust")[2]
    monkeypatch.delenv("FAKE_API_KEY")
    assert "sends the credentials of the machine" in call("trust")[2]
    # The passphrase of a client certificate is a secret, but not one that the provider gets.
    FILE.write_text('[services.a]\nprovider = "spare"\nclient_key_passphrase = "x12345678"\n')
    assert "sends the credentials of the machine" in call("trust")[2]


def test_messages_about_a_path_are_one_line(call: Any, home: Path) -> None:
    Path("x\ny").write_text(TEXT)
    for arguments in (["x\ny"], ["--revoke", "x\ny"], ["--revoke", "x\ny"]):
        assert "\ny" not in call("trust", *arguments)[2]


@posix
@pytest.mark.parametrize(
    "redirect", ["--config <(cat FILE)", "--config /dev/stdin < FILE", "--config /dev/stdin <<< x"]
)
def test_a_pipe_that_the_user_names_is_read(site: Any, home: Path, redirect: str) -> None:
    if not Path("/bin/bash").exists():
        pytest.skip("needs bash")
    named = Path("other.toml")
    named.write_text('[services.piped]\nprovider = "fake"\ndefault_model = "echo"\n')
    redirect = redirect.replace("FILE", str(named)).replace("<<< x", f'<<< "$(cat {named})"')
    done = subprocess.run(
        ["/bin/bash", "-c", f'"$0" -c "$1" models {redirect}', sys.executable, CODE],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=dict(os.environ),
    )
    assert done.returncode == 0, done.stderr


@posix
def test_a_named_pipe_in_the_place_of_a_file_is_refused_at_once(call: Any, home: Path, tmp_path: Path) -> None:
    os.mkfifo("pipe")
    assert "not a regular file" in call("trust", "pipe")[2]
    call("trust")
    [entry] = (tmp_path / "state/trunkline/trusted").iterdir()
    entry.unlink()
    os.mkfifo(entry)
    assert "not a regular file" in call("models")[2]


def test_a_record_that_cannot_be_parsed_is_no_trust(call: Any, home: Path, tmp_path: Path) -> None:
    call("trust")
    [entry] = (tmp_path / "state/trunkline/trusted").iterdir()
    entry.write_text("[" * 100_000)
    status, _, err = call("models")
    assert status == 2
    assert "not trusted" in err


@posix
def test_records_are_not_kept_relative_to_the_current_folder(
    call: Any, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", ".")
    status, _, err = call("trust")
    assert status == 1
    assert "home folder is not absolute" in err
    assert [path.name for path in Path().iterdir()] == [FILE.name]


def group_writable(file: Path) -> None:
    os.chown(file, -1, 12345)
    file.chmod(0o660)


def writable_folder(file: Path) -> None:
    file.parent.chmod(0o777)


def writable_ancestor(file: Path) -> None:
    file.parent.parent.chmod(0o777)


def linked(file: Path) -> None:
    target = file.parent / "target.toml"
    file.rename(target)
    file.symlink_to(target)
    target.chmod(0o666)


def linked_into_a_writable_folder(file: Path) -> None:
    folder = file.parent / "shared"
    folder.mkdir()
    folder.chmod(0o777)
    file.rename(folder / "target.toml")
    file.symlink_to(folder / "target.toml")


def of_another_user(file: Path) -> None:
    os.chown(file, 12345, -1)


def link_of_another_user(file: Path) -> None:
    target = file.parent / "target.toml"
    file.rename(target)
    file.symlink_to(target)
    os.chown(file, 12345, -1, follow_symlinks=False)


def behind_a_link_in_a_writable_folder(file: Path) -> None:
    inner = file.parent / "inner"
    inner.mkdir()
    file.rename(inner / file.name)
    shared = file.parent / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    (shared / "link").symlink_to(inner)
    file.symlink_to(shared / "link" / file.name)


def behind_a_link_of_another_user(file: Path) -> None:
    behind_a_link_in_a_writable_folder(file)
    shared = file.parent / "shared"
    shared.chmod(0o755)
    os.chown(shared / "link", 12345, -1, follow_symlinks=False)


def in_a_folder_with_an_access_list(file: Path) -> None:
    if not hasattr(os, "setxattr"):
        pytest.skip("needs access control lists")
    # Version 2, then (tag, permissions, id): the user 12345 may write. See acl(5).
    entries = [(1, 7, -1), (2, 7, 12345), (4, 5, -1), (16, 7, -1), (32, 5, -1)]
    value = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
    try:
        os.setxattr(file.parent, "system.posix_acl_access", value)
    except OSError:
        pytest.skip("the file system has no access control lists")


@posix
@pytest.mark.parametrize("named", [True, False], ids=["named", "found"])
@pytest.mark.parametrize(
    "spoil",
    [
        lambda file: file.chmod(0o666),
        lambda file: file.chmod(0o602),
        group_writable,
        writable_folder,
        writable_ancestor,
        linked,
        linked_into_a_writable_folder,
        of_another_user,
        link_of_another_user,
        behind_a_link_in_a_writable_folder,
        behind_a_link_of_another_user,
        in_a_folder_with_an_access_list,
    ],
    ids=[
        "0666",
        "0602",
        "group",
        "folder",
        "ancestor",
        "link",
        "link-folder",
        "owner",
        "link-owner",
        "inner-link",
        "inner-link-owner",
        "acl",
    ],
)
def test_a_file_that_others_can_write_is_refused(
    call: Any, home: Path, spoil: Callable[[Path], None], named: bool, tmp_path: Path
) -> None:
    call("trust")
    file = FILE.absolute()
    try:
        spoil(file)
    except PermissionError:
        pytest.skip("only root may change owners")
    status, _, err = call("chat", *(("-c", str(FILE)) if named else ()), "Hi")
    tmp_path.chmod(0o700)
    assert status == 1
    assert "is not used" in err
    assert "chmod go-w" in err or "copy" in err
    assert not (tmp_path / "log").exists(), "nothing was sent"


@posix
def test_a_store_that_others_can_write_is_refused(call: Any, home: Path, tmp_path: Path) -> None:
    call("trust")
    [entry] = (tmp_path / "state/trunkline/trusted").iterdir()
    assert stat.S_IMODE(entry.stat().st_mode) == 0o600
    assert stat.S_IMODE(entry.parent.stat().st_mode) == 0o700
    entry.parent.chmod(0o777)
    assert "is not used" in call("models")[2]


def test_a_file_can_be_trusted_for_once_if_nothing_can_be_remembered(
    terminal: Any, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    FILE.write_text(TEXT.replace("proxy =", "#"))
    (home / "no-folder").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(home / "no-folder"))
    screen = terminal("chat", "Hi")
    screen.wait_for(r"Trust this file\?")
    screen.enter("y\n")
    status, shown = screen.end()
    assert status == 0
    assert "cannot be remembered" in shown


@pytest.mark.parametrize(
    ("pasted", "shown"),
    [
        ("https:/evil.example/v1", "https://evil.example/v1"),
        ("https:\\\\evil.example", "https://evil.example"),
        ("https:/user:hidden-word@evil.example", "https://evil.example"),
        ("https:/evil.example/" + "b/" * 300, "https://evil.example/b/"),
        ("https://api.example.com\u200b.evil.example", "https://api.example.com.evil.example"),
        ("proxy:3128", "proxy:3128"),
    ],
)
def test_host_that_is_called_is_shown(pasted: str, shown: str) -> None:
    from trunkline.cli.trust import _address

    assert _address(pasted).startswith(shown)
    assert "hidden-word" not in _address(pasted)

"""A service is added to the text of a configuration file, and the rest of the text stays."""

from __future__ import annotations

import os
import stat
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, strategies as st
from trunkline import ConfigurationError
from trunkline.cli.file_edit import service_text, with_service, write_file

NEW = {"provider": "x", "level": 3, "api_key": {"env": "KEY"}}
ADDED = '[services.new]\nprovider = "x"\nlevel = 3\napi_key = { env = "KEY" }\n'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ADDED),
        ("# only a comment", f"# only a comment\n\n{ADDED}"),
        ('[services.a]\nprovider = "y" # why\n', f'[services.a]\nprovider = "y" # why\n\n{ADDED}'),
        ('[services.a]\nprovider = "y"\n\n\n', f'[services.a]\nprovider = "y"\n\n\n{ADDED}'),
        ("[services]\n", f"[services]\n\n{ADDED}"),
        ("[defaults]\nstrict = true\n", f"[defaults]\nstrict = true\n\n{ADDED}"),
        (
            # After the last service, which is not the first; the comment of the next table stays with it.
            "[services.a]\nx = 1\n\n[defaults]\ny = 1\n\n[services.b]\nz = 1\n# of b\n\n# of other\n[other]\n",
            "[services.a]\nx = 1\n\n[defaults]\ny = 1\n\n[services.b]\nz = 1\n# of b\n\n"
            + ADDED
            + "\n# of other\n[other]\n",
        ),
        (
            "[services.a]\nx = 1\n[services.a.headers]\ny = 'z'",
            f"[services.a]\nx = 1\n[services.a.headers]\ny = 'z'\n\n{ADDED}",
        ),
        ("services.a.x = 1\ndefaults.y = 2\n", f"services.a.x = 1\ndefaults.y = 2\n\n{ADDED}"),
        (
            "services = { a = { x = 1 } } # one line\n",
            'services = { a = { x = 1 }, new = { provider = "x", level = 3, api_key = { env = "KEY" } }} # one line\n',
        ),
        ("\ufeff[services.a]\nx = 1\n", f"\ufeff[services.a]\nx = 1\n\n{ADDED}"),
        ("[services.a]\r\nx = 1\r\n", "[services.a]\r\nx = 1\r\n\r\n" + ADDED.replace("\n", "\r\n")),
    ],
)
def test_service_is_added_after_the_last_one(text: str, expected: str) -> None:
    edited = with_service(text, "new", NEW)
    assert edited == expected
    assert tomllib.loads(edited.removeprefix("\ufeff"))["services"]["new"] == NEW


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            '# top\n[services.new]\n# of it\nprovider = "x" # kept\nold = 1\nlevel = 2 # how high\n\n'
            "# of b\n[services.b]\nz = 1\n",
            '# top\n[services.new]\n# of it\nprovider = "x" # kept\nlevel = 3 # how high\napi_key = { env = "KEY" }\n\n'
            "# of b\n[services.b]\nz = 1\n",
        ),
        (
            '[services.new]\nprovider = "y"\n[services.new.headers]\na = "b"\n\n# of b\n[services.b]\nz = 1\n',
            f"{ADDED}\n# of b\n[services.b]\nz = 1\n",
        ),
        (
            "services.new = { provider = 'y' }\n",
            'services.new = { provider = "x", level = 3, api_key = { env = "KEY" } }\n',
        ),
        ("[services.new]\nlevel = 3\n[defaults]\n[services.b]\nz = 1\n", None),
    ],
)
def test_only_the_service_is_replaced(text: str, expected: str | None) -> None:
    with pytest.raises(ConfigurationError, match="already has a service 'new'"):
        with_service(text, "new", NEW)
    edited = with_service(text, "new", NEW, replace=True)
    assert expected in (None, edited)
    assert tomllib.loads(edited) == {**tomllib.loads(text), "services": {**tomllib.loads(text)["services"], "new": NEW}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("= 1", "not TOML"),
        ("[services.a]\n[services.a]\n", "not TOML"),
        ("services = 1", "services is not a table"),
        ("[[services]]\n", "services is not a table"),
    ],
)
def test_text_that_cannot_be_edited_is_an_error(text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        with_service(text, "new", NEW)


values = st.recursive(
    st.text(st.characters(exclude_categories=["Cs"]))
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=3)
    ),
    max_leaves=8,
)
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


@given(names, st.dictionaries(names, values, max_size=4))
def test_service_is_read_back_as_it_was_written(name: str, table: dict[str, object]) -> None:
    assert tomllib.loads(service_text(name, table)) == {"services": {name: table}}
    assert tomllib.loads(with_service("[services.a]\n", name, table, replace=True))["services"][name] == table


@pytest.mark.parametrize("value", [None, b"x", "\ud800", object()])
def test_value_that_toml_does_not_have_is_an_error(value: object) -> None:
    with pytest.raises(ConfigurationError, match="cannot be written"):
        service_text("new", {"x": value})


def test_new_file_is_only_for_the_user_and_an_old_one_keeps_its_mode(tmp_path: Path) -> None:
    new, old, link = tmp_path / "new", tmp_path / "old", tmp_path / "link"
    write_file(new, "é\r\n")
    assert new.read_bytes() == "é\r\n".encode()
    assert stat.S_IMODE(new.stat().st_mode) == 0o600
    old.write_text("old")
    old.chmod(0o640)
    link.symlink_to("old")
    write_file(link, "changed")
    assert (link.is_symlink(), old.read_text(), stat.S_IMODE(old.stat().st_mode)) == (True, "changed", 0o640)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "new", "old"]


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "old"
    old.write_text("old")

    def full(descriptor: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_file(old, "new")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]

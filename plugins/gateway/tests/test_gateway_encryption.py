"""Encryption at rest, and the file of its key."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from trunkline import Secret
from trunkline_gateway.encryption import Encryption, EncryptionError


def test_the_key_file_is_made_once_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "encryption.key"
    token = Encryption.from_file(path).encrypt("señor \0")
    assert "señor" not in token
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Encryption.from_file(path).decrypt(token) == "señor \0"
    assert list(tmp_path.iterdir()) == [path]


def test_starts_at_the_same_time_get_the_same_key(tmp_path: Path) -> None:
    path = tmp_path / "encryption.key"
    barrier = threading.Barrier(8)
    made: list[Encryption] = []

    def start() -> None:
        barrier.wait()
        made.append(Encryption.from_file(path))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 8
    assert {one.decrypt(made[0].encrypt("x")) for one in made} == {"x"}


@pytest.mark.skipif(os.name != "posix", reason="needs modes of files")
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o602])
def test_a_key_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "encryption.key"
    Encryption.from_file(path)
    path.chmod(mode)
    with pytest.raises(EncryptionError, match="chmod 600"):
        Encryption.from_file(path)


@pytest.mark.parametrize("text", ["", ",", "short", "é", "A" * 44 + "!", "sk-secret-123"])
def test_what_is_no_key_is_refused_without_showing_it(tmp_path: Path, text: str) -> None:
    with pytest.raises(EncryptionError, match="32 random bytes") as raised:
        Encryption(Secret(text))
    assert "sk-secret" not in str(raised.value)
    path = tmp_path / "encryption.key"
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    with pytest.raises(EncryptionError, match=r"encryption\.key"):
        Encryption.from_file(path)


def test_a_folder_that_does_not_exist_is_reported(tmp_path: Path) -> None:
    with pytest.raises(EncryptionError, match="cannot be read or made: No such file"):
        Encryption.from_file(tmp_path / "nowhere" / "encryption.key")


def test_another_key_cannot_decrypt_and_a_rotated_one_can() -> None:
    old, new = (Fernet.generate_key().decode() for _ in range(2))
    token = Encryption(Secret(old)).encrypt("secret")
    with pytest.raises(EncryptionError, match=r"another key.*after a comma"):
        Encryption(Secret(new)).decrypt(token)
    both = Encryption(Secret(f"{new}, {old}"))
    assert both.decrypt(token) == "secret"
    assert Encryption(Secret(new)).decrypt(both.rotate(token)) == "secret"
    with pytest.raises(EncryptionError):
        Encryption(Secret(new)).rotate("not a token")

"""Encryption of the services' secrets at rest."""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from trunkline import Secret

from trunkline_gateway.settings import GatewaySettings


class EncryptionError(Exception):
    """The secrets cannot be decrypted, or the key is not one. Says what to do."""


class Encryption:
    """Encrypts and decrypts text (`cryptography.fernet.MultiFernet`)."""

    def __init__(self, keys: Secret) -> None:
        """`keys` are Fernet keys, separated by commas; the first encrypts. Raises `EncryptionError`."""
        parts = [part.strip() for part in keys.reveal().split(",")]
        try:
            self._fernet = MultiFernet([Fernet(part) for part in parts if part])
        except ValueError:
            # Its text may have the key.
            raise EncryptionError(
                "the encryption key is not one: it is 32 random bytes in URL-safe base64 (44 characters); several are "
                "separated by commas. Make one with: python -c "
                '"from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())"'
            ) from None

    @classmethod
    def from_file(cls, path: Path) -> Encryption:
        """Read the key from a file that only its owner may read, which is made with a new key if it does not exist."""
        try:
            if not path.exists():
                _make(path)
            with path.open(encoding="ascii") as file:
                mode = os.fstat(file.fileno()).st_mode
                if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
                    raise EncryptionError(
                        f"the encryption key {path} can be read by other users of this machine (mode "
                        f"{stat.S_IMODE(mode):04o}). Forbid it: chmod 600 {path}"
                    )
                text = file.read(100_000)
        except OSError as error:
            raise EncryptionError(f"the encryption key {path} cannot be read or made: {error.strerror}") from error
        except UnicodeDecodeError:
            text = ""
        try:
            return cls(Secret(text))
        except EncryptionError as error:
            raise EncryptionError(f"the file {path}: {error}") from None

    def encrypt(self, text: str) -> str:
        """Encrypt."""
        return self._fernet.encrypt(text.encode()).decode("ascii")

    def decrypt(self, token: str) -> str:
        """Decrypt. Raises `EncryptionError`."""
        try:
            return self._fernet.decrypt(token).decode()
        except InvalidToken:
            raise _other_key() from None

    def rotate(self, token: str) -> str:
        """Encrypt with the first key what was encrypted with any. Raises `EncryptionError`."""
        try:
            return self._fernet.rotate(token).decode("ascii")
        except InvalidToken:
            raise _other_key() from None


def _other_key() -> EncryptionError:
    return EncryptionError(
        "the secrets in the database were encrypted with another key. Give that key: put its file encryption.key back, "
        "or set it as the encryption key (TRUNKLINE_GATEWAY_ENCRYPTION_KEY), after a comma if there is a new one"
    )


def _make(path: Path) -> None:
    """Make the file with a new key. Of several processes that do so at once, one wins, and its file is whole."""
    own = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(own, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(Fernet.generate_key() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(own, path)
    finally:
        own.unlink()


def encryption_of(settings: GatewaySettings) -> Encryption:
    """Return the encryption with the key of the settings, or of the file in `data_dir`. Raises `EncryptionError`."""
    key = settings.encryption_key
    return Encryption(key) if key is not None else Encryption.from_file(settings.data_dir / "encryption.key")

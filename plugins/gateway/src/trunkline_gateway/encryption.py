"""Encryption of the services' secrets at rest."""

from __future__ import annotations

from pathlib import Path

from trunkline import Secret


class EncryptionError(Exception):
    """The secrets cannot be decrypted, or the key is not one. Says what to do."""


class Encryption:
    """Encrypts and decrypts text (`cryptography.fernet.MultiFernet`)."""

    def __init__(self, keys: Secret) -> None:
        """`keys` are Fernet keys, separated by commas; the first encrypts. Raises `EncryptionError`."""
        raise NotImplementedError

    @classmethod
    def from_file(cls, path: Path) -> Encryption:
        """Read the key from a file that only its owner may read, which is made with a new key if it does not exist."""
        raise NotImplementedError

    def encrypt(self, text: str) -> str:
        """Encrypt."""
        raise NotImplementedError

    def decrypt(self, token: str) -> str:
        """Decrypt. Raises `EncryptionError`."""
        raise NotImplementedError

"""TLS contexts, and the errors of certificate files that cannot be used."""

from __future__ import annotations

import os
import re
import ssl
import sys
from pathlib import Path

from trunkline._files import UnreadableFile, read_file
from trunkline._http.common import ConnectionOptions
from trunkline.errors import ConfigurationError

MAX_PEM_SIZE = 64 * 1024 * 1024
"""The largest file of certificates, in bytes."""

_HASHED = re.compile(r"[0-9a-fA-F]{8}\.r?\d+")


def tls_context(options: ConnectionOptions) -> ssl.SSLContext:
    """Create the TLS context of a service's connections.

    The trusted authorities are those of the setting `ca_bundle`, else of the environment variable `SSL_CERT_FILE` or
    `SSL_CERT_DIR`, else the system's. Raises `ConfigurationError`, which names the setting or the variable and the
    file, if a file cannot be used.
    """
    check_key_log()
    context = _server_checks(options)
    if options.client_certificate is not None:
        _add_client_certificate(context, options.client_certificate, options)
    return context


def has_own_files(options: ConnectionOptions) -> bool:
    """Whether the settings name files, so that the context should be created before the first request."""
    return options.ca_bundle is not None or options.client_certificate is not None


def check_key_log() -> None:
    """Raise `ConfigurationError` if the file in the environment variable `SSLKEYLOGFILE` cannot be written.

    `ssl` opens the file for each context, and its error would look like one about certificates. Importing aiohttp
    creates contexts as well.
    """
    path = os.environ.get("SSLKEYLOGFILE")
    if not path or sys.flags.ignore_environment:
        return
    try:
        with Path(path).open("ab"):
            pass
    except OSError as error:
        raise ConfigurationError(
            f"the environment variable SSLKEYLOGFILE: {path!r} cannot be written: {error.strerror}"
        ) from None


def _server_checks(options: ConnectionOptions) -> ssl.SSLContext:
    if not options.verify:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    if options.ca_bundle is not None:
        return _trusting(options.ca_bundle, "setting 'ca_bundle'", "ca_bundle")
    if file := os.environ.get("SSL_CERT_FILE"):
        return _trusting(file, "the environment variable SSL_CERT_FILE")
    if folders := os.environ.get("SSL_CERT_DIR"):
        # OpenSSL accepts several folders and ignores those that do not exist.
        folder = next((folder for folder in folders.split(os.pathsep) if Path(folder).is_dir()), folders)
        _trusting(folder, "the environment variable SSL_CERT_DIR")
        return ssl.create_default_context(capath=folders)
    import httpx2

    return httpx2.create_ssl_context()


def _trusting(path: str, origin: str, setting: str | None = None) -> ssl.SSLContext:
    try:
        if not Path(path).is_dir():
            # OpenSSL opens the file itself, and would wait for ever for another writer of a pipe.
            read_file(path, MAX_PEM_SIZE, pipes=False)
            return ssl.create_default_context(cafile=path)
        if any(_HASHED.fullmatch(file.name) for file in Path(path).iterdir()):
            return ssl.create_default_context(capath=path)
        problem = "has no certificates under the names that OpenSSL looks for; run: openssl rehash " + path
    except ssl.SSLError:
        problem = "is not a file of PEM certificates"
    except UnreadableFile as error:
        problem = str(error)
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
    raise ConfigurationError(f"{origin}: {path!r} {problem}", setting=setting)


def _add_client_certificate(context: ssl.SSLContext, path: str, options: ConnectionOptions) -> None:
    asked = False

    def passphrase() -> str:
        # Without this function, OpenSSL would ask on the terminal.
        nonlocal asked
        asked = True
        return options.client_key_passphrase.reveal() if options.client_key_passphrase else ""

    key = options.client_key
    for setting, file in (("client_certificate", path), ("client_key", key)):
        try:
            if file is not None:
                read_file(file, MAX_PEM_SIZE, pipes=False)
        except UnreadableFile as error:
            raise ConfigurationError(f"setting {setting!r}: {file!r} {error}", setting=setting) from None
    try:
        context.load_cert_chain(path, key, passphrase)
    except (OSError, ValueError):  # ssl.SSLError is an OSError
        pass
    else:
        return
    setting, file = ("client_certificate", path) if key is None else ("client_key", key)
    problem = "is not a PEM certificate with its private key" if key is None else f"is not the PEM key of {path!r}"
    if asked:
        setting = "client_key_passphrase"
        wrong = "is wrong" if options.client_key_passphrase else "is required"
        raise ConfigurationError(f"setting {setting!r} {wrong}: the key in {file!r} is encrypted", setting=setting)
    raise ConfigurationError(f"setting {setting!r}: {file!r} {problem}", setting=setting)

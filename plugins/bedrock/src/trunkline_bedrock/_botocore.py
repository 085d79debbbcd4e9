"""The private parts of botocore that this plugin relies on, all in one place.

Each part has a test in `tests/test_bedrock_private_names.py` that holds it against the installed version, and
`pyproject.toml` caps the range of versions to those that were tried. Importing this module imports botocore, which
blocks for up to a second: import it in a worker thread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from botocore.auth import SIGV4_TIMESTAMP, SigV4Auth  # type: ignore[import-untyped]
from botocore.configprovider import EnvironmentProvider  # type: ignore[import-untyped]

DEBUG_LOGGERS = (
    "botocore.auth",
    "botocore.credentials",
    "botocore.endpoint",
    "botocore.hooks",
    "botocore.httpsession",
    "botocore.parsers",
    "botocore.regions",
    "botocore.retries.standard",
    "botocore.retryhandler",
    "botocore.tokens",
    "botocore.utils",
)
"""The loggers that at DEBUG write requests and responses of the token services, with the secrets in them."""


class Signer(SigV4Auth):  # type: ignore[misc]  # botocore has no types
    """botocore's signer for Signature Version 4, without its debug log and with a clock that can be set.

    `SigV4Auth.add_auth` logs the canonical request, which contains the session token, and reads the time itself. This
    `add_auth` takes the same steps in the same order; the steps are private methods, or undocumented.
    """

    # The base class is given no time.
    def add_auth(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, request: Any, *, now: Callable[[], datetime]
    ) -> None:
        request.context["timestamp"] = now().strftime(SIGV4_TIMESTAMP)
        self._modify_request_before_signing(request)
        to_sign = self.string_to_sign(request, self.canonical_request(request))
        self._inject_signature_to_request(request, self.signature(to_sign, request))


def refresh_only_when_missing(credentials: Any) -> None:
    """Make credentials refresh themselves only if there are none yet.

    botocore refreshes 15 minutes ahead (10 for everybody who asks), which would keep credentials of a short life in a
    constant refresh, and it refuses new credentials that have expired by the clock of this machine, which may be wrong.
    `auth.ChainAuth` decides when to refresh. Credentials that never expire lack these attributes.

    Those of `aws login` stay as they are: they come from a file, where they may have expired long ago, and only their
    own refresh replaces them.
    """
    if hasattr(credentials, "_advisory_refresh_timeout") and credentials.method != "login":
        credentials._advisory_refresh_timeout = credentials._mandatory_refresh_timeout = 0
        credentials._time_fetcher = _long_ago


def read_environment(session: Any, environ: Mapping[str, str]) -> None:
    """Make a session and its credential chain read `environ` instead of the variables of this process.

    For botocore, a blank variable is set: a blank `AWS_PROFILE` names a profile without a name, which does not exist.
    """
    for chain in session.get_component("config_store")._mapping.values():
        for provider in getattr(chain, "_providers", ()):
            if isinstance(provider, EnvironmentProvider):
                provider._env = environ
    for provider in session.get_component("credential_provider").providers:  # which is made now, with these variables
        for attribute in ("environ", "_environ"):
            if hasattr(provider, attribute):
                setattr(provider, attribute, environ)
        names = getattr(provider, "_CONFIG_TO_ENV_VAR", None)  # of the web identity
        if names is not None and not provider._disable_env_vars:
            provider._get_env_config = {key: environ.get(name) for key, name in names.items()}.get


def never_prompt(resolver: Any, prompter: Callable[[str], str]) -> None:
    """Call `prompter` where the chain would ask for an MFA code at the terminal, which stops the event loop.

    It gets the text of the prompt. botocore has no public way to replace `getpass`.
    """
    resolver.get_provider("assume-role")._prompter = prompter


def _long_ago() -> datetime:
    return datetime.fromtimestamp(0, UTC)


def expiry_time(credentials: Any) -> float | None:
    """Return when credentials expire, as a Unix time, or `None` if they do not. No public attribute has it."""
    expiry: datetime | None = getattr(credentials, "_expiry_time", None)
    return expiry.timestamp() if expiry is not None else None

"""Signature Version 4 over a wire request, by botocore's signer. Pure but for the clock, which can be given."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from botocore.auth import SIGV4_TIMESTAMP, SigV4Auth  # type: ignore[import-untyped]
from botocore.awsrequest import AWSRequest  # type: ignore[import-untyped]
from botocore.credentials import ReadOnlyCredentials  # type: ignore[import-untyped]
from trunkline.authoring.wire import WireRequest

from trunkline_bedrock.credentials import Keys

SERVICE = "bedrock"
"""The signing name, of the runtime too."""


def _now() -> datetime:
    return datetime.now(UTC)


class _Signer(SigV4Auth):  # type: ignore[misc]  # botocore has no types
    """botocore's signer without its debug log, which holds the session token, and with a clock of its own."""

    def add_auth(self, request: Any, *, now: Callable[[], datetime] = _now) -> None:
        request.context["timestamp"] = now().strftime(SIGV4_TIMESTAMP)
        self._modify_request_before_signing(request)
        to_sign = self.string_to_sign(request, self.canonical_request(request))
        self._inject_signature_to_request(request, self.signature(to_sign, request))


def sign(wire_request: WireRequest, keys: Keys, region: str, *, now: Callable[[], datetime] = _now) -> WireRequest:
    """The request with its signature.

    It covers the host, the content type, every `x-amz-…` header and the body; other headers may be changed on the way.
    """
    token = keys.session_token.reveal() if keys.session_token is not None else None
    credentials = ReadOnlyCredentials(keys.access_key_id, keys.secret_access_key.reveal(), token)
    covered = {
        name: value
        for name, value in wire_request.headers.items()
        if name in ("content-type", "host") or (name.startswith("x-amz-") and name not in _OWN)
    }
    request = AWSRequest(method=wire_request.method, url=wire_request.url, data=wire_request.body, headers=covered)
    _Signer(credentials, SERVICE, region).add_auth(request, now=now)
    signed = {name.lower(): str(value) for name, value in request.headers.items()}
    return wire_request.with_headers({name: value for name, value in signed.items() if name not in covered})


_OWN = frozenset({"x-amz-date", "x-amz-security-token"})

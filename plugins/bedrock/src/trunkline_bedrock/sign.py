"""Signature Version 4 for a wire request, made by botocore. Pure, except for the clock, which can be passed in.

Importing this module imports botocore, which blocks for up to a second: import it in a worker thread.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from urllib.parse import unquote, urlsplit, urlunsplit

from botocore.awsrequest import AWSRequest  # type: ignore[import-untyped]
from botocore.credentials import ReadOnlyCredentials  # type: ignore[import-untyped]
from trunkline.authoring.wire import WireRequest

from trunkline_bedrock._botocore import Signer
from trunkline_bedrock.credentials import Keys

_CONTENT_HASH = "x-amz-content-sha256"
_SET_BY_SIGNER = frozenset({_CONTENT_HASH, "x-amz-date", "x-amz-security-token"})


def _now() -> datetime:
    return datetime.now(UTC)


def sign(
    wire_request: WireRequest,
    keys: Keys,
    region: str,
    service: str,
    *,
    content_hash: bool = False,
    now: Callable[[], datetime] = _now,
) -> WireRequest:
    """Return the request with its signature, which replaces an earlier one.

    The signature covers the host, the content type, every `x-amz-…` header and the body. Proxies may change any other
    header. `service` is AWS's name for the service in signatures. With `content_hash`, as for S3, the request also gets
    the header `X-Amz-Content-SHA256`.
    """
    token = keys.session_token.reveal() if keys.session_token is not None else None
    credentials = ReadOnlyCredentials(keys.access_key_id, keys.secret_access_key.reveal(), token)
    covered = {
        name: value
        for name, value in wire_request.headers.items()
        if name in ("content-type", "host") or (name.startswith("x-amz-") and name not in _SET_BY_SIGNER)
    }
    added = {_CONTENT_HASH: hashlib.sha256(wire_request.body or b"").hexdigest()} if content_hash else {}
    # botocore encodes the path of the URL once more, as all services but S3 want it. S3 wants it encoded once.
    url = urlsplit(wire_request.url)
    signed_url = urlunsplit(url._replace(path=unquote(url.path))) if service == "s3" else wire_request.url
    request = AWSRequest(
        method=wire_request.method, url=signed_url, data=wire_request.body, headers={**covered, **added}
    )
    Signer(credentials, service, region).add_auth(request, now=lambda: now() + timedelta(seconds=keys.clock_offset))
    signed = {name.lower(): str(value) for name, value in request.headers.items()}
    return wire_request.with_headers({name: value for name, value in signed.items() if name not in covered})

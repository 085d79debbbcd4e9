"""An error body -> the core's error, where Azure's differs from what the dialect's reader makes of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from trunkline.errors import PermissionDenied, RemoteError
from trunkline_openai.errors import error_from_body as read


def error_from_body(
    body: object, *, provider: str, status: int | None = None, headers: Mapping[str, str] = {}
) -> RemoteError:
    """The error that a decoded body tells of. It never raises.

    A token that is good, but whose holder lacks the role, is answered with 401 and the code `PermissionDenied`: another
    token of the same holder would not help.
    """
    error = read(body, provider=provider, status=status, headers=headers)
    if error.status != 401 or (error.code or "").lower() != "permissiondenied":
        return error
    return PermissionDenied(
        f"{error.message} (the role 'Cognitive Services OpenAI User' allows it; a new one takes some minutes)",
        provider=error.provider,
        status=error.status,
        code=error.code,
        request_id=error.request_id,
        retry_after=error.retry_after,
        body=error.body,
    )

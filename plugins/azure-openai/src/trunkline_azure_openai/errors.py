"""Error bodies -> the core's errors, where Azure differs from OpenAI. Pure."""

from __future__ import annotations

from trunkline.authoring.json import JSONValue
from trunkline.errors import PermissionDenied, RemoteError
from trunkline.secrets import Headers, HeaderValues
from trunkline_openai.errors import error_from_body as read


def error_from_body(
    body: JSONValue, *, provider: str, status: int | None = None, headers: HeaderValues = Headers()
) -> RemoteError:
    """The error that a decoded body describes. It never raises."""
    return without_role(read(body, provider=provider, status=status, headers=headers))


def without_role(error: RemoteError) -> RemoteError:
    """Return `PermissionDenied` for a token without the required role, and any other error unchanged.

    A valid token without the required role is refused with 401 and the code `PermissionDenied`. This becomes the error
    `PermissionDenied`, because a new token would be refused as well.
    """
    if error.status != 401 or (error.code or "").lower() != "permissiondenied":
        return error
    return PermissionDenied(
        f"{error.message} (assign the role 'Cognitive Services OpenAI User'; this takes some minutes to have effect)",
        provider=error.provider,
        status=error.status,
        code=error.code,
        request_id=error.request_id,
        retry_after=error.retry_after,
        body=error.body,
    )

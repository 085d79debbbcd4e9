"""The error that a response or a stream carries, as the core's error.

AWS names its errors. The name is in a header, in the body or in a message of the stream, capitalised or not, with a
namespace before it or a URL after it. The name decides first, then the status.
"""

from __future__ import annotations

import re
from html import unescape

from trunkline.authoring.http_errors import ErrorReader, error_body, error_class, request_id_from, status_error
from trunkline.authoring.json import JSONValue, as_object, as_string
from trunkline.authoring.wire import WireResponse
from trunkline.errors import (
    AuthenticationError,
    BadRequest,
    ContentFiltered,
    ContextTooLong,
    NotFound,
    Overloaded,
    PermissionDenied,
    QuotaExhausted,
    RateLimited,
    RemoteError,
    ServerError,
)
from trunkline.secrets import Headers, HeaderValues

REQUEST_ID_HEADER = "x-amzn-requestid"

# By the error's name without the suffix `Exception`: its class, and its status in AWS's model of the service.
_BY_NAME: dict[str, tuple[type[RemoteError], int | None]] = {
    "Validation": (BadRequest, 400),
    "Serialization": (BadRequest, 400),
    "MalformedInput": (BadRequest, 400),
    "Conflict": (BadRequest, 409),
    "AccessDenied": (PermissionDenied, 403),
    "Unauthorized": (AuthenticationError, 401),
    "OptInRequired": (PermissionDenied, 403),
    "SubscriptionRequired": (PermissionDenied, 403),
    "UnrecognizedClient": (AuthenticationError, 403),
    "InvalidClientTokenId": (AuthenticationError, 403),
    "InvalidAccessKeyId": (AuthenticationError, 403),
    "InvalidSignature": (AuthenticationError, 403),
    "SignatureDoesNotMatch": (AuthenticationError, 403),
    "RequestTimeTooSkewed": (AuthenticationError, 403),
    "IncompleteSignature": (AuthenticationError, 403),
    "MissingAuthenticationToken": (AuthenticationError, 403),
    "InvalidToken": (AuthenticationError, 403),
    "InvalidIdentityToken": (AuthenticationError, 400),
    "ExpiredToken": (AuthenticationError, 403),
    "TokenRefreshRequired": (AuthenticationError, 403),
    "RequestExpired": (AuthenticationError, 400),
    "ResourceNotFound": (NotFound, 404),
    "UnknownOperation": (NotFound, 404),
    "ServiceQuotaExceeded": (QuotaExhausted, 400),
    "Throttling": (RateLimited, 429),
    "Throttled": (RateLimited, 429),
    "TooManyRequests": (RateLimited, 429),
    "RequestLimitExceeded": (RateLimited, 429),
    "ModelNotReady": (Overloaded, 429),
    "ModelTimeout": (RemoteError, 408),
    "ModelError": (RemoteError, 424),
    "ModelStreamError": (RemoteError, 424),
    "InternalServer": (ServerError, 500),
    "InternalServerError": (ServerError, 500),
    "InternalFailure": (ServerError, 500),
    "ServiceUnavailable": (Overloaded, 503),
}

# Messages of the models' own servers, which Bedrock passes on.
_TOO_LONG = re.compile(
    r"input is too long|input tokens? exceeded|prompt is too long|maximum context length|"
    r"exceeds? (the )?(model'?s? )?(maximum|max|context)( \w+)? ?(length|window|tokens)|exceeds maximum length|"
    r"too many (input )?tokens: |too large for model with \d+ maximum context|"
    r"exceed(s|ed)? (the )?(model'?s? )?context|reduce the length of the (prompt|input|messages)",
    re.IGNORECASE,
)
_NO_MODEL = re.compile(r"model identifier is invalid|could not resolve the foundation model", re.IGNORECASE)
_BAD_API_KEY = re.compile(r"api key|bearer token", re.IGNORECASE)
_DAILY = re.compile(r"tokens per day|requests per day|daily", re.IGNORECASE)
_FILTERED = re.compile(r"blocked by (our |the )?content filter", re.IGNORECASE)
_SKEWED = re.compile("Signature (expired|not yet current)")
# S3's errors. The elements after these two repeat the signed request.
_XML = re.compile(r"<Error>\s*<Code>([^<]*)</Code>\s*(?:<Message>([^<]*)</Message>)?")
# The text from here on repeats the signed request, including the session token.
_CANONICAL = re.compile(r"The Canonical String|The String-to-Sign")


def error_name(value: object) -> str | None:
    """Return the plain name of an error: `com.amazon.x#throttlingException:http://…` is `ThrottlingException`."""
    if not isinstance(value, str):
        return None
    name = value.partition(":")[0].rpartition("#")[2].strip()
    return name[:1].upper() + name[1:] if name else None


def error_from_response(wire_response: WireResponse, *, provider: str) -> RemoteError:
    """Return the error that a response describes. It never raises, whatever the body is."""
    body = error_body(wire_response)
    if isinstance(body, str) and (found := _XML.search(body)) is not None:
        body = {"Code": unescape(found[1]), "Message": unescape(found[2] or "")}
    headers, fields = wire_response.headers, as_object(body)
    return make_error(
        name=aws_name(headers.get("x-amzn-errortype"), fields.get("__type"), fields.get("code"), fields.get("Code")),
        message=message_of(body),
        status=wire_response.status,
        provider=provider,
        request_id=request_id_from(headers, REQUEST_ID_HEADER),
        headers=headers,
        body=body,
    )


def aws_error(
    body: JSONValue, *, provider: str, status: int | None = None, headers: HeaderValues = Headers()
) -> RemoteError | None:
    """Return the error if AWS describes it, or `None` if an API of OpenAI's or Anthropic's behind AWS does.

    AWS answers itself if it refuses the credentials, and names its errors also where the body is in another form.
    """
    fields = as_object(body)
    inner = as_object(fields.get("error"))
    of_service = headers.get("x-amzn-errortype"), fields.get("__type"), as_object(fields.get("Output")).get("__type")
    names = (*of_service, inner.get("__type"), inner.get("code"), inner.get("type"), fields.get("type"))
    name = next((name for name in map(error_name, names) if is_known(name)), None) or aws_name(*of_service)
    message = message_of(body)
    if time_refused(message):
        name = "InvalidSignatureException"
    bare = not inner and not fields.get("type") and not {"Message", "message"}.isdisjoint(fields)
    request_id = request_id_from(headers, REQUEST_ID_HEADER)
    if name is None and inner.get("code") == "access_denied":
        # With status 401, for a model that the account may not call at Mantle (TanStack/ai#925, July 2026).
        return status_error(
            message,
            provider=provider,
            status=status,
            headers=headers,
            kind=PermissionDenied,
            code="access_denied",
            request_id=request_id,
            body=body,
        )
    if name is None and not bare:
        return None
    return make_error(
        name=name,
        message=message,
        status=status,
        provider=provider,
        request_id=request_id,
        headers=headers,
        body=body,
    )


def or_aws(read: ErrorReader) -> ErrorReader:
    """Return a function that reads an error that AWS describes, or else with `read`, that of the API behind AWS."""

    def read_either(
        body: JSONValue, *, provider: str, status: int | None = None, headers: HeaderValues = Headers()
    ) -> RemoteError:
        found = aws_error(body, provider=provider, status=status, headers=headers)
        return found or read(body, provider=provider, status=status, headers=headers)

    return read_either


def aws_name(*names: object) -> str | None:
    """Return the plain name of the first of `names` that is one."""
    return next(filter(None, map(error_name, names)), None)


def is_known(name: str | None) -> bool:
    """Whether AWS's services use this name of an error."""
    return (name or "").removesuffix("Exception") in _BY_NAME


def time_refused(message: str) -> bool:
    """Whether a message says that AWS refused the time of a signature."""
    return _SKEWED.search(message) is not None


def is_of_s3(error: RemoteError) -> bool:
    """Whether S3 described this error."""
    return "Code" in as_object(error.body)


def is_skewed(error: RemoteError) -> bool:
    """Whether AWS refused the time of a signature: `Signature expired: …` or `Signature not yet current: …`."""
    return _is_skewed((error.code or "").removesuffix("Exception"), error.message)


def _is_skewed(name: str, message: str) -> bool:
    is_signature = name in ("InvalidSignature", "SignatureDoesNotMatch")
    return name == "RequestTimeTooSkewed" or (is_signature and bool(_SKEWED.search(message)))


def message_of(body: object) -> str:
    """Return the message in an error's body, in any of its spellings, or an empty string."""
    if isinstance(body, str):
        return body
    for key in ("message", "Message", "errorMessage", "originalMessage", "error"):
        value = as_object(body).get(key)
        text = as_string(value) or as_string(as_object(value).get("message"))
        if text and text.strip():
            return text
    return ""


def make_error(
    *,
    name: str | None,
    message: str,
    status: int | None,
    provider: str,
    request_id: str | None = None,
    headers: HeaderValues = Headers(),
    body: JSONValue = None,
) -> RemoteError:
    """Make the error for a name, a message and a status, any of which may be missing. It never raises.

    Without an error status, as in a stream, the status is the one that AWS's model of the service gives to the name.
    """
    message = _without_request(message)
    short_name = (error_name(name) or "").removesuffix("Exception")
    kind, usual_status = _BY_NAME.get(short_name, (None, None))
    error_status = status if status is not None and status >= 400 else usual_status
    return status_error(
        _explained(short_name, message),
        provider=provider,
        status=error_status if error_status is not None else status,
        headers=headers,
        kind=_refined(kind or error_class(error_status), short_name, message),
        code=error_name(name),
        request_id=request_id,
        body=_without_request_in(body),
    )


def _refined(kind: type[RemoteError], name: str, message: str) -> type[RemoteError]:
    if issubclass(kind, BadRequest) or name in ("ModelError", "ModelStreamError"):
        if _TOO_LONG.search(message):
            return ContextTooLong
        if _NO_MODEL.search(message):
            return NotFound
        if _FILTERED.search(message):
            return ContentFiltered
    # AWS reports a wrong or expired API key as a missing permission.
    if kind is PermissionDenied and (_BAD_API_KEY.search(message) or "security token" in message):
        return AuthenticationError
    if kind is RateLimited and _DAILY.search(message):
        return QuotaExhausted
    return kind


def _explained(name: str, message: str) -> str:
    message = message if message.strip() else name
    if name in ("ExpiredToken", "RequestExpired", "TokenRefreshRequired"):
        return f"the AWS credentials have expired: {message}"
    if _is_skewed(name, message):
        return f"the time of the request is too far from AWS's; set this machine's clock: {message}"
    return message


def _without_request(text: str) -> str:
    match = _CANONICAL.search(text)
    return text[: match.start()].rstrip() if match is not None else text


def _without_request_in(body: JSONValue) -> JSONValue:
    if isinstance(body, dict):
        return {key: _without_request(value) if isinstance(value, str) else value for key, value in body.items()}
    if isinstance(body, str):
        return _without_request(body)
    return body

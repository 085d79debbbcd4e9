"""Every error that Trunkline raises, in one tree.

TrunklineError
├── ConfigurationError              a setting, a file or an installation is wrong; found before any request
│   ├── ProviderNotFound            no installed distribution brings the provider
│   └── PluginError                 an installed plugin or extension is broken; names its distribution
├── CallError                      the call cannot be made as it was written
│   ├── InvalidRequest          the conversation or an option contradicts itself
│   ├── FetchFailed                 a picture or document by URL could not, or may not, be fetched
│   ├── UnsupportedOperation        the provider has no such operation
│   ├── UnsupportedRequest          a `strict` service refuses what it would otherwise warn about
│   └── ServiceClosed               the service was closed, before or during the call
└── RemoteError                     the provider, or the way to it, failed
    ├── AuthenticationError         401: the credential is missing, wrong or expired
    ├── PermissionDenied            403: the credential may not do this
    ├── NotFound                    404: no such model, deployment or path
    ├── BadRequest              400, 413, 422: the provider refuses the request
    │   ├── ContextTooLong          the conversation does not fit the model's context
    │   └── ContentFiltered         a safety system refused the prompt
    ├── RateLimited                 429: too many requests or tokens for now
    ├── QuotaExhausted              402, 429: the account has nothing left; waiting does not help
    ├── ServerError                 5xx
    │   └── Overloaded              503, 529: the provider has no capacity for now
    ├── ConnectionFailed            no connection, or it was lost before the answer began
    ├── RequestTimeout              one of the service's timeouts passed
    │   ├── ConnectTimeout
    │   ├── FirstChunkTimeout
    │   ├── ChunkTimeout
    │   └── TotalTimeout
    ├── StreamInterrupted           the stream ended before its terminator
    ├── ProtocolViolation           the answer is not in the provider's wire format
    └── UnexpectedRedirect          3xx: not followed, since credentials would go along

An error met in the middle of a stream carries what had arrived in `partial`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trunkline._base_errors import CallError, InvalidRequest, TrunklineError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trunkline._json import JSONValue
    from trunkline.response import ChatResponse


__all__ = [
    "AuthenticationError",
    "BadRequest",
    "CallError",
    "ChunkTimeout",
    "ConfigurationError",
    "ConnectTimeout",
    "ConnectionFailed",
    "ContentFiltered",
    "ContextTooLong",
    "FetchFailed",
    "FirstChunkTimeout",
    "InvalidRequest",
    "NotFound",
    "Overloaded",
    "PermissionDenied",
    "PluginError",
    "ProtocolViolation",
    "ProviderNotFound",
    "QuotaExhausted",
    "RateLimited",
    "RemoteError",
    "RequestTimeout",
    "ServerError",
    "ServiceClosed",
    "StreamInterrupted",
    "TotalTimeout",
    "TrunklineError",
    "UnexpectedRedirect",
    "UnsupportedOperation",
    "UnsupportedRequest",
]


class ConfigurationError(TrunklineError):
    """A setting, a configuration file or an installation is wrong. Raised before any request is sent.

    `service` and `setting` name the place, where there is one. `errors` holds the single mistakes where several were
    found together.
    """

    def __init__(
        self,
        message: str,
        *,
        service: str | None = None,
        setting: str | None = None,
        errors: Sequence[ConfigurationError] = (),
    ) -> None:
        super().__init__(message)
        self.service = service
        self.setting = setting
        self.errors = tuple(errors)


class ProviderNotFound(ConfigurationError):
    """No installed distribution brings the provider."""


class PluginError(ConfigurationError):
    """An installed plugin or extension is broken. `distribution` is the name of the package that brings it."""

    def __init__(
        self,
        message: str,
        *,
        distribution: str | None = None,
        service: str | None = None,
    ) -> None:
        super().__init__(message, service=service)
        self.distribution = distribution


class FetchFailed(CallError):
    """A picture, document or sound by URL could not be fetched, or is not allowed to be."""


class UnsupportedOperation(CallError):
    """The provider has no such operation (listing models, embedding, counting tokens)."""


class UnsupportedRequest(CallError):
    """A service with `strict` set refuses a request that it would otherwise answer with a `CallWarning`."""


class ServiceClosed(CallError):
    """The service was closed, before the call or while it ran."""

    def __init__(self, message: str, *, partial: ChatResponse | None = None) -> None:
        super().__init__(message)
        self.partial = partial


class RemoteError(TrunklineError):
    """The provider, or the way to it, failed.

    `status` is the HTTP status, `code` the provider's own code or type, `request_id` its id for the request.
    `retry_after` is in seconds. `retryable` says whether the same request may succeed later. `body` is the decoded
    error body. `partial` is what had arrived of a streamed answer; its `finish_reason` is `error`.
    """

    retryable_by_default = False

    def __init__(
        self,
        message: str,
        *,
        provider: str | None = None,
        status: int | None = None,
        code: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
        retryable: bool | None = None,
        body: JSONValue = None,
        partial: ChatResponse | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.provider = provider
        self.status = status
        self.code = code
        self.request_id = request_id
        self.retry_after = retry_after
        self.retryable = self.retryable_by_default if retryable is None else retryable
        self.body = body
        self.partial = partial

    def __str__(self) -> str:
        where = self.provider or "the provider"
        facts = [
            f"status {self.status}" if self.status is not None else "",
            f"code {self.code}" if self.code else "",
            f"request id {self.request_id}" if self.request_id else "",
        ]
        told = ", ".join(fact for fact in facts if fact)
        return f"{where}: {self.message}" + (f" ({told})" if told else "")


class AuthenticationError(RemoteError):
    """The credential is missing, wrong or expired (401)."""


class PermissionDenied(RemoteError):
    """The credential may not do this (403)."""


class NotFound(RemoteError):
    """There is no such model, deployment or path (404)."""


class BadRequest(RemoteError):
    """The provider refuses the request as it is (400, 413, 422 and their like)."""


class ContextTooLong(BadRequest):
    """The conversation does not fit the model's context."""


class ContentFiltered(BadRequest):
    """A safety system refused the prompt."""


class RateLimited(RemoteError):
    """Too many requests or tokens for now (429)."""

    retryable_by_default = True


class QuotaExhausted(RemoteError):
    """The account has no quota or credit left (402, 429); waiting does not help."""


class ServerError(RemoteError):
    """The provider failed (5xx)."""

    retryable_by_default = True


class Overloaded(ServerError):
    """The provider has no capacity for now (503, 529)."""


class ConnectionFailed(RemoteError):
    """No connection could be made, or it was lost before the answer began."""

    retryable_by_default = True


class RequestTimeout(RemoteError):
    """One of the service's timeouts passed."""

    retryable_by_default = True


class ConnectTimeout(RequestTimeout):
    """No connection within `connect_timeout`."""


class FirstChunkTimeout(RequestTimeout):
    """Nothing of the answer within `first_chunk_timeout`."""


class ChunkTimeout(RequestTimeout):
    """The stream stood still for longer than `chunk_timeout`."""


class TotalTimeout(RequestTimeout):
    """The call, its retries included, took longer than `total_timeout`."""

    retryable_by_default = False


class StreamInterrupted(RemoteError):
    """The stream ended, or its connection was lost, before its dialect's terminator. Never a success."""

    retryable_by_default = True


class ProtocolViolation(RemoteError):
    """The answer is not in the provider's wire format."""


class UnexpectedRedirect(RemoteError):
    """The provider answered with a redirect, which is not followed, since the credentials would go along."""

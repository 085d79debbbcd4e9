"""Every error that Trunkline raises.

TrunklineError
├── ConfigurationError              a setting, a file or an installation is wrong
│   ├── ProviderNotFound            no installed distribution provides the provider
│   └── PluginError                 an installed plugin or extension is broken; names its distribution
├── CallError                       the call is wrong and cannot be made as written
│   ├── InvalidRequest              a message, a tool or an option contradicts another
│   ├── FetchFailed                 media given by URL could not be fetched, or must not be
│   ├── UnsupportedOperation        the provider has no such operation
│   ├── UnsupportedRequest          the provider cannot express the request, and the service is `strict`
│   ├── ServiceClosed               the service was closed before or during the call
│   └── StreamClosed                the stream was closed before it was read to its end
├── ToolRunError                    a run of tools ended without an answer (in `trunkline.tools`)
│   ├── RoundLimitReached           the model still calls tools after the last round
│   └── ToolFailed                  a tool or a handler raised an exception
└── RemoteError                     the provider or the connection to it failed
    ├── AuthenticationError         401: the credential is missing, wrong or expired
    ├── PermissionDenied            403: the credential lacks the permission
    ├── NotFound                    404: no such model, deployment or path
    ├── BadRequest                  400, 413, 422: the provider refused the request
    │   ├── ContextTooLong          the conversation exceeds the model's context
    │   └── ContentFiltered         a safety system refused the prompt
    ├── RateLimited                 429: too many requests or tokens; try again later
    ├── QuotaExhausted              402, 429: the account's quota is used up; waiting does not help
    ├── ServerError                 5xx
    │   └── Overloaded              503, 529: the provider has no capacity at the moment
    ├── ConnectionFailed            no connection, or the connection was lost before the response started
    ├── RequestTimeout              one of the service's timeouts passed
    │   ├── ConnectTimeout
    │   ├── FirstChunkTimeout
    │   ├── ChunkTimeout
    │   └── TotalTimeout
    │       └── LimitTimeout        a limit did not allow the call to be sent in time
    ├── StreamInterrupted           the stream ended before it was complete
    ├── ProtocolViolation           the response is not in the provider's wire format
    ├── InvalidAnswer               the response has no answer of the type that was asked for
    └── UnexpectedRedirect          3xx: redirects are not followed, since they would carry the credentials along

An error in the middle of a stream has the part of the response that had arrived in `partial`.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Literal, TypeAlias

from trunkline._base_errors import CallError, InvalidRequest, Problem, TrunklineError
from trunkline._masking import without_keys, without_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trunkline._json import JSONValue
    from trunkline.response import ChatResponse, FinishReason, RateLimits


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
    "InvalidAnswer",
    "InvalidRequest",
    "LimitTimeout",
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
    "StreamClosed",
    "StreamInterrupted",
    "TotalTimeout",
    "TrunklineError",
    "UnexpectedRedirect",
    "UnsupportedOperation",
    "UnsupportedRequest",
]


class ConfigurationError(TrunklineError):
    """A setting, a configuration file or an installation is wrong.

    Raised before any request is sent, except for a `PluginError`: a step of a plugin may also fail on a response.
    """

    def __init__(
        self,
        message: str,
        *,
        service: str | None = None,
        setting: str | None = None,
        errors: Sequence[ConfigurationError] = (),
        advice: str | None = None,
        problem: Problem | None = None,
    ) -> None:
        # The message is made of what a user wrote, in which a key may be in a wrong place.
        super().__init__(without_keys(str(message)), service=service, advice=advice, problem=problem)
        self.setting: str | None = None if setting is None else without_keys(setting)
        """The name of the setting, if the error belongs to one."""
        self.errors: tuple[ConfigurationError, ...] = tuple(errors)
        """The single errors, if several were found together."""


class ProviderNotFound(ConfigurationError):
    """No installed distribution provides the provider."""


class PluginError(ConfigurationError):
    """An installed plugin or extension is broken, or one of its steps raised an exception of another library.

    The message has the step and the exception, and a note has the places in the source where it was raised.
    """

    def __init__(
        self,
        message: str,
        *,
        distribution: str | None = None,
        service: str | None = None,
    ) -> None:
        super().__init__(message, service=service)
        self.distribution = distribution
        """The name of the distribution that contains the plugin."""


class FetchFailed(CallError):
    """An image, document or audio given by URL could not be fetched, or its address is not allowed."""


class UnsupportedOperation(CallError):
    """The provider does not support the operation (listing models, embedding, counting tokens)."""


class UnsupportedRequest(CallError):
    """Something in the request would be lost with this provider. Raised for lossy warnings if `strict` is set."""


class ServiceClosed(CallError):
    """The service was closed before or during the call. `partial` is what had arrived of a streamed response."""

    def __init__(self, message: str, *, service: str | None = None, partial: ChatResponse | None = None) -> None:
        super().__init__(message, service=service)
        self.partial = partial
        """The part of a streamed response that had arrived."""


class StreamClosed(CallError):
    """The stream was closed before it was read to its end. `partial` is what had arrived."""

    def __init__(self, message: str, *, service: str | None = None, partial: ChatResponse | None = None) -> None:
        super().__init__(message, service=service)
        self.partial = partial
        """The part of the response that had arrived."""


class RemoteError(TrunklineError):
    """The provider, or the connection to it, failed. Each attribute that is not known is `None`."""

    retryable_by_default = False
    """The value of `retryable` for an error of this class, unless it is given."""

    def __init__(
        self,
        message: str,
        *,
        provider: str | None = None,
        service: str | None = None,
        model: str | None = None,
        endpoint: str | None = None,
        status: int | None = None,
        code: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
        retryable: bool | None = None,
        body: JSONValue = None,
        partial: ChatResponse | None = None,
        advice: str | None = None,
        problem: Problem | None = None,
        proxy: str | None = None,
        rate_limits: RateLimits | None = None,
    ) -> None:
        super().__init__(message, service=service, advice=advice, problem=problem)
        self.message = message
        """What happened, in words."""
        self.provider = provider
        """The name of the provider."""
        self.model = model
        """The model that the request names, or the setting `default_model`."""
        self.endpoint = endpoint
        """The method and URL of the request, without the query: `POST https://api.openai.com/v1/chat/completions`."""
        self.status = status
        """The HTTP status."""
        self.code = code
        """The provider's own error code or type."""
        self.request_id = request_id
        """The provider's id for the request."""
        self.retry_after = retry_after
        """The seconds that the provider asks to wait before the next attempt."""
        self.retryable: bool = self.retryable_by_default if retryable is None else retryable
        """Whether the same request may succeed later."""
        self.body = body
        """The decoded error body."""
        self.partial = partial
        """The part of a streamed response that had arrived; its `finish_reason` is `error`."""
        self.proxy = proxy
        """The URL of the proxy, without its login, if the connection through one failed."""
        self.rate_limits = rate_limits
        """The provider's limits, as the headers of the response report them."""

    def __str__(self) -> str:
        origin = self.service or self.provider or "the provider"
        if self.service and self.provider and self.service != self.provider:
            origin = f"{self.service} ({self.provider})"
        details = [
            self.endpoint if self.endpoint and self._endpoint_matters else "",
            f"model {without_keys(self.model)!r}" if self.model and isinstance(self, NotFound) else "",
            f"status {self.status}" if self.status is not None else "",
            f"code {self.code}" if self.code else "",
            f"request id {self.request_id}" if self.request_id else "",
        ]
        suffix = ", ".join(detail for detail in details if detail)
        text = f"{origin}: {self.message}" + (f" ({suffix})" if suffix else "")
        return without_name(self._with_advice(text), self.service)

    def __repr__(self) -> str:
        fields = {"service": self.service, "provider": self.provider, "status": self.status, "code": self.code}
        known = "".join(f", {name}={value!r}" for name, value in fields.items() if value is not None)
        return without_name(f"{type(self).__name__}({self.message!r}{known})", self.service)

    @property
    def _endpoint_matters(self) -> bool:
        """Whether the address may be wrong: nothing was found there, or the answer is not from the provider's API."""
        if isinstance(self, (NotFound, UnexpectedRedirect, ProtocolViolation)):
            return True
        not_json = isinstance(self.body, str)  # the text of a proxy or of a web server, such as the title of a page
        return not_json or self.status == HTTPStatus.METHOD_NOT_ALLOWED


class AuthenticationError(RemoteError):
    """The credential is missing, wrong or expired (401)."""


class PermissionDenied(RemoteError):
    """The credential lacks the permission (403)."""


class NotFound(RemoteError):
    """There is no such model, deployment or path (404)."""


class BadRequest(RemoteError):
    """The provider refused the request (400, 413, 422 and other 4xx statuses without an error of their own)."""


class ContextTooLong(BadRequest):
    """The conversation exceeds the model's context."""


class ContentFiltered(BadRequest):
    """A safety system refused the prompt."""


class RateLimited(RemoteError):
    """Too many requests or tokens (429). The same request may succeed later."""

    retryable_by_default = True


class QuotaExhausted(RemoteError):
    """The account's quota or credit is used up (402, 429). Waiting does not help."""


class ServerError(RemoteError):
    """The provider failed (5xx)."""

    retryable_by_default = True


class Overloaded(ServerError):
    """The provider has no capacity at the moment (503, 529)."""


class ConnectionFailed(RemoteError):
    """No connection could be made, or the connection was lost before the response started."""

    retryable_by_default = True


class RequestTimeout(RemoteError):
    """One of the service's timeouts passed."""

    retryable_by_default = True


class ConnectTimeout(RequestTimeout):
    """No connection was made within `connect_timeout`."""


class FirstChunkTimeout(RequestTimeout):
    """No content of a stream, or no headers of another response, arrived within `first_chunk_timeout`."""


class ChunkTimeout(RequestTimeout):
    """No byte of the response arrived for longer than `chunk_timeout`."""


class TotalTimeout(RequestTimeout):
    """The call, including its retries, took longer than `total_timeout`."""

    retryable_by_default = False


class LimitTimeout(TotalTimeout):
    """The call was not sent within `total_timeout`, because of a limit that `trunkline.limit` puts on the service.

    It is raised at once if the call would certainly have to wait longer. `retry_after` is then the number of seconds
    after which the limit allows it.
    """

    limit: str | None = None
    """What the call waited for: `concurrency`, `requests_per_minute`, `tokens_per_minute`, or `rate_limits` if the
    provider has said that its own limit is used up."""


class StreamInterrupted(RemoteError):
    """The stream ended, or its connection was lost, before the response was complete.

    Every wire format marks its end; a stream without that mark is an error, even if the connection closed normally.
    Also raised by a read that follows a cancelled one: a read that was cancelled ends the stream.
    """

    retryable_by_default = True

    finish_reason: FinishReason | None = None
    """Why the model stopped, if the finish reason arrived before the stream broke off. Only the terminator is missing
    then. The finish reason of `partial` is `error` nevertheless."""

    raw_finish_reason: str | None = None
    """`finish_reason` in the provider's words. `partial` has the same value."""


class ProtocolViolation(RemoteError):
    """The response is not in the provider's wire format."""


class UnexpectedRedirect(RemoteError):
    """The provider answered with a redirect, which is not followed, since it would carry the credentials along."""


AnswerProblem: TypeAlias = Literal["refused", "cut_off", "tool_calls", "empty", "not_json", "does_not_fit"]
"""Why a response has no answer of the type that was asked for; see `InvalidAnswer`."""


class InvalidAnswer(RemoteError):
    """A call with an `answer_type` got a response without an answer of that type.

    `reason` is one of:

    - `refused`: the model refused, or a safety system stopped the answer
    - `cut_off`: the output limit cut the answer off
    - `tool_calls`: the model called a tool instead
    - `empty`: the response has no text
    - `not_json`: the text is not JSON
    - `does_not_fit`: the JSON does not fit the type; `path` says where
    """

    def __init__(
        self,
        message: str,
        *,
        reason: AnswerProblem,
        response: ChatResponse,
        path: str | None = None,
        provider: str | None = None,
        service: str | None = None,
        model: str | None = None,
    ) -> None:
        super().__init__(message, provider=provider, service=service, model=model)
        self.reason: AnswerProblem = reason
        """Why there is no answer."""
        self.response = response
        """The response, with its text and its usage. After several attempts, the usage is the sum of all."""
        self.path = path
        """Where the JSON does not fit, as a JSON path such as `$.places[0].name`."""

"""Trunkline: one async interface to every LLM provider.

The public names. Each is imported when it is first used, so that `import trunkline` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from trunkline.errors import (
        AuthenticationError as AuthenticationError,
    )
    from trunkline.errors import (
        ChunkTimeout as ChunkTimeout,
    )
    from trunkline.errors import (
        ConfigurationError as ConfigurationError,
    )
    from trunkline.errors import (
        ConnectionFailed as ConnectionFailed,
    )
    from trunkline.errors import (
        ConnectTimeout as ConnectTimeout,
    )
    from trunkline.errors import (
        ContentFiltered as ContentFiltered,
    )
    from trunkline.errors import (
        ContextTooLong as ContextTooLong,
    )
    from trunkline.errors import (
        FetchFailed as FetchFailed,
    )
    from trunkline.errors import (
        FirstChunkTimeout as FirstChunkTimeout,
    )
    from trunkline.errors import (
        InvalidChatRequest as InvalidChatRequest,
    )
    from trunkline.errors import (
        InvalidRequest as InvalidRequest,
    )
    from trunkline.errors import (
        NotFound as NotFound,
    )
    from trunkline.errors import (
        Overloaded as Overloaded,
    )
    from trunkline.errors import (
        PermissionDenied as PermissionDenied,
    )
    from trunkline.errors import (
        PluginError as PluginError,
    )
    from trunkline.errors import (
        ProtocolViolation as ProtocolViolation,
    )
    from trunkline.errors import (
        ProviderNotFound as ProviderNotFound,
    )
    from trunkline.errors import (
        QuotaExhausted as QuotaExhausted,
    )
    from trunkline.errors import (
        RateLimited as RateLimited,
    )
    from trunkline.errors import (
        RemoteError as RemoteError,
    )
    from trunkline.errors import (
        RequestTimeout as RequestTimeout,
    )
    from trunkline.errors import (
        ServerError as ServerError,
    )
    from trunkline.errors import (
        ServiceClosed as ServiceClosed,
    )
    from trunkline.errors import (
        StreamInterrupted as StreamInterrupted,
    )
    from trunkline.errors import (
        TotalTimeout as TotalTimeout,
    )
    from trunkline.errors import (
        TrunklineError as TrunklineError,
    )
    from trunkline.errors import (
        UnexpectedRedirect as UnexpectedRedirect,
    )
    from trunkline.errors import (
        UnsupportedOperation as UnsupportedOperation,
    )
    from trunkline.errors import (
        UnsupportedRequest as UnsupportedRequest,
    )
    from trunkline.errors import (
        UsageError as UsageError,
    )
    from trunkline.events import (
        Event as Event,
    )
    from trunkline.events import (
        Finished as Finished,
    )
    from trunkline.events import (
        PartAdded as PartAdded,
    )
    from trunkline.events import (
        ReasoningDelta as ReasoningDelta,
    )
    from trunkline.events import (
        ReasoningEnd as ReasoningEnd,
    )
    from trunkline.events import (
        ReasoningStart as ReasoningStart,
    )
    from trunkline.events import (
        ResponseStarted as ResponseStarted,
    )
    from trunkline.events import (
        TextDelta as TextDelta,
    )
    from trunkline.events import (
        TextEnd as TextEnd,
    )
    from trunkline.events import (
        TextStart as TextStart,
    )
    from trunkline.events import (
        ToolCallDelta as ToolCallDelta,
    )
    from trunkline.events import (
        ToolCallEnd as ToolCallEnd,
    )
    from trunkline.events import (
        ToolCallStart as ToolCallStart,
    )
    from trunkline.events import (
        UsageReported as UsageReported,
    )
    from trunkline.events import (
        fold as fold,
    )
    from trunkline.messages import (
        Audio as Audio,
    )
    from trunkline.messages import (
        Citation as Citation,
    )
    from trunkline.messages import (
        Document as Document,
    )
    from trunkline.messages import (
        Image as Image,
    )
    from trunkline.messages import (
        Message as Message,
    )
    from trunkline.messages import (
        Opaque as Opaque,
    )
    from trunkline.messages import (
        Part as Part,
    )
    from trunkline.messages import (
        Reasoning as Reasoning,
    )
    from trunkline.messages import (
        Text as Text,
    )
    from trunkline.messages import (
        ToolCall as ToolCall,
    )
    from trunkline.messages import (
        ToolResult as ToolResult,
    )
    from trunkline.messages import (
        assistant as assistant,
    )
    from trunkline.messages import (
        system as system,
    )
    from trunkline.messages import (
        tool_result as tool_result,
    )
    from trunkline.messages import (
        user as user,
    )
    from trunkline.opening import (
        Services as Services,
    )
    from trunkline.opening import (
        open_service as open_service,
    )
    from trunkline.opening import (
        open_services as open_services,
    )
    from trunkline.provider import (
        Auth as Auth,
    )
    from trunkline.provider import (
        Observer as Observer,
    )
    from trunkline.provider import (
        Operations as Operations,
    )
    from trunkline.provider import (
        Parser as Parser,
    )
    from trunkline.provider import (
        Provider as Provider,
    )
    from trunkline.provider import (
        ResponseParser as ResponseParser,
    )
    from trunkline.provider import (
        ServiceContext as ServiceContext,
    )
    from trunkline.provider import (
        Translation as Translation,
    )
    from trunkline.provider import (
        Translator as Translator,
    )
    from trunkline.provider import (
        Transport as Transport,
    )
    from trunkline.provider import (
        hookimpl as hookimpl,
    )
    from trunkline.request import (
        ChatRequest as ChatRequest,
    )
    from trunkline.request import (
        EmbedRequest as EmbedRequest,
    )
    from trunkline.request import (
        ReasoningOptions as ReasoningOptions,
    )
    from trunkline.request import (
        ResponseFormat as ResponseFormat,
    )
    from trunkline.request import (
        Tool as Tool,
    )
    from trunkline.request import (
        ToolChoice as ToolChoice,
    )
    from trunkline.response import (
        CallWarning as CallWarning,
    )
    from trunkline.response import (
        ChatResponse as ChatResponse,
    )
    from trunkline.response import (
        EmbedResponse as EmbedResponse,
    )
    from trunkline.response import (
        FinishReason as FinishReason,
    )
    from trunkline.response import (
        ModelInfo as ModelInfo,
    )
    from trunkline.response import (
        TokenLogprob as TokenLogprob,
    )
    from trunkline.response import (
        Usage as Usage,
    )
    from trunkline.secrets import (
        Secret as Secret,
    )
    from trunkline.service import (
        Service as Service,
    )
    from trunkline.service import (
        Stream as Stream,
    )
    from trunkline.settings import (
        Settings as Settings,
    )
    from trunkline.wire import (
        WireRequest as WireRequest,
    )
    from trunkline.wire import (
        WireResponse as WireResponse,
    )

_MODULES = {
    "errors": (
        "AuthenticationError ChunkTimeout ConfigurationError ConnectTimeout ConnectionFailed ContentFiltered "
        "ContextTooLong FetchFailed FirstChunkTimeout InvalidChatRequest InvalidRequest NotFound Overloaded "
        "PermissionDenied PluginError ProtocolViolation ProviderNotFound QuotaExhausted RateLimited "
        "RemoteError RequestTimeout ServerError ServiceClosed StreamInterrupted TotalTimeout TrunklineError "
        "UnexpectedRedirect UnsupportedOperation UnsupportedRequest UsageError"
    ),
    "events": (
        "Event Finished PartAdded ReasoningDelta ReasoningEnd ReasoningStart ResponseStarted TextDelta "
        "TextEnd TextStart ToolCallDelta ToolCallEnd ToolCallStart UsageReported fold"
    ),
    "messages": (
        "Audio Citation Document Image Message Opaque Part Reasoning Text ToolCall ToolResult assistant "
        "system tool_result user"
    ),
    "opening": "Services open_service open_services",
    "provider": (
        "Auth Observer Operations Parser Provider ResponseParser ServiceContext Translation Translator "
        "Transport hookimpl"
    ),
    "request": "ChatRequest EmbedRequest ReasoningOptions ResponseFormat Tool ToolChoice",
    "response": "CallWarning ChatResponse EmbedResponse FinishReason ModelInfo TokenLogprob Usage",
    "secrets": "Secret",
    "service": "Service Stream",
    "settings": "Settings",
    "wire": "WireRequest WireResponse",
}
"""The public names, by the module that they live in."""

_HOME = {name: module for module, names in _MODULES.items() for name in names.split()}

__all__ = [
    "Audio",
    "Auth",
    "AuthenticationError",
    "CallWarning",
    "ChatRequest",
    "ChatResponse",
    "ChunkTimeout",
    "Citation",
    "ConfigurationError",
    "ConnectTimeout",
    "ConnectionFailed",
    "ContentFiltered",
    "ContextTooLong",
    "Document",
    "EmbedRequest",
    "EmbedResponse",
    "Event",
    "FetchFailed",
    "FinishReason",
    "Finished",
    "FirstChunkTimeout",
    "Image",
    "InvalidChatRequest",
    "InvalidRequest",
    "Message",
    "ModelInfo",
    "NotFound",
    "Observer",
    "Opaque",
    "Operations",
    "Overloaded",
    "Parser",
    "Part",
    "PartAdded",
    "PermissionDenied",
    "PluginError",
    "ProtocolViolation",
    "Provider",
    "ProviderNotFound",
    "QuotaExhausted",
    "RateLimited",
    "Reasoning",
    "ReasoningDelta",
    "ReasoningEnd",
    "ReasoningOptions",
    "ReasoningStart",
    "RemoteError",
    "RequestTimeout",
    "ResponseFormat",
    "ResponseParser",
    "ResponseStarted",
    "Secret",
    "ServerError",
    "Service",
    "ServiceClosed",
    "ServiceContext",
    "Services",
    "Settings",
    "Stream",
    "StreamInterrupted",
    "Text",
    "TextDelta",
    "TextEnd",
    "TextStart",
    "TokenLogprob",
    "Tool",
    "ToolCall",
    "ToolCallDelta",
    "ToolCallEnd",
    "ToolCallStart",
    "ToolChoice",
    "ToolResult",
    "TotalTimeout",
    "Translation",
    "Translator",
    "Transport",
    "TrunklineError",
    "UnexpectedRedirect",
    "UnsupportedOperation",
    "UnsupportedRequest",
    "Usage",
    "UsageError",
    "UsageReported",
    "WireRequest",
    "WireResponse",
    "assistant",
    "fold",
    "hookimpl",
    "open_service",
    "open_services",
    "system",
    "tool_result",
    "user",
]


def __getattr__(name: str) -> object:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'trunkline' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"trunkline.{home}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

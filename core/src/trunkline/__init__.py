"""Trunkline: one async interface for LLM providers.

The names for applications. Each name is imported on first use, which keeps `import trunkline` fast. Plugins import from
`trunkline.authoring`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from trunkline._calls.admission import (
        LimitStatus as LimitStatus,
    )
    from trunkline._http.common import (
        HTTPClient as HTTPClient,
    )
    from trunkline._json import (
        JSONObject as JSONObject,
        JSONValue as JSONValue,
    )
    from trunkline.answers import (
        TypedResponse as TypedResponse,
    )
    from trunkline.authoring.middleware import (
        EventMiddleware as EventMiddleware,
        Middleware as Middleware,
    )
    from trunkline.authoring.provider import (
        Call as Call,
        CallGroup as CallGroup,
        Hop as Hop,
        Observer as Observer,
        Operation as Operation,
        ServiceContext as ServiceContext,
        hookimpl as hookimpl,
    )
    from trunkline.batches import (
        Batch as Batch,
        BatchCounts as BatchCounts,
        BatchedRequest as BatchedRequest,
        BatchResults as BatchResults,
        BatchStatus as BatchStatus,
    )
    from trunkline.compose import (
        LimitedService as LimitedService,
        balance as balance,
        fallback as fallback,
        limit as limit,
    )
    from trunkline.errors import (
        AuthenticationError as AuthenticationError,
        BadRequest as BadRequest,
        CallError as CallError,
        ChunkTimeout as ChunkTimeout,
        ConfigurationError as ConfigurationError,
        ConnectionFailed as ConnectionFailed,
        ConnectTimeout as ConnectTimeout,
        ContentFiltered as ContentFiltered,
        ContextTooLong as ContextTooLong,
        FetchFailed as FetchFailed,
        FirstChunkTimeout as FirstChunkTimeout,
        InvalidAnswer as InvalidAnswer,
        InvalidRequest as InvalidRequest,
        LimitTimeout as LimitTimeout,
        NotFound as NotFound,
        Overloaded as Overloaded,
        PermissionDenied as PermissionDenied,
        PluginError as PluginError,
        ProtocolViolation as ProtocolViolation,
        ProviderNotFound as ProviderNotFound,
        QuotaExhausted as QuotaExhausted,
        RateLimited as RateLimited,
        RemoteError as RemoteError,
        RequestTimeout as RequestTimeout,
        ServerError as ServerError,
        ServiceClosed as ServiceClosed,
        StreamClosed as StreamClosed,
        StreamInterrupted as StreamInterrupted,
        TotalTimeout as TotalTimeout,
        TrunklineError as TrunklineError,
        UnexpectedRedirect as UnexpectedRedirect,
        UnsupportedOperation as UnsupportedOperation,
        UnsupportedRequest as UnsupportedRequest,
    )
    from trunkline.events import (
        Event as Event,
        Finished as Finished,
        PartAdded as PartAdded,
        ReasoningDelta as ReasoningDelta,
        ReasoningEnd as ReasoningEnd,
        ReasoningStart as ReasoningStart,
        ResponseStarted as ResponseStarted,
        ResumePoint as ResumePoint,
        TextDelta as TextDelta,
        TextEnd as TextEnd,
        TextStart as TextStart,
        ToolCallDelta as ToolCallDelta,
        ToolCallEnd as ToolCallEnd,
        ToolCallStart as ToolCallStart,
        UsageReported as UsageReported,
    )
    from trunkline.inputs import (
        Input as Input,
        Inputs as Inputs,
    )
    from trunkline.mcp import (
        MCPSession as MCPSession,
        mcp_tools as mcp_tools,
    )
    from trunkline.messages import (
        Audio as Audio,
        Citation as Citation,
        Document as Document,
        Image as Image,
        Message as Message,
        Opaque as Opaque,
        Part as Part,
        Reasoning as Reasoning,
        Text as Text,
        ToolCall as ToolCall,
        ToolResult as ToolResult,
        assistant as assistant,
        system as system,
        tool_result as tool_result,
        user as user,
    )
    from trunkline.opening import (
        Services as Services,
        open_service as open_service,
        open_services as open_services,
    )
    from trunkline.operations import (
        ImageParams as ImageParams,
        ImageRequest as ImageRequest,
        ImageResponse as ImageResponse,
        Moderation as Moderation,
        ModerationParams as ModerationParams,
        ModerationRequest as ModerationRequest,
        ModerationResponse as ModerationResponse,
        RankedDocument as RankedDocument,
        RerankParams as RerankParams,
        RerankRequest as RerankRequest,
        RerankResponse as RerankResponse,
        SpeechParams as SpeechParams,
        SpeechRequest as SpeechRequest,
        SpeechResponse as SpeechResponse,
        TranscribedSegment as TranscribedSegment,
        TranscribedWord as TranscribedWord,
        TranscriptionParams as TranscriptionParams,
        TranscriptionRequest as TranscriptionRequest,
        TranscriptionResponse as TranscriptionResponse,
    )
    from trunkline.provider_service import (
        ProviderService as ProviderService,
    )
    from trunkline.request import (
        ChatParams as ChatParams,
        ChatRequest as ChatRequest,
        EmbedParams as EmbedParams,
        EmbedRequest as EmbedRequest,
        ReasoningOptions as ReasoningOptions,
        ResponseFormat as ResponseFormat,
        RunParams as RunParams,
        Tool as Tool,
        ToolChoice as ToolChoice,
    )
    from trunkline.response import (
        CallWarning as CallWarning,
        ChatResponse as ChatResponse,
        EmbedResponse as EmbedResponse,
        FinishReason as FinishReason,
        ModelInfo as ModelInfo,
        RateLimit as RateLimit,
        RateLimits as RateLimits,
        TokenLogprob as TokenLogprob,
        Usage as Usage,
    )
    from trunkline.secrets import (
        Secret as Secret,
    )
    from trunkline.service import (
        Service as Service,
    )
    from trunkline.settings import (
        Settings as Settings,
    )
    from trunkline.stream import (
        Stream as Stream,
    )
    from trunkline.tools import (
        AnswerRejected as AnswerRejected,
        ApprovalRequest as ApprovalRequest,
        Approve as Approve,
        FunctionTool as FunctionTool,
        Handler as Handler,
        LocalTool as LocalTool,
        RoundLimitReached as RoundLimitReached,
        RunEvent as RunEvent,
        ToolFailed as ToolFailed,
        ToolFinished as ToolFinished,
        ToolRound as ToolRound,
        ToolRun as ToolRun,
        ToolRunError as ToolRunError,
        ToolStarted as ToolStarted,
        TypedToolRun as TypedToolRun,
        run_tools as run_tools,
        tool as tool,
    )
    from trunkline.typed_stream import (
        TypedStream as TypedStream,
    )
    from trunkline.web import (
        ASGIReceive as ASGIReceive,
        Heartbeat as Heartbeat,
        heartbeats as heartbeats,
        until_disconnect as until_disconnect,
    )

_MODULES = {
    "_http.common": "HTTPClient",
    "_json": "JSONObject JSONValue",
    "answers": "TypedResponse",
    "authoring.middleware": "EventMiddleware Middleware",
    "batches": "Batch BatchCounts BatchResults BatchStatus BatchedRequest",
    "authoring.provider": "Call CallGroup Hop Observer Operation ServiceContext hookimpl",
    "_calls.admission": "LimitStatus",
    "compose": "LimitedService balance fallback limit",
    "errors": (
        "AuthenticationError BadRequest CallError ChunkTimeout ConfigurationError ConnectTimeout "
        "ConnectionFailed ContentFiltered ContextTooLong FetchFailed FirstChunkTimeout InvalidAnswer InvalidRequest "
        "LimitTimeout "
        "NotFound Overloaded PermissionDenied PluginError ProtocolViolation ProviderNotFound QuotaExhausted "
        "RateLimited RemoteError RequestTimeout ServerError ServiceClosed StreamClosed StreamInterrupted "
        "TotalTimeout TrunklineError UnexpectedRedirect UnsupportedOperation UnsupportedRequest"
    ),
    "events": (
        "Event Finished PartAdded ReasoningDelta ReasoningEnd ReasoningStart ResponseStarted ResumePoint TextDelta "
        "TextEnd TextStart ToolCallDelta ToolCallEnd ToolCallStart UsageReported"
    ),
    "inputs": "Input Inputs",
    "mcp": "MCPSession mcp_tools",
    "messages": (
        "Audio Citation Document Image Message Opaque Part Reasoning Text ToolCall ToolResult assistant "
        "system tool_result user"
    ),
    "operations": (
        "ImageParams ImageRequest ImageResponse Moderation ModerationParams ModerationRequest ModerationResponse "
        "RankedDocument RerankParams RerankRequest RerankResponse SpeechParams SpeechRequest SpeechResponse "
        "TranscribedSegment TranscribedWord TranscriptionParams TranscriptionRequest TranscriptionResponse"
    ),
    "opening": "Services open_service open_services",
    "provider_service": "ProviderService",
    "request": (
        "ChatParams ChatRequest EmbedParams EmbedRequest ReasoningOptions ResponseFormat RunParams Tool ToolChoice"
    ),
    "response": "CallWarning ChatResponse EmbedResponse FinishReason ModelInfo RateLimit RateLimits TokenLogprob Usage",
    "secrets": "Secret",
    "service": "Service",
    "settings": "Settings",
    "stream": "Stream",
    "tools": (
        "AnswerRejected ApprovalRequest Approve FunctionTool Handler LocalTool RoundLimitReached RunEvent ToolFailed "
        "ToolFinished ToolRound ToolRun ToolRunError ToolStarted TypedToolRun run_tools tool"
    ),
    "typed_stream": "TypedStream",
    "web": "ASGIReceive Heartbeat heartbeats until_disconnect",
}
"""The public names, by the module that defines them. A test holds them against the imports above."""

_HOME = {name: module for module, names in _MODULES.items() for name in names.split()}

__all__ = sorted(_HOME)  # checkers read the imports above


def __getattr__(name: str) -> object:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'trunkline' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"trunkline.{home}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""The names of the OpenTelemetry GenAI semantic conventions that this package uses, in one place.

Source: https://github.com/open-telemetry/semantic-conventions-genai, at the commit `COMMIT`: `model/gen-ai/spans.yaml`,
`model/gen-ai/registry.yaml` and `model/gen-ai/metrics.yaml`; the bucket boundaries are in
`docs/gen-ai/gen-ai-metrics.md`. The conventions are in development, and their Python package has none of the current
names, so `opentelemetry-api` is the only dependency. `tests/conventions.json` has what the registry says about each
name; a test compares the telemetry with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

COMMIT = "004902b8cb70aa5ae6ca4ae07132b7daabcd3e10"

# Attributes

OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
REQUEST_MODEL = "gen_ai.request.model"
SERVER_ADDRESS = "server.address"
SERVER_PORT = "server.port"
ERROR_TYPE = "error.type"

MAX_TOKENS = "gen_ai.request.max_tokens"
TEMPERATURE = "gen_ai.request.temperature"
TOP_P = "gen_ai.request.top_p"
TOP_K = "gen_ai.request.top_k"
STOP = "gen_ai.request.stop_sequences"
FREQUENCY_PENALTY = "gen_ai.request.frequency_penalty"
PRESENCE_PENALTY = "gen_ai.request.presence_penalty"
SEED = "gen_ai.request.seed"
STREAM = "gen_ai.request.stream"
REASONING_LEVEL = "gen_ai.request.reasoning.level"
OUTPUT_TYPE = "gen_ai.output.type"
DIMENSIONS = "gen_ai.embeddings.dimension.count"

RESPONSE_ID = "gen_ai.response.id"
RESPONSE_MODEL = "gen_ai.response.model"
FINISH_REASONS = "gen_ai.response.finish_reasons"
TIME_TO_FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"

INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
CACHE_READ_TOKENS = "gen_ai.usage.cache_read.input_tokens"
CACHE_WRITE_TOKENS = "gen_ai.usage.cache_creation.input_tokens"
REASONING_TOKENS = "gen_ai.usage.reasoning.output_tokens"
TOKEN_TYPE = "gen_ai.token.type"  # noqa: S105

AGENT_NAME = "gen_ai.agent.name"
TOOL_NAME = "gen_ai.tool.name"
TOOL_TYPE = "gen_ai.tool.type"
TOOL_CALL_ID = "gen_ai.tool.call.id"

# Attributes with content, which are recorded only if the setting `content` says so

INSTRUCTIONS = "gen_ai.system_instructions"
INPUT_MESSAGES = "gen_ai.input.messages"
OUTPUT_MESSAGES = "gen_ai.output.messages"
TOOL_DEFINITIONS = "gen_ai.tool.definitions"
TOOL_ARGUMENTS = "gen_ai.tool.call.arguments"
TOOL_RESULT = "gen_ai.tool.call.result"

# Attributes and events of our own, which the conventions have no names for

SERVICE = "trunkline.service.name"
LABEL = "trunkline.label"
COST = "trunkline.cost.usd"
ABANDONED = "trunkline.abandoned"
RETRIES = "trunkline.retries"
RETRY_EVENT = "trunkline.retry"
RETRY_DELAY = "trunkline.retry.delay"
HOP_EVENT = "trunkline.hop"
HOP_SERVICE = "trunkline.hop.service"
HOP_KIND = "trunkline.hop.kind"
HOP_NUMBER = "trunkline.hop.number"
HOP_SERVICES = "trunkline.hop.services"
HOP_NUMBERS = "trunkline.hop.numbers"

# Values

CHAT = "chat"
EMBEDDINGS = "embeddings"
INVOKE_AGENT = "invoke_agent"
EXECUTE_TOOL = "execute_tool"
FUNCTION = "function"
TOOL_ERROR = "tool_error"
"""The `error.type` of a tool whose result tells the model about a failure. It is our own."""

OPERATIONS: Mapping[str, str] = {"chat": CHAT, "stream": CHAT, "embed": EMBEDDINGS}
"""The conventions' name of an operation of a service. Other operations keep their own names."""

PROVIDERS: Mapping[str, str] = {
    "azure-openai": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "vertex": "gcp.vertex_ai",
}
"""The conventions' name of a provider. Other providers keep their own names, which for some are the same."""

HOSTS: Mapping[str, str] = {
    "aiplatform.googleapis.com": "gcp.vertex_ai",
    "api.deepseek.com": "deepseek",
    "api.groq.com": "groq",
    "api.mistral.ai": "mistral_ai",
    "api.moonshot.ai": "moonshot_ai",
    "api.moonshot.cn": "moonshot_ai",
    "api.openai.com": "openai",
    "api.perplexity.ai": "perplexity",
    "api.x.ai": "x_ai",
    "generativelanguage.googleapis.com": "gcp.gemini",
}
"""The conventions' name of the provider at a host, for services that reach it through a compatible API."""

# Metrics

_TOKEN_BUCKETS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)
_SECONDS_BUCKETS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_AGENT_BUCKETS = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 102.4, 204.8, 409.6)


class Histogram(NamedTuple):
    """A metric; all of them are histograms. `buckets` are the boundaries that the conventions recommend."""

    name: str
    unit: str
    description: str
    buckets: tuple[float, ...]


TOKEN_USAGE = Histogram(
    "gen_ai.client.token.usage", "{token}", "Number of input and output tokens used.", _TOKEN_BUCKETS
)
OPERATION_DURATION = Histogram("gen_ai.client.operation.duration", "s", "GenAI operation duration.", _SECONDS_BUCKETS)
FIRST_CHUNK = Histogram(
    "gen_ai.client.operation.time_to_first_chunk",
    "s",
    "Time to receive the first chunk, measured from when the client issues the generation request to when the first "
    "chunk is received in the response stream.",
    _SECONDS_BUCKETS,
)
OUTPUT_CHUNK = Histogram(
    "gen_ai.client.operation.time_per_output_chunk",
    "s",
    "Time per output chunk, recorded for each chunk received after the first one, measured as the time elapsed from "
    "the end of the previous chunk to the end of the current chunk.",
    _SECONDS_BUCKETS,
)
AGENT_DURATION = Histogram(
    "gen_ai.invoke_agent.duration",
    "s",
    "The end-to-end duration of a single agent invocation, from the moment the invocation starts until the agent emits "
    "the last chunk of its final response or terminates with an error.",
    _AGENT_BUCKETS,
)
TOOL_DURATION = Histogram(
    "gen_ai.execute_tool.duration", "s", "The duration of a single tool execution.", _SECONDS_BUCKETS
)

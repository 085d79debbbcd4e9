"""What each model family of Bedrock supports, as data: Converse is one API, but no model supports all of it.

Sources: AWS's documentation of Converse and of each family's parameters (docs.aws.amazon.com/bedrock), and recorded
requests. An unknown model (an application inference profile, an imported model) is assumed to support everything that
Converse itself has a field for.
"""

from __future__ import annotations

import re
from typing import Literal, TypeAlias

import attrs

ReasoningStyle: TypeAlias = Literal["budget", "adaptive", "nova", "effort", "switch"]
"""How reasoning is requested from a family.

`budget`: Claude's `thinking` with `budget_tokens`. `adaptive`: Claude's adaptive `thinking` with an effort. `nova`:
`reasoningConfig` with `maxReasoningEffort`. `effort`: `reasoning_effort`. `switch`: `reasoning_config` with `low` or
`high`.
"""


@attrs.frozen(kw_only=True)
class Family:
    """What a model family supports.

    - `top_k`: the path of the field for it in `additionalModelRequestFields`.
    - `reasoning`: how reasoning is requested; `None` if that is unknown or impossible.
    - `replays`: which reasoning of the history it accepts back: all, only signed, or none.
    - `sampling`: whether it accepts temperature, top_p and top_k.
    - `one_of_sampling`: whether temperature and top_p exclude each other.
    - `forced_tools`: whether a tool call can be forced.
    - `one_call`: whether parallel tool calls can be turned off.
    - `json_results`: whether it requires tool results as JSON.
    - `result_status`: whether a tool result can be marked as failed.
    - `leading_assistant`: whether a conversation may start with an assistant message.
    - `strict_ids`: whether ids of tool calls may not contain dots and colons.
    """

    name: str
    top_k: tuple[str, ...] | None = None
    reasoning: ReasoningStyle | None = None
    replays: Literal["all", "signed", "none"] = "all"
    sampling: bool = True
    one_of_sampling: bool = False
    forced_tools: bool = True
    one_call: bool = False
    json_results: bool = False
    result_status: bool = True
    leading_assistant: bool = False
    strict_ids: bool = False


UNKNOWN = Family(name="unknown")

_CLAUDE = Family(
    name="anthropic",
    top_k=("top_k",),
    replays="signed",
    one_call=True,
    leading_assistant=True,
    strict_ids=True,
)
_PLAIN = Family(name="plain", replays="none", forced_tools=False)

_FAMILIES: tuple[tuple[str, Family], ...] = (
    (
        "amazon.nova-2",
        Family(name="amazon-nova-2", top_k=("inferenceConfig", "topK"), reasoning="nova"),
    ),
    ("amazon.nova", Family(name="amazon-nova", top_k=("inferenceConfig", "topK"), replays="none")),
    ("amazon.", attrs.evolve(_PLAIN, name="amazon-titan")),
    ("openai.", Family(name="openai", reasoning="effort", forced_tools=False)),
    ("qwen.", Family(name="qwen", reasoning="switch", leading_assistant=True)),
    ("mistral.", Family(name="mistral", top_k=("top_k",), replays="none", json_results=True)),
    ("meta.", attrs.evolve(_PLAIN, name="meta")),
    ("cohere.", attrs.evolve(_PLAIN, name="cohere", top_k=("k",))),
    ("ai21.", attrs.evolve(_PLAIN, name="ai21")),
    ("writer.", attrs.evolve(_PLAIN, name="writer", result_status=False)),
    ("deepseek.", Family(name="deepseek", forced_tools=False)),
)
"""By prefix of the model's id, after the prefix of an inference profile; the first match wins."""

# The prefixes of inference profiles: groups of regions.
_PROFILE_PREFIX = re.compile(r"^(?:global|us|us-gov|eu|apac|jp|au|ca|sa|me|af|in)\.")
_CLAUDE_VERSION = re.compile(r"claude-(?:[a-z]+-)?v?(\d+)(?:-(\d{1,2})(?!\d))?")


def family_of(model: str) -> Family:
    """Return the family of a model's id, an inference profile's id, or an ARN of either."""
    name = _PROFILE_PREFIX.sub("", model.rpartition("/")[2].lower())
    if name.startswith("anthropic."):
        return _claude(name)
    return next((family for prefix, family in _FAMILIES if name.startswith(prefix)), UNKNOWN)


def _version(name: str) -> tuple[int, int]:
    match = _CLAUDE_VERSION.search(name)
    # A name without a version belongs to a model that is newer than this code.
    return (int(match[1]), int(match[2] or 0)) if match is not None else (5, 0)


def _claude(name: str) -> Family:
    version = _version(name)
    if version >= (4, 7):
        # These models refuse temperature, top_p and top_k.
        return attrs.evolve(_CLAUDE, reasoning="adaptive", sampling=False, top_k=None)
    if version >= (4, 6):
        return attrs.evolve(_CLAUDE, reasoning="adaptive", one_of_sampling=True)
    if version >= (3, 7):
        return attrs.evolve(_CLAUDE, reasoning="budget", one_of_sampling=version >= (4, 1))
    return attrs.evolve(_CLAUDE, replays="none")

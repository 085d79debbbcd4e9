"""What the model families of Bedrock take, as data: Converse is one wire, but not every model takes all of it.

Sources: the documentation of Converse and of each family's parameters on docs.aws.amazon.com/bedrock, and recorded
requests. A model that is not known (an application inference profile, an imported model) is taken to take everything
that Converse itself has a word for.
"""

from __future__ import annotations

import re
from typing import Literal, TypeAlias

import attrs

ReasoningStyle: TypeAlias = Literal["budget", "adaptive", "nova", "effort", "switch"]
"""How a family is told to reason.

`budget`: Claude's `thinking` with `budget_tokens`. `adaptive`: Claude's adaptive `thinking` with an effort. `nova`:
`reasoningConfig` with `maxReasoningEffort`. `effort`: `reasoning_effort`. `switch`: `reasoning_config` with `low` or
`high`.
"""


@attrs.frozen(kw_only=True)
class Family:
    """The habits of a model family.

    `top_k` is the path of its field in `additionalModelRequestFields`. `reasoning` is how reasoning is asked for, or
    `None`; `replays` says what reasoning it takes back: all, only what is signed, or none. `sampling` says whether
    temperature and its like are taken, and `one_of_sampling` that temperature and top_p exclude each other.
    `forced_tools` is whether a tool can be forced; `one_call` whether parallel calls can be switched off.
    `json_results` is for families that want tool results as JSON, `result_status` whether failed ones can be marked.
    `leading_assistant` says that a conversation may begin with the model. `strict_ids` is for tool call ids without
    dots and colons.
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
"""By the beginning of a model's id, without the prefix of an inference profile; the first that fits."""

# `us.`, `us-gov.`, `eu.`, `apac.`, `global.` and what regions will follow.
_PROFILE_PREFIX = re.compile(r"^(?:global|us|us-gov|eu|apac|jp|au|ca|sa|me|af|in)\.")
_CLAUDE_VERSION = re.compile(r"claude-(?:[a-z]+-)?v?(\d+)(?:-(\d{1,2})(?!\d))?")


def family_of(model: str) -> Family:
    """The family of a model id, an inference profile's id or an ARN of either."""
    name = _PROFILE_PREFIX.sub("", model.rpartition("/")[2].lower())
    if name.startswith("anthropic."):
        return _claude(name)
    return next((family for prefix, family in _FAMILIES if name.startswith(prefix)), UNKNOWN)


def _version(name: str) -> tuple[int, int]:
    found = _CLAUDE_VERSION.search(name)
    # A name without a version is of a model that is newer than these lines.
    return (int(found[1]), int(found[2] or 0)) if found is not None else (5, 0)


def _claude(name: str) -> Family:
    version = _version(name)
    if version >= (4, 7):
        # These refuse temperature, top_p and top_k altogether.
        return attrs.evolve(_CLAUDE, reasoning="adaptive", sampling=False, top_k=None)
    if version >= (4, 6):
        return attrs.evolve(_CLAUDE, reasoning="adaptive", one_of_sampling=True)
    if version >= (3, 7):
        return attrs.evolve(_CLAUDE, reasoning="budget", one_of_sampling=version >= (4, 1))
    return attrs.evolve(_CLAUDE, replays="none")

"""What each surface supports, as profiles of Chat Completions.

The sources are the published specifications (inference 2024-10-21, the v1 surface, AI inference 2024-05-01-preview) and
recorded traffic. A deployment can have any name. Differences between models are decided by the name if it contains the
model's; otherwise the deployment is treated like most models.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

import attrs
from trunkline.settings import Settings
from trunkline_openai.profile import PROFILES, Profile

from trunkline_azure_openai.settings import AzureOpenAISettings

# The first version in which every model accepts `max_completion_tokens`, and requests can have `metadata`.
_NEWER = "2024-12-01"

# Mistral's models refuse `max_completion_tokens` with status 422.
_OLD_LIMIT = ("mistral*", "ministral*", "codestral*", "devstral*", "magistral*", "pixtral*")

V1 = attrs.evolve(
    PROFILES["openai"],
    name="azure-openai",
    # Every version has `user`; only some have `safety_identifier`.
    user_id_field="user",
    # Versions with developer messages convert system messages themselves.
    developer_role=False,
    obfuscation=False,
    takes=PROFILES["openai"].takes - {"document_data", "document_file_id"},
)
"""The `/openai/v1` surface, and newer versions of the classic one. Its chats do not accept documents."""

CLASSIC = attrs.evolve(
    V1, name="azure-openai, classic", max_tokens_field="max_tokens", takes=V1.takes - {"metadata", "audio_data"}
)
"""The classic surface, up to its last generally available version."""

INFERENCE = attrs.evolve(
    V1,
    name="azure-ai-inference",
    max_tokens_field="max_tokens",
    user_id_field=None,
    takes=V1.takes - {"metadata", "names", "refusals", "strict_tools", "logprobs", "parallel_tool_calls"},
)
"""The `/models` surface, which has models of many vendors."""


def profile_for(settings: Settings) -> Profile:
    """The profile of the surface that these settings use."""
    assert isinstance(settings, AzureOpenAISettings)
    surface = settings.surface
    if surface.kind == "inference":
        return INFERENCE
    return CLASSIC if surface.kind == "classic" and (surface.version or "") < _NEWER else V1


def limit_field(profile: Profile, model: str) -> str:
    """The model's field for the output limit. Reasoning models and Mistral's accept only one of the two names."""
    name = model.rpartition("/")[2].lower()
    if any(fnmatchcase(name, pattern) for pattern in _OLD_LIMIT):
        return "max_tokens"
    if profile.reasons(model) != "never" or name.startswith("gpt-5"):
        return "max_completion_tokens"
    return profile.max_tokens_field

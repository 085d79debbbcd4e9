"""What each surface supports, as profiles of Chat Completions.

The sources are the published specifications (inference 2024-10-21, the v1 surface, AI inference 2024-05-01-preview) and
recorded traffic. The tables in `model_facts` list what the models accept.
"""

from __future__ import annotations

import attrs
from trunkline.settings import Settings
from trunkline_openai.profile import PROFILES, Profile

from trunkline_azure_openai.model_facts import AZURE_MODELS
from trunkline_azure_openai.settings import AzureOpenAISettings

# The first version in which every model accepts `max_completion_tokens`, and requests can have `metadata`.
_NEWER = "2024-12-01"

V1 = attrs.evolve(
    PROFILES["openai"],
    name="azure-openai",
    # Every version has `user`; only some have `safety_identifier`.
    user_id_field="user",
    # Versions with developer messages convert system messages themselves.
    developer_role=False,
    obfuscation=False,
    operations={"transcribe", "generate_speech", "generate_images"},
    models=AZURE_MODELS,
    takes=PROFILES["openai"].takes - {"document_data", "document_file_id"},
    # Older versions refuse unknown fields. No specification has an endpoint that counts.
    responses=PROFILES["openai"].responses - {"stream_options", "count_tokens"},
)
"""The `/openai/v1` surface, and newer versions of the classic one. Its chats do not accept documents."""

CLASSIC = attrs.evolve(
    V1,
    name="azure-openai, classic",
    max_tokens_field="max_tokens",
    takes=V1.takes - {"metadata", "audio_data", "cache_key", "cache_breakpoints"},
)
"""The classic surface, up to its last generally available version."""

INFERENCE = attrs.evolve(
    V1,
    name="azure-ai-inference",
    max_tokens_field="max_tokens",
    user_id_field=None,
    operations=(),
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

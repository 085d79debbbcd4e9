"""The settings of `ollama`."""

from __future__ import annotations

import re
from typing import ClassVar

from trunkline.authoring.model_facts import ModelFactsSetting, model_facts_setting
from trunkline.secrets import Secret
from trunkline.settings import Converted, KeySource, Settings, setting, settings, url_setting

from trunkline_ollama.model_facts import OllamaFacts
from trunkline_ollama.urls import base_url

DEFAULT_URL = "http://127.0.0.1:11434"

_DURATION = re.compile(r"-?([0-9]+|([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+)")


def _convert_keep_alive(value: object) -> str | None:
    if isinstance(value, float) and value.is_integer():  # JSON and TOML may write 5 as 5.0
        value = int(value)
    text = str(value).strip() if isinstance(value, (str, int)) and not isinstance(value, bool) else ""
    if not _DURATION.fullmatch(text):
        raise ValueError(f"a duration such as '5m', a number of seconds, 0 or -1, not {value!r}")
    return text


@settings
class OllamaSettings(Settings):
    """Settings of the provider `ollama`: how to reach the server, and how it runs a model."""

    provider: ClassVar[str] = "ollama"
    display_name: ClassVar[str] = "Ollama"
    model_examples: ClassVar[tuple[str, ...]] = ("llama3.2",)

    api_url: str = url_setting(
        "API URL",
        "URL of the server, or its host and port, as in `OLLAMA_HOST`. For Ollama's cloud, `https://ollama.com`.",
        default=DEFAULT_URL,
        environment=("OLLAMA_HOST",),
        base_url=base_url,
    )
    api_key: Converted[Secret | None, KeySource] = setting(
        "API Key",
        "API key of ollama.com or of a gateway. A local server needs none.",
        default=None,
        environment=("OLLAMA_API_KEY",),
        from_function=True,
        group="Authentication",
    )
    context_length: int | None = setting(
        "Context Length",
        "Context window in tokens, for the conversation and the answer (`num_ctx`). By default the server chooses it.",
        default=None,
        minimum=1,
        group="Limits",
    )
    truncate: bool = setting(
        "Truncate",
        "Let the server silently drop the oldest messages of a conversation that is too long; else the call fails.",
        default=False,
        group="Limits",
        advanced=True,
    )
    keep_alive: Converted[str | None, int] = setting(
        "Keep Alive",
        "How long the model stays loaded after a call: `5m`, a number of seconds, `0` (unload at once) or `-1` "
        "(forever). By default the server decides.",
        default=None,
        convert=_convert_keep_alive,
        schema={"type": ["string", "integer"], "pattern": f"^{_DURATION.pattern}$"},
        group="Model",
        advanced=True,
        examples=("5m", -1),
    )
    model_facts: ModelFactsSetting = model_facts_setting(OllamaFacts)

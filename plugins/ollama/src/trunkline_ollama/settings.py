"""The settings of `ollama`."""

from __future__ import annotations

import re
from typing import ClassVar

from trunkline.secrets import Secret
from trunkline.settings import Converted, Settings, setting, settings, url_setting

from trunkline_ollama.urls import base_url

DEFAULT_URL = "http://127.0.0.1:11434"

_DURATION = re.compile(r"-?(\d+|(\d+(\.\d+)?(ns|us|µs|ms|s|m|h))+)")


def _convert_keep_alive(value: object) -> str | None:
    text = str(value).strip() if isinstance(value, (str, int)) and not isinstance(value, bool) else ""
    if not _DURATION.fullmatch(text):
        raise ValueError(f"a duration such as '5m', seconds, 0 or -1, not {value!r}")
    return text


@settings
class OllamaSettings(Settings):
    """How Ollama is reached, and how it runs a model."""

    provider: ClassVar[str] = "ollama"

    api_url: str = url_setting(
        "API URL",
        "The server: a URL, or a host and port as in `OLLAMA_HOST`; `https://ollama.com` for the cloud.",
        default=DEFAULT_URL,
        environment=("OLLAMA_HOST",),
        base_url=base_url,
    )
    api_key: Converted[Secret | None, str] = setting(
        "API key",
        "A key of ollama.com, or of a gateway. A server of one's own asks for none.",
        default=None,
        environment=("OLLAMA_API_KEY",),
    )
    context_length: int | None = setting(
        "Context length",
        "The tokens of a conversation and its answer (`num_ctx`). Without it the server chooses, by its memory.",
        default=None,
        minimum=1,
    )
    truncate: bool = setting(
        "Truncate",
        "Let the server drop the oldest turns of a conversation that is too long; it does not tell. Else that fails.",
        default=False,
    )
    keep_alive: Converted[str | None, int] = setting(
        "Keep alive",
        "How long the model stays loaded: `5m`, seconds, `0` (unload at once) or `-1` (for ever). Without it the "
        "server decides.",
        default=None,
        convert=_convert_keep_alive,
        schema={"type": ["string", "integer"]},
    )

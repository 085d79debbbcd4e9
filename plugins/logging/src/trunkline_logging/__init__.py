"""The extension `logging`: one structured line for each call to a provider, for `logging` and for structlog.

A line has names and numbers only: no message, no text of an error, and no secret.
"""

from __future__ import annotations

from typing import Literal

from trunkline.authoring.extension import Extension, ExtensionSettings
from trunkline.settings import setting, settings

__version__ = "0.1.0"

__all__ = ["LoggingSettings", "__version__", "logging"]


@settings
class LoggingSettings(ExtensionSettings):
    """Settings of the extension `logging`."""

    extension = "logging"

    library: Literal["logging", "structlog"] = setting(
        "Library",
        "The library that the lines are given to.",
        default="logging",
        choices={
            "logging": "The standard library. The fields are in the text, and attributes of the record.",
            "structlog": "structlog, which must be installed (the extra `structlog`). The fields are keywords.",
        },
    )
    logger: str = setting("Logger", "The name of the logger.", default="trunkline.calls")


def _make(settings: LoggingSettings) -> object:
    from trunkline_logging.call_log import CallLog, line_writer

    return CallLog(line_writer(settings.library, settings.logger))


logging = Extension(name="logging", settings=LoggingSettings, make=_make)
"""The object of the entry point `logging`."""

"""The operations of a provider with the Responses API. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
from trunkline.authoring.provider import Operations, ServiceContext

from trunkline_openai.operations import chat_operations
from trunkline_openai.responses_background import ParserFor, TranslatorFor, cancel_response, get_response, resume_stream
from trunkline_openai.responses_count_tokens import count_tokens


def responses_operations(translator: TranslatorFor, parser: ParserFor) -> Callable[[ServiceContext[Any]], Operations]:
    """Return a function that returns the operations of a service: those of Chat Completions, and those of this API.

    The translator says where the endpoints are, and its profile which operations the server has.
    """

    def operations(context: ServiceContext[Any]) -> Operations:
        made = translator(context)
        found = chat_operations(made.profile, made.url, made.headers)
        if "count_tokens" in made.accepted:
            found = attrs.evolve(found, count_tokens=count_tokens(translator))
        if "background" in made.accepted:
            found = attrs.evolve(
                found,
                get_response=get_response(translator, parser),
                cancel_response=cancel_response(translator, parser),
                resume_stream=resume_stream(translator, parser),
            )
        return found

    return operations

"""`trunkline chat`: one question from the arguments or a pipe, or a conversation on a terminal."""

from __future__ import annotations

import functools
import mimetypes
import sys
import time
from pathlib import Path
from typing import Annotated

import attrs
from cyclopts import Parameter

from trunkline.cli.failures import CommandError
from trunkline.cli.selection import SelectedService, ServiceOptions, select_service
from trunkline.cli.terminal import DIM, is_terminal, print_note
from trunkline.messages import Image, Message, Part, system, user
from trunkline.request import ChatRequest

_NOWHERE = ServiceOptions()


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class RequestOptions:
    """The options that shape the request."""

    model: Annotated[str | None, Parameter(alias="-m")] = None
    """The model; else the service's default_model."""

    system: str | None = None
    """Instructions that stand above the conversation."""

    image: Annotated[tuple[str, ...], Parameter(negative="", show_default=False)] = ()
    """A picture to go with the prompt: a file or a URL. May be repeated."""

    max_output_tokens: int | None = None
    """The longest answer, reasoning included."""

    temperature: float | None = None
    """How freely the model chooses its words; 0 is the least."""


_PLAIN = RequestOptions()


def chat(
    *prompt: str,
    target: ServiceOptions = _NOWHERE,
    options: RequestOptions = _PLAIN,
    json: Annotated[bool, Parameter(negative="", show_default=False)] = False,
) -> int:
    """Ask a model; its answer streams to stdout, and everything else (reasoning, usage, warnings) to stderr.

    Parameters
    ----------
    prompt
        The question. Text from a pipe follows it. With neither, on a terminal, a conversation begins.
    json
        Write the stream's events to stdout, as JSON lines with a type.
    """
    question = _question(prompt)
    images = tuple(_image(source) for source in options.image)
    chosen = select_service(target)
    if options.model is None and chosen.settings.default_model is None:
        raise CommandError(f"{chosen.origin}: no model is named: give --model, or set default_model")
    if not json and target.provider is None and target.service is None:
        print_note(f"[{chosen.origin}]", style=DIM)
    request = functools.partial(
        ChatRequest,
        model=options.model,
        max_output_tokens=options.max_output_tokens,
        temperature=options.temperature,
    )
    above = (system(options.system),) if options.system else ()
    if question is not None:
        import anyio

        messages: tuple[Message, ...] = (*above, user(question, *images))
        anyio.run(_answer, chosen, request(messages=messages), json)
        return 0
    from trunkline.cli.conversation import Conversation

    return Conversation(chosen, request, history=above, attached=images, as_json=json).run()


def _question(prompt: tuple[str, ...]) -> str | None:
    """The prompt of the arguments and of a pipe; `None` for a conversation."""
    pieces = [" ".join(prompt)]
    if not is_terminal(sys.stdin):
        try:
            pieces.append(sys.stdin.read() if sys.stdin is not None else "")
        except UnicodeDecodeError as error:
            raise CommandError(f"the text on stdin is not {error.encoding}") from None
    question = "\n\n".join(piece for piece in pieces if piece.strip())
    if question:
        return question
    if not is_terminal(sys.stdin):
        raise CommandError("there is no prompt: give one as an argument or through a pipe")
    return None


def _image(source: str) -> Part:
    if source[:8].lower().startswith(("http://", "https://", "data:")):
        return Image(url=source)
    try:
        data = Path(source).read_bytes()
    except OSError as error:
        raise CommandError(f"--image {source}: {error.strerror}") from None
    image = Image(data=data)
    if image.media_type is None:
        image = Image(data=data, media_type=mimetypes.guess_type(source)[0])
    return image


async def _answer(chosen: SelectedService, request: ChatRequest, as_json: bool) -> None:
    from trunkline.cli.display import Display, JSONDisplay
    from trunkline.cli.eventjson import error_line
    from trunkline.errors import TrunklineError
    from trunkline.opening import open_service

    display = JSONDisplay() if as_json else Display()
    started = time.monotonic()
    response = None
    try:
        # Ctrl-C cancels here; leaving the blocks closes the stream, so that the provider stops.
        async with (
            open_service(chosen.settings, name=chosen.name) as service,
            service.stream(request) as stream,
        ):
            async for event in stream:
                display.show(event)
            response = stream.response
    except TrunklineError as error:
        if as_json:
            print(error_line(error), flush=True)
        raise
    finally:
        display.close(response, seconds=time.monotonic() - started)

"""`trunkline chat`: answers one question from the arguments or a pipe, or holds a conversation on a terminal."""

from __future__ import annotations

import functools
import mimetypes
import sys
from typing import Annotated

import attrs
from cyclopts import Parameter

from trunkline._files import UnreadableFile, read_file
from trunkline._masking import listed
from trunkline._visible_text import one_line
from trunkline.cli.failures import CommandError
from trunkline.cli.selection import ComposedService, SelectedService, ServiceOptions, select_service
from trunkline.cli.terminal import DIM, is_terminal, print_json, print_note
from trunkline.messages import Image, Message, Part, system, user
from trunkline.request import ChatRequest

_NO_OPTIONS = ServiceOptions()

MAX_IMAGE_SIZE = 100 * 1024 * 1024
"""The largest image that is read, in bytes."""

MAX_PROMPT = 64 * 1024 * 1024
"""The longest text that is read from a pipe, in characters."""


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class RequestOptions:
    """The options of `chat` that go into the request."""

    model: Annotated[str | None, Parameter(alias="-m")] = None
    """The model. Default: the service's default_model."""

    system: str | None = None
    """Instructions for the whole conversation (a system message)."""

    image: Annotated[tuple[str, ...], Parameter(negative="", show_default=False)] = ()
    """An image to send with the prompt: a file or a URL. May be repeated."""

    max_output_tokens: int | None = None
    """The longest answer, in tokens, including reasoning."""

    temperature: float | None = None
    """The sampling temperature; 0 gives the most predictable answers."""


_NO_REQUEST_OPTIONS = RequestOptions()


def chat(
    *prompt: str,
    target: ServiceOptions = _NO_OPTIONS,
    options: RequestOptions = _NO_REQUEST_OPTIONS,
    json: Annotated[bool, Parameter(negative="", show_default=False)] = False,
) -> int:
    """Ask a model a question and stream its answer to stdout. Reasoning, usage and warnings go to stderr.

    Parameters
    ----------
    prompt
        The question. Text from a pipe is appended to it. Without either, a conversation starts on the terminal.
    json
        Write the events of the stream to stdout as JSON lines, each with a type.
    """
    question = _question(prompt)
    images = tuple(_image(source) for source in options.image)
    selected = select_service(target)
    if options.model is None and selected.without_model:
        of = "" if selected.without_model == (selected.name,) else f" of {listed(selected.without_model)}"
        raise CommandError(f"{selected.origin}: no model is given; use --model, or set default_model{of}")
    if not json and target.provider is None and target.service is None:
        print_note(one_line(f"[{selected.origin}]"), style=DIM)
    request = functools.partial(
        ChatRequest,
        model=options.model,
        max_output_tokens=options.max_output_tokens,
        temperature=options.temperature,
    )
    instructions = (system(options.system),) if options.system else ()
    if question is not None:
        import anyio

        messages: tuple[Message, ...] = (*instructions, user(question, *images))
        anyio.run(_answer, selected, request(messages=messages), json)
        return 0
    from trunkline.cli.conversation import Conversation

    return Conversation(selected, request, history=instructions, attached=images, as_json=json).run()


def _question(prompt: tuple[str, ...]) -> str | None:
    """Return the prompt of the arguments and of a pipe, or `None` to start a conversation."""
    pieces = [" ".join(prompt)]
    if not is_terminal(sys.stdin):
        try:
            pieces.append(sys.stdin.read(MAX_PROMPT + 1) if sys.stdin is not None else "")
        except UnicodeDecodeError as error:
            raise CommandError(f"the text on stdin is not valid {error.encoding}") from None
        if len(pieces[-1]) > MAX_PROMPT:
            raise CommandError(f"the text on stdin has more than {MAX_PROMPT} characters")
    question = "\n\n".join(piece for piece in pieces if piece.strip())
    if question:
        return question
    if not is_terminal(sys.stdin):
        raise CommandError("there is no prompt: pass one as an argument or through a pipe")
    return None


def _image(source: str) -> Part:
    if source[:8].lower().startswith(("http://", "https://", "data:")):
        return Image(url=source)
    try:
        data = read_file(source, MAX_IMAGE_SIZE)
    except UnreadableFile as error:
        raise CommandError(f"--image: the file {source!r} {error}") from None
    image = Image(data=data)
    if image.media_type is None:
        image = Image(data=data, media_type=mimetypes.guess_type(source)[0])
    return image


async def _answer(selected: SelectedService | ComposedService, request: ChatRequest, as_json: bool) -> None:
    from trunkline.cli.display import show_stream
    from trunkline.cli.eventjson import error_fields
    from trunkline.errors import TrunklineError

    try:
        # Ctrl-C cancels the task here. Leaving the block closes the connection, so that the provider stops generating.
        async with selected.open() as service:
            await show_stream(service.stream(request), as_json=as_json)
    except TrunklineError as error:
        if as_json:
            print_json(error_fields(error))
        raise

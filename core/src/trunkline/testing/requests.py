"""The conformance tests of requests: everything in a request is sent or gives a warning, and each is signed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any
from urllib.parse import unquote, urlsplit

import attrs
import pytest

from trunkline._plugins.registry import open_steps
from trunkline.authoring.provider import ServiceContext, Translation, Translator
from trunkline.authoring.warnings import merged
from trunkline.errors import CallError, TrunklineError
from trunkline.messages import (
    Audio,
    Document,
    Image,
    Message,
    Opaque,
    Part,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
    assistant,
    system,
    user,
)
from trunkline.request import ChatRequest, EmbedRequest, ReasoningOptions, ResponseFormat
from trunkline.testing.case import NOWHERE, ProviderCase
from trunkline.testing.wireformat import WEATHER

MARK = "mark-5e7fc0de"
"""A text that is in no request by chance."""

ANOTHER = "another-provider"

FIELDS: tuple[dict[str, Any], ...] = (
    {"max_output_tokens": 4321},
    {"temperature": 0.25},
    {"temperature": 0.0},
    {"top_p": 0.25},
    {"top_k": 37},
    {"stop": (MARK,)},
    {"seed": 4321},
    {"seed": 0},
    {"frequency_penalty": 0.25},
    {"presence_penalty": 0.25},
    {"logprobs": True},
    {"top_logprobs": 3},
    {"metadata": {"kit": MARK}},
    {"tools": (WEATHER,)},
    {"tools": (WEATHER,), "tool_choice": "required"},
    {"tools": (WEATHER,), "parallel_tool_calls": False},
    {"response_format": ResponseFormat(type="json")},
    {"reasoning": ReasoningOptions(effort="high")},
    {"reasoning": ReasoningOptions(max_tokens=2048)},
)
"""Fields of a request. The user's id is not among them, because a setting decides whether it is sent."""

MEDIA: tuple[Part, ...] = (
    Image(data=b"\x89PNG\r\n\x1a\n", media_type="image/png"),
    Image(url="https://pictures.example/one.png", media_type="image/png"),
    Document(data=b"%PDF-1.7", media_type="application/pdf", name="one"),
    Audio(data=b"RIFF", media_type="audio/wav"),
)

_PROBE = """
import json, os, sys

read = set()

class Watched(dict):
    def note(self, name):
        frame = sys._getframe(2)
        while frame is not None and frame.f_globals.get("__name__") in ("os", "collections.abc", "_collections_abc"):
            frame = frame.f_back
        read.add((frame.f_globals.get("__name__", "") if frame is not None else "", name))

    def __getitem__(self, name):
        self.note(name)
        return super().__getitem__(name)

    def __contains__(self, name):
        self.note(name)
        return super().__contains__(name)

    def get(self, name, default=None):
        self.note(name)
        return super().get(name, default)

import trunkline._plugins.registry
before = set(sys.modules)
os.environ = Watched(os.environ)
plugin = trunkline._plugins.registry.load_provider(sys.argv[1])
package = plugin.settings.__module__.partition(".")[0]
print(json.dumps({
    "modules": sorted(set(sys.modules) - before),
    "variables": sorted(name for module, name in read if module.partition(".")[0] == package),
}))
"""

_LATER = (
    "trunkline.authoring.event_builder",
    "trunkline.authoring.decoder",
    "trunkline.authoring.framing",
    "trunkline._http.httpx2",
)
_HEAVY = ("aiohttp", "boto3", "botocore", "httpx", "httpx2", "pydantic", "requests", "urllib3")


def _segments(url: str) -> list[str]:
    """Return the segments of a URL's path, decoded, and what follows the path."""
    parts = urlsplit(url)
    return [*map(unquote, parts.path.split("/")), parts.query, parts.fragment]


class RequestTests(ProviderCase):
    """The conformance tests of requests."""

    def _translated(self, request: ChatRequest, translator: Translator | None = None) -> Translation:
        made = translator or self.open_steps().translator
        translation: Translation = made.translate(attrs.evolve(request, model="m"), stream=True)
        return translation

    def _check_sent_or_warned(self, request: ChatRequest, without: ChatRequest) -> None:
        try:
            translation = self._translated(request)
        except CallError:
            return
        plain = self._translated(without)
        warnings = set(translation.warnings) - set(plain.warnings)
        if translation.wire_request == plain.wire_request:
            assert warnings, "not sent, and no warning says so"
            assert any(warning.lossy for warning in warnings), "not sent, but the warning is not lossy"

    def test_text_settings_stay_one_path_segment(self) -> None:
        """Text of a setting that is in the path of a URL is encoded, or refused, so it cannot change the endpoint."""
        made = self.made_settings()
        for info in self.own_settings():
            if info.secret or info.path or "://" in str(getattr(made, info.name)):
                continue
            plain = self._urls(info.name, MARK)
            for text in ("a/../b?c#d", ".."):
                for url, changed in zip(plain, self._urls(info.name, text), strict=False):
                    if MARK not in urlsplit(url).path:
                        continue
                    wanted = [part.replace(MARK, text) for part in _segments(url)]
                    found = _segments(changed)
                    assert found == wanted and ".." not in found, (  # noqa: PT018
                        f"with the setting {info.name!r} = {text!r}, the URL is {changed}: use `path_segment`"
                    )

    def _urls(self, name: str, value: str) -> list[str]:
        """Return the URLs of requests with another value of a setting; none if the value is refused."""
        try:
            context = attrs.evolve(self.context(), settings=self.made_settings(**{name: value}))
            steps = open_steps(self.plugin(), context, self.extensions())
            found = [steps.translator.translate(ChatRequest(messages="Hi", model="m"), stream=True).wire_request.url]
            operations = steps.operations
            if operations.list_models is not None:
                found.append(operations.list_models.translation(context, None).wire_request.url)
            if operations.embed is not None:
                request = EmbedRequest(inputs=["Hi"], model=self.embedding_model)
                found.append(operations.embed.translation(context, request).wire_request.url)
        except TrunklineError:
            return []
        return found

    @pytest.mark.parametrize("fields", FIELDS, ids=lambda fields: list(fields)[-1])
    def test_each_field_is_sent_or_warned_about(self, fields: dict[str, Any]) -> None:
        """A field that is set changes the wire request, gives a lossy warning, or is refused."""
        plain = {"tools": fields["tools"]} if "tools" in fields and len(fields) > 1 else {}
        self._check_sent_or_warned(ChatRequest(messages="Hi", **fields), ChatRequest(messages="Hi", **plain))

    @pytest.mark.parametrize("part", MEDIA, ids=lambda part: type(part).__name__.lower())
    def test_media_are_sent_or_warned_about(self, part: Part) -> None:
        """An image, document or audio part changes the wire request, gives a lossy warning, or is refused."""
        plain = Message(role="user", parts=[Text(text="Hi")])
        request = ChatRequest(messages=[attrs.evolve(plain, parts=[*plain.parts, part])])
        self._check_sent_or_warned(request, ChatRequest(messages=[plain]))

    @pytest.mark.parametrize(
        "part",
        [
            Reasoning(text=MARK, provider=ANOTHER, signature=MARK),
            Reasoning(provider=ANOTHER, encrypted=MARK, redacted=True),
            Opaque(provider=ANOTHER, kind="block", data={"type": "block", "text": MARK}),
        ],
        ids=["reasoning", "encrypted-reasoning", "opaque"],
    )
    def test_parts_of_another_provider_are_not_sent(self, part: Part) -> None:
        """Reasoning and opaque parts of another provider's answers are left out, with a warning that is not lossy."""
        messages = [user("Hi"), Message(role="assistant", parts=[part, Text(text="Hello")]), user("And?")]
        translation = self._translated(ChatRequest(messages=messages))
        sent = translation.wire_request.body.decode()
        assert MARK not in sent, "a part that only another provider accepts is sent"
        assert translation.warnings, "a part was left out without a warning"
        assert not _lossy(translation), "a strict service would refuse every history of another provider"

    def test_unsigned_reasoning_is_not_sent(self) -> None:
        """If the API requires signatures, reasoning without a signature is left out, with a warning."""
        if not self.wire.signed_reasoning:
            return
        mine = Reasoning(text=MARK, provider=self.plugin().name)
        messages = [user("Hi"), Message(role="assistant", parts=[mine, Text(text="Hello")]), user("And?")]
        translation = self._translated(ChatRequest(messages=messages))
        assert MARK not in translation.wire_request.body.decode(), "reasoning without a signature is sent"
        assert translation.warnings, "reasoning was left out without a warning"

    @pytest.mark.parametrize("together", [True, False], ids=["one-message", "a-message-each"])
    def test_whole_conversation_is_sent(self, together: bool) -> None:
        """The request contains all texts, tool calls and tool results of the conversation."""
        calls = [ToolCall(id=f"call_{at}", name="weather", arguments={"city": f"{MARK}-call-{at}"}) for at in (1, 2)]
        results = [ToolResult(tool_call_id=f"call_{at}", name="weather", parts=f"{MARK}-result-{at}") for at in (1, 2)]
        separate = [Message(role="tool", parts=[result]) for result in results]
        messages = [
            system(f"{MARK}-system"),
            user(f"{MARK}-user"),
            Message(role="assistant", parts=[Text(text=f"{MARK}-text"), *calls]),
            *([Message(role="tool", parts=results)] if together else separate),
            assistant(f"{MARK}-answer"),
            user(f"{MARK}-last"),
        ]
        body = self._translated(ChatRequest(messages=messages, tools=[WEATHER])).wire_request.body.decode()
        kinds = ("system", "user", "text", "call-1", "call-2", "result-1", "result-2", "answer", "last")
        lost = [kind for kind in kinds if f"{MARK}-{kind}" not in body]
        assert not lost, f"these parts of the conversation are not sent: {', '.join(lost)}"

    def test_tool_conversation_has_no_lossy_warning(self) -> None:
        """A strict service accepts a conversation with system messages, parallel results and a failed tool."""
        translation = self._translated(ChatRequest(messages=_tool_conversation(1), tools=[WEATHER]))
        assert not _lossy(translation), "everything can be sent, if need be in another form"

    def test_warnings_are_not_repeated_for_each_turn(self) -> None:
        """A long conversation gives no more warnings than a short one: the core merges those that are equal."""
        short, long = (
            merged(self._translated(ChatRequest(messages=_tool_conversation(turns), tools=[WEATHER])).warnings)
            for turns in (2, 30)
        )
        assert len(long) <= len(short), "the messages differ from turn to turn; pass what they have in common as cause"

    def test_provider_options_are_passed_on(self) -> None:
        """The wire request contains the `provider_options`."""
        request = ChatRequest(messages="Hi", provider_options={self.plugin().name: {"x_kit": MARK}})
        assert MARK.encode() in self._translated(request).wire_request.body

    def test_translating_is_pure(self) -> None:
        """A request is translated in the same way each time, whatever was translated before."""
        translator = self.open_steps().translator
        plain, rich = ChatRequest(messages="Hi"), ChatRequest(messages="Hi", tools=[WEATHER], top_k=37, seed=4321)
        foreign = Opaque(provider=ANOTHER, kind="block", data={})
        lossy = ChatRequest(messages=[user("Hi"), Message(role="assistant", parts=[foreign, Text(text="Hello")])])
        first = [self._translated(request, translator) for request in (plain, rich, lossy)]
        assert [self._translated(request, translator) for request in (plain, rich, lossy)] == first

    def test_trailing_slash_of_a_url_is_ignored(self) -> None:
        """A URL in the settings may end in a slash."""
        given = {
            name: value.replace("{url}", NOWHERE)
            for name, value in self.settings.items()
            if isinstance(value, str) and value.startswith("{url}")
        }
        request = ChatRequest(messages="Hi", model="m")
        for name, value in given.items():
            urls = [
                self._translator(**{name: text}).translate(request, stream=True).wire_request.url
                for text in (value, value + "/")
            ]
            assert urls[0] == urls[1]

    def _translator(self, **changes: object) -> Translator:
        plugin = self.plugin()
        context = ServiceContext(name="tested", provider=plugin.name, settings=self.made_settings(NOWHERE, **changes))
        found: Translator = open_steps(plugin, context, self.extensions()).translator
        return found

    def test_loading_the_provider_is_light(self) -> None:
        """Importing the provider imports no HTTP library and no module used only in calls, and reads no variable."""
        if not isinstance(self.provider, str):
            return
        done = subprocess.run(  # noqa: S603  # the name of an installed provider
            [sys.executable, "-c", _PROBE, self.provider],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        early = [name for name in found["modules"] if name in _HEAVY + _LATER]
        assert not early, f"importing the provider imports {', '.join(early)}: import them when a service opens"
        assert not found["variables"], (
            f"importing the provider reads the environment variables {', '.join(found['variables'])}"
        )


def _lossy(translation: Translation) -> list[str]:
    return [str(warning) for warning in translation.warnings if warning.lossy]


def _tool_conversation(turns: int) -> list[Message]:
    """A conversation of `turns` turns with a system message, reasoning, two tool calls and their results each."""
    messages: list[Message] = []
    for turn in range(turns):
        calls = [ToolCall(id=f"call_{turn}_{at}", name="weather", arguments={"city": "Oslo"}) for at in (1, 2)]
        thought = Reasoning(text="The weather.", provider=ANOTHER, signature=MARK)
        messages += [
            system("Be brief."),
            user("Hi"),
            Message(role="assistant", parts=[thought, Text(text="Let me look."), *calls]),
            Message(role="tool", parts=[ToolResult(tool_call_id=calls[0].id, name="weather", parts="Sun")]),
            Message(
                role="tool",
                parts=[ToolResult(tool_call_id=calls[1].id, name="weather", parts="timeout", is_error=True)],
            ),
            assistant("Sun."),
        ]
    return [*messages, user("And?")]

"""What every provider has to do, faults apart."""

from __future__ import annotations

import json
from typing import Any

import attrs
import jsonschema  # type: ignore[import-untyped]

from trunkline.authoring.wire import WireResponse
from trunkline.events import Finished, ResponseStarted
from trunkline.fold import fold, unfold
from trunkline.request import ChatRequest
from trunkline.secrets import Secret
from trunkline.settings import json_schema, setting_infos
from trunkline.testing.case import ProviderCase
from trunkline.testing.server import serve
from trunkline.testing.wireformat import Sample


class BasicTests(ProviderCase):
    """The conformance tests besides the fault classes."""

    def test_streamed_equals_whole(self, sample: Sample) -> None:
        """The events of a stream fold to what the same answer gives whole; both are what the sample says."""
        streamed = self.folded(self.decode(sample.frames))
        self.check(sample, streamed, streamed=True)
        if sample.body is None:
            return
        whole = self.parser().body(WireResponse(status=200, body=sample.body))
        self.check(sample, whole, streamed=False)
        assert [type(part) for part in streamed.parts] == [type(part) for part in whole.parts]
        assert streamed.finish_reason == whole.finish_reason

    def test_events_stand_in_order(self, sample: Sample) -> None:
        """`ResponseStarted` first, `Finished` last and once, and `fold` takes them all."""
        events = self.decode(sample.frames)
        assert isinstance(events[0], ResponseStarted)
        assert [type(event) for event in events].count(Finished) == 1
        assert isinstance(events[-1], Finished)
        response = fold(events)
        assert fold(unfold(response)).parts == response.parts

    async def test_calls(self) -> None:
        """A call and a stream work from end to end, and the connection is kept for the next."""
        for way in ("chat", "stream"):
            async with serve(self.answers(way)) as server, self.service(server.url) as service:
                response: Any = await self.ask(service, way)
                again: Any = await self.ask(service, way)
                if way == "stream":
                    response, again = self.folded(response), self.folded(again)
                self.check(self.sample_text, response, streamed=way == "stream")
                self.check(self.sample_text, again, streamed=way == "stream")
                assert server.accepted == 1

    async def test_calls_with_the_request_of_each_sample(self) -> None:
        """The request of each sample is sent, and its answer can stand in the next request."""
        for sample in self.all_samples():
            async with serve(self.answers("stream", sample)) as server, self.service(server.url) as service:
                response = self.folded(await self.read(service, sample.request))
                follow_up = ChatRequest(messages=(*sample.request.messages, response.message))
                translator = self.open_steps().translator
                if not sample.tool_calls:
                    translator.translate(_with_model(follow_up), stream=True)
                assert server.requests[0].body, "a chat request has a body"

    def test_settings_tell_of_themselves(self) -> None:
        """Each setting has a label and a description, and their JSON Schema is valid."""
        plugin = self.plugin()
        schema = json_schema(plugin.settings)
        jsonschema.Draft202012Validator.check_schema(json.loads(json.dumps(schema)))
        for info in setting_infos(plugin.settings):
            assert info.label, f"the setting {info.name!r} has no label"
            assert info.description.endswith("."), f"the description of {info.name!r} is no sentence"

    def test_given_settings_fit_the_schema(self) -> None:
        """The settings that the test gives are what the JSON Schema describes."""
        schema = json_schema(self.plugin().settings)
        plain = {name: value for name, value in self.settings.items() if isinstance(value, (str, int, float, bool))}
        known = {name: value for name, value in schema.items() if name != "required"}
        jsonschema.validate(plain, json.loads(json.dumps(known)))

    def test_reprs_show_no_secret(self) -> None:
        """No `repr` and no `str` of the settings or of a step of the provider shows a secret."""
        settings, steps = self.made_settings(), self.open_steps()
        for value in (settings, self.context(), self.plugin(), steps, steps.auth, steps.translator, steps.parser):
            for secret in self.canaries():
                assert secret not in f"{value!r} {value}", f"a secret shows in the repr of {type(value).__name__}"

    def test_secret_settings_are_secrets(self) -> None:
        """A setting whose test value is a canary has the type `Secret`."""
        settings = self.made_settings()
        for name, value in self.settings.items():
            if isinstance(value, str) and value in self.canaries():
                assert isinstance(getattr(settings, name), Secret), f"the setting {name!r} holds a secret as plain text"


def _with_model(request: ChatRequest) -> ChatRequest:
    return attrs.evolve(request, model="m")

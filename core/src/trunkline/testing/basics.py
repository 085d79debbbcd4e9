"""The conformance tests of a provider's responses and settings."""

from __future__ import annotations

import json
from typing import Any

import attrs
import jsonschema  # type: ignore[import-untyped]
import pytest

from trunkline.authoring.wire import WireResponse
from trunkline.errors import CallError
from trunkline.events import Finished, ResponseStarted
from trunkline.fold import fold, unfold
from trunkline.request import ChatRequest
from trunkline.secrets import Secret
from trunkline.settings import json_schema, setting_infos
from trunkline.testing.case import ProviderCase, in_turn, page
from trunkline.testing.kit import replaced
from trunkline.testing.wire_values import decoded_body
from trunkline.testing.wireformat import Sample

_MODEL_FIELDS = ("model", "modelVersion")
"""The names that APIs use for the model of a response."""


class BasicTests(ProviderCase):
    """The conformance tests of responses and settings, without faults."""

    def test_streamed_equals_whole(self, sample: Sample) -> None:
        """A streamed and a non-streamed response have the same content, which is the content of the sample."""
        streamed = self.folded(self.decode(sample.frames))
        self.check(sample, streamed)
        if sample.body is None:
            return
        whole = self.parser().body(WireResponse(status=200, body=sample.body))
        self.check(sample, whole)
        assert [type(part) for part in streamed.parts] == [type(part) for part in whole.parts]
        assert streamed.finish_reason == whole.finish_reason

    def test_response_has_the_model_of_the_body(self, sample: Sample) -> None:
        """If a body names the model in a field at its top, streamed and non-streamed responses have this `model`."""
        if sample.body is None:
            return
        body = decoded_body(sample.body)
        fields = [body.get(name) for name in _MODEL_FIELDS] if isinstance(body, dict) else []
        model = next((value for value in fields if isinstance(value, str) and value), None)
        if model is None:
            return
        responses = [self.parser().body(WireResponse(status=200, body=sample.body))]
        if json.dumps(model).encode() in sample.stream:
            responses.append(self.folded(self.decode(sample.frames)))
        for response in responses:
            assert response.model == model, f"the model of the response is {response.model!r}, not {model!r}"

    def test_events_are_in_order(self, sample: Sample) -> None:
        """`ResponseStarted` is first, `Finished` is last and occurs once, and `fold` accepts the events."""
        events = self.decode(sample.frames)
        assert isinstance(events[0], ResponseStarted)
        assert [type(event) for event in events].count(Finished) == 1
        assert isinstance(events[-1], Finished)
        response = fold(events)
        assert fold(unfold(response)).parts == response.parts

    def test_samples_have_log_probabilities(self) -> None:
        """If log probabilities can be requested, a sample has some, without which their parsing is not tested."""
        request = ChatRequest(messages="Hi", model="m", logprobs=True)
        try:
            translation = self.open_steps().translator.translate(request, stream=False)
        except CallError:
            return
        if not any(warning.lossy for warning in translation.warnings):
            assert any(sample.logprobs for sample in self.all_samples()), (
                "log probabilities are requested, but no sample has 'logprobs'. Add one, or a lossy warning if the API "
                "has none"
            )

    async def test_chat_and_stream(self) -> None:
        """`chat` and `stream` work end to end, and a second call uses the same connection."""
        for method in ("chat", "stream"):
            async with self.serve(self.responds(method)) as server, self.service(server.url) as service:
                response: Any = await self.ask(service, method)
                again: Any = await self.ask(service, method)
                if method == "stream":
                    response, again = self.folded(response), self.folded(again)
                self.check(self.sample_text, response)
                self.check(self.sample_text, again)
                assert server.accepted == 1

    async def test_request_of_each_sample_is_sent(self) -> None:
        """The request of each sample is sent, and the next request can contain the response."""
        for sample in self.all_samples():
            async with self.serve(self.responds("stream", sample)) as server, self.service(server.url) as service:
                response = self.folded(await self.read(service, sample.request))
                follow_up = ChatRequest(messages=(*sample.request.messages, response.message))
                translator = self.open_steps().translator
                if not sample.tool_calls:
                    translator.translate(_with_model(follow_up), stream=True)
                assert server.requests[0].body, "a chat request has a body"

    async def test_models_are_listed_page_by_page(self) -> None:
        """`list_models` requests each page of `model_pages` exactly once, and returns the `listed_models`."""
        if not self.model_pages:
            pytest.skip("not tested: lists of models with several pages. If the API has them, set 'model_pages'")
        pages = in_turn(*map(page, self.model_pages))
        async with self.serve(pages) as server, self.service(server.url) as service:
            models = await service.list_models()
        targets = [request.target for request in server.requests]
        assert len(set(targets)) == len(targets) == len(self.model_pages), f"the requests are {targets}"
        if self.listed_models:
            assert list(models) == list(self.listed_models), "the models are not the 'listed_models'"

    def test_settings_are_described(self) -> None:
        """Each setting has a label and a description, and the JSON Schema of the settings is valid."""
        plugin = self.plugin()
        schema = json_schema(plugin.settings)
        jsonschema.Draft202012Validator.check_schema(json.loads(json.dumps(schema)))
        for info in setting_infos(plugin.settings):
            assert info.label, f"the setting {info.name!r} has no label"
            assert info.description.endswith("."), (
                f"the description of the setting {info.name!r} does not end with a period"
            )

    def test_settings_refer_to_settings(self) -> None:
        """The names in `alternatives` and in `requires` are names of settings."""
        kind = self.plugin().settings
        infos = setting_infos(kind)
        known = {info.name for info in infos}
        for info in infos:
            assert known.issuperset(info.requires), (
                f"the setting {info.name!r} requires settings that do not exist: {sorted({*info.requires} - known)}"
            )
        for way in kind.alternatives:
            named = {*way.settings, *way.required}
            assert named <= known, (
                f"the alternative {way.title!r} names settings that do not exist: {sorted(named - known)}"
            )
            assert set(way.required) <= set(way.settings), (
                f"the alternative {way.title!r} requires {sorted({*way.required} - {*way.settings})}, which are not "
                "among its settings"
            )

    def test_settings_match_the_schema(self) -> None:
        """The settings of the test class are valid by the JSON Schema, and so are blanks in place of optional ones."""
        schema = json.loads(json.dumps(json_schema(self.plugin().settings)))
        settings = {name: replaced(value, "{url}", "https://api.example") for name, value in self.settings.items()}
        plain = {name: value for name, value in settings.items() if isinstance(value, (str, int, float, bool))}
        # Other settings may be required, or may decide which ones are.
        known = {name: schema[name] for name in ("properties", "additionalProperties", "$defs")}
        jsonschema.validate(plain, known)
        required = {*schema["required"], "default_model"}
        jsonschema.validate(dict.fromkeys(schema["properties"].keys() - required, ""), known)

    def test_reprs_show_no_secret(self) -> None:
        """The `repr` and `str` of the settings and of each step of the provider show no secret."""
        settings, steps = self.made_settings(), self.open_steps()
        for value in (settings, self.context(), self.plugin(), steps, steps.auth, steps.translator, steps.parser):
            for secret in self.canaries():
                assert secret not in f"{value!r} {value}", f"the repr or str of {type(value).__name__} shows a secret"

    def test_secret_settings_are_secrets(self) -> None:
        """A setting whose value in the test is a canary has the type `Secret`."""
        settings = self.made_settings()
        for name, value in self.settings.items():
            if isinstance(value, str) and value in self.canaries():
                assert isinstance(getattr(settings, name), Secret), f"the setting {name!r} must have the type Secret"


def _with_model(request: ChatRequest) -> ChatRequest:
    return attrs.evolve(request, model="m")

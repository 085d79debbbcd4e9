"""What an administrator saves: validated, with secrets kept apart, and tested before it is stored."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from importlib.metadata import entry_points
from typing import cast

import pytest
from trunkline import ConfigurationError, open_service, open_services
from trunkline.authoring.provider import Provider
from trunkline.settings import json_schema, setting_infos
from trunkline.testing import Exchange, serve
from trunkline_gateway.database.services import ServiceStore, StoredService
from trunkline_gateway.installed import find_provider
from trunkline_gateway.services import Services, ServiceState
from trunkline_gateway.target_wires import wire_of

from .gateway_store import MemoryStore

pytestmark = pytest.mark.anyio

PROVIDERS = sorted({entry_point.name for entry_point in entry_points(group="trunkline.providers")})
KEY = "sk-test-0123456789abcdef"
URL = "http://127.0.0.1:9/v1"
TABLE = {"provider": "openai-compatible", "api_url": URL, "default_model": "m"}


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
async def services(store: MemoryStore) -> AsyncIterator[Services]:
    made = Services(cast("ServiceStore", store))
    await made.reload()
    yield made
    await made.aclose()


def state(services: Services, name: str) -> ServiceState:
    return next(found for found in services.states() if found.name == name)


async def mistakes(
    services: Services, table: Mapping[str, object], secrets: dict[str, str | None] | None = None, name: str = "main"
) -> dict[str, str]:
    """Return the mistakes in a service, by setting. Nothing may have been stored."""
    before = services.states()
    with pytest.raises(ConfigurationError) as caught:
        await services.save(name, table, secrets or {})  # type: ignore[arg-type]
    assert services.states() == before
    assert caught.value.errors
    assert all(error.setting for error in caught.value.errors)
    return {str(error.setting): str(error) for error in caught.value.errors}


# Secrets


async def test_a_secret_stays_if_it_is_not_given_and_goes_if_it_is_blank(
    services: Services, store: MemoryStore
) -> None:
    await services.save("main", TABLE, {"api_key": KEY})
    assert store.services["main"].secrets == {"api_key": KEY}
    assert state(services, "main").secrets == (("api_key", "cdef"),)
    await services.save("main", {**TABLE, "default_model": "n"}, {})
    await services.save("main", {**TABLE, "default_model": "n"}, {"api_key": None})
    assert store.services["main"].secrets == {"api_key": KEY}
    assert state(services, "main").default_model == "n"
    await services.save("main", TABLE, {"api_key": "eleven-char"})
    assert state(services, "main").secrets == (("api_key", ""),)
    await services.save("main", TABLE, {"api_key": " "})
    assert store.services["main"].secrets == {}
    assert state(services, "main").secrets == ()


async def test_a_secret_is_not_sent_to_another_provider(services: Services, store: MemoryStore) -> None:
    await services.save("main", TABLE, {"api_key": KEY})
    await services.save("main", {"provider": "ollama", "api_url": "http://127.0.0.1:11434"}, {})
    assert store.services["main"].secrets == {}


async def test_no_secret_is_shown_or_stored_in_clear(services: Services, store: MemoryStore) -> None:
    table = {
        **TABLE,
        "proxy": "http://user:proxy-password-1@127.0.0.1:3128",
        "headers": {"X-Api-Key": "header-secret-123456", "Accept": "application/json"},
        "api_key": KEY,
    }
    await services.save("main", table, {})
    stored = store.services["main"]
    shown = repr(services.states())
    for secret in ("proxy-password-1", "header-secret-123456", KEY):
        assert secret not in json.dumps(stored.table)
        assert secret in json.dumps(dict(stored.secrets))
        assert secret not in shown
    assert stored.table["headers"] == {"Accept": "application/json"}


async def test_what_is_shown_can_be_saved_again(services: Services, store: MemoryStore) -> None:
    table = {**TABLE, "proxy": "http://user:password-1@127.0.0.1:3128", "headers": {"X-Api-Key": "header-secret-1"}}
    await services.save("main", table, {"api_key": KEY})
    before = store.services["main"]
    await services.save("main", state(services, "main").table, {})
    assert store.services["main"] == before
    await services.save("main", {**state(services, "main").table, "headers": {}, "proxy": ""}, {})
    assert store.services["main"].secrets == {"api_key": KEY}
    assert store.services["main"].table == TABLE


@pytest.mark.parametrize("reference", [{"env": "HOME"}, {"file": "/etc/passwd"}, {"keyring": "a/b"}])
async def test_references_are_for_files_only(services: Services, reference: dict[str, str]) -> None:
    assert list(await mistakes(services, {**TABLE, "organization_id": reference})) == ["organization_id"]
    assert "headers" in await mistakes(services, {**TABLE, "headers": {"X-Key": reference}})
    assert "api_key" in await mistakes(services, {**TABLE, "api_key": reference})


async def test_a_text_like_a_reference_is_a_secret_and_not_read(services: Services, store: MemoryStore) -> None:
    assert "api_key" in await mistakes(services, TABLE, {"api_key": '{"env":"HOME"}'})


# Mistakes


async def test_every_mistake_is_listed_with_its_setting(services: Services) -> None:
    found = await mistakes(
        services,
        {"provider": "openai-compatible", "api_url": "ftp://x", "max_retries": "many", "colour": "red", "limits": 3},
        {"api_key": "with space", "other_key": "x"},
        name="a/b",
    )
    assert set(found) == {"name", "api_url", "max_retries", "colour", "limits", "api_key", "other_key"}
    assert "with space" not in str(found)


async def test_a_provider_is_needed_and_must_be_installed(services: Services) -> None:
    assert list(await mistakes(services, {})) == ["provider"]
    assert list(await mistakes(services, {"provider": "no-such-provider"})) == ["provider"]


@pytest.mark.parametrize("name", ["", "a/b", "ä", "a b", "a\n", ".", "..", "x" * 65, "<script>"])
async def test_names_that_no_service_can_have(services: Services, name: str) -> None:
    assert list(await mistakes(services, TABLE, name=name)) == ["name"]


@pytest.mark.parametrize("name", ["a", "A-1_b.c", "gpt-5.4", "x" * 64])
async def test_names_that_a_service_can_have(services: Services, name: str) -> None:
    await services.save(name, TABLE, {})
    assert services.resolve(f"{name}/m").service == name


async def test_a_url_that_leads_to_metadata_is_refused(services: Services) -> None:
    for url in ("http://169.254.169.254/v1", "http://[fd00:ec2::254]/v1", "http://metadata.google.internal/v1"):
        assert list(await mistakes(services, {**TABLE, "api_url": url})) == ["api_url"]
    assert list(await mistakes(services, {**TABLE, "proxy": "http://10.0.0.1:3128"})) == ["proxy"]
    report = await services.check("main", {**TABLE, "api_url": "http://169.254.169.254/v1"}, {}, None)
    assert not report.ok
    assert report.diagnosis is not None
    assert "169.254.169.254" in report.diagnosis.message


async def test_a_stored_url_is_checked_each_time_it_is_opened(services: Services, store: MemoryStore) -> None:
    store.services["main"] = StoredService(name="main", table={**TABLE, "api_url": "http://169.254.169.254/v1"})
    await services.reload()
    assert "169.254.169.254" in str(state(services, "main").error)


async def test_values_of_a_form_are_stored_as_what_they_are(services: Services, store: MemoryStore) -> None:
    await services.save(
        "main", {**TABLE, "max_retries": "3", "strict": "on", "total_timeout": "20", "proxy": "", "api": " "}, {}
    )
    assert store.services["main"].table == {**TABLE, "max_retries": 3, "strict": True, "total_timeout": 20.0}


# Composed services and aliases


async def test_composed_services_are_validated(services: Services, store: MemoryStore) -> None:
    await services.save("a", TABLE, {})
    await services.save("b", TABLE, {})
    await services.save("both", {"balance": {"a": 2, "b": 1}, "limits": {"concurrency": 4}, "total_timeout": ""}, {})
    assert state(services, "both").display_name == "balance of a, b"
    assert list(await mistakes(services, {"fallback": ["a", "nobody"]}, name="x")) == ["fallback"]
    assert list(await mistakes(services, {"fallback": ["both", "x"]}, name="x")) == ["fallback"]
    assert list(await mistakes(services, {"fallback": ["both"]}, name="a")) == ["fallback"]
    assert list(await mistakes(services, {"fallback": []}, name="x")) == ["fallback"]
    await services.save("all", {"fallback": ["both"]}, {})
    assert list(await mistakes(services, {"balance": {"a": 1, "all": 1}}, name="both")) == ["balance"]
    assert state(services, "all").error is None
    await services.delete("all")
    with pytest.raises(ConfigurationError, match="both"):
        await services.delete("a")
    await services.delete("both")
    await services.delete("a")
    assert list(store.services) == ["b"]


async def test_aliases_are_validated(services: Services, store: MemoryStore) -> None:
    await services.save("main", TABLE, {})
    for name, target in (
        ("", "main/m"),
        ("main", "main/m"),
        ("main/m", "main/m"),
        ("a\x1b[0m", "main/m"),
        ("a\n", "main/m"),
        ("x" * 300, "main/m"),
        ("a", "nobody/m"),
        ("a", "main/"),
        ("a", "main/\n"),
        ("a", ""),
    ):
        with pytest.raises(ConfigurationError) as caught:
            await services.set_alias(name, target)
        assert caught.value.errors
    for name, target in (("fast", "main/m"), ("meta/llama", "main/x"), ("plain", "main")):
        await services.set_alias(name, target)
    assert services.aliases == {"fast": "main/m", "meta/llama": "main/x", "plain": "main"}
    assert services.resolve("meta/llama").model == "x"
    assert services.resolve("plain").model == "m"
    assert list(await mistakes(services, TABLE, name="fast")) == ["name"]
    assert list(await mistakes(services, TABLE, name="meta")) == ["name"]


# Testing


async def answer(exchange: Exchange) -> None:
    if "wrong-key" in exchange.request.headers.get("authorization", ""):
        await exchange.respond(b'{"error": {"message": "no such key"}}', status=401)
    elif exchange.request.method == "GET":
        await exchange.respond(b'{"object": "list", "data": [{"id": "m", "object": "model"}]}')
    else:
        message = {"role": "assistant", "content": "ok"}
        body = {"id": "c", "model": "m", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
        await exchange.respond(json.dumps(body).encode())


async def test_settings_can_be_tested_before_they_are_stored(services: Services, store: MemoryStore) -> None:
    async with serve(answer) as server:
        table = {**TABLE, "api_url": f"{server.url}/v1"}
        report = await services.check("main", table, {"api_key": KEY}, None)
        assert report.ok, report
        assert report.models == ("m",)
        assert store.services == {}
        report = await services.check("main", table, {"api_key": "wrong-key-1234567"}, None)
        assert report.diagnosis is not None
        assert report.diagnosis.problem == "key"
        await services.save("main", table, {"api_key": KEY})
        assert (await services.check("main", state(services, "main").table, {}, "m")).ok
    report = await services.check("main", table, {}, None)
    assert report.diagnosis is not None
    assert report.diagnosis.problem == "refused"
    report = await services.check("main", {"provider": "openai"}, {}, None)
    assert report.diagnosis is not None
    assert "api_key" in report.diagnosis.message


async def test_a_composed_service_works_if_a_member_does(services: Services) -> None:
    async with serve(answer) as server:
        await services.save("good", {**TABLE, "api_url": f"{server.url}/v1"}, {})
        await services.save("bad", TABLE, {})
        report = await services.check("both", {"fallback": ["bad", "good"]}, {}, None)
        assert report.ok
        assert report.members == {"bad": False, "good": True}
        report = await services.check("both", {"fallback": ["bad"]}, {}, None)
        assert not report.ok


# Every provider


def installed_provider(name: str) -> Provider:
    provider = find_provider(name)
    assert provider is not None
    return provider


@pytest.mark.parametrize("name", PROVIDERS)
@pytest.mark.parametrize("blank", ["", "  ", "\n", None])
async def test_blanks_of_every_provider_s_form_are_unset(services: Services, name: str, blank: str | None) -> None:
    provider = installed_provider(name)
    infos = setting_infos(provider.settings)
    off = {info.name for info in infos if blank is None and isinstance(info.default, (int, float))}
    table = {info.name: blank for info in infos if not info.secret and info.name not in off}
    secrets = dict.fromkeys((info.name for info in infos if info.secret), blank)
    expected = {info.name for info in infos if info.required or info.form_required}
    wrong: dict[str, ConfigurationError] = {}
    with contextlib.suppress(ConfigurationError):
        open_services({"services": {"main": {"provider": name}}}, environ={}, wrong=wrong)
    for error in wrong.values():
        expected |= {str(single.setting) for single in (error.errors or (error,))}
    if expected:
        assert set(await mistakes(services, {"provider": name, **table}, secrets)) == expected
    else:
        await services.save("main", {"provider": name, **table}, secrets)
        assert state(services, "main").table == {"provider": name}


@pytest.mark.parametrize("name", PROVIDERS)
def test_every_provider_has_a_schema_for_its_form(name: str) -> None:
    assert json_schema(installed_provider(name).settings)["properties"]


VALUES = {
    "api_key": KEY,
    "api_url": "https://llm.example.com/v1",
    "aws_region": "us-east-1",
    "aws_access_key_id": "AKIAIOSFODNN7EXAMPLE",
    "aws_secret_access_key": KEY,
    "workspace_id": "wrkspc_1",
    "project": "my-project",
    "location": "us-east5",
    "access_token": KEY,
}

WIRES = [
    ("anthropic", {}, "claude-sonnet-4-5", "anthropic-messages"),
    ("anthropic-aws", {}, "claude-sonnet-4-5", "anthropic-messages"),
    ("anthropic-google-cloud", {}, "claude-sonnet-4-5", "anthropic-messages"),
    ("azure-anthropic", {"api_url": "https://x.services.ai.azure.com"}, "claude-sonnet-4-5", "anthropic-messages"),
    ("azure-openai", {"api_url": "https://x.openai.azure.com"}, "gpt-4o", "openai-chat"),
    ("azure-openai", {"api_url": "https://x.openai.azure.com", "api": "responses"}, "gpt-4o", "openai-responses"),
    ("bedrock", {}, "anthropic.claude-sonnet-4-5-20250929-v1:0", None),
    ("bedrock", {"api": "converse"}, "anthropic.claude-sonnet-4-5-20250929-v1:0", None),
    ("bedrock", {"api": "messages"}, "anthropic.claude-sonnet-4-5-20250929-v1:0", "anthropic-messages"),
    ("bedrock", {"api": "chat"}, "openai.gpt-oss-20b-1:0", "openai-chat"),
    ("bedrock", {"api": "responses"}, "openai.gpt-oss-20b", "openai-responses"),
    ("cohere", {}, "command-a-03-2025", None),
    ("gemini", {}, "gemini-2.5-flash", None),
    ("llamacpp", {}, "model.gguf", "openai-chat"),
    ("mistral", {}, "mistral-small-latest", "openai-chat"),
    ("ollama", {}, "qwen3", None),
    ("openai", {}, "gpt-4o", "openai-chat"),
    ("openai", {"api": "responses"}, "gpt-5", "openai-responses"),
    ("openai-compatible", {}, "m", "openai-chat"),
    ("openai-compatible", {"api": "responses"}, "m", "openai-responses"),
    ("vertex", {}, "gemini-2.5-flash", None),
    ("vertex", {}, "claude-sonnet-4-5", "anthropic-messages"),
]


@pytest.mark.parametrize(("name", "settings", "model", "wire"), WIRES)
def test_the_wire_of_a_provider_is_known(name: str, settings: dict[str, str], model: str, wire: str | None) -> None:
    provider = installed_provider(name)
    given = {**VALUES, **settings} if "api_url" in settings or name == "openai-compatible" else dict(VALUES)
    if name not in ("openai-compatible", "azure-openai", "azure-anthropic"):
        del given["api_url"]
    known = {info.name for info in setting_infos(provider.settings)}
    if "aws_region" in known or "access_token" in known:
        given.pop("api_key")
    table = {key: value for key, value in {**given, **settings}.items() if key in known}
    assert wire_of(open_service(provider, **table), model) == wire

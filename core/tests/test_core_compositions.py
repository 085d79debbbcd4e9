"""Composed services of a configuration file: what is accepted, and what an error says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from trunkline import ConfigurationError, open_service, open_services
from trunkline._config.compositions import Composition, Compositions, Limits, split_tables
from trunkline.testing import Exchange, serve

from .conftest import make_toy

pytestmark = pytest.mark.anyio


@pytest.fixture
def configured(install: Callable[..., None]) -> Callable[..., Any]:
    """Open the services of a configuration with the toys `a` and `b`, and further tables."""
    source = f"from {make_toy.__module__} import make_toy\n\nprovider = make_toy()\n"
    install("trunkline-toy", "trunkline.providers", {"toy": "plugin_toy:provider"}, plugin_toy=source)

    def make(url: str = "http://127.0.0.1:9", **tables: object) -> Any:
        toy = {"provider": "toy", "url": url, "default_model": "toy-1"}
        return open_services({"services": {**tables, "a": {**toy, "url": "http://127.0.0.1:9"}, "b": toy}})

    return make


async def test_service_made_of_others_calls_them_in_their_order(configured: Callable[..., Any]) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.respond(b'{"text": "Hello"}')

    async with serve(answer) as server:
        tables = {"outer": {"fallback": ["inner"], "total_timeout": 20}, "inner": {"fallback": ["a", "b"]}}
        async with configured(server.url, **tables) as services:
            assert list(services) == ["outer", "inner", "a", "b"]
            response = await services["outer"].chat("Hi")
    assert (response.text, response.service) == ("Hello", "b")


def message(configured: Callable[..., Any], **tables: object) -> str:
    with pytest.raises(ConfigurationError) as caught:
        configured(**tables)
    return str(caught.value)


def test_unknown_member_is_named_with_the_services_that_there_are(configured: Callable[..., Any]) -> None:
    error = message(configured, main={"fallback": ["a", "spare"]})
    assert error.startswith("service 'main': setting 'fallback' names 'spare', which is not a service")
    assert "it has: main, a, b" in error


@pytest.mark.parametrize(
    "tables",
    [
        {"main": {"fallback": ["main"]}},
        {"main": {"fallback": ["a", "x"]}, "x": {"fallback": ["main"]}},
        {"main": {"fallback": ["x"]}, "x": {"fallback": ["y"]}, "y": {"fallback": ["a", "x"]}},
        {"x": {"fallback": ["main"]}, "main": {"fallback": ["x"]}},
        {"x": {"fallback": ["y", "main"]}, "main": {"fallback": ["a", "x"]}, "y": {"balance": ["b"]}},
    ],
)
def test_service_that_is_its_own_member_is_an_error_at_start(
    configured: Callable[..., Any], tables: dict[str, object]
) -> None:
    error = message(configured, **tables)
    assert error.count("leads back to the service itself") == 1
    assert " -> " in error


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ({"fallback": []}, "'fallback' must be a list of names of other services"),
        ({"fallback": "a"}, "'fallback' must be a list of names of other services"),
        ({"fallback": [1]}, "a list of names, which are strings"),
        ({"fallback": ["a", "a"]}, "names the same service twice"),
        ({"fallback": {"a": 1}}, "'fallback' must be a list"),
        ({"fallback": ["a"], "provider": "toy"}, "'provider' cannot be combined with 'fallback'"),
        ({"fallback": ["a"], "balance": ["b"]}, "'balance' cannot be combined with 'fallback'"),
        ({"fallback": ["a"], "total_timeot": 3}, "did you mean 'total_timeout'?"),
        ({"fallback": ["a"], "total_timeout": 0}, "must be a number above 0, or none to turn it off"),
        ({"fallback": ["a"], "total_timeout": float("nan")}, "must be a number of seconds"),
        ({"falback": ["a"]}, "did you mean 'fallback'?"),
        ({"balance": {"a": 0}}, "a weight above 0"),
        ({"balance": {"a": 10**400}}, "a weight above 0"),
        ({"balance": {"a": 1e200, "b": 1}}, "a weight above 0, and at most 1e+100"),
        ({"fallback": ["a"], "total_timeout": 10**400}, "must be a number of seconds"),
        ({"balance": {}}, "a table of their weights"),
        ({"fallback": ["a"], "limits": 3}, "'limits' must be a table of concurrency"),
        ({"fallback": ["a"], "limits": {}}, "'limits' must be a table of concurrency"),
        ({"fallback": ["a"], "limits": {"concurency": 3}}, "did you mean 'concurrency'?"),
        ({"fallback": ["a"], "limits": {"concurrency": 0}}, "a whole number above 0, which concurrency is not"),
        ({"fallback": ["a"], "limits": {"concurrency": True}}, "a whole number above 0, which concurrency is not"),
    ],
)
def test_mistake_in_a_composed_service_names_the_setting_and_what_is_accepted(
    configured: Callable[..., Any], table: dict[str, object], text: str
) -> None:
    error = message(configured, main=table)
    assert "service 'main': setting" in error
    assert text in error


@pytest.mark.parametrize(
    ("setting", "hint"),
    [
        ({"limit": {"concurrency": 1}}, "'limit' does not exist; did you mean 'limits'?"),
        ({"Limits": {"concurrency": 1}}, "did you mean 'limits'?"),
        ({"falback": ["b"]}, "did you mean 'fallback'?"),
        ({"balnce": {"b": 1}}, "did you mean 'balance'?"),
        ({"heders": {"a": "b"}}, "did you mean 'headers'?"),
        ({"limit": 5}, "did you mean '"),
    ],
)
def test_misspelt_key_beside_a_provider_is_recognized(
    configured: Callable[..., Any], setting: dict[str, object], hint: str
) -> None:
    assert hint in message(configured, main={"provider": "toy", "url": "http://127.0.0.1:9", **setting})


def test_keys_of_a_configuration_file_are_no_settings_in_code(configured: Callable[..., Any]) -> None:
    for keyword, function, value in (("limits", "limit", {"concurrency": 1}), ("fallback", "fallback", ["a"])):
        with pytest.raises(ConfigurationError, match=rf"In code, use trunkline\.{function}$"):
            open_service("toy", url="http://127.0.0.1:9", **{keyword: value})


def test_all_mistakes_in_limits_are_reported_at_once(configured: Callable[..., Any]) -> None:
    wrong = {"concurrency": 0, "requests_per_minute": "many", "conurrency": 1}
    error = message(configured, main={"fallback": ["a"], "limits": wrong})
    assert "which concurrency is not" in error
    assert "which requests_per_minute is not" in error
    assert "did you mean 'concurrency'?" in error


@pytest.mark.parametrize("blank", [None, "", " "])
def test_blank_limit_is_no_limit(blank: object) -> None:
    errors: list[ConfigurationError] = []
    given: dict[str, object] = {"concurrency": blank, "tokens_per_minute": 5}
    _, compositions = split_tables({"a": {"limits": given}, "b": {"limits": {"concurrency": blank}}}, errors)
    assert errors == []
    assert compositions.limits == {"a": Limits(tokens_per_minute=5)}


class CountedMembers(dict[str, float]):
    """The members of a composed service. It counts how often they are listed."""

    listed = 0

    def __iter__(self) -> Iterator[str]:
        CountedMembers.listed += 1
        return super().__iter__()


def test_members_that_are_reached_on_many_paths_are_found_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CountedMembers, "listed", 0)
    levels = 10
    services = {
        f"{side}{level}": Composition(
            kind="fallback", members=CountedMembers(dict.fromkeys((f"l{level - 1}", f"r{level - 1}"), 1.0))
        )
        for level in range(1, levels + 1)
        for side in "lr"
    }
    assert list(Compositions(services=services).members(f"l{levels}")) == ["l0", "r0"]
    assert CountedMembers.listed <= 2 * levels


@pytest.mark.parametrize("limits", [{}, {"limits": {"concurrency": 5}}])
def test_services_that_are_nested_too_deep_are_an_error_at_start(
    configured: Callable[..., Any], limits: dict[str, object]
) -> None:
    tables = {f"n{number}": {"fallback": [f"n{number + 1}"], **limits} for number in range(3000)}
    error = message(configured, **tables, n3000={"fallback": ["a"]})
    assert error.count("nests services more than 50 deep") == 1


async def test_services_that_are_nested_as_deep_as_allowed_answer(configured: Callable[..., Any]) -> None:
    async def answer(exchange: Exchange) -> None:
        if b'"stream":true' in exchange.request.body:
            await exchange.respond(b'{"open": true, "text": "Hello"}\n{"done": true}\n')
        else:
            await exchange.respond(b'{"text": "Hello"}')

    limits = {"limits": {"concurrency": 5}}
    tables = {f"n{number}": {"fallback": [f"n{number + 1}"], **limits} for number in range(24)}
    async with serve(answer) as server:
        async with configured(server.url, **tables, n24={"balance": ["b"], **limits}) as services:
            assert (await services["n0"].chat("Hi")).text == "Hello"
            async with services["n0"].stream("Hi") as stream:
                assert (await stream.finish()).text == "Hello"


def test_all_mistakes_are_reported_at_once(configured: Callable[..., Any]) -> None:
    error = message(configured, main={"fallback": ["x"]}, other={"provider": "toy"}, third={"fallback": []})
    assert all(name in error for name in ("'main'", "'other'", "'third'"))


@pytest.mark.parametrize(("given", "seconds"), [(" ", None), ("none", None), ("2.5", 2.5), (3, 3.0)])
def test_total_timeout_of_a_composed_service_has_the_forms_of_any_other(given: object, seconds: float | None) -> None:
    errors: list[ConfigurationError] = []
    _, compositions = split_tables({"main": {"fallback": ["a"], "total_timeout": given}, "a": {}}, errors)
    assert errors == []
    assert compositions.services["main"].total_timeout == seconds


def test_blank_value_composes_nothing() -> None:
    errors: list[ConfigurationError] = []
    given = {"provider": "toy", "total_timeout": None}
    tables = {"main": {**given, "fallback": "", "balance": None, "limits": " "}}
    simple, compositions = split_tables(tables, errors)
    assert (errors, simple, compositions.services, compositions.limits) == ([], {"main": given}, {}, {})


def test_wrong_services_can_be_left_out_with_those_composed_of_them(configured: Callable[..., Any]) -> None:
    wrong: dict[str, ConfigurationError] = {}
    toy = {"provider": "toy", "url": "http://127.0.0.1:9"}
    tables = {
        "good": toy,
        "bad": {**toy, "colour": "red", "max_retries": "many"},
        "absent": {"provider": "no-such-provider"},
        "on-good": {"fallback": ["good"]},
        "on-bad": {"fallback": ["good", "bad"]},
        "above": {"balance": ["on-bad", "good"]},
        "cycle": {"fallback": ["cycle"]},
    }
    configured()  # the toy is installed
    services = open_services({"services": tables}, environ={}, wrong=wrong)
    assert list(services) == ["good", "on-good"]
    assert sorted(wrong) == ["above", "absent", "bad", "cycle", "on-bad"]
    assert [error.setting for error in wrong["bad"].errors] == ["colour", "max_retries"]
    assert str(wrong["on-bad"]) == "service 'on-bad' names bad, which cannot be used"
    assert str(wrong["above"]) == "service 'above' names on-bad, which cannot be used"


def test_a_mistake_that_belongs_to_no_service_is_raised_nevertheless(configured: Callable[..., Any]) -> None:
    configured()
    with pytest.raises(ConfigurationError, match="at the top level"):
        open_services({"services": {"a": {"provider": "toy"}}, "servces": {}}, environ={}, wrong={})

"""The JSON Schema of each provider's settings accepts what the library accepts, and nothing else.

Tables are generated in both directions: from the schemas, by schemathesis, and from the descriptions of the settings.
`EXCEPTIONS` lists what differs, with the reasons.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings, strategies as st
from trunkline._config.sources import make_settings
from trunkline._plugins.registry import PROVIDERS, installed, load_provider
from trunkline._setting_types import is_blank, is_reference, takes_reference, trimmed, without_none
from trunkline.errors import ConfigurationError
from trunkline.secrets import Headers
from trunkline.settings import SettingInfo, Settings, json_schema, setting_infos

EXCEPTIONS = {
    "default_model": "the schema requires it, since a form sets up a service that works; the library opens a service "
    "without it, for requests that name their model",
    "region": "the schema requires Bedrock's region, as the forms of AWS do; the library also takes it from AWS's "
    "configuration on the machine",
    "machine": "a reference, an extension and a home folder exist on the machine or not, which no schema can know",
    "choice": "the schema lists one spelling of each choice, since forms draw a list only of constants; the library "
    "ignores case and white space around it, and takes any of the words for true and false",
    "url": "the schema describes URLs; the library also mends what people paste instead of one, such as a link in "
    "Markdown, and refuses a few more misspelt schemes in place of the host, such as `https://httpx/host.x`",
    "json": "the library reads the JSON in the text of `credentials_json`, which no pattern can",
    "azure": "the schema refuses a version of the API by the segments of the URL, and the library by its whole path",
}
"""What the library accepts and the schema refuses, and the reverse for `machine` and `json`, with the reasons."""

NAMES = sorted(item.name for item in installed(PROVIDERS) if item.distribution.startswith("trunkline-"))
BLANKS = ("", " ", "\n", "\t \r\n", "\ufeff", " \ufeff\n", "\u00a0")


def _split(texts: str) -> list[str]:
    return texts.split("|")


ODD: tuple[Any, ...] = (
    *_split("none|None|5| 5 |05|+5|-5|5.5|1e3|1_000|\u0665|inf|nan|0|0.0|.5|5.|true|TRUE| Yes|off|1|maybe"),
    *_split('a b|a\nb|\u00e4|[|{}|["a"]|a,b'),
    *("x" * 70, 0, 1, -1, 5, 5.0, 5.5, 300, 32767, 32768, 10**17, 10**18, 2**63, 1e300, True, False),
    *([], ["a"], ["a", " "], ["a", 1], {}, {"a": "b"}, {"a": 1}, {"env": 5}, {"env": ""}, {"env": "A", "file": "B"}),
    *({"x-a": " b "}, {"a b": "c"}, {"Content-Length": "1"}, {"x": "\u00e4"}, {"x": "a\tb"}, {"authorization": "x"}),
    *(
        {"anthropic-beta": "x"},
        {"gpt*": {}},
        {"gpt*": {"tools": True, "family": "x"}},
        {"gpt*": {"no": 1}},
        {"gpt*": 1},
    ),
    *({"base": "generic", "stop_limit": 5.0}, {"base": "nonsense"}, {"takes": "tools"}, {"takes": ["nonsense"]}),
)
URLS = (
    *_split("https://host|http://host:8080/v1|https://host/v1/|HTTPS://Host/a?b=c#d|localhost:11434|localhost|host.x"),
    *_split("host.x/v1|[::1]:80|http://[::1]/v1|https://user:pass@host/|https://host:99999|ftp://host|https://"),
    *_split(
        "https://ho st|https://host/../x|https://host/%2e%2E|http://host:| 'https://h' |https://a..b|https://[:::]"
    ),
    *_split("https://http|http+unix://%2Frun%2Fa.sock/v1|https://-a|nonsense://x|https://r.openai.azure.com"),
    *_split("https://r.openai.azure.com/openai/v1/|https://portal.azure.com/x|ai.azure.com"),
    "https://r.openai.azure.com/openai/deployments/d/chat/completions?api-version=2024-10-21",
    "https://r.openai.azure.com/openai/deployments/d/chat/completions?api-version=preview",
    "https://r.openai.azure.com/openai/v1?api-version=2024-10-21",
    "https://r.openai.azure.com/openai/v1?api-version=preview",
    "https://r.services.ai.azure.com/models/chat/completions?api-version=2024-05-01-preview",
    "https://r.openai.azure.com/openai/v1?api-version=%20",
)
GOOD_URLS = (
    *_split("http://1.2.3.4:80/v1|10.0.0.1|10.0.0.1:8080/v1|https://h.example.|https://user:pass@https:80/"),
    *_split("https://https:443/v1|https://http.example/v1|https://wss.example|https://h.example//v1|https://hub/v1.5"),
    *_split("https://1a|https://1.x|https://0xa.x|https://255.255.255.255|https://h.1x/2|https://https.:443"),
    *_split("https:/h.example/v1|http:10.0.0.5:8000|HTTP:/localhost|//h.example/v1|h.example.|(https://h.example/v1)"),
    *_split("`https://h.example`|\u201chttps://h.example/v1\u201d|\u00abh.example\u00bb|https://h.example,|[::1]"),
    *_split("http://[2001:db8:85a3:8d3::1]:80|http://[1::2:3:4:5:6:7]|http://[::ffff:10.0.0.1]|http://[fe80::]/v1"),
    *_split(
        "http://[1:2:3:4:5:6:10.0.0.1]|http://[64:ff9b::10.0.0.1]|http://[1:2:3:4:5:6:7::]|http://[::]|https:[::1]"
    ),
)
BAD_URLS = (
    *_split(
        "https://https://h.example|https://HTTP://h.example|https://htps://h|https://ws//h.example|https://wss://h"
    ),
    *_split(
        "https://htps/h.example|https://user:pass@ttps:/localhost|https://https:|http:80|https:8080|https://http/v1"
    ),
    *_split(
        "https://127.1|https://1|https://256.1.1.1|https://1.2.3.4.5|https://h.1|https://h.0x1f/v1|https://01.2.3.4"
    ),
    *_split(
        "5.0|127.1|h.1:80|127.1:80/v1|1:80|https://0x:80|https://1.2.3.|https://www.https://h|http://http.|http://h.x://|[::1]://"
    ),
    *_split("us-east-1|true|none|auto|5m|host/v1|2024-10-21"),
    *_split("https://h/..`|https://h/..\u200b|https://h/a/%2e!|https://http;|`https://http`|https://h/..\u201d"),
    *_split("http://[1:2:3:4::5:6:7:8]|http://[1::2::3]|http://[12345::]|http://[::256.1.1.1]|https:///h.example"),
)
GOOD_PROXIES = (
    *_split("http://proxy.example:10809|http://127.0.0.1:20171|http://proxy:65535|HTTP://proxy.example:8080|proxy:1"),
    *_split("http://proxy.example.:8080|Socks5h://u:p@proxy:01080/|[::1]:55555|socks5:1080|http://http:80|10.0.0.1"),
)
BAD_PROXIES = (
    *_split(
        "5|0|1.0|http://127.1:80|http://proxy:65536|http://proxy:100000|http://proxy:0|http://proxy:00000|h.0x1:80"
    ),
    *_split(
        "http://https|socks5|https:8080|http://socks5:|http://http://proxy:80|SOCKS5://SOCKS|http://u:p@http/|socks."
    ),
)
GOOD_KEYS = (*_split("sk-1|$2b$10$abc|a$NAME|$1|a<b>|%41|{|}a{|$"), " sk-1\n")
BAD_KEYS = (
    *_split('$OPENAI_API_KEY|${OPENAI_API_KEY}|%API_KEY%|<your-api-key>|{{key}}|{env="K"}|{ env = "K" }|{"a": "b"}'),
    " $NAME\n",
    "\ufeff<key>",
)
VERSIONS = ("2024-10-21", " 2025-04-01-preview", "preview", "v1", "latest!", "2023-06-01", "2026-10-21")
TEXTS = (
    *_split("us-east-1|US-EAST-1|a|AKIAEXAMPLE|AKIA/X|id:secret|id:secret:token|:x|a:b:c:d|gpt-5|chat|responses"),
    *_split("Chat|auto|aiohttp|hashed|generic|vllm|azure-identity|5m|1h30m|-1|5x|/etc/ssl/certs|a\0b"),
    *_split("http://proxy:8080|socks5://proxy|ftp://proxy|proxy:0|proxy:70000"),
)

AWS = ("anthropic-aws", "bedrock")
"""The providers whose region may come from AWS's files."""

VALIDATORS = {
    name: jsonschema.Draft202012Validator(
        json_schema(load_provider(name).settings), format_checker=jsonschema.FormatChecker(["regex"])
    )
    for name in NAMES
}

bounded = settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("name", NAMES)
def test_tables_of_odd_values_are_accepted_by_both_or_neither(name: str) -> None:
    @given(_tables(load_provider(name).settings))
    @settings(bounded, max_examples=25)
    def compare(table: dict[str, Any]) -> None:
        _compare(name, table)

    compare()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("mode", ["positive", "negative"])
def test_tables_made_from_the_schema_are_accepted_or_refused_by_both(name: str, mode: str) -> None:
    from schemathesis import GenerationMode  # its import takes a second

    @given(_operation(name).as_strategy(generation_mode=GenerationMode(mode)))
    @bounded
    def compare(case: Any) -> None:
        assume(isinstance(case.body, dict))
        _compare(name, case.body)

    compare()


@pytest.mark.parametrize(
    ("name", "url", "accepted"),
    [
        ("azure-openai", "https://portal-azure.com", True),
        ("azure-openai", "https:/portal.azure.com", False),
        ("azure-openai", "`https://oai.azure.com/x`", False),
        ("azure-openai", "//ml.azure.com", False),
        ("azure-openai", "https://r.openai.azure.com/openai/v1?api-version=preview`", True),
        ("azure-openai", "\u201chttps://r.openai.azure.com/openai/v1?api-version=2024-10-21\u201d", False),
        ("bedrock", "https:/h.example/a@b", True),
        ("bedrock", "https:/u@h.example", False),
    ],
)
def test_pasted_urls_of_a_provider_are_accepted_or_refused_by_both(name: str, url: str, accepted: bool) -> None:
    table = {"aws_region": "us-east-1"} if name == "bedrock" else {"api_key": "k-1234567890"}
    table |= {"default_model": "m", "api_url": url}
    assert (VALIDATORS[name].is_valid(table), _refusal(name, table) is None) == (accepted, accepted)


@pytest.mark.parametrize(
    ("setting", "values", "accepted"),
    [
        ("api_url", GOOD_URLS, True),
        ("api_url", BAD_URLS, False),
        ("api_key", GOOD_KEYS, True),
        ("api_key", BAD_KEYS, False),
        ("proxy", GOOD_PROXIES, True),
        ("proxy", BAD_PROXIES, False),
    ],
    ids=["urls", "no-urls", "keys", "no-keys", "proxies", "no-proxies"],
)
def test_urls_are_accepted_or_refused_by_both(setting: str, values: tuple[str, ...], accepted: bool) -> None:
    name = "openai-compatible"
    found = {}
    for value in values:
        table = {"api_url": "https://host.example", "default_model": "m", setting: value}
        found[value] = (VALIDATORS[name].is_valid(table), _refusal(name, table) is None)
    assert found == dict.fromkeys(values, (accepted, accepted))


@pytest.mark.parametrize("value", [*BLANKS, None])
@pytest.mark.parametrize("name", NAMES)
def test_choice_that_is_not_set_is_valid(name: str, value: str | None) -> None:
    properties = VALIDATORS[name].schema["properties"]
    for setting, schema in properties.items():
        if "oneOf" in schema:
            validator = VALIDATORS[name].evolve(schema={**schema, "$defs": VALIDATORS[name].schema["$defs"]})
            assert list(validator.iter_errors(value)) == [], setting


@pytest.mark.parametrize("name", NAMES)
def test_each_choice_and_example_is_valid(name: str) -> None:
    properties = VALIDATORS[name].schema["properties"]
    for schema in properties.values():
        validator = VALIDATORS[name].evolve(schema={**schema, "$defs": VALIDATORS[name].schema["$defs"]})
        consts = [choice["const"] for choice in schema.get("oneOf", ()) if "const" in choice]
        defaults = [schema["default"]] if "default" in schema else []
        for value in (*schema.get("examples", ()), *consts, *defaults):
            validator.validate(value)


def _operation(name: str) -> Any:
    """Return an operation whose body has the schema, in a document of OpenAPI 3.1."""
    import schemathesis

    schema = json.loads(json.dumps(VALIDATORS[name].schema).replace('"#/$defs/', '"#/components/schemas/'))
    definitions = schema.pop("$defs")
    del schema["$schema"]
    if name == "azure-openai":
        del schema["allOf"]  # schemathesis cannot make tables for these rules; those that they refuse are compared too
    content = {"application/json": {"schema": schema}}
    document = {
        "openapi": "3.1.0",
        "info": {"title": name, "version": "1"},
        "components": {"schemas": definitions},
        "paths": {
            "/": {
                "post": {
                    "requestBody": {"required": True, "content": content},
                    "responses": {"200": {"description": ""}},
                }
            }
        },
    }
    return schemathesis.openapi.from_dict(document)["/"]["POST"]


def _tables(kind: type[Settings]) -> st.SearchStrategy[dict[str, Any]]:
    """Return tables with valid values of what is required, and up to four settings with any values."""
    infos = setting_infos(kind)
    needed = {info.name: _valid(info) for info in infos if info.required or info.name == "default_model"}
    for way in kind.alternatives[:1]:
        needed |= {name: st.just("abc") for name in way.required}
    # The settings of the provider itself come first; the others are the same for all.
    own = [info for info in infos if info.name not in {common.name for common in setting_infos(Settings)}]
    chosen = st.lists(st.sampled_from((*own, *own, *infos)), max_size=4, unique_by=lambda info: info.name)
    values = chosen.flatmap(lambda infos: st.fixed_dictionaries({info.name: _values(info) for info in infos}))
    kept = st.one_of(st.fixed_dictionaries(needed), st.fixed_dictionaries({}, optional=needed))
    return st.tuples(kept, values).map(lambda both: {**both[0], **both[1]})


def _valid(info: SettingInfo) -> st.SearchStrategy[Any]:
    return st.just("https://r.openai.azure.com" if info.base_url is not None else (*info.examples, "abc-1")[0])


def _values(info: SettingInfo) -> st.SearchStrategy[Any]:
    fit: list[Any] = [*info.examples, *(info.choices or ())]
    if info.base_url is not None:
        fit += (*URLS, *GOOD_URLS, *BAD_URLS)
    if info.name == "proxy":
        fit += (*GOOD_PROXIES, *BAD_PROXIES)
    if "version" in info.name:
        fit += VERSIONS
    return st.one_of(
        st.sampled_from((*BLANKS, None)), st.sampled_from(fit or TEXTS), st.sampled_from(TEXTS), st.sampled_from(ODD)
    )


def _compare(name: str, table: dict[str, Any]) -> None:
    """Fail if only one of the schema and the library accepts the table, but for the `EXCEPTIONS`."""
    if _needs_machine(name, table):
        return
    problems = [error.message for error in VALIDATORS[name].iter_errors(table)]
    refusal = _refusal(name, table)
    if not problems and refusal is not None and "credentials_json" in refusal:
        assert isinstance(table["credentials_json"], str)
    elif not problems:
        assert refusal is None, f"the schema accepts {table}, and the library refuses it: {refusal}"
    elif refusal is None:
        problems = [error.message for error in VALIDATORS[name].iter_errors(_without_exceptions(name, table))]
        assert not problems, f"the library accepts {table}, and the schema refuses it: {problems}"


def _refusal(name: str, table: Mapping[str, Any]) -> str | None:
    """Return why the library refuses a table, or `None` if it accepts it."""
    environ = {"AWS_REGION": "us-east-1"}  # or a profile on the machine
    try:
        make_settings("service", load_provider(name), arguments={}, table=table, environ=environ, folder=Path("/"))
    except ConfigurationError as error:
        return str(error)
    return None


def _needs_machine(name: str, table: Mapping[str, Any]) -> bool:
    """Whether a table is valid or not depends on the machine (`EXCEPTIONS["machine"]`)."""
    for info in setting_infos(load_provider(name).settings):
        value = table.get(info.name)
        if info.name == "extensions" and value is not None and not is_blank(value) and value != []:
            return True
        if info.path and isinstance(value, str) and trimmed(value).startswith("~"):
            return True
        kind = without_none(info.type)
        if (takes_reference(kind) or kind is Headers) and isinstance(value, dict):
            values = value.values() if kind is Headers else (value,)
            if any(is_reference(one) and isinstance(next(iter(one.values())), str) for one in values):
                return not any(is_reference(one) and is_blank(next(iter(one.values()))) for one in values)
    return False


def _without_exceptions(name: str, table: Mapping[str, Any]) -> dict[str, Any]:
    """Return a table that the library accepts, without what only the schema refuses (see `EXCEPTIONS`)."""
    kind = load_provider(name).settings
    left = dict(table)
    for only_in_schema, value in (("default_model", "m"), ("aws_region", "us-east-1" if name in AWS else None)):
        if value is not None and (left.get(only_in_schema) is None or is_blank(left[only_in_schema])):
            left[only_in_schema] = value
    for info in setting_infos(kind):
        if info.name not in left:
            continue
        value = left[info.name]
        if (
            "oneOf" in VALIDATORS[name].schema["properties"][info.name]
            and isinstance(value, str)
            and not is_blank(value)
        ):
            del left[info.name]
        is_url = info.base_url is not None or info.name == "proxy"
        if isinstance(value, str) and is_url and value not in (*GOOD_URLS, *GOOD_PROXIES):
            left[info.name] = "http://host"
        if name == "azure-openai" and info.name == "api_version":
            del left[info.name]
    if name == "azure-openai" and not is_blank(table.get("token_provider", "")) and "token_provider" not in left:
        left["token_provider"] = "azure-identity"
    return left

"""A secret is found in every form in which servers repeat it, and ordinary text is left alone."""

from __future__ import annotations

import base64
import codecs
import html
import json
import math
import random
import re
import time
import traceback
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import assume, given, settings, strategies as st
from random_secrets import random_secrets
from trunkline._config.configuration import read_configuration
from trunkline._config.sources import make_settings
from trunkline._excerpts import EXCERPT_LIMIT, bounded
from trunkline._masking import is_words
from trunkline._plugins.registry import EXTENSIONS, PROVIDERS, find_plugin
from trunkline.authoring.http_errors import error_body, status_error
from trunkline.authoring.wire import WireResponse
from trunkline.errors import ConfigurationError, RemoteError, TrunklineError
from trunkline.secrets import scrub, scrub_error, scrub_value
from trunkline.testing import Exchange, serve

SECRETS = {
    "an API key": "sk-canary-Ab+9/Zz0=Qw7Rt5Yu3",
    "an AWS secret key": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY0",
    "an AWS session token": "IQoJb3JpZ2luX2VjEOr//////////wEaCXVzLWVhc3QtMSJHMEUCIQD3"
    + base64.b64encode(random.Random(7).randbytes(200)).decode(),
    "a token in hexadecimal": "f81d4fae7dec11d0a76500a0c91e6bf6",
    "a password": "pa\"ss\\wo/rd'<&>-0123456789",
    "a password that looks escaped": "a%41b&amp;c\\u0041d-12345678",
    "a password with other letters": "s\u00e9cret\U0001f511 0123456789",
}


def base64_of(text: str | bytes) -> str:
    return base64.b64encode(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")).decode()


def each(pattern: str) -> Callable[[str], str]:
    return lambda text: "".join(pattern.format(ord(character)) for character in text)


def each_byte(pattern: str, separator: str = "") -> Callable[[str], str]:
    return lambda text: separator.join(pattern.format(byte) for byte in text.encode())


def named_entities(text: str) -> str:
    names = {"/": "&sol;", "+": "&plus;", "=": "&equals;", "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"}
    return "".join(names.get(character, character) for character in text)


SPELLINGS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "percent": lambda text: quote(text, safe=""),
    "percent twice": lambda text: quote(quote(text, safe=""), safe=""),
    "percent three times": lambda text: quote(quote(quote(text, safe=""), safe=""), safe=""),
    "every byte percent-encoded": each_byte("%{:02x}"),
    "every byte percent-encoded twice": each_byte("%25{:02X}"),
    "a form": quote_plus,
    "JSON": json.dumps,
    "JSON three times": lambda text: json.dumps(json.dumps(json.dumps(text))),
    "percent-encoded JSON": lambda text: quote(json.dumps(text)),
    "percent-encoded HTML in JSON": lambda text: json.dumps(quote(html.escape(text))),
    "JSON in HTML": lambda text: html.escape(json.dumps(text)),
    "HTML": html.escape,
    "HTML twice": lambda text: html.escape(html.escape(text)),
    "named entities": named_entities,
    "decimal entities": each("&#{};"),
    "decimal entities with zeros": each("&#000{};"),
    "decimal entities without semicolons": each("&#{}"),
    "hexadecimal entities": each("&#x{:x};"),
    "hexadecimal entities in upper case": each("&#X00{:X};"),
    "entities in HTML": each("&amp;#{};"),
    "escapes of Rust": each("\\u{{{:x}}}"),
    "escapes of Python": each("\\U{:08x}"),
    "bytes of Python": lambda text: repr(text.encode()),
    "escaped bytes": each_byte("\\x{:02X}"),
    "octal bytes": each_byte("\\{:03o}"),
    "quoted-printable": lambda text: codecs.encode(text.encode(), "quopri").decode(),
    "every byte quoted-printable": each_byte("={:02X}"),
}


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_of_a_secret_is_replaced(secret: str, spelling: str) -> None:
    spelled = SPELLINGS[spelling](SECRETS[secret])
    found = scrub(f"it said {spelled} twice", (SECRETS[secret],))
    # Quotation marks and the padding of base64 are no part of the secret.
    assert re.fullmatch(r"it said [b\\\"'%25C;&quotamp#x7]*\*\*\*[\\\"'%25C;&quotamp#x7=\s]* twice", found)


@pytest.mark.parametrize("units", ["{:04x}", "{:04X}"])
@pytest.mark.parametrize("prefix", ["\\u", "\\\\u", "\\\\\\\\u"])
@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_in_the_escapes_of_json_is_replaced(secret: str, prefix: str, units: str) -> None:
    data = SECRETS[secret].encode("utf-16-be")
    codes = [int.from_bytes(data[start : start + 2]) for start in range(0, len(data), 2)]
    assert scrub("".join(prefix + units.format(code) for code in codes), (SECRETS[secret],)) == "***"


REDUCED = ["an API key", "an AWS secret key", "an AWS session token", "a token in hexadecimal"]
ODD: dict[str, Callable[[str], str]] = {
    "lower case": str.lower,
    "upper case": str.upper,
    "swapped case": str.swapcase,
    "spaces between": " ".join,
    "zero width spaces between": "\u200b".join,
    "two lines": lambda text: text[:14] + "\r\n    " + text[14:],
    "UTF-16": lambda text: text.encode("utf-16-le").decode("latin-1"),
    "its last half": lambda text: text[len(text) // 2 :],
    "without its first character": lambda text: text[1:],
    "hexadecimal": lambda text: text.encode().hex(),
    "hexadecimal in upper case": lambda text: text.encode().hex().upper(),
    "hexadecimal with colons": lambda text: text.encode().hex(":"),
    "hexadecimal with spaces": lambda text: text.encode().hex(" "),
    "hexadecimal with 0x": lambda text: "0x" + text.encode().hex(),
    "hexadecimal with each 0x": each_byte("0x{:02x}", ", "),
    "a list of bytes": lambda text: str(list(text.encode())),
    "bytes with three digits": lambda text: " ".join(f"{byte:03d}" for byte in text.encode()),
    "base64 of percent": lambda text: base64_of(quote(text, safe="")),
}


@pytest.mark.parametrize("secret", REDUCED)
@pytest.mark.parametrize("form", ODD)
def test_a_key_in_another_case_and_with_separators_is_replaced(secret: str, form: str) -> None:
    found = scrub(f"it said {ODD[form](SECRETS[secret])} twice", (SECRETS[secret],))
    assert re.fullmatch(r"it said [\[0x/]*\*\*\*[=/+\]\x00 \u200b]* twice", found)


CUT = {
    **SECRETS,
    "a key without digits": "sk-abcdefghijkLMNOPqrstuvwxyzABCDEF",
    "words": "correct-horse-battery-staple",
}


@given(data=st.data(), secret=st.sampled_from(sorted(CUT)))
@settings(deadline=None, max_examples=300)
def test_any_part_of_a_secret_that_is_long_enough_is_replaced(data: st.DataObject, secret: str) -> None:
    whole = CUT[secret]
    share = 5 / 6 if is_words(whole) or "digits" in secret else 1 / 3  # words from its middle are ordinary text
    size = data.draw(st.integers(min(64, max(12, math.ceil(share * len(whole)))), len(whole)))
    start = data.draw(st.integers(0, len(whole) - size))
    part = whole[start : start + size]
    assert scrub(f"| {part} |", (whole,)) == "| *** |"
    form = data.draw(st.sampled_from([base64_of, lambda text: text.encode().hex()]))
    found = scrub(f"| {form(whole)[2:-3]} |", (whole,))
    assert re.fullmatch(r"\| [^|]{0,3}\*\*\*[^|]{0,3} \|", found)


def test_domain_of_a_url_in_a_header_is_left_in_other_urls() -> None:
    secret = "https://tenant-42abc.example.com"
    assert scrub("no answer from https://llm.example.com/v1", (secret,)) == "no answer from https://llm.example.com/v1"


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("before", ["", "a", "ab", "Bearer ", "user:", 'POST / HTTP/1.1\r\nAuthorization: "'])
@pytest.mark.parametrize("after", ["", "x", "xy", '"\r\n\r\n'])
def test_base64_of_a_text_around_a_secret_is_replaced(secret: str, before: str, after: str) -> None:
    text = before + SECRETS[secret] + after
    url = base64.urlsafe_b64encode(text.encode()).decode()
    encoded = {
        "base64": base64_of(text),
        "without padding": base64_of(text).rstrip("="),
        "for URLs": url,
        "in lines": "\n".join(re.findall(".{1,20}", base64_of(text))),
        "twice": base64_of(base64_of(text)),
        "for URLs, then base64": base64_of(url),
        "percent-encoded": quote(base64_of(text), safe=""),
        "in JSON with escapes": base64_of(text).replace("/", "\\/").replace("=", "\\u003d"),
    }
    for name, form in encoded.items():
        found = scrub(f"it said {form} twice", (SECRETS[secret],))
        around = 4 * len(before) + 4 * len(after) + 28  # what is encoded together with the text around the secret
        assert found.count("***") == 1, name
        assert len(found) <= len("it said *** twice") + around, name


@given(
    text=st.text(st.characters(codec="utf-8"), max_size=40),
    secret=st.from_regex(r"[A-Za-z0-9+/=_.~-]{12,50}[0-9][A-Za-z]", fullmatch=True),
    spellings=st.lists(st.sampled_from(sorted(SPELLINGS)), max_size=3),
    after=st.text(st.characters(codec="utf-8"), max_size=40),
)
@settings(deadline=None, max_examples=300)
def test_a_secret_is_never_left_in_text(text: str, secret: str, spellings: list[str], after: str) -> None:
    # Quoted-printable is decoded last, so it is not found around another spelling; SECURITY.md says so.
    assume("quoted-printable" not in " ".join(spellings[1:]))
    spelled = secret
    for name in spellings:
        spelled = SPELLINGS[name](spelled)
    found = scrub(text + spelled + after, (secret,))
    assert "***" in found
    assert spelled not in found
    assert secret not in found


@given(text=st.text(), secret=st.text(min_size=1))
@settings(deadline=None, max_examples=300)
def test_scrubbing_any_text_raises_nothing(text: str, secret: str) -> None:
    scrub(text + secret, (secret,))


# Ordinary text


ORDINARY = [
    "My service key is wrong; the correct one has a battery. HUNTER2 and My-Service-Key are names.",
    "You passed sk-proj-... as the key, see https://example.com/a%20b?c=d&e=%2Ff#g &amp; \\u00e9 \\n =3D",
    "tokens 123-456-789-012 and 2025-05-14, 0x7fff5fbff8c0, C:\\path\\new\\table, \ud800 lone",
    " ".join(f"{number:08x}" for number in range(2000)),
]


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_is_left_alone(text: str) -> None:
    assert scrub(text, random_secrets()) is text


def test_a_value_without_secrets_keeps_its_types() -> None:
    value = {"a": [1, None, True, 2.5, "text"], "b": ("x", {"y"}), "c": b"bytes"}
    assert scrub_value(value, ("secret-0123456789",)) == value


@pytest.mark.parametrize(
    "whole", [list, lambda data: {"type": "Buffer", "data": list(data)}, lambda data: dict(enumerate(data))]
)
def test_numbers_that_are_the_bytes_of_a_secret_are_replaced(whole: Callable[[bytes], Any]) -> None:
    secret = SECRETS["an API key"]
    found = scrub_value({"line": 7, "at": [1, 2], "received": whole(secret.encode())}, (secret,))
    assert found["line"] == 7
    assert found["at"] == [1, 2]
    shown = json.dumps(found["received"])
    assert shown.count("***") == len(secret)
    assert not re.search("1[01][0-9]", shown)


def test_a_number_that_is_a_secret_is_replaced() -> None:
    assert scrub_value([12345678, 1234567], ("12345678",)) == ["***", 1234567]


def test_a_secret_divided_between_neighbouring_texts_is_replaced() -> None:
    secret = SECRETS["an API key"]
    assert scrub_value(["a", secret[:10], secret[10:], "b"], (secret,)) == ["a", "***", "***", "b"]
    assert scrub_value({"parts": list(secret)}, (secret,)) == {"parts": ["***"] * len(secret)}


# Large errors

KEY = "sk-canary-Ab9Zz0Qw7Rt5Yu3Kk8"
SHAPES: dict[str, Callable[[int], bytes]] = {
    "text": lambda size: b"x" * size,
    "keys": lambda size: f"{KEY} ".encode() * (size // 29),
    "first parts of keys": lambda size: KEY[:11].encode() * (size // 11),
    "a message": lambda size: json.dumps({"error": {"message": f"{KEY} " * (size // 29)}}).encode(),
    "percent signs": lambda size: json.dumps({"error": {"message": "%25" * (size // 3)}}).encode(),
    "parts of a key that repeats itself": lambda size: b"abcd1" * (size // 5),
    "escapes": lambda size: json.dumps({"error": {"message": "\\u0000" * (size // 8)}}).encode(),
    "escaped characters": lambda size: b'{"message":"%b"}' % (b"\\u0000" * (size // 6)),
    "backslashes": lambda size: json.dumps({"error": {"message": "\\" * (size // 2)}}).encode(),
    "ampersands": lambda size: json.dumps({"error": {"message": "&amp;" * (size // 5)}}).encode(),
    "base64": lambda size: json.dumps({"message": base64_of("sk-canary-A") * (size // 16)}).encode(),
    "strings": lambda size: json.dumps({"message": "no", "details": ["abcdef"] * (size // 10)}).encode(),
    "names": lambda size: json.dumps({"message": "no", "d": {f"k{n}": 1 for n in range(size // 14)}}).encode(),
    "lists": lambda size: b'{"d":[%b[]]}' % (b"[]," * (size // 3)),
    "nested lists": lambda size: b"[" * (size // 2) + b"]" * (size // 2),
}


def sizes(value: object) -> tuple[int, int]:
    """Return the number of characters in a value, and the number of its items."""
    if isinstance(value, str):
        return len(value), 1
    items = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    counted = [sizes(item) for item in items]
    return sum(size for size, _ in counted), 1 + sum(count for _, count in counted)


@pytest.mark.parametrize("size", [900_000, 4_000_000])
@pytest.mark.parametrize("shape", SHAPES)
def test_error_of_a_large_body_is_small_and_counts_what_is_missing(shape: str, size: int) -> None:
    body = error_body(WireResponse(status=400, body=SHAPES[shape](size)))
    error = scrub_error(status_error(f"{body}", provider="toy", status=400, body=body), (KEY,))
    assert sum(sizes(vars(error)[name])[0] for name in ("message", "body")) <= 2 * EXCERPT_LIMIT
    assert sizes(error.body)[1] <= EXCERPT_LIMIT // 8
    assert "more" in json.dumps(error.body)
    assert KEY not in json.dumps(error.body) + str(error)
    assert len(error.message) <= 1100


def test_large_event_of_an_error_keeps_what_follows_its_large_member() -> None:
    event = {"error": {"details": ["abcdef"] * 1_000_000, "message": "no capacity", "code": "overloaded"}}
    small = bounded(event)
    assert small["error"]["message"] == "no capacity"
    assert small["error"]["code"] == "overloaded"
    assert small["error"]["details"][0] == "abcdef"
    assert re.fullmatch(r"… \(\d+ more items\)", small["error"]["details"][-1])
    kept = len(small["error"]["details"]) - 1
    assert small["error"]["details"][-1] == f"… ({1_000_000 - kept} more items)"


def test_error_that_a_plugin_makes_of_large_values_is_small() -> None:
    error = RemoteError("x" * 3_000_000, code="y" * 3_000_000, body={"a": {"b": ["z"] * 1_000_000}})
    error.add_note("n" * 3_000_000)
    error.__cause__ = OSError("c" * 3_000_000)
    scrub_error(error, (KEY,))
    assert sizes({**vars(error), "args": error.args})[0] <= 6 * EXCERPT_LIMIT
    assert error.__cause__ is None
    assert str(error).startswith("the provider: xxx")
    assert f"({3_000_000 - EXCERPT_LIMIT} more characters)" in error.message


def test_body_within_the_limit_is_kept_whole() -> None:
    body = {"error": {"message": "no", "input": "x" * 20_000, "details": [{"a": 1}] * 100}}
    assert error_body(WireResponse(status=400, body=json.dumps(body).encode())) == body
    assert bounded(body) is body


@pytest.mark.parametrize("shape", SHAPES)
def test_time_of_scrubbing_grows_with_the_length_of_the_text(shape: str) -> None:
    secrets = (*(f"{KEY}{number}" for number in range(5)), "abcd1" * 3 + "x" + "abcd1" * 300)

    def seconds(size: int) -> float:
        text, taken = SHAPES[shape](size).decode(), []
        for _ in range(3):
            start = time.process_time()
            scrub(text, secrets)
            taken.append(time.process_time() - start)
        return min(taken)

    # Four times the length takes about four times as long; if the time were quadratic, sixteen times.
    assert seconds(80_000) <= 10 * seconds(20_000) + 0.02


# Secrets in the wrong place

WRONG_PLACES: dict[str, Callable[[str], dict[str, object]]] = {
    "a number": lambda key: {"max_retries": key},
    "seconds": lambda key: {"connect_timeout": key},
    "true or false": lambda key: {"strict": key},
    "a choice": lambda key: {"http_library": key},
    "a name": lambda key: {key: 1},
    "a variable": lambda key: {"api_key": {"env": key}},
    "a file": lambda key: {"api_key": {"file": key}},
    "a keyring entry": lambda key: {"api_key": {"keyring": key}},
    "a kind of reference": lambda key: {"api_key": {key: "x"}},
    "a header's name": lambda key: {"headers": {key + "\r\n": "x"}},
    "a header's value": lambda key: {"headers": {"x": key + "\r\ny: z"}},
    "headers": lambda key: {"headers": key},
    "a proxy": lambda key: {"proxy": f"nope://u:{key}@x"},
}


KEYS = ["sk-canary-Ab9Zz0Qw7Rt5Yu3", "f81d4fae7dec11d0a76500a0c91e6bf6", SECRETS["an AWS secret key"]]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("source", ["arguments", "table"])
@pytest.mark.parametrize("place", WRONG_PLACES)
def test_a_key_in_the_wrong_place_is_not_quoted(toy: Any, place: str, source: str, key: str) -> None:
    provider = toy("http://localhost")._provider
    values = {"url": "http://localhost", **WRONG_PLACES[place](key)}
    with pytest.raises(ConfigurationError) as caught:
        make_settings("main", provider, environ={}, **{"arguments": {}, source: values})
    shown = "".join(traceback.format_exception(caught.value)) + repr(vars(caught.value))
    assert scrub(shown, (key,)) == shown
    assert "setting" in str(caught.value)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"max_retries": "many"}, "setting 'max_retries' must be a whole number, not 'many'"),
        ({"max_retries": -1}, "setting 'max_retries' must be a number of at least 0, not -1"),
        ({"connect_timeout": "10 s"}, "setting 'connect_timeout' must be a number of seconds, not '10 s'"),
        ({"connect_timeout": "1e5x"}, "setting 'connect_timeout' must be a number of seconds, not '1e5x'"),
        ({"http_library": "httpx"}, "setting 'http_library' must be 'auto' or 'aiohttp' or 'httpx2', not 'httpx'"),
        ({"max_retry": 1}, "setting 'max_retry' does not exist; did you mean 'max_retries'?"),
        ({"api_key": {"env": "MY_API_KEY_2"}}, "refers to the environment variable MY_API_KEY_2, which is not set"),
        ({"api_key": {"env": "PROXY2"}}, "refers to the environment variable PROXY2, which is not set"),
        ({"api_key": {"env": "AWS_REGION2"}}, "refers to the environment variable AWS_REGION2, which is not set"),
        ({"api_key": {"file": "/run/secrets/key-7f3a9b2c41"}}, "refers to the file '/run/secrets/key-7f3a9b2c41'"),
        ({"api_key": {"keyring": "trunkline"}}, "refers to the keyring entry 'trunkline'"),
    ],
)
def test_an_ordinary_wrong_value_is_quoted(toy: Any, values: dict[str, Any], text: str) -> None:
    provider = toy("http://localhost")._provider
    with pytest.raises(ConfigurationError) as caught:
        make_settings("main", provider, arguments={"url": "http://localhost", **values}, environ={})
    assert text in str(caught.value)


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(
    "table",
    [
        lambda key: {key: 1, "services": {"a": {"provider": "toy"}}},
        lambda key: {"defaults": {key: 1}, "services": {"a": {"provider": "toy"}}},
    ],
)
def test_a_key_in_place_of_a_table_or_a_default_is_not_quoted(table: Any, key: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read_configuration(table(key))
    shown = str(caught.value) + repr(vars(caught.value))
    assert scrub(shown, (key,)) == shown


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("OpenAI", "openai"),
        ("OpenAI Compatible", "openai"),
        ("AWS Bedrock", "bedrock"),
        ("Azure OpenAI", "azure-openai"),
        ("llama.cpp", "llamacpp"),
        ("openai2", "openai"),
    ],
)
def test_name_of_a_provider_as_users_write_it_suggests_the_provider(name: str, meant: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        find_plugin(PROVIDERS, name, kind="provider")
    assert f"no provider {name!r} is installed; did you mean '{meant}" in str(caught.value)


@pytest.mark.parametrize("key", [*KEYS, "AKIAIOSFODNN7EXAMPLE", "12345678901234567890", "hunter2-x9y8-Zz"])
def test_a_key_in_place_of_a_provider_is_not_quoted(key: str) -> None:
    with pytest.raises(ConfigurationError, match=r"no provider '\*\*\*' \(\d+ characters") as caught:
        find_plugin(PROVIDERS, key, kind="provider")
    assert key not in str(caught.value)


def test_a_key_in_place_of_an_extension_is_not_quoted() -> None:
    with pytest.raises(ConfigurationError) as caught:
        find_plugin(EXTENSIONS, KEYS[0], kind="extension")
    assert KEYS[0] not in str(caught.value)
    assert "no extension '***' (25 characters that look like a secret) is installed" in str(caught.value)


@pytest.mark.parametrize("before", range(9))
@pytest.mark.parametrize("form", ["a1b2c3", "sk-Ab9Zz0Qw7Rt5", "sk-Ab9Zz0Qw7Rt5Yu3Kx1Mn4"])
def test_short_encoding_is_found_at_every_place_of_a_text(form: str, before: int) -> None:
    for encoded in (base64.b64encode(form.encode()).decode(), form.encode().hex().upper()):
        text = f"{'x' * before} {encoded} {'y' * 30}"
        assert encoded not in scrub(text, (form,))


OTHER_SETTINGS: dict[str, Callable[[str, str], dict[str, Any]]] = {
    "the model": lambda key, url: {"url": url, "default_model": key},
    "a part of a model": lambda key, url: {"url": url, "default_model": f"models/{key}/1"},
    "the path of the URL": lambda key, url: {"url": f"{url}/{key}"},
    "the host of the URL": lambda key, url: {"url": f"http://{key}.invalid"},
    "the host of a proxy": lambda key, url: {"url": url, "proxy": f"http://{key}.invalid:1"},
    "the CA bundle": lambda key, url: {"url": url.replace("http:", "https:"), "ca_bundle": key},
    "the certificate": lambda key, url: {"url": url.replace("http:", "https:"), "client_certificate": key},
    "the name of the service": lambda key, url: {"url": url, "name": key},
}


@pytest.mark.parametrize("key", ["sk-proj-Ab9Zz0Qw7Rt5Yu3-Kd8", "7b1f3c9e-52a4-4d08-9c6b-1e2f3a4b5c6d", "qzxk" * 8])
@pytest.mark.parametrize("place", OTHER_SETTINGS)
@pytest.mark.anyio
async def test_key_in_another_setting_is_removed_from_errors(
    toy: Any, caplog: pytest.LogCaptureFixture, place: str, key: str
) -> None:
    async def refuse(exchange: Exchange) -> None:
        text = "no" if place == "the name of the service" else f"no model {key}, {key.upper()} or {key.lower()}"
        await exchange.respond(text.encode(), status=404)

    async with serve(refuse) as server:
        values = OTHER_SETTINGS[place](key, server.url)
        async with toy(values.pop("url"), max_retries=0, connect_timeout=5, **values) as service:
            with pytest.raises(TrunklineError) as caught:
                await service.chat("Hi")
    error = caught.value
    shown = "".join(traceback.format_exception(error)) + repr(error) + caplog.text
    # The attributes stay as the application wrote them, so that it can compare them.
    shown += repr({name: value for name, value in vars(error).items() if name not in ("service", "model")})
    assert key.lower() not in shown.lower()
    assert scrub(shown, (key,)) == shown

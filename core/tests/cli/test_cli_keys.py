"""A key that was written into a wrong place is repeated nowhere: not on the terminal, and in no file."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from trunkline._masking import key_parts, looks_like_key, may_be_secret, without_keys

KEYS = {
    "openai": "sk-proj-Ab9Zz0Qw7Rt5Yu3-Kd8_mN2pLx6Vc4Bs1Gh",
    "words": "sk-ant-canary-without-any-digit-in-it",
    "aws": "AKIAQWERTYUIOPASDF7X",
    "aws-letters": "AKIAQWERTYUIOPASDFGH",
    "aws-secret": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "google": "AIzaSyD4f-9KqLmNoPqRsTuVwXyZ0123456789_A",
    "groq": "gsk_Qw8erTyuIop3AsDfGh5jKlZx",
    "hex": "3f786850e387550fdab836ed7e6dc881de23001b",
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJjYW5hcnkifQ.dozjgNryP4J3jVmNHl0w5N-XgL0n3I9PlFUP0THsR8U",
    "uuid": "7b1f3c9e-52a4-4d08-9c6b-1e2f3a4b5c6d",
    "letters": "qzxkvjwbpmtrhgdfnlcsyuqzxkvjwbpm",
    "mixed": "QzXkVjWbPmTrHgDfNlCsYuQzXkVjWbPm",
}
USED = os.environ.get("TRUNKLINE_KEYS", "openai uuid letters").split()
"""The keys that the tests of the commands use. The rules for keys are tested with all of them."""

KEY = "<KEY>"
NAMES = [
    "claude-sonnet-4-5-20250929",
    "us.anthropic.claude-3-5-sonnet-20241022-v2:0",
    "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-3-5-sonnet-20241022-v2:0",
    "arn:aws:bedrock:eu-west-1:123456789012:provisioned-model/abcdef123456",
    "accounts/fireworks/models/llama-v3p1-405b-instruct",
    "meta-llama/Meta-Llama-3.1-8B-Instruct-Turbo",
    "gpt-4o-mini-2024-07-18",
    "ft:gpt-3.5-turbo-0125:acme:support:9AbCdEfG",
    "qwen2.5-coder:32b-instruct-q4_K_M",
    "IMG20250929120000.png",
    "my-resource.openai.azure.com",
    "bedrock-runtime.eu-central-1.amazonaws.com",
    "TRUNKLINE_MYSERVICE_CLIENT_KEY_PASSPHRASE",
    "/home/user/projects/llm-gateway/trunkline.toml",
    "C:\\Users\\me\\AppData\\Local\\trunkline",
    "MyVeryLongCamelCaseServiceName",
    "client_key_passphrase",
    "1234567890123456789",
]


def contains(text: str, key: str) -> str:
    """Return twelve characters of a key that a text contains, in any case and with any separators, or nothing."""
    plain = re.sub(r"[^a-z0-9]", "", text.lower())
    wanted = re.sub(r"[^a-z0-9]", "", key.lower())
    return next((wanted[i : i + 12] for i in range(len(wanted) - 11) if wanted[i : i + 12] in plain), "")


@pytest.fixture
def check(call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a command with each of the keys in place of `<KEY>`, and search what it shows and writes."""
    monkeypatch.setenv("FAKE_API_KEY", "canary-key-1234567890")
    monkeypatch.delenv("FAKE_LOG", raising=False)
    monkeypatch.setenv("COLUMNS", "4000")

    def run(*arguments: str) -> None:
        for name in USED:
            key = KEYS[name]
            words = [word.replace(KEY, key) for word in arguments]
            before = set(Path().rglob("*"))
            status, out, err = call(*words, *(["--debug"] if name == "uuid" else []))
            assert status in (0, 1, 2), (name, words, err)
            assert not contains(err + out, key), (name, words, out, err)
            new = {*Path().rglob("*"), *(tmp_path / "state").rglob("*")} - before
            for path in new:
                if path.is_file():
                    text = path.read_text(errors="replace")
                    assert not contains(text, key), (name, words, path, text)
            for path in sorted(new, reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()

    return run


TARGETS = [
    ("-p", KEY),
    ("-s", KEY),
    ("-c", KEY),
    (f"--provider={KEY}",),
    (f"-p{KEY}",),
    ("-p", "fake", "-s", KEY),
    ("--set", KEY),
    ("-p", "fake", "--set", f"{KEY}=x"),
    ("-p", "fake", "--set", f"default_model={KEY}"),
    ("-p", "fake", "--set", f"region={KEY}"),
    ("-p", "fake", "--set", f"level={KEY}"),
    ("-p", "fake", "--set", f"headers={KEY}"),
    ("-p", "fake", "--set", f'headers={{"X-{KEY}": "y"}}'),
    ("-p", "fake", "--set", f'headers={{"{KEY}": "y z\\n"}}'),
    ("-p", "fake", "--set", f'headers={{"X": {{"env": "{KEY}"}}}}'),
    ("-p", "fake", "--set", f'api_key={{"env": "{KEY}"}}'),
    ("-p", "fake", "--set", f'api_key={{"file": "{KEY}"}}'),
    ("-p", "fake", "--set", f'api_key={{"file": "/nowhere/{KEY}"}}'),
    ("-p", "fake", "--set", f'api_key={{"keyring": "{KEY}"}}'),
    ("-p", "fake", "--set", f'api_key={{"{KEY}": "x"}}'),
    ("-p", "fake", "--set", f"proxy=http://{KEY}:1"),
    ("-p", "fake", "--set", f"proxy=http://me:{KEY}@[::1"),
    ("-p", "fake", "--set", f"proxy={KEY}://host"),
    ("-p", "fake", "--set", f"ca_bundle={KEY}"),
    ("-p", "fake", "--set", f"client_certificate={KEY}"),
    ("-p", "fake", "--set", f"client_key={KEY}"),
    ("-p", "fake", "--set", f"extensions={KEY}"),
    ("-p", "fake", "--set", f"strict={KEY}"),
    ("-p", "fake", "--set", f"total_timeout={KEY}"),
    (f"--{KEY}",),
    (f"-{KEY}",),
    (f"--{KEY}=x",),
    ("--provider", "fake", f"--modle={KEY}"),
]
CHAT = [
    ("-p", "fake", "-m", KEY),
    ("-p", "fake", "-m", "echo", "--image", KEY),
    ("-p", "fake", "-m", "echo", "--image", f"https://host/?sig={KEY}"),
    ("-p", "fake", "-m", "echo", "--temperature", KEY),
    ("-p", "fake", "-m", "echo", "--max-output-tokens", KEY),
    ("-p", "fake", "-m", "hostile-error", "--system", KEY),
]
PLACES = [
    *(("chat", *target, "Hi") for target in (*TARGETS, *CHAT)),
    *(("chat", "--json", *target, "Hi") for target in CHAT),
    *(("check", *target) for target in TARGETS),
    ("check", "-p", "fake", "--timeout", KEY),
    (KEY,),
    ("settings", KEY),
    ("settings", "fake", KEY),
    ("providers", KEY),
    ("trust", KEY),
    ("trust", "--revoke", KEY),
    ("trust", "x", KEY),
    ("new-plugin", KEY),
    ("new-plugin", "acme", "-f", KEY),
    ("new-plugin", "acme", "-o", KEY),
    ("init", "-p", KEY),
    ("init", "-p", "fake", "-s", KEY),
    ("init", "-p", "fake", "-c", KEY, "--secret", "api_key=env:FAKE_API_KEY"),
    *(
        ("init", "-p", "spare", "--secret", "api_key=env:FAKE_API_KEY", "--set", "place=x", *given)
        for given in (
            ("--set", f"place={KEY}"),
            ("--set", f"default_model={KEY}"),
            ("--set", f"default_model=models/{KEY}/x"),
            ("--set", f"region={KEY}"),
            ("--set", f"{KEY}=x"),
            ("--set", f"level={KEY}"),
            ("--set", f"extensions={KEY}"),
            ("--set", f"proxy=http://{KEY}.example:1"),
            ("--set", f"proxy=http://me:{KEY}@host:1"),
            ("--set", f"ca_bundle={KEY}"),
            ("--set", f'headers={{"X": "{KEY}"}}'),
            ("--set", f'headers={{"X": "a {KEY} b"}}'),
            ("--set", f'headers={{"Authorization": "Bearer {KEY}"}}'),
            ("--set", f'headers={{"X-{KEY}": "a"}}'),
            ("--set", f'headers={{"X": {{"env": "{KEY}"}}}}'),
            ("--set", f'headers={{"X": {{"file": "{KEY}"}}}}'),
            ("--set", f'region={{"env": "{KEY}"}}'),
            ("--secret", f"token=env:{KEY}"),
            ("--secret", f"token=file:{KEY}"),
            ("--secret", f"token=file:/run/{KEY}"),
            ("--secret", f"token=keyring:{KEY}"),
            ("--secret", f"token=keyring:service/{KEY}"),
            ("--secret", f"token={KEY}"),
            ("--secret", f"{KEY}=env:X"),
            ("--secret", KEY),
        )
    ),
]


@pytest.mark.parametrize("arguments", PLACES, ids=lambda words: " ".join(words).replace(KEY, "KEY"))
def test_key_in_an_argument_is_not_repeated(check: Any, arguments: tuple[str, ...]) -> None:
    check(*arguments)


FILES = {
    "service": '[services."<KEY>"]\nprovider = "fake"\ndefault_model = "hostile-error"\n',
    "service-settings": '[services."<KEY>"]\nprovider = "spare"\nlevel = 0\n',
    "two-services": '[services."<KEY>"]\nprovider = "fake"\n[services.other]\nprovider = "fake"\n',
    "no-provider": '[services."<KEY>"]\nlevel = 1\n',
    "provider": '[services.one]\nprovider = "<KEY>"\n',
    "provider-table": '[services.one]\nprovider = { x = "<KEY>" }\n',
    "setting": '[services.one]\nprovider = "fake"\n"<KEY>" = 1\n',
    "default": '[defaults]\n"<KEY>" = 1\n[services.one]\nprovider = "fake"\n',
    "top-level": '"<KEY>" = 1\n',
    "twice": '[services."<KEY>"]\n[services."<KEY>"]\n',
    "not-toml": '[services.one]\nprovider = "fake"\nregion = <KEY>\n',
    "not-toml-line": "<KEY>\n",
    "not-a-table": 'services = "<KEY>"\n',
    "values": '[services.one]\nprovider = "fake"\ndefault_model = "<KEY>"\nregion = "<KEY>"\nlevel = "<KEY>"\n',
    "model": '[services.one]\nprovider = "fake"\ndefault_model = "<KEY>"\nregion = "<KEY>"\n',
    "list": '[services.one]\nprovider = "fake"\nextensions = ["<KEY>"]\n',
    "env": '[services.one]\nprovider = "fake"\napi_key = { env = "<KEY>" }\n',
    "file": '[services.one]\nprovider = "fake"\napi_key = { file = "a/<KEY>" }\n',
    "keyring": '[services.one]\nprovider = "fake"\napi_key = { keyring = "a/<KEY>" }\n',
    "keyring-form": '[services.one]\nprovider = "fake"\napi_key = { keyring = "<KEY>" }\n',
    "kind": '[services.one]\nprovider = "fake"\napi_key = { "<KEY>" = "a" }\n',
    "headers": '[services.one]\nprovider = "fake"\nheaders = { "<KEY>" = "a", X = "<KEY>" }\n',
    "header-line": '[services.one]\nprovider = "fake"\nheaders = { "<KEY>" = "a\\nb" }\n',
    "host": '[services.one]\nprovider = "openai"\napi_url = "http://<KEY>.invalid/v1"\ndefault_model = "x"\n',
    "path": '[services.one]\nprovider = "openai"\napi_url = "http://127.0.0.1:9/<KEY>"\ndefault_model = "x"\n',
    "query": '[services.one]\nprovider = "openai"\napi_url = "http://127.0.0.1:9/v1?a=<KEY>"\ndefault_model = "x"\n',
    "fragment": '[services.one]\nprovider = "openai"\napi_url = "http://127.0.0.1:9/#<KEY>"\ndefault_model = "x"\n',
    "scheme": '[services.one]\nprovider = "openai"\napi_url = "<KEY>://host"\n',
    "port": '[services.one]\nprovider = "openai"\napi_url = "http://host:<KEY>/v1"\n',
    "proxy": '[services.one]\nprovider = "openai"\nproxy = "http://<KEY>.invalid:1"\ndefault_model = "x"\n',
    "ca": '[services.one]\nprovider = "openai"\nca_bundle = "<KEY>"\ndefault_model = "x"\n',
    "certificate": '[services.one]\nprovider = "openai"\nclient_certificate = "<KEY>"\ndefault_model = "x"\n',
}
COMMANDS = (("check",), ("models",), ("chat", "Hi"), ("chat", "--json", "Hi"), ("trust", "trunkline.toml"))


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("name", FILES)
def test_key_in_a_configuration_file_is_not_repeated(
    check: Any, call: Any, monkeypatch: pytest.MonkeyPatch, name: str, command: tuple[str, ...]
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "another-canary-key-123")
    path = Path("trunkline.toml")
    for key in map(KEYS.__getitem__, USED):
        text = FILES[name].replace(KEY, key)
        if '"openai"' in text:
            text += "connect_timeout = 2\nmax_retries = 0\n"
        path.write_text(text)
        file = [] if command[0] == "trust" else ["-c", "trunkline.toml"]
        status, out, err = call(*command, *file)
        assert status in (0, 1, 2)
        assert not contains(out + err, key), (key, out, err)


def test_question_whether_to_trust_a_file_repeats_no_key(terminal: Any) -> None:
    for key in map(KEYS.__getitem__, USED):
        Path("trunkline.toml").write_text(
            f'[services."{key}"]\nprovider = "openai"\napi_url = "https://{key}.example/{key}"\n"{key}" = 1\n'
            f'api_key = {{ env = "{key}" }}\nheaders = {{ "{key}" = {{ file = "{key}" }}, Host = "{key}" }}\n'
        )
        screen = terminal("chat", "Hi")
        shown = screen.wait_for(r"Trust this file\?")
        screen.enter("n\n")
        assert not contains(shown + screen.end()[1], key)
        assert "a part that looks like a key is hidden" in shown


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_answer_of_a_model_is_shown_whole(call: Any, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("FAKE_API_KEY", "canary-key-1234567890")
    assert call("chat", "-p", "fake", "-m", "echo", key)[1] == f"You said: {key}\n"
    lines = call("chat", "-p", "fake", "-m", "echo", "--json", key)[1].splitlines()
    assert key in [json.loads(line).get("text") for line in lines]


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_keys_are_recognised_in_a_text(key: str) -> None:
    assert looks_like_key(key)
    assert may_be_secret(key)
    assert without_keys(f"a '{key}', b") == "a '***', b"
    assert key_parts(f"the {key}") == (key,)
    for text in (f"a/{key}/b", f"a={key}", f"{key}.example", f"TRUNKLINE_{key}_API_KEY"):
        if "/" not in key:  # whose bounds in a path nobody knows
            assert not contains(without_keys(text), key), text


@pytest.mark.parametrize("name", NAMES)
def test_ordinary_names_are_no_keys(name: str) -> None:
    assert without_keys(name) == name

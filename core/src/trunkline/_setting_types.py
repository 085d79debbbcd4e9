"""The types that a setting may have: which values each accepts, and its JSON Schema."""

from __future__ import annotations

import os
import re
import types
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Union, get_args, get_origin

import attrs

from trunkline._headers import header_problem
from trunkline._json import JSONObject
from trunkline.secrets import Headers, Secret

BOOLEAN_WORDS = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}
"""The texts that are accepted for a boolean, in lower case."""

_AROUND = (
    "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"  # white space, as `str.isspace` has it
    "\xad\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff"  # invisible
)
"""What is removed around a value: white space, byte-order marks, and invisible characters that copying from web pages
and dialogs brings along."""


def trimmed(text: str) -> str:
    """Return a text without white space, line breaks, byte-order marks and invisible characters around it."""
    return text.strip(_AROUND)


def is_blank(value: object) -> bool:
    """Whether a configured value counts as not set: a text, or a secret, that `trimmed` leaves empty."""
    if isinstance(value, Secret):
        return value.read is None and not trimmed(value.reveal())
    return isinstance(value, str) and not trimmed(value)


REFERENCE_KINDS = ("env", "file", "keyring")
"""Where a reference in a configuration file may say that a secret is kept: `{ env = "NAME" }` and so on."""


def without_none(hint: object) -> object:
    """Return the type `X` of the annotation `X | None`; any other annotation is returned unchanged."""
    if get_origin(hint) in (Union, types.UnionType):
        return next(arg for arg in get_args(hint) if arg is not type(None))
    return hint


def is_mapping(kind: object) -> bool:
    """Whether an annotation is a mapping, such as `Mapping[str, str]`."""
    origin = get_origin(kind)
    return isinstance(origin, type) and issubclass(origin, Mapping)


def is_reference(value: object) -> bool:
    """Whether a configured value is a reference to a secret, such as `{ env = "NAME" }`."""
    return isinstance(value, Mapping) and len(value) == 1 and next(iter(value)) in REFERENCE_KINDS


def takes_reference(kind: object) -> bool:
    """Whether the value of a setting of this type may be a reference: it can be text, and is no table."""
    return kind in (str, Secret, bool, int, float) or get_origin(kind) in (Literal, tuple)


def safe_repr(value: object) -> str:
    """Return the `repr` of a configured value, or its type if it has none: it is nested too deeply, or too large."""
    try:
        return repr(value)
    except (RecursionError, ValueError):
        return f"this {type(value).__name__}"


def convert_to(kind: object, value: object) -> object:
    """Convert a configured value to a type. Raises `ValueError` with a noun phrase: what is accepted."""
    origin = get_origin(kind)
    if kind is Secret:
        read = value.read if isinstance(value, Secret) else None
        if isinstance(value, Secret):
            value = value.reveal()
        if not isinstance(value, str):
            raise ValueError(f"a string, not {type(value).__name__}")
        secret = Secret(trimmed(value), read=read)
        if not secret and read is None:
            raise ValueError("a string that is not empty")
        return secret
    if kind is str:
        if isinstance(value, Secret):
            value = value.reveal()
        if not isinstance(value, str):
            raise ValueError(f"a string, not {type(value).__name__}")
        if is_blank(value):
            raise ValueError("a string that is not empty")
        return trimmed(value)
    if kind is bool:
        truth = BOOLEAN_WORDS.get(trimmed(value).lower()) if isinstance(value, str) else value
        if not isinstance(truth, bool):
            raise ValueError(f"true or false, not {safe_repr(value)}")
        return truth
    if kind in (int, float):
        return _number(int if kind is int else float, value)
    if origin is Literal:
        if value not in get_args(kind):
            raise ValueError(f"{' or '.join(map(repr, get_args(kind)))}, not {safe_repr(value)}")
        return value
    if kind is Headers or is_mapping(kind):
        # The values may be secret, so the error does not show them.
        if isinstance(value, Headers):
            return value
        if isinstance(value, Mapping) and kind is Headers:
            value = {name: text for name, text in value.items() if text is not None and not is_blank(text)}
        if not isinstance(value, Mapping) or not all(
            isinstance(name, str) and isinstance(text, str) for name, text in value.items()
        ):
            raise ValueError("a table of strings")
        return Headers(value) if kind is Headers else dict(value)
    if origin is tuple:
        if isinstance(value, str) and value.lstrip().startswith("["):  # from the environment, if it is not JSON
            raise ValueError(f"a list of strings, as texts between commas or as JSON, not {safe_repr(value)}")
        items = value.split(",") if isinstance(value, str) else value
        if not isinstance(items, (list, tuple)) or not all(isinstance(item, str) for item in items):
            raise ValueError("a list of strings")
        return tuple(trimmed(item) for item in items if not is_blank(item))
    return value


_CHARACTERS = {"\n": "a line break", "\r": "a line break", " ": "a space", "\ufeff": "a byte-order mark"}


NO_KEY = (
    r"[$][A-Z_][A-Z0-9_]*|[$][{][A-Za-z_][A-Za-z0-9_]*[}]|%[A-Za-z_][A-Za-z0-9_]*%"
    r"|(?:env|file|keyring):[^ ]+|<[^<>]*>|[{].*[}]"
)
"""The pattern of what is written in place of a key, such as `${NAME}`, `env:NAME` and `<your-key>`.

The key of a server of one's own may begin with `$`, as in `$ecret`.
"""


def credential(secret: Secret) -> Secret:
    """Return the secret if an HTTP header can hold it. Raises `ValueError`, which names the first wrong character.

    A placeholder, such as a variable that no shell has replaced, is refused too: a provider would only call it wrong.
    """
    if re.fullmatch(NO_KEY, secret.reveal()):
        raise ValueError(
            "the key itself, not a placeholder; to refer to an environment variable, write "
            '{ env = "NAME" } in a configuration file, and {"env": "NAME"} elsewhere'
        )
    for character in secret.reveal():
        if not "!" <= character <= "~":
            name = _CHARACTERS.get(character) or f"the character {unicodedata.name(character, repr(character))}"
            raise ValueError(f"printable ASCII without spaces, since it is sent as an HTTP header; it contains {name}")
    return secret


def headers(value: object) -> Headers:
    """Return the headers in a table of strings, without white space around their values, and without blank ones.

    Raises `ValueError` for a name or a value that HTTP does not allow. Its message shows no value.
    """
    table = convert_to(Headers, value)
    assert isinstance(table, Headers)
    plain = {name: trimmed(text) for name, text in table.items() if not is_blank(text)}
    for name, text in plain.items():
        problem = header_problem(name, text)
        if problem is not None:
            raise ValueError(f"a table of HTTP headers; {problem}")
    return Headers(plain)


def passphrase(value: object) -> Secret:
    """Return a passphrase. Unlike in a key, spaces around it may belong to it; line breaks at its end do not."""
    secret = value if isinstance(value, Secret) else Secret(value) if isinstance(value, str) else None
    if secret is None:
        raise ValueError(f"a string, not {type(value).__name__}")
    return Secret(secret.reveal().removeprefix("\ufeff").rstrip("\r\n"), read=secret.read)


EXTENSIONS_SCHEMA: JSONObject = {
    "type": ["array", "string"],
    "pattern": r"^(?![\[{])",
    "items": {
        "anyOf": [
            {"type": "string"},
            {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
        ]
    },
}


@attrs.frozen
class ExtensionTable:
    """The name of an extension and its settings, as configured and not yet checked. They may hold secrets."""

    name: str
    settings: Mapping[str, object] = attrs.field(repr=False)


def extensions(value: object) -> tuple[object, ...]:
    """Return the extensions in a list, or in a text with names between commas.

    A table becomes an `ExtensionTable`, whose `repr` shows no secret. Raises `ValueError`.
    """
    if isinstance(value, str):
        if value.lstrip().startswith(("[", "{")):
            raise ValueError("names between commas, or a list in JSON; it starts like JSON, but is not valid")
        return tuple(trimmed(name) for name in value.split(",") if not is_blank(name))
    if not isinstance(value, (list, tuple)):
        raise ValueError(_EXTENSIONS)
    return tuple(_extension(item) for item in value if not is_blank(item))


_EXTENSIONS = "a list of extensions: names, tables with a name, or objects"


def _extension(item: object) -> object:
    if item is None or isinstance(item, (int, float, list, tuple)):
        raise ValueError(f"{_EXTENSIONS}; it contains {safe_repr(item)}")
    if isinstance(item, str):
        return trimmed(item)
    if not isinstance(item, Mapping):
        return item
    name = item.get("name")
    if not all(isinstance(key, str) for key in item) or not isinstance(name, str) or is_blank(name):
        raise ValueError('a list in which each table has the name of an extension, as in { name = "…" }')
    return ExtensionTable(trimmed(name), {key: value for key, value in item.items() if key != "name"})


def path(value: object) -> str:
    """Return the path of a file, with `~` expanded. Raises `ValueError` with a noun phrase: what is accepted."""
    text = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(text, str) or is_blank(text):
        raise ValueError("the path of a file")
    try:
        expanded = str(Path(trimmed(text)).expanduser())
        encoded = os.fsencode(expanded)
    except RuntimeError:  # `~user` for a user that does not exist
        raise ValueError("the path of a file in the home folder of a user that exists") from None
    except ValueError:
        raise ValueError("the path of a file that this system can name") from None
    if b"\0" in encoded:  # the calls of the system raise `ValueError` for it, no `OSError`
        raise ValueError("the path of a file, without null characters")
    return expanded


_DIGITS = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)")


def _number(kind: type[int] | type[float], value: object) -> int | float:
    wanted = "a whole number" if kind is int else "a number of seconds"
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError(f"{wanted}, not {safe_repr(value)}")
    try:
        # Python also reads `1e3`, `1_000`, `inf` and the digits of all scripts, which few people mean.
        if isinstance(value, str) and not _DIGITS.fullmatch(trimmed(value)):
            raise ValueError
        number = kind(value)
    except (ValueError, OverflowError):
        raise ValueError(f"{wanted}, not {safe_repr(value)}") from None
    if number != number or (kind is int and isinstance(value, float) and value != number):
        raise ValueError(f"{wanted}, not {safe_repr(value)}")
    if kind is int and abs(number) >= 10**18:  # one of thousands of digits cannot be shown
        raise ValueError(f"{wanted} of at most 18 digits")
    return number


TOKEN_LIMIT_SCHEMA: JSONObject = {
    "type": ["integer", "string"],
    "minimum": 1,
    "maximum": 10**18 - 1,
    "pattern": r"^(?:\+?0*[1-9][0-9]{0,17}|[Aa][Uu][Tt][Oo]|[Nn][Oo][Nn][Ee])$",
}
"""The schema of what `token_limit` accepts."""


def token_limit(value: object) -> object:
    """Convert a number of tokens, or `"auto"`. Raises `ValueError` with a noun phrase: what is accepted."""
    if isinstance(value, str) and trimmed(value).lower() == "auto":
        return "auto"
    try:
        number = _number(int, value)
    except ValueError as error:
        raise ValueError(f"'auto' or {error}") from None
    if number < 1:
        raise ValueError(f"'auto' or a number of at least 1, or none to turn it off, not {safe_repr(value)}")
    return number

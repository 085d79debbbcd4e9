"""The base of every provider's settings, and what a setting can tell of itself.

A setting is an attrs field made by `setting()`. Its label, description, secrecy and customary environment variables are
metadata on that field; the tables in the docs, the JSON Schema, forms and the command line's help come from it and from
nothing else. Values are checked when the settings are made: a bad one raises `ConfigurationError`.
"""

from __future__ import annotations

import functools
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Literal,
    NoReturn,
    Self,
    SupportsIndex,
    TypeAlias,
    TypeVar,
    Union,
    get_args,
    get_origin,
)

import attrs

from trunkline._urls import plain_http_note, redact_url, split_url, url_secrets
from trunkline.errors import ConfigurationError
from trunkline.secrets import Headers, Secret, clear_traceback_locals

if TYPE_CHECKING:
    from trunkline._json import JSONObject

S = TypeVar("S", bound=type)

_KEY = "trunkline"

BaseURL: TypeAlias = Callable[[str], tuple[str, Sequence[str]]]
"""From a pasted URL to the URL that requests start from, and notes on what was changed. Raises `ValueError`."""


@attrs.frozen(kw_only=True)
class SettingInfo:
    """The description of one setting.

    `environment` holds the provider's customary variables, in order of precedence. Settings with the same `group` are
    taken from one source together, so that a key from the environment never completes a pair from a file. `convert`
    turns a configured value into the setting's own type, and raises `ValueError` with what is accepted. `base_url`
    belongs to a URL: it returns the URL that requests start from and notes on what it changed.
    """

    name: str
    label: str
    description: str
    required: bool
    secret: bool
    default: object
    type: object
    environment: tuple[str, ...]
    group: str | None
    convert: Callable[[object], object] | None
    schema: JSONObject | None
    minimum: float | None
    base_url: BaseURL | None


def setting(
    label: str,
    description: str,
    *,
    default: Any = attrs.NOTHING,
    factory: Callable[[], Any] | None = None,
    environment: Sequence[str] = (),
    group: str | None = None,
    convert: Callable[[Any], Any] | None = None,
    schema: JSONObject | None = None,
    minimum: float | None = None,
    base_url: BaseURL | None = None,
    show: Callable[[Any], str] | None = None,
) -> Any:
    """Declare a setting of a `Settings` class. Without a default it is required. `show` replaces its `repr`.

    Whether it is secret follows from its type, `Secret`.
    """
    metadata = {_KEY: (label, description, tuple(environment), group, convert, schema, minimum, base_url)}
    options: dict[str, Any] = {"metadata": metadata, "repr": show or True}
    if factory is not None:
        return attrs.field(factory=factory, **options)
    return attrs.field(default=default, **options)


def url_setting(
    label: str,
    description: str,
    *,
    default: Any = attrs.NOTHING,
    environment: Sequence[str] = (),
    base_url: BaseURL | None = None,
) -> Any:
    """Declare a setting that is a URL as people paste it. Its `repr` shows no secret that the URL holds.

    Without `base_url` the value becomes the URL with a scheme, as `trunkline.authoring.urls.split_url` returns it. With
    it the value stays as pasted: the provider calls `base_url` where it needs the root, and opening the service logs
    its notes (see `Settings.notes`).
    """

    def convert(value: object) -> str:
        if not isinstance(value, str):
            raise ValueError(f"a URL, not {type(value).__name__}")
        if base_url is None:
            return split_url(value)[0].geturl()
        base_url(value)
        return value.strip()

    return setting(
        label,
        description,
        default=default,
        environment=environment,
        convert=convert,
        show=_show_url,
        schema={"type": "string", "format": "uri"},
        base_url=base_url,
    )


@typing.dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(setting, url_setting))
def settings(cls: S) -> S:
    """Make a subclass of `Settings`: frozen, keyword-only, its values checked."""
    made = attrs.define(cls, frozen=True, kw_only=True, slots=True)
    make = made.__init__  # type: ignore[misc]  # a class of its own, whatever its base's is

    @functools.wraps(make)
    def init(self: Any, **values: Any) -> None:
        outer = sys.exception()
        try:
            make(self, **values)
        except ConfigurationError as error:
            # The values may be secret, and error reports show the variables of each frame.
            values.clear()
            self = None
            clear_traceback_locals(error, outer)
            raise

    made.__init__ = init  # type: ignore[misc]
    return made


def _show_url(url: object) -> str:
    return repr(redact_url(url) if isinstance(url, str) else url)


def _extensions(value: object) -> tuple[object, ...]:
    if isinstance(value, str):
        return tuple(name.strip() for name in value.split(",") if name.strip())
    if isinstance(value, (list, tuple)):
        return tuple(value)
    raise ValueError("a list of extension names or objects")


@settings
class Settings:
    """The settings that all services share. Times are in seconds; `None` switches a limit off."""

    provider: ClassVar[str] = ""

    default_model: str | None = setting("Default model", "The model for requests that name none.", default=None)
    input_token_limit: int | None = setting(
        "Input token limit",
        "The longest conversation to send, by our estimate; the oldest turns go first, with a warning.",
        default=None,
        minimum=1,
    )
    output_token_limit: int | None = setting(
        "Output token limit",
        "The longest answer to ask for, where the request does not say.",
        default=None,
        minimum=1,
    )
    headers: Mapping[str, str] = setting("Headers", "HTTP headers to add to each request.", factory=Headers)
    connect_timeout: float | None = setting(
        "Connect timeout", "Seconds to wait for a connection.", default=10.0, minimum=0
    )
    first_chunk_timeout: float | None = setting(
        "First chunk timeout",
        "Seconds to wait, once connected, for the first piece of the answer. Local models load in this time.",
        default=300.0,
        minimum=0,
    )
    chunk_timeout: float | None = setting(
        "Chunk timeout", "Seconds that a stream may stand still.", default=120.0, minimum=0
    )
    total_timeout: float | None = setting(
        "Total timeout",
        "Seconds for the whole call with its retries; the time that the application takes to read is left out.",
        default=1800.0,
        minimum=0,
    )
    max_retries: int = setting(
        "Retries", "How often a failed call is tried again; never once an answer has begun.", default=2, minimum=0
    )
    retry_after_limit: float | None = setting(
        "Longest Retry-After",
        "Seconds to wait at most where a provider says when to try again; where it asks for more, the call fails.",
        default=60.0,
        minimum=0,
    )
    frame_limit: int | None = setting(
        "Frame limit",
        "The largest event of a stream to take, in bytes. A picture in an answer comes as one event.",
        default=64 * 1024 * 1024,
        minimum=1,
    )
    body_limit: int | None = setting(
        "Body limit", "The largest answer to read whole, in bytes.", default=256 * 1024 * 1024, minimum=1
    )
    header_limit: int | None = setting(
        "Header limit",
        "The most that the headers of an answer may come to, in bytes. The HTTP client itself stops near 100 KiB.",
        default=64 * 1024,
        minimum=1,
    )
    nesting_limit: int | None = setting(
        "Nesting limit", "How deep the JSON of an answer may be nested.", default=128, minimum=1
    )
    strict: bool = setting(
        "Strict", "Refuse a request that the provider cannot express in full, in place of a warning.", default=False
    )
    fetch_urls: bool = setting(
        "Fetch URLs",
        "Fetch media given by URL where the provider takes bytes alone; from public addresses only.",
        default=False,
    )
    proxy: str | None = setting(
        "Proxy",
        "The URL of an HTTP or SOCKS proxy. Without it, the proxies of the environment are used.",
        default=None,
        show=_show_url,
    )
    ca_bundle: str | None = setting(
        "CA bundle",
        "A file of certificate authorities (PEM) to trust, in place of the system's.",
        default=None,
    )
    http_library: Literal["auto", "aiohttp", "httpx2"] = setting(
        "HTTP library",
        "`auto` is aiohttp, which is faster, where it is installed and can be used, else httpx2.",
        default="auto",
    )
    extensions: tuple[object, ...] = setting(
        "Extensions",
        "Extensions to load, by name, or as objects.",
        default=(),
        environment=("TRUNKLINE_EXTENSIONS",),
        convert=_extensions,
        schema={"type": "array", "items": {"type": "string"}},
    )

    def __attrs_post_init__(self) -> None:
        errors: list[ConfigurationError] = []
        for info in setting_infos(type(self)):
            value = getattr(self, info.name)
            try:
                object.__setattr__(self, info.name, convert(info, value))
            except ValueError as error:
                errors.append(setting_error(info.name, f"takes {error}", provider=self.provider))
        if not errors:
            errors.extend(setting_error(name, message, provider=self.provider) for name, message in self.problems())
        raise_config_errors(errors)

    def problems(self) -> Iterator[tuple[str, str]]:
        """What is wrong between settings, each as the setting's name and a sentence. Override it; the base has none."""
        yield from ()

    def notes(self) -> Iterator[tuple[str, str]]:
        """What is valid but worth a warning when the service opens: each as the setting's name and a sentence.

        The base reports what `base_url` changed in a URL, and a key that would cross the network unencrypted.
        """
        has_key = any(isinstance(getattr(self, info.name), Secret) for info in setting_infos(type(self)))
        for info in setting_infos(type(self)):
            value = getattr(self, info.name)
            if info.base_url is None or not isinstance(value, str):
                continue
            base, notes = info.base_url(value)
            yield from ((info.name, note) for note in notes)
            plain = plain_http_note(base) if has_key else None
            if plain is not None:
                yield info.name, plain

    def secrets(self) -> tuple[str, ...]:
        """The secret values in these settings, to be scrubbed from errors."""
        found: list[str] = []
        for info in setting_infos(type(self)):
            value = getattr(self, info.name)
            if isinstance(value, Secret):
                found.append(value.reveal())
            elif isinstance(value, str) and ("//" in value or "@" in value):
                found.extend(url_secrets(value))
        for name, value in self.headers.items():
            if name.lower() not in ("user-agent", "accept", "content-type"):
                # A key that is echoed without its scheme (`Bearer`) is one too.
                found += [value, value.rpartition(" ")[2]]
        return tuple(dict.fromkeys(secret for secret in found if secret))

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError("settings cannot be pickled, since they may hold secrets; make them where they are used")


def setting_error(setting: str, problem: str, *, provider: str = "", service: str | None = None) -> ConfigurationError:
    """An error that names the service, the setting and the problem."""
    where = f"service {service!r}" if service else f"provider {provider!r}" if provider else "the service"
    return ConfigurationError(f"{where}: setting {setting!r} {problem}", service=service, setting=setting)


def raise_config_errors(errors: Sequence[ConfigurationError]) -> None:
    """Raise the errors as one, if there are any."""
    flat = [single for error in errors for single in (error.errors or (error,))]
    if len(flat) == 1:
        raise flat[0]
    if flat:
        lines = "".join(f"\n  - {error}" for error in flat)
        raise ConfigurationError(f"{len(flat)} settings are wrong:{lines}", errors=flat)


_infos: dict[type[Settings], tuple[SettingInfo, ...]] = {}


def setting_infos(cls: type[Settings]) -> tuple[SettingInfo, ...]:
    """The settings of a class: the provider's own first, then those that all share."""
    if cls not in _infos:
        common = {field.name for field in _fields(Settings)} if cls is not Settings else set()
        _infos[cls] = tuple(sorted(_read_infos(cls), key=lambda info: info.name in common))
    return _infos[cls]


def _fields(cls: type[Settings]) -> tuple[attrs.Attribute[Any], ...]:
    return attrs.fields(cls)  # type: ignore[arg-type,no-any-return]  # made by `settings`, which mypy cannot see


def _default(default: Any) -> Any:
    # attrs.Factory is a class at run time and a function to a type checker.
    return default.factory() if hasattr(default, "factory") else default


def _read_infos(cls: type[Settings]) -> list[SettingInfo]:
    hints = typing.get_type_hints(cls)
    infos = []
    for field in _fields(cls):
        if _KEY not in field.metadata:
            continue
        label, description, environment, group, converter, schema, minimum, base_url = field.metadata[_KEY]
        hint = hints[field.name]
        default = _default(field.default)
        infos.append(
            SettingInfo(
                name=field.name,
                label=label,
                description=description,
                required=default is attrs.NOTHING,
                secret=Secret in (hint, *get_args(hint)),
                default=default,
                type=hint,
                environment=environment,
                group=group,
                convert=converter,
                schema=schema,
                minimum=minimum,
                base_url=base_url,
            )
        )
    return infos


def convert(info: SettingInfo, value: object) -> object:
    """The value in the setting's own type. Raises `ValueError` with what is accepted.

    Text is taken for numbers and truth values, since environment variables have nothing else; `none` switches a limit
    off, since TOML has no word for it either.
    """
    kind, optional = _plain(info.type), type(None) in get_args(info.type)
    if optional and (value is None or (kind in (int, float) and value == "none")):
        return None
    if info.convert is not None:
        return info.convert(value)
    result = _convert(kind, value)
    if info.minimum is not None and isinstance(result, (int, float)) and result < info.minimum:
        raise ValueError(f"a number of at least {info.minimum:g}, not {value!r}")
    return result


def _plain(hint: object) -> object:
    if get_origin(hint) in (Union, types.UnionType):
        return next(arg for arg in get_args(hint) if arg is not type(None))
    return hint


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
"""The words for truth values, in lower case."""


def _convert(kind: object, value: object) -> object:
    origin = get_origin(kind)
    if kind is Secret:
        if isinstance(value, Secret):
            secret = value
        elif isinstance(value, str):
            secret = Secret(value.strip())
        else:
            raise ValueError(f"a string, not {type(value).__name__}")
        if not secret:
            raise ValueError("a string that is not empty")
        if not secret.reveal().isprintable():
            raise ValueError("a string without line breaks or control characters")
        return secret
    if kind is str:
        if isinstance(value, Secret):
            value = value.reveal()
        if not isinstance(value, str) or not value.strip():
            raise ValueError("a string that is not empty")
        return value.strip()
    if kind is bool:
        truth = BOOLEAN_WORDS.get(value.strip().lower()) if isinstance(value, str) else value
        if not isinstance(truth, bool):
            raise ValueError(f"true or false, not {value!r}")
        return truth
    if kind in (int, float):
        return _number(int if kind is int else float, value)
    if origin is Literal:
        if value not in get_args(kind):
            raise ValueError(f"{' or '.join(map(repr, get_args(kind)))}, not {value!r}")
        return value
    if origin is not None and issubclass(origin, Mapping):
        # Values may be secret: the error does not show them.
        if not isinstance(value, Mapping) or not all(
            isinstance(name, str) and isinstance(text, str) for name, text in value.items()
        ):
            raise ValueError("a table of strings")
        return Headers(value)
    if origin is tuple:
        items = value.split(",") if isinstance(value, str) else value
        if not isinstance(items, (list, tuple)) or not all(isinstance(item, str) for item in items):
            raise ValueError("a list of strings")
        return tuple(item.strip() for item in items if item.strip())
    return value


def _number(kind: type[int] | type[float], value: object) -> int | float:
    wanted = "a whole number" if kind is int else "a number of seconds" if kind is float else "a number"
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError(f"{wanted}, not {value!r}")
    try:
        number = kind(value)
    except (ValueError, OverflowError):
        raise ValueError(f"{wanted}, not {value!r}") from None
    if number != number or (kind is int and isinstance(value, float) and value != number):
        raise ValueError(f"{wanted}, not {value!r}")
    return number


def json_schema(cls: type[Settings]) -> JSONObject:
    """The JSON Schema (draft 2020-12) of a provider's settings, as they stand in a configuration file."""
    properties: dict[str, JSONObject] = {}
    for info in setting_infos(cls):
        described: dict[str, Any] = {"title": info.label, "description": info.description, **_schema(info)}
        if not info.required and isinstance(info.default, (str, int, float, bool)):
            described["default"] = info.default
        if info.minimum is not None:
            described["minimum"] = info.minimum
        properties[info.name] = described
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"Settings of {cls.provider}",
        "type": "object",
        "properties": properties,
        "required": [info.name for info in setting_infos(cls) if info.required],
        "additionalProperties": False,
    }


_REFERENCE: JSONObject = {
    "type": "object",
    "properties": {name: {"type": "string"} for name in ("env", "file", "keyring")},
    "minProperties": 1,
    "maxProperties": 1,
    "additionalProperties": False,
}


def _schema(info: SettingInfo) -> JSONObject:
    if info.schema is not None:
        return info.schema
    kind = _plain(info.type)
    origin = get_origin(kind)
    if kind is Secret:
        return {"anyOf": [{"type": "string"}, _REFERENCE], "writeOnly": True}
    if origin is Literal:
        return {"enum": list(get_args(kind))}
    if origin is not None and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": {"anyOf": [{"type": "string"}, _REFERENCE]}}
    if origin is tuple:
        return {"type": "array", "items": {"type": "string"}}
    names: dict[object, str] = {str: "string", bool: "boolean", int: "integer", float: "number"}
    return {"type": names[kind]} if kind in names else {}

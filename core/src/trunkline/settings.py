"""Settings: the base class `Settings` of a service's settings, and the functions that declare and describe settings.

A setting is an attrs field made by `setting()`. Its label, description and environment variables are metadata of that
field. The tables in the documentation, the JSON Schema and the command line's help are generated from this metadata.
Values are checked when a settings object is created; a wrong value raises `ConfigurationError`.
"""

from __future__ import annotations

import functools
import os
import typing
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Generic,
    Literal,
    NoReturn,
    Self,
    SupportsIndex,
    TypeAlias,
    TypeVar,
    get_args,
    get_origin,
)

import attrs

from trunkline import _setting_schemas, _setting_types
from trunkline._exception_text import exception_text
from trunkline._json import JSONObject, JSONValue
from trunkline._masking import key_parts, may_be_secret
from trunkline._setting_info import Alternative as Alternative, BaseURL as BaseURL, SettingInfo as SettingInfo
from trunkline._setting_schemas import any_case as any_case, is_set as is_set
from trunkline._setting_types import convert_to, is_blank, trimmed, without_none
from trunkline._urls import clean_url, plain_http_note, proxy_url, redact_url, split_url, url_secrets
from trunkline.errors import ConfigurationError, PluginError, TrunklineError
from trunkline.secrets import Headers, Secret, header_secrets, scrub, without_traceback

S = TypeVar("S", bound=type)
B = TypeVar("B", bound="BaseSettings")
T = TypeVar("T")
A = TypeVar("A", contravariant=True)

_KEY = "trunkline"

KeySource: TypeAlias = str | Callable[[], str]
"""What a setting with `from_function` accepts: a key, or a function that returns it and may block."""


class Converted(Generic[T, A]):
    """The type of a setting that reads as `T` and may also be given as `A`: `api_key: Converted[Secret, str]`.

    It exists for type checkers alone: they take the type of a field that is a descriptor from its `__set__`. No
    instance is ever made. With mypy, a class derived from one that `settings` made reads its base's field as `T | A`.
    """

    if TYPE_CHECKING:

        def __get__(self, instance: object, owner: type) -> T: ...

        def __set__(self, instance: object, value: T | A) -> None: ...


GROUPS = ("Connection", "Authentication", "Model", "Requests", "Limits", "Timeouts and Retries", "Network")
"""The headings of the settings in a form, in order. A plugin may add its own, which come first."""


def setting(
    label: str,
    description: str,
    *,
    default: object = attrs.NOTHING,
    factory: Callable[[], object] | None = None,
    environment: Sequence[str] = (),
    source_group: str | None = None,
    convert: Callable[[object], object] | None = None,
    schema: JSONObject | None = None,
    minimum: float | None = None,
    maximum: float | None = None,
    base_url: BaseURL | None = None,
    path: bool = False,
    in_header: bool = True,
    from_function: bool = False,
    show: Callable[[object], str] | None = None,
    group: str = "",
    advanced: bool = False,
    examples: Sequence[object] = (),
    choices: Mapping[str, str] | None = None,
    requires: Sequence[str] = (),
    form_required: bool = False,
) -> Any:
    """Declare a setting of a `Settings` class.

    A setting without `default` and `factory` is required. A setting of the type `Secret` is secret. `show` replaces
    `repr` for the value. The other arguments are described in `SettingInfo`.
    If code may also give another type than the one that the setting reads as, annotate it with `Converted`.
    """
    metadata = {
        "label": label,
        "description": description,
        "environment": tuple(environment),
        "source_group": source_group,
        "convert": convert,
        "schema": schema,
        "minimum": minimum,
        "maximum": maximum,
        "base_url": base_url,
        "path": path,
        "in_header": in_header,
        "from_function": from_function,
        "group": group,
        "advanced": advanced,
        "examples": tuple(examples),
        "choices": choices,
        "requires": tuple(requires),
        "form_required": form_required,
    }
    options: dict[str, Any] = {"metadata": {_KEY: metadata}, "repr": show or True}
    if factory is not None:
        return attrs.field(factory=factory, **options)
    return attrs.field(default=default, **options)


def url_setting(
    label: str,
    description: str,
    *,
    default: object = attrs.NOTHING,
    environment: Sequence[str] = (),
    base_url: BaseURL | None = None,
    schema: JSONObject | None = None,
    group: str = "Connection",
    advanced: bool = False,
    examples: Sequence[object] = (),
) -> Any:
    """Declare a setting that is a URL. Its `repr` leaves out user information, query and fragment.

    Without `base_url`, the value is normalised by `trunkline.authoring.urls.split_url`. With `base_url`, the value
    stays as pasted, without the quotes and the like around it: the provider calls `base_url` itself, and its notes are
    logged when the service opens (see `Settings.notes`). `schema` holds further keywords for the JSON Schema, for URLs
    that only `base_url` refuses.
    """

    def convert(value: object) -> str:
        if not isinstance(value, str):
            raise ValueError(f"a URL, not {type(value).__name__}")
        if base_url is None:
            return split_url(value)[0].geturl()
        base_url(value)
        return clean_url(value)

    return setting(
        label,
        description,
        default=default,
        environment=environment,
        convert=convert,
        show=_show_url,
        schema={**_setting_schemas.URL_TEXT, **(schema or {})},
        base_url=base_url or _normalized,
        group=group,
        advanced=advanced,
        examples=examples,
    )


def path_setting(
    label: str,
    description: str,
    *,
    default: object = attrs.NOTHING,
    environment: Sequence[str] = (),
    source_group: str | None = None,
    group: str = "",
    advanced: bool = False,
    examples: Sequence[object] = (),
    requires: Sequence[str] = (),
) -> Any:
    """Declare a setting that is the path of a file. Without `default`, it is required.

    `~` is expanded. In a configuration file, a relative path is relative to the folder of that file.
    """
    return setting(
        label,
        description,
        default=default,
        environment=environment,
        source_group=source_group,
        convert=_setting_types.path,
        schema={"type": "string", "pattern": _setting_schemas.PATH},
        path=True,
        group=group,
        advanced=advanced,
        examples=examples,
        requires=requires,
    )


@typing.dataclass_transform(
    kw_only_default=True, frozen_default=True, field_specifiers=(setting, url_setting, path_setting)
)
def settings(cls: S) -> S:
    """Decorate a subclass of `Settings` or `ExtensionSettings`: make it a frozen attrs class.

    Its arguments are keyword-only.
    Creating an instance checks its values and raises `ConfigurationError` if one is wrong.
    """
    settings_class = attrs.define(cls, frozen=True, kw_only=True, slots=True)
    attrs_init = settings_class.__init__  # type: ignore[misc]  # mypy does not see the __init__ that attrs wrote

    @functools.wraps(attrs_init)
    def init(self: Any, **values: Any) -> None:
        try:
            attrs_init(self, **values)
        except BaseException as error:
            failed = without_traceback(error)
        else:
            return
        # The values may be secret, and error trackers show the local variables of each frame.
        values.clear()
        self = None
        raise failed

    settings_class.__init__ = init  # type: ignore[misc]
    return settings_class


def _normalized(url: str) -> tuple[str, Sequence[str]]:
    return split_url(url)[0].geturl(), ()


def _show_url(url: object) -> str:
    return repr(redact_url(url) if isinstance(url, str) else url)


def _proxy(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("a string that is not empty")
    return proxy_url(value)


@settings
class BaseSettings:
    """The base class of `Settings` and of `ExtensionSettings`."""

    @classmethod
    def belongs_to(cls) -> tuple[str, str]:
        """Return the kind and the name of the plugin that has these settings, such as `("provider", "openai")`."""
        return "", ""

    def __attrs_post_init__(self) -> None:
        errors: dict[str, ConfigurationError] = {}
        for info in setting_infos(type(self)):
            value = getattr(self, info.name)
            if not is_given(info, value):
                if info.required:
                    errors[info.name] = self._error(info.name, f"({info.label}) is required")
                    continue
                value = info.default
            try:
                object.__setattr__(self, info.name, convert(info, value))
            except ValueError as error:
                errors[info.name] = self._error(info.name, f"must be {error}")
        for name in errors:
            object.__delattr__(self, name)
        raise_config_errors([*errors.values(), *self._problem_errors(errors)])

    def _error(self, setting: str, problem: str) -> ConfigurationError:
        kind, name = self.belongs_to()
        if kind == "extension":
            return setting_error(setting, problem, extension=name)
        return setting_error(setting, problem, provider=name)

    def _problem_errors(self, wrong: Container[str] = ()) -> list[ConfigurationError]:
        """Return the mistakes in combinations. Settings that are `wrong` by themselves have no attribute."""
        found: list[ConfigurationError] = []
        try:
            for name, message in self._all_problems(wrong):
                if name not in wrong:
                    found.append(self._error(name, message))
            return found
        except TrunklineError:
            raise
        except Exception as error:
            if any(info.name in wrong for info in setting_infos(type(self))):
                return found  # `problems` read a setting that is wrong, so its later mistakes are not known
            text = scrub(exception_text(error), self.secrets())
            failed = _plugin_error(
                type(self).__module__, f"checking the settings of {self.belongs_to()[1]!r} failed: {text}"
            )
        raise failed

    def _all_problems(self, wrong: Container[str]) -> Iterator[tuple[str, str]]:
        infos = setting_infos(type(self))
        found = {info.name for info in infos if info.name in wrong or getattr(self, info.name) is not None}
        for info in infos:
            for name in info.requires if info.name in found else ():
                if name not in found:
                    found.add(name)  # one error for it
                    yield name, f"is missing: {info.name} is set, and both must come from the same source"
        yield from self.problems()

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield each mistake in the combination of settings, as the name of a setting and the rest of a sentence.

        Override it in a plugin's settings. The sentence starts with the setting: `("region", "is required")` becomes
        "setting 'region' is required". Each value that it reads is valid by itself: reading another one ends it, and
        the mistakes before that are reported together with the wrong values. `separate_problems` keeps that from
        hiding the mistakes that come after it.
        """
        yield from ()

    def separate_problems(self, *checks: Callable[[], Iterable[tuple[str, str]]]) -> Iterator[tuple[str, str]]:
        """Yield the mistakes that several methods find, each as `problems` does.

        A check that reads a setting with a wrong value ends there, and the next one runs.
        """
        for check in checks:
            try:
                yield from check()
            except AttributeError:
                if all(hasattr(self, info.name) for info in setting_infos(type(self))):
                    raise

    def notes(self) -> Iterator[tuple[str, str]]:
        """Yield warnings to log when the service opens, each as the name of a setting and a sentence.

        The base class reports what `base_url` changed in a URL. If a secret setting has a value, it also reports each
        URL that begins with `http://` and is not of this machine. It knows the URLs declared with `url_setting`.
        """
        has_secret = any(isinstance(getattr(self, info.name), Secret) for info in setting_infos(type(self)))
        for info in setting_infos(type(self)):
            value = getattr(self, info.name)
            if info.base_url is None or not isinstance(value, str):
                continue
            base, notes = info.base_url(value)
            yield from ((info.name, note) for note in notes)
            unencrypted = plain_http_note(base) if has_secret else None
            if unencrypted is not None:
                yield info.name, unencrypted

    def secrets(self) -> tuple[str, ...]:
        """Return the secret values in these settings, which are removed from errors, and what looks like a key."""
        found: list[str] = []
        for info in setting_infos(type(self)):
            value = getattr(self, info.name)
            if isinstance(value, Secret):
                found.append(value.reveal())
            elif isinstance(value, str):
                if "//" in value or "@" in value:
                    found.extend(url_secrets(value))
                # A key in a wrong place. The host of a URL is sent in lower case.
                found.extend(text for part in key_parts(value) for text in (part, part.lower(), part.upper()))
            elif isinstance(value, Headers):
                found += header_secrets(value)
        return tuple(dict.fromkeys(secret for secret in found if secret))

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError("settings cannot be pickled, since they may hold secrets; create them where they are used")


@settings
class Settings(BaseSettings):
    """The settings that all services have. Times are in seconds; `None` turns a limit off."""

    provider: ClassVar[str] = ""
    ambient_credentials: ClassVar[str] = ""
    """The credentials that the provider finds on the machine if no setting has any. `trunkline trust` shows the text
    after "sends", as in `"the credentials of AWS's configuration"`."""
    display_name: ClassVar[str] = ""
    """The provider's name as users write it, such as `"AWS Bedrock"`. Without it, it is `provider`."""
    needs_model: ClassVar[bool] = True
    """Whether a service cannot answer a request that names no model, unless `default_model` is set."""
    model_examples: ClassVar[tuple[str, ...]] = ()
    """Names of models, as examples of `default_model`."""
    alternatives: ClassVar[tuple[Alternative, ...]] = ()
    """The ways of which a user chooses one, such as kinds of credentials. The first one that is set is used."""
    schema_rules: ClassVar[tuple[JSONObject, ...]] = ()
    """JSON Schemas that each table of settings meets, for mistakes that `problems` reports. See `is_set`."""
    model_elsewhere: ClassVar[JSONObject | None] = None
    """The JSON Schema of the tables that name the model in another setting than `default_model`, such as a URL."""

    default_model: str | None = setting(
        "Default Model",
        "The model for requests that do not name a model.",
        default=None,
        group="Model",
    )
    input_token_limit: int | Literal["auto"] | None = setting(
        "Input Token Limit",
        "The longest request to send, in tokens (estimated), with its tools and media. Beyond it the oldest turns are "
        "left out, with a warning. `auto` takes the model's context window, without the tokens of the response, if the "
        "provider reports it.",
        default=None,
        convert=_setting_types.token_limit,
        schema=_setting_types.TOKEN_LIMIT_SCHEMA,
        group="Limits",
    )
    output_token_limit: int | Literal["auto"] | None = setting(
        "Output Token Limit",
        "The `max_output_tokens` of requests that do not set it. `auto` takes the model's own limit, if the provider "
        "reports it.",
        default=None,
        convert=_setting_types.token_limit,
        schema=_setting_types.TOKEN_LIMIT_SCHEMA,
        group="Limits",
    )
    input_token_count: Literal["estimate", "provider"] = setting(
        "Input Token Count",
        "Who counts the tokens for the input token limit.",
        default="estimate",
        choices={
            "estimate": "They are estimated from the number of bytes.",
            "provider": "The provider counts them if the estimate is near the limit, which takes up to three requests.",
        },
        group="Limits",
        advanced=True,
    )
    headers: Converted[Headers, Mapping[str, str]] = setting(
        "Headers",
        "HTTP headers to add to each request.",
        factory=Headers,
        convert=_setting_types.headers,
        group="Requests",
        advanced=True,
    )
    connect_timeout: float | None = setting(
        "Connect Timeout",
        "Seconds to wait for a connection to be made.",
        default=10.0,
        minimum=0,
        group="Timeouts and Retries",
        advanced=True,
    )
    first_chunk_timeout: float | None = setting(
        "First Chunk Timeout",
        "Seconds to wait, once connected, for the first content of a stream, or for the headers of a response that is "
        "not streamed. Local models load during this time.",
        default=300.0,
        minimum=0,
        group="Timeouts and Retries",
        advanced=True,
    )
    chunk_timeout: float | None = setting(
        "Chunk Timeout",
        "Seconds to wait for the next chunk of a response.",
        default=120.0,
        minimum=0,
        group="Timeouts and Retries",
        advanced=True,
    )
    total_timeout: float | None = setting(
        "Total Timeout",
        "Seconds for the whole call, including retries but excluding the time your code spends reading.",
        default=1800.0,
        minimum=0,
        group="Timeouts and Retries",
        advanced=True,
    )
    max_retries: int = setting(
        "Retries",
        "How often to retry a failed call. A call is never retried after its response has started.",
        default=2,
        minimum=0,
        group="Timeouts and Retries",
        advanced=True,
    )
    retry_after_limit: float | None = setting(
        "Longest Retry-After",
        "The longest delay in seconds that a provider may ask for before a retry. If it asks for more, the call fails.",
        default=60.0,
        minimum=0,
        group="Timeouts and Retries",
        advanced=True,
    )
    frame_limit: int | None = setting(
        "Frame Limit",
        "The largest event of a stream to accept, in bytes. An image in a response is one event.",
        default=64 * 1024 * 1024,
        minimum=1,
        group="Limits",
        advanced=True,
    )
    body_limit: int | None = setting(
        "Body Limit",
        "The largest response body to accept from a call that is not streamed, in bytes.",
        default=256 * 1024 * 1024,
        minimum=1,
        group="Limits",
        advanced=True,
    )
    header_limit: int | None = setting(
        "Header Limit",
        "The largest response headers to accept, in bytes in total. The HTTP client has its own limit near 100 KiB.",
        default=64 * 1024,
        minimum=1,
        group="Limits",
        advanced=True,
    )
    nesting_limit: int | None = setting(
        "Nesting Limit",
        "How deeply the JSON of a response may be nested.",
        default=128,
        minimum=1,
        group="Limits",
        advanced=True,
    )
    strict: bool = setting(
        "Strict",
        "Raise an error, instead of warning, if something in the request would be lost with this provider.",
        default=False,
        group="Requests",
        advanced=True,
    )
    fetch_urls: bool = setting(
        "Fetch URLs",
        "Fetch media given by URL if the provider accepts only bytes. Only public addresses are fetched.",
        default=False,
        group="Requests",
        advanced=True,
    )
    proxy: str | None = setting(
        "Proxy",
        "The URL of an HTTP or SOCKS proxy, such as `http://user:password@host:8080` or `socks5://host:1080`. By "
        "default, the proxies of the environment are used.",
        default=None,
        convert=_proxy,
        schema={"type": "string", "pattern": _setting_schemas.PROXY},
        show=_show_url,
        group="Network",
        advanced=True,
    )
    ca_bundle: Converted[str | None, str | os.PathLike[str]] = path_setting(
        "CA Bundle",
        "A file of certificate authorities (PEM) to trust instead of the system's, or a folder of them that "
        "`openssl rehash` has prepared.",
        default=None,
        group="Network",
        advanced=True,
    )
    verify: bool = setting(
        "Verify Certificates",
        "Check the certificate of the server. Without the check, anybody between you and the server can read the "
        "requests and their keys.",
        default=True,
        group="Network",
        advanced=True,
    )
    client_certificate: Converted[str | None, str | os.PathLike[str]] = path_setting(
        "Client Certificate",
        "A file with the certificate (PEM) to show to a server that asks for one (mutual TLS). It may also contain the "
        "private key.",
        default=None,
        group="Network",
        advanced=True,
    )
    client_key: Converted[str | None, str | os.PathLike[str]] = path_setting(
        "Client Key",
        "A file with the private key (PEM) of the client certificate. By default, it is in the certificate's file.",
        default=None,
        group="Network",
        advanced=True,
        requires=("client_certificate",),
    )
    client_key_passphrase: Converted[Secret | None, str] = setting(
        "Client Key Passphrase",
        "The passphrase of the private key, if the key is encrypted.",
        default=None,
        convert=_setting_types.passphrase,
        in_header=False,
        group="Network",
        advanced=True,
        requires=("client_certificate",),
    )
    tcp_keepalive: float | None = setting(
        "TCP Keep-Alive",
        "Seconds of silence on a connection after which the operating system checks that it is alive. Routers drop "
        "connections that are silent for some minutes, for example while a model thinks.",
        default=60.0,
        minimum=1,
        maximum=32767,  # Linux accepts no more
        group="Network",
        advanced=True,
    )
    http_library: Literal["auto", "aiohttp", "httpx2"] = setting(
        "HTTP Library",
        "The HTTP library. `auto` uses aiohttp, which is faster, if it is installed and can be used, else httpx2.",
        default="auto",
        group="Network",
        advanced=True,
        choices={
            "auto": "aiohttp, if it is installed and can be used, else httpx2.",
            "aiohttp": "The faster one. It needs asyncio.",
            "httpx2": "Works on asyncio and trio.",
        },
    )
    extensions: Converted[tuple[object, ...], Sequence[object]] = setting(
        "Extensions",
        "Extensions to use: names, tables with a name and settings, or objects.",
        default=(),
        environment=("TRUNKLINE_EXTENSIONS",),
        convert=_setting_types.extensions,
        schema=_setting_types.EXTENSIONS_SCHEMA,
        group="Requests",
        advanced=True,
    )

    @classmethod
    def belongs_to(cls) -> tuple[str, str]:
        """Return `"provider"` and the provider's name."""
        return "provider", cls.provider

    @classmethod
    def machine_values(
        cls, given: Mapping[str, object], environ: Mapping[str, str]
    ) -> Mapping[str, tuple[object, str]]:
        """Return settings that the configuration of other tools on this machine contains, such as AWS's profiles.

        Override it in a plugin. `given` has the settings from arguments, the configuration file and environment
        variables; a value for one of them is not used. Each value is paired with its origin, which completes "… (from
        the profile 'dev')" in an error. It may read small files. It is not called for a settings object made in code.
        Raises `ConfigurationError`.
        """
        return {}

    def notes(self) -> Iterator[tuple[str, str]]:
        """Yield warnings to log when the service opens, each as the name of a setting and a sentence.

        Reports what `BaseSettings.notes` does, also for the settings of extensions, and certificates that are not
        checked.
        """
        if not self.verify:
            yield (
                "verify",
                "the certificates of servers are not checked, because it is false, so others can read the requests",
            )
        yield from super().notes()
        for extension in self._extension_settings():
            yield from ((f"{extension.belongs_to()[1]}.{name}", note) for name, note in extension.notes())

    def secrets(self) -> tuple[str, ...]:
        """Return the secret values in these settings and in those of the extensions, and what looks like a key."""
        extensions = [secret for extension in self._extension_settings() for secret in extension.secrets()]
        return tuple(dict.fromkeys((*super().secrets(), *extensions)))

    def _extension_settings(self) -> tuple[BaseSettings, ...]:
        return tuple(extension for extension in self.extensions if isinstance(extension, BaseSettings))


def replaced(given: B, changes: Mapping[str, object]) -> B:
    """Return a copy of settings with other values.

    Takes a hundredth of the time of `attrs.evolve`, since nothing is checked: `changes` are the results of `convert`,
    of settings that no other one depends on.
    """
    copied = object.__new__(type(given))
    for field in _fields(type(given)):
        value = changes[field.name] if field.name in changes else getattr(given, field.name)
        object.__setattr__(copied, field.name, value)
    return copied


def setting_error(
    setting: str, problem: str, *, provider: str = "", service: str | None = None, extension: str = ""
) -> ConfigurationError:
    """Create an error about one setting. `problem` continues the sentence `setting 'region' …`.

    `extension` is the name of the extension that the setting belongs to, if it is not a setting of the service itself.
    """
    owners = [f"service {service!r}"] if service else [f"provider {provider!r}"] if provider else []
    owners += [f"extension {extension!r}"] if extension else []
    owner = ", ".join(owners) or "the service"
    return ConfigurationError(f"{owner}: setting {setting!r} {problem}", service=service, setting=setting)


MAX_ERRORS = 100
"""The number of errors that one `ConfigurationError` lists at most."""


def raise_config_errors(errors: Sequence[ConfigurationError]) -> None:
    """Raise one error for the first `MAX_ERRORS` of `errors`; do nothing if there are none."""
    # Several services may have one mistake in [defaults] in common.
    flat = list(dict.fromkeys(single for error in errors for single in (error.errors or (error,))))
    if len(flat) == 1:
        raise flat[0]
    if flat:
        listed = flat[:MAX_ERRORS]
        head = f"{len(flat)} settings are wrong:"
        if len(flat) > MAX_ERRORS:
            head = f"more than {MAX_ERRORS} settings are wrong; the first are:"
        lines = "".join(f"\n  - {error}" for error in listed)
        services = {error.service for error in listed}
        service = services.pop() if len(services) == 1 else None
        raise ConfigurationError(head + lines, service=service, errors=listed)


def combination_errors(
    cls: type[BaseSettings], values: Mapping[str, object], wrong: Container[str]
) -> list[ConfigurationError]:
    """Return the mistakes in combinations of valid, converted `values`, if other settings are `wrong`.

    What follows from a setting that is wrong is left out.
    """
    made = object.__new__(cls)
    for info in setting_infos(cls):
        if info.name not in wrong and (info.name in values or not info.required):
            value = values[info.name] if info.name in values else convert(info, info.default)
            object.__setattr__(made, info.name, value)
    return made._problem_errors(wrong)


_infos: dict[type[BaseSettings], tuple[SettingInfo, ...]] = {}


def setting_infos(cls: type[BaseSettings]) -> tuple[SettingInfo, ...]:
    """Return the descriptions of a class's settings: the plugin's own first, then those of `Settings`."""
    if cls not in _infos:
        is_service = issubclass(cls, Settings) and cls is not Settings
        common = {field.name for field in _fields(Settings)} if is_service else set()
        _infos[cls] = tuple(sorted(_read_infos(cls), key=lambda info: info.name in common))
    return _infos[cls]


def _fields(cls: type[BaseSettings]) -> tuple[attrs.Attribute[Any], ...]:
    return attrs.fields(cls)  # type: ignore[arg-type,no-any-return]  # made by `settings`, which mypy cannot see


def _default(default: Any) -> Any:
    # attrs.Factory is a class at run time and a function to a type checker.
    return default.factory() if hasattr(default, "factory") else default


def _read_infos(cls: type[BaseSettings]) -> list[SettingInfo]:
    hints = typing.get_type_hints(cls)
    infos = []
    for field in _fields(cls):
        if _KEY not in field.metadata:
            continue
        hint = hints[field.name]
        if get_origin(hint) is Converted:
            hint = get_args(hint)[0]
        default = _default(field.default)
        infos.append(
            SettingInfo(
                name=field.name,
                required=default is attrs.NOTHING,
                secret=Secret in (hint, *get_args(hint)),
                default=default,
                type=hint,
                **field.metadata[_KEY],
            )
        )
    return infos


def is_given(info: SettingInfo, value: object) -> bool:
    """Whether a value sets a setting. Blank text does not, and `None` only turns off a limit that has a default."""
    # For any other setting, `None` means "not given", since that is what `os.environ.get` returns.
    if value is None:
        return _can_be_off(info) and info.default is not None and not info.required
    return not is_blank(value)


def _can_be_off(info: SettingInfo) -> bool:
    """Whether a setting is a number that `none` turns off."""
    return type(None) in get_args(info.type) and without_none(info.type) in (int, float)


def convert(info: SettingInfo, value: object) -> object:
    """Convert a configured value to the setting's type. Raises `ValueError` with a noun phrase: what is accepted.

    Numbers and booleans may be given as text, since environment variables hold only text. The text `none` turns a limit
    off, since neither environment variables nor TOML have a null. White space and invisible characters around a text
    are removed. A value that does not set anything (see `is_given`) is not for this function. The error does not quote
    what may be a secret in the wrong setting.
    """
    try:
        return _converted(info, value)
    except RecursionError:
        failed = ValueError(_TOO_DEEP)
    except ValueError as error:
        try:
            failed = ValueError(scrub(str(error), _possible_secrets(value, always=info.secret)))
        except RecursionError:
            failed = ValueError(_TOO_DEEP)
    raise failed


_TOO_DEEP = "a value that is nested less deeply"


def _possible_secrets(value: object, *, always: bool) -> tuple[str, ...]:
    """Return the texts in a value that an error must not quote: all of them if the setting is secret."""
    if isinstance(value, Secret):
        return (value.reveal(), trimmed(value.reveal()))
    if isinstance(value, str):
        return (value, trimmed(value)) if always or may_be_secret(value) else ()
    if isinstance(value, Mapping):
        # The key of a table within a table is a name, such as `qwen3*`, unless a part of it looks like a key.
        names = [key for key, item in value.items() if isinstance(item, Mapping) and isinstance(key, str)]
        value = [*(key for key in value if key not in names), *value.values()]
        value += names if always else [part for name in names for part in key_parts(name)]
    if isinstance(value, (list, tuple)):
        return tuple(text for item in value for text in _possible_secrets(item, always=always))
    return ()


def _converted(info: SettingInfo, value: object) -> object:
    kind, optional = without_none(info.type), type(None) in get_args(info.type)
    if isinstance(value, Secret) and not info.secret:
        value = value.reveal()  # from a reference
    if isinstance(value, str) and not info.secret:
        value = trimmed(value)
    if optional and (value is None or (_can_be_off(info) and isinstance(value, str) and value.lower() == "none")):
        return None
    if info.convert is not None:
        return _convert_with(info.convert, info, value)
    if info.from_function and callable(value):
        return Secret("", read=typing.cast("Callable[[], str]", value))
    result = convert_to(kind, value)
    if isinstance(result, Secret) and info.in_header:
        return _setting_types.credential(result)
    if isinstance(result, (int, float)):
        _check_range(info, result, value)
    return result


def _check_range(info: SettingInfo, number: float, value: object) -> None:
    given = _setting_types.safe_repr(value)
    if info.minimum is not None and (number < info.minimum or (number == 0 and _can_be_off(info))):
        least = f"of at least {info.minimum:g}" if info.minimum > 0 or not _can_be_off(info) else "above 0"
        off = ", or none to turn it off," if _can_be_off(info) else ","
        raise ValueError(f"a number {least}{off} not {given}")
    if info.maximum is not None and number > info.maximum:
        raise ValueError(f"a number of at most {info.maximum:g}, not {given}")


def _convert_with(function: Callable[[object], object], info: SettingInfo, value: object) -> object:
    """Call a plugin's function."""
    try:
        return function(value)
    except (TrunklineError, ValueError, RecursionError):  # the last one is of the value: see `convert`
        raise
    except Exception as error:
        name = f"{function.__module__}.{getattr(function, '__qualname__', type(function).__name__)}"
        message = f"the function {name}, which converts the setting {info.name!r}, failed: {type(error).__name__}"
        failed = _plugin_error(function.__module__, message)
    raise failed


def _plugin_error(module: str, message: str) -> PluginError:
    # Settings do not know which distribution they come from; that of a module usually has the same name.
    return PluginError(message, distribution=module.partition(".")[0].replace("_", "-"))


def settings_by_group(cls: type[BaseSettings]) -> tuple[tuple[str, tuple[SettingInfo, ...]], ...]:
    """Return the settings of a class in the order of a form: each heading, and the settings under it.

    The plugin's own headings come first, then those of `GROUPS`. Settings without a heading are under "".
    """
    infos = setting_infos(cls)
    found = dict.fromkeys(info.group for info in infos)
    names = [name for name in found if name not in GROUPS] + [name for name in GROUPS if name in found]
    return tuple((name, tuple(info for info in infos if info.group == name)) for name in names)


def json_schema(cls: type[BaseSettings]) -> JSONObject:
    """Return the JSON Schema (draft 2020-12) of a table in a configuration file, with what a form shows.

    For the settings of a provider, it is that of a service's table without `provider`; for those of an extension, that
    of a table in `extensions` without `name`. Unlike the library, it requires `default_model` if `needs_model` is set:
    a service opens without it, but then each request must name a model. It also requires settings with
    `form_required`.
    """
    groups = settings_by_group(cls)
    infos = [info for _, under in groups for info in under]
    required = [info.name for info in infos if info.required or info.form_required]
    title = cls.belongs_to()[1]
    every = _setting_schemas.requirements(infos)
    more: dict[str, JSONValue] = {}
    if issubclass(cls, Settings):
        title = cls.display_name or title
        if cls.needs_model and cls.model_elsewhere is None:
            required.append("default_model")
        infos = [_with_examples(info, cls.model_examples) if info.name == "default_model" else info for info in infos]
        every += [*cls.schema_rules, *_setting_schemas.model_rules(cls.model_elsewhere if cls.needs_model else None)]
        more = {"oneOf": _setting_schemas.choice(cls.alternatives)} if cls.alternatives else {}
    if every:
        more["allOf"] = every
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        "type": "object",
        "properties": {
            info.name: {
                **_setting_schemas.property_schema(info, required=info.name in required),
                "propertyOrder": number,
            }
            for number, info in enumerate(infos, 1)
        },
        "required": required,
        "additionalProperties": False,
        **more,
        "x-groups": [name for name, _ in groups if name],
        "$defs": _setting_schemas.DEFINITIONS,
    }


def _with_examples(info: SettingInfo, examples: Sequence[object]) -> SettingInfo:
    return attrs.evolve(info, examples=tuple(examples) or info.examples)

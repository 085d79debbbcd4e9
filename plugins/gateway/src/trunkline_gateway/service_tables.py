"""The tables of services: what the console sends, what is stored, and what is shown."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence

import attrs
from trunkline import ConfigurationError, JSONObject, JSONValue, ProviderService
from trunkline.authoring.urls import redact_url
from trunkline.secrets import header_secrets
from trunkline.settings import BaseSettings, SettingInfo, convert, is_given, setting_error, setting_infos

from trunkline_gateway.database.services import StoredService
from trunkline_gateway.installed import find_provider

KINDS = ("fallback", "balance")
"""The keys of a table that make a service of others."""

SHORTEST_SHOWN = 12
"""The length from which the last four characters of a secret are shown."""

_NAME = re.compile(r"[._-]*[A-Za-z0-9][A-Za-z0-9._-]*")
_LONGEST_NAME = 64
_LONGEST_ALIAS = 256
_REFERENCES = ("env", "file", "keyring")
_HEADERS = "headers"
_MASK = "••••"


def is_blank(value: object) -> bool:
    """Whether a value of a form sets nothing."""
    return value is None or (isinstance(value, str) and not value.strip())


def kind_of(table: Mapping[str, object]) -> str | None:
    """Return `fallback` or `balance` for a service that is composed of others, or `None`."""
    return next((kind for kind in KINDS if not is_blank(table.get(kind))), None)


def is_composed(table: Mapping[str, object]) -> bool:
    """Whether a table makes a service of others."""
    return kind_of(table) is not None


def members_of(table: Mapping[str, object]) -> tuple[str, ...]:
    """Return the names of the members of a composed service, as far as its table is right."""
    kind = kind_of(table)
    value = table.get(kind) if kind is not None else None
    names = value if isinstance(value, (list, tuple, Mapping)) else ()
    return tuple(dict.fromkeys(name for name in names if isinstance(name, str)))


def display_name(provider: str | None, table: Mapping[str, object]) -> str:
    """Return what people call a service's provider, or what a service is composed of."""
    kind = kind_of(table)
    if kind is not None:
        return f"{kind} of {', '.join(members_of(table))}"
    found = find_provider(provider) if provider else None
    return (found.settings.display_name or found.name) if found is not None else provider or "no provider"


def hint_of(name: str) -> str:
    """Return a name that a client sent, for an error: visible, and not long."""
    shown = name if len(name) <= 100 else f"{name[:100]}…"
    return repr(shown)


def merged(stored: StoredService) -> dict[str, object]:
    """Return the table of a service with its secrets."""
    table: dict[str, object] = dict(stored.table)
    headers = dict(given) if isinstance(given := table.get(_HEADERS), Mapping) else {}
    for name, secret in stored.secrets.items():
        setting, dot, header = name.partition(".")
        if setting == _HEADERS and dot:
            headers[header] = secret
        else:
            table[name] = secret
    return {**table, _HEADERS: headers} if headers else table


# What the console sees


def hint(secret: str) -> str:
    """Return what may be shown of a secret: its last four characters, or "" if it is too short for that."""
    return secret[-4:] if len(secret) >= SHORTEST_SHOWN else ""


def shown_table(table: Mapping[str, object], secrets: Mapping[str, str] | None = None) -> dict[str, JSONValue]:
    """Return a table without secrets, for the console.

    A login in a URL is left out. The value of a header that is secret is a mask; `ServiceDraft` takes both as "not
    changed". References of a file are shown as `from env NAME`.
    """
    infos = _infos(table)
    if infos is None and not is_composed(table):  # it is not known which settings are secret
        return {"provider": str(table.get("provider") or "")}
    shown: dict[str, JSONValue] = {}
    for name, value in table.items():
        info = (infos or {}).get(name)
        if info is None or not info.secret:
            shown[name] = _shown(name, value)
    for name, secret in (secrets or {}).items():
        setting, dot, header = name.partition(".")
        info = (infos or {}).get(setting)
        if setting == _HEADERS and dot:
            others = shown.get(_HEADERS)
            shown[_HEADERS] = {**(others if isinstance(others, Mapping) else {}), header: _MASK}
        elif info is not None and not info.secret:
            shown[setting] = redact_url(secret)
    return shown


def _shown(name: str, value: object) -> JSONValue:
    reference = _reference(value)
    if reference is not None:
        return reference
    if isinstance(value, str):
        return redact_url(value) if "//" in value or "@" in value else value
    if isinstance(value, Mapping):
        return {
            str(key): _MASK if _is_secret_item(name, str(key), item) else _shown(name, item)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_shown(name, item) for item in value]
    return value if isinstance(value, (bool, int, float, type(None))) else str(value)  # dates of TOML


def _is_secret_item(setting: str, name: str, value: object) -> bool:
    # In the table of an extension, which setting is secret is known to the extension alone.
    return isinstance(value, str) and any(header_secrets({name: value})) and setting in (_HEADERS, "extensions")


def shown_secrets(table: Mapping[str, object], secrets: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return the secrets that are set, each with what may be shown of it."""
    found = {name: hint(secret) for name, secret in secrets.items()}
    for name, info in (_infos(table) or {}).items():
        value = table.get(name)
        if info.secret and name not in found and not is_blank(value):
            found[name] = _reference(value) or (hint(value) if isinstance(value, str) else "")
    return tuple(sorted(found.items()))


def _reference(value: object) -> str | None:
    """Return how a reference is shown, such as `from env NAME`. The path of a file is not shown."""
    if not isinstance(value, Mapping) or len(value) != 1:
        return None
    [(kind, place)] = value.items()
    if kind not in _REFERENCES or not isinstance(place, str):
        return None
    return f"from env {place}" if kind == "env" else f"from {kind}"


def _infos(table: Mapping[str, object]) -> dict[str, SettingInfo] | None:
    """Return the descriptions of the settings of a table's provider, or `None` if it is not installed."""
    name = table.get("provider")
    provider = find_provider(name.strip()) if isinstance(name, str) else None
    return None if provider is None else {info.name: info for info in setting_infos(provider.settings)}


# What the console sends


@attrs.frozen(kw_only=True)
class ServiceDraft:
    """A service as the console sends it, and the one that is stored under its name."""

    name: str
    table: JSONObject
    secrets: Mapping[str, str | None] = attrs.field(repr=False)
    before: StoredService | None = None

    def stored(self) -> tuple[StoredService, list[ConfigurationError]]:
        """Return the service to store, without what is blank, and the mistakes that only the console can make."""
        infos = _infos(self.table)
        errors = [
            self._error(setting, "is a reference, which only a service in a configuration file can have")
            for setting, value in self.table.items()
            if _has_reference(value)
        ]
        table: dict[str, JSONValue] = {}
        kept, entered = self._kept_secrets(infos), dict[str, str]()
        for setting, value in self.table.items():
            info = (infos or {}).get(setting)
            if info is None:
                if setting in (infos or {}) or not is_blank(value):
                    table[setting] = value.strip() if setting == "provider" and isinstance(value, str) else value
            elif info.secret:
                if isinstance(value, str) and not is_blank(value):
                    entered[setting] = value
            elif is_given(info, value):
                table[setting] = _typed(info, value)
        for setting, secret in self.secrets.items():
            info = (infos or {}).get(setting)
            if infos is not None and (info is None or not info.secret):
                if not is_blank(secret):
                    errors.append(self._error(setting, "is not a secret setting of this provider"))
            elif secret is not None:
                kept.pop(setting, None)
                entered.pop(setting, None)
                if not is_blank(secret):
                    entered[setting] = secret
        errors.extend(self._move_secrets(table, kept, entered))
        service = StoredService(name=self.name, table=table, secrets={**kept, **entered})
        return service, [*errors, *self._redirected(service, kept.keys() - entered.keys(), infos or {})]

    def _redirected(
        self, service: StoredService, kept: Collection[str], infos: Mapping[str, SettingInfo]
    ) -> Iterator[ConfigurationError]:
        """Yield an error for each stored secret that would be sent to another server than before.

        Whoever uses the console cannot read a secret. Otherwise, they could have it sent to their own server.
        """
        if self.before is None:
            return
        old, new = merged(self.before), merged(service)
        moved = [
            name
            for name, info in infos.items()
            if (server := _server(info, new.get(name, info.default))) is not None
            and server != _server(info, old.get(name, info.default))
        ]
        moved += sorted(f"{_HEADERS}.{name}" for name, _ in _routes(old).items() ^ _routes(new).items())
        for name in sorted(kept) if moved else ():
            yield self._error(name, f"has to be entered again, since {moved[0]} leads to another server")

    def _is_other_provider(self) -> bool:
        return self.before is None or _text(self.before.table, "provider") != _text(self.table, "provider")

    def _kept_secrets(self, infos: Mapping[str, SettingInfo] | None) -> dict[str, str]:
        """Return the stored secrets of secret settings. Those of another provider must not be sent to this one."""
        if self.before is None or infos is None or self._is_other_provider():
            return {}
        return {name: secret for name, secret in self.before.secrets.items() if name in infos and infos[name].secret}

    def _move_secrets(
        self, table: dict[str, JSONValue], kept: dict[str, str], entered: dict[str, str]
    ) -> Iterator[ConfigurationError]:
        """Move secrets in other settings out of the table: logins in URLs, and headers such as `Authorization`.

        What the console was shown in their place keeps the secret that is stored. Yields an error if none is.
        """
        before = {} if self.before is None or self._is_other_provider() else dict(self.before.secrets)
        for setting, value in list(table.items()):
            if isinstance(value, str):
                if setting in before and redact_url(before[setting]) == value:
                    kept[setting] = before[setting]
                elif _has_login(value):
                    entered[setting] = value
                else:
                    continue
                del table[setting]
        headers = table.get(_HEADERS)
        if not isinstance(headers, Mapping):
            return
        others: dict[str, JSONValue] = {}
        for header, value in headers.items():
            key = f"{_HEADERS}.{header}"
            if value == _MASK and key in before:
                kept[key] = before[key]
            elif value == _MASK:
                yield self._error(key, "has to be entered, since none is stored for this provider")
            elif isinstance(value, str) and any(header_secrets({header: value})):
                entered[key] = value
            else:
                others[header] = value
        if others:
            table[_HEADERS] = others
        else:
            del table[_HEADERS]

    def form_errors(self, service: StoredService, errors: Sequence[ConfigurationError]) -> Iterator[ConfigurationError]:
        """Yield an error for each setting that a form requires and that is not set, unless there is one already."""
        table = merged(service)
        wrong = {single.setting for error in errors for single in (error.errors or (error,))}
        for name, info in (_infos(table) or {}).items():
            if info.form_required and name not in table and name not in wrong:
                yield self._error(name, f"({info.label}) is required")

    def secret_errors(self, service: ProviderService) -> Iterator[ConfigurationError]:
        """Yield an error for each secret in the table of an extension, which would be stored in clear."""
        for extension in service.settings.extensions:
            if isinstance(extension, BaseSettings) and extension.secrets():
                text = "holds a secret of an extension, which only a service in a configuration file can have"
                yield self._error("extensions", text)

    def _error(self, setting: str, problem: str) -> ConfigurationError:
        return setting_error(setting, problem, service=self.name)


def _text(table: Mapping[str, object], name: str) -> str | None:
    value = table.get(name)
    return value.strip() if isinstance(value, str) else None


def _server(info: SettingInfo, value: object) -> str | None:
    """Return the scheme, host and port of a setting that is a URL, or `None`."""
    if not isinstance(value, str) or is_blank(value):
        return None
    try:
        url = convert(info, value)  # which adds the scheme, if none is needed
        if info.base_url is not None:
            url = info.base_url(value)[0]
    except (ValueError, ConfigurationError):  # reported together with the other mistakes
        return value if info.base_url is not None else None
    scheme, found, rest = url.partition("://") if isinstance(url, str) else ("", "", "")
    if not found:
        return None
    authority = re.split(r"[/?#\\]", rest, maxsplit=1)[0]
    return f"{scheme}://{authority.rpartition('@')[2]}".lower()


_ROUTING = re.compile(r"host|forward|upstream|target|route|proxy|config|url|endpoint", re.IGNORECASE)


def _routes(table: Mapping[str, object]) -> dict[str, str]:
    """Return the headers by which a proxy or a server may choose where a request goes, such as `Host`."""
    headers = table.get(_HEADERS)
    items = headers.items() if isinstance(headers, Mapping) else ()
    return {
        str(name).lower(): value
        for name, value in items
        if isinstance(value, str) and (_ROUTING.search(str(name)) or "://" in value)
    }


def _typed(info: SettingInfo, value: JSONValue) -> JSONValue:
    """Return the number or truth value that a form sent as text. Other values are returned unchanged."""
    try:
        converted = convert(info, value)
    except ValueError:  # reported together with the other mistakes
        return value
    if isinstance(converted, (bool, int, float)):
        return converted
    return value


def _has_reference(value: object) -> bool:
    if _reference(value) is not None:
        return True
    items = value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else ()
    return any(_has_reference(item) for item in items)


_LOGIN = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*:)?(?://)?[^/?#@\s]*:[^/?#@\s]*@[^/?#@\s]+")


def _has_login(text: str) -> bool:
    return _LOGIN.match(text.strip()) is not None


def name_problem(name: str, aliases: Collection[str]) -> str | None:
    """Return what is wrong with the name of a service, beside these aliases, or `None`."""
    if not _NAME.fullmatch(name) or len(name) > _LONGEST_NAME:
        return f"the name of a service may have letters from A to Z, digits, - _ and . only, at most {_LONGEST_NAME}"
    if any(alias == name or alias.startswith(f"{name}/") for alias in aliases):
        return "the name of a service is used by an alias; choose another one, or delete the alias"
    return None


def check_alias(name: str, target: str, services: Collection[str]) -> None:
    """Raise `ConfigurationError` for a name or a target that an alias cannot have."""
    problem, setting = None, "name"
    if is_blank(name) or name.strip() != name or not name.isprintable() or len(name) > _LONGEST_ALIAS:
        problem = f"an alias must be visible text of at most {_LONGEST_ALIAS} characters, without spaces around it"
    elif name.partition("/")[0] in services:
        problem = f"the alias {name!r} would hide a service or a model of it; choose another name"
    else:
        service, slash, model = target.partition("/")
        setting = "target"
        if service not in services:
            problem = f"the alias must lead to service/model, and there is no service {service!r}"
        elif (slash and not model) or not target.isprintable() or target.strip() != target:
            problem = "the alias must lead to service/model, or to a service"
    if problem is not None:
        single = ConfigurationError(problem, setting=setting)
        raise ConfigurationError(problem, setting=setting, errors=[single])

"""Extensions with settings, and several extensions in one service."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest
from trunkline import (
    Call,
    ChatRequest,
    ChatResponse,
    ConfigurationError,
    Middleware,
    Observer,
    PluginError,
    hookimpl,
    open_service,
    open_services,
)
from trunkline._config.sources import make_settings
from trunkline._http.choice import HTTPTransports
from trunkline._plugins.registry import EXTENSIONS, PROVIDERS, load_extension
from trunkline.authoring.auth import HeaderAuth
from trunkline.authoring.extension import ExtensionSettings
from trunkline.provider_service import ProviderService
from trunkline.service import Service
from trunkline.settings import json_schema, path_setting, setting_infos, settings
from trunkline.testing import Exchange, serve

from .conftest import ToySettings, make_toy

CORP = """
    from collections.abc import Iterator
    from typing import Any
    from trunkline import Secret, hookimpl
    from trunkline.authoring.extension import Extension, ExtensionSettings
    from trunkline.settings import path_setting, setting, settings, url_setting

    made = []

    @settings
    class CorpSettings(ExtensionSettings):
        extension = "corp"
        token_url: str = url_setting("Token URL", "Where the tokens come from.", environment=("CORP_TOKEN_URL",))
        secret: Secret | None = setting("Secret", "The key.", default=None, environment=("CORP_SECRET",))
        header: str = setting("Header", "The header to send it in.", default="x-corp")
        level: int = setting("Level", "How much.", default=1, minimum=1)
        key_file: str | None = path_setting("Key file", "A file.", default=None)

        def problems(self):
            if self.level == 13:
                yield "level", "must not be 13"

    class Corp:
        def __init__(self, settings):
            made.append(settings)
            self.settings = settings

        @hookimpl(wrapper=True)
        def trunkline_auth(self, context):
            auth = yield
            if self.settings.header == "x-broken":
                raise ZeroDivisionError(self.settings.secret.reveal())
            sign, header = auth.sign, {self.settings.header: self.settings.secret.reveal()}
            auth.sign = lambda wire_request, credentials: sign(wire_request.with_headers(header), credentials)
            return auth

    def make(settings):
        if settings.header == "x-unmakeable":
            raise ZeroDivisionError(settings.secret.reveal())
        return Corp(settings)

    extension = Extension(name="corp", settings=CorpSettings, make=make)
    other = Extension(name="other", settings=CorpSettings, make=make)
    unsettled = Extension(name="unsettled", settings=int, make=make)

    @settings
    class NamedSettings(ExtensionSettings):
        extension = "named"
        name: str = setting("Name", "It is reserved.")

    named = Extension(name="named", settings=NamedSettings, make=make)

    class Watch:
        @hookimpl
        def trunkline_observer(self, context):
            from trunkline import Observer
            return Observer()

    watch, look = Watch(), Watch()

    class Stranger:
        @hookimpl
        def trunkline_observer(self, context, weather):
            return None

    stranger = Stranger()
    idle = object()
"""

SECRET = "corp-secret-0123456789"


@pytest.fixture
def corp(install: Callable[..., None]) -> Any:
    """Install a distribution with several extensions; return the class of the settings of one of them."""
    names = ("other", "unsettled", "named", "watch", "look", "stranger", "idle")
    entry_points = {"corp": "plugin_corp:extension", **{name: f"plugin_corp:{name}" for name in names}}
    install("dist-corp", EXTENSIONS, entry_points, plugin_corp=CORP)
    extension: Any = load_extension("corp")
    return extension.settings


@pytest.mark.parametrize("blank", ["", " \n", "\ufeff\u200b", None])
def test_blank_setting_of_an_extension_is_unset_in_every_source(corp: Any, blank: Any, tmp_path: Path) -> None:
    (tmp_path / "blank").write_text(blank or "")
    lower = {"secret": SECRET, "header": "x-other", "level": "7", "key_file": "/key", "token_url": "https://t.example"}
    own = {f"TRUNKLINE_MAIN_CORP_{name.upper()}": text for name, text in lower.items()}
    references = {
        "secret": {"file": str(tmp_path / "blank")},
        "header": {"env": "BLANK"},
        "token_url": {"env": "BLANK"},
    }
    for given in (dict.fromkeys(lower, blank), references):
        (extension,) = made({"name": " corp\n", **given}, environ={**own, "BLANK": blank or ""}).extensions
        assert extension == corp(
            token_url="https://t.example", secret=SECRET, header="x-other", level=7, key_file="/key"
        )
    blanks = dict.fromkeys(own, blank or "")
    (extension,) = made("corp", environ={**blanks, "CORP_TOKEN_URL": "https://t.example"}).extensions
    assert extension == corp(token_url="https://t.example", header=blank, level=blank)
    with pytest.raises(ConfigurationError, match=r"extension 'corp': setting 'token_url' \(Token URL\) is required"):
        made(table(token_url=blank), environ=blanks)


def test_extension_and_service_do_not_share_a_variable(corp: Any) -> None:
    environ = {"TRUNKLINE_A_CORP_LEVEL": "5", "TRUNKLINE_A_CORP_TOKEN_URL": "https://t.example", "OPENAI_API_KEY": "k"}
    service = {"provider": "openai", "extensions": ["corp", "corp"]}
    open_services({"services": {"a": service}}, environ=environ)
    with pytest.raises(ConfigurationError) as caught:
        open_services(
            {"services": {"a": service, "a-corp": {"provider": "openai", "extensions": ["corp"]}, "A": service}},
            environ=environ,
        )
    assert "the service 'a', extension 'corp' and the setting 'level' of the service 'A', extension" in str(
        caught.value
    )


def table(**values: object) -> dict[str, object]:
    return {"name": "corp", "token_url": "https://corp.example/token", "secret": SECRET, **values}


def made(*extensions: object, environ: dict[str, str] | None = None, **values: object) -> ToySettings:
    arguments = {"url": "http://x.example", "default_model": "m", **values, "extensions": list(extensions)}
    found = make_settings("main", make_toy(), arguments=arguments, environ=environ or {})
    assert isinstance(found, ToySettings)
    return found


def service(settings: ToySettings) -> Service:
    return ProviderService("main", make_toy(), settings, transports=HTTPTransports(None))


async def well(exchange: Exchange) -> None:
    await exchange.respond(b'{"text":"well"}')


# Settings of extensions


@pytest.mark.anyio
async def test_extension_is_made_from_the_settings_in_its_table(corp: Any) -> None:
    async with serve(well) as server, service(made(table(header="x-team"), url=server.url)) as opened:
        assert (await opened.chat("hi")).text == "well"
    assert server.requests[0].headers["x-team"] == SECRET


@pytest.mark.anyio
async def test_extensions_of_the_application_are_added_to_every_service_of_a_configuration(
    install: Callable[..., None],
) -> None:
    source = f"from {make_toy.__module__} import make_toy\n\nprovider = make_toy()\n"
    install("dist-toy", PROVIDERS, {"toy": "plugin_toy:provider"}, plugin_toy=source)
    seen: list[str] = []

    class Watch:
        @hookimpl
        def trunkline_observer(self, context: Any) -> Observer:
            seen.append(type(self).__name__)
            return Observer()

    class Own(Watch):
        """An extension in the settings of a service."""

    async with serve(well) as server:
        tables = {
            name: {"provider": "toy", "url": server.url, "default_model": "m", "extensions": extensions}
            for name, extensions in (("one", [Own()]), ("two", []))
        }
        async with open_services({"services": tables}, environ={}, extensions=[Watch()]) as opened:
            for one in opened.values():
                assert (await one.chat("hi")).text == "well"
    assert sorted(seen) == ["Own", "Watch", "Watch"]


def test_settings_come_from_the_table_then_the_environment_then_the_defaults(corp: Any) -> None:
    environ = {
        "TRUNKLINE_MAIN_CORP_TOKEN_URL": "https://service.example",
        "CORP_TOKEN_URL": "https://own.example",
        "CORP_SECRET": SECRET,
    }
    [found] = made("corp", environ=environ).extensions
    assert found == corp(token_url="https://service.example", secret=SECRET)
    [found] = made({"name": "corp", "token_url": "https://table.example"}, environ=environ).extensions
    assert found == corp(token_url="https://table.example", secret=SECRET)
    [found] = made("corp", environ={"CORP_TOKEN_URL": "https://own.example"}).extensions
    assert found == corp(token_url="https://own.example")


def test_references_and_paths_are_resolved_as_those_of_a_provider(corp: Any, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET + "\n", encoding="utf-8")
    for reference in ({"file": "secret"}, {"env": "VARIABLE"}):
        given = {"url": "http://x.example", "extensions": [table(secret=reference, key_file="key.pem")]}
        found: Any = make_settings(
            "main", make_toy(), arguments={}, table=given, environ={"VARIABLE": SECRET}, folder=tmp_path
        )
        assert found.extensions[0].secret.reveal() == SECRET
        assert found.extensions[0].key_file == str(tmp_path / "key.pem")


@pytest.mark.parametrize("text", ['["watch", {"name": "corp", "token_url": "https://a.example"}]', " watch, corp "])
def test_environment_variable_has_names_or_a_list_in_json(corp: Any, text: str) -> None:
    environ = {"TRUNKLINE_EXTENSIONS": text, "CORP_TOKEN_URL": "https://a.example"}
    found = make_settings("main", make_toy(), arguments={"url": "http://x.example"}, environ=environ)
    assert found.extensions == ("watch", corp(token_url="https://a.example"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"token_url": "no url"}, "setting 'token_url' must be"),
        ({"level": 0}, "setting 'level' must be a number of at least 1, not 0"),
        ({"level": 13}, "setting 'level' must not be 13"),
        ({"secret": {"env": "NOWHERE"}}, "setting 'secret' refers to the environment variable NOWHERE"),
        ({"hedder": "x"}, "setting 'hedder' does not exist; did you mean 'header'"),
        ({"token_url": None}, "TRUNKLINE_MAIN_CORP_TOKEN_URL or CORP_TOKEN_URL"),
    ],
)
def test_mistake_in_the_settings_of_an_extension_is_reported_as_a_provider_s_is(
    corp: Any, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        made(table(**changes))
    assert str(caught.value).startswith("service 'main', extension 'corp': setting")
    assert message in str(caught.value)
    assert caught.value.service == "main"
    assert SECRET not in str(caught.value)


def test_mistakes_of_a_provider_and_of_its_extensions_are_reported_together(corp: Any) -> None:
    with pytest.raises(ConfigurationError, match="4 settings are wrong") as caught:
        made(table(level=0, hedder=SECRET), "ghost", max_retries=-1)
    for word in ("'level'", "'hedder'", "'ghost'", "'max_retries'"):
        assert word in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "extensions", [[{"token_url": "x"}], [{"name": 3}], [{"name": "corp", 3: 4}], 5, [5], [True], [None], [["corp"]]]
)
def test_list_of_extensions_of_another_form_is_refused(corp: Any, extensions: object) -> None:
    with pytest.raises(ConfigurationError, match="setting 'extensions' must be a list"):
        make_settings("main", make_toy(), arguments={"url": "http://x.example", "extensions": extensions}, environ={})


@pytest.mark.parametrize("text", ['[{"name": "corp"', '["corp",]', '{"name"'])
def test_variable_with_broken_json_is_refused_as_such(corp: Any, text: str) -> None:
    with pytest.raises(
        ConfigurationError, match="setting 'extensions' must be names between commas, or a list in JSON"
    ):
        made_from = {"TRUNKLINE_MAIN_EXTENSIONS": text}
        make_settings("main", make_toy(), arguments={"url": "http://x.example"}, environ=made_from)


def test_settings_for_an_extension_without_settings_are_refused(corp: Any) -> None:
    with pytest.raises(ConfigurationError, match="extension 'watch': setting 'level' does not exist"):
        made({"name": "watch", "level": 3})
    assert made({"name": "watch"}).extensions == ("watch",)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("other", "has several names ('corp', 'other')"),
        ("unsettled", "must have a subclass of trunkline.authoring.extension.ExtensionSettings as its settings"),
        ("named", "has a setting called 'name'"),
    ],
)
def test_broken_extension_is_an_error_at_once(corp: Any, name: str, message: str) -> None:
    with pytest.raises(PluginError) as caught:
        made(name)
    assert message in str(caught.value)
    assert (caught.value.distribution, caught.value.service) == ("dist-corp", "main")


def test_settings_object_takes_names_tables_and_settings_of_extensions(
    corp: Any, install: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CORP_TOKEN_URL", "https://own.example")
    install("dist-toy", PROVIDERS, {"toy": "plugin_toy:provider"}, plugin_toy="provider = None")
    monkeypatch.setattr("trunkline.opening.load_provider", lambda name: make_toy())
    own = corp(token_url="https://code.example", secret=SECRET)
    opened = open_service(ToySettings(url="http://x.example", extensions=["corp", table(level=2), own, "watch"]))
    assert opened.settings.extensions == (
        corp(token_url="https://own.example"),
        corp(token_url="https://corp.example/token", secret=SECRET, level=2),
        own,
        "watch",
    )
    with pytest.raises(ConfigurationError, match="service 'main', extension 'corp': setting 'level'"):
        open_service(ToySettings(url="http://x.example", extensions=[table(level=0)]), name="main")


def test_secrets_of_extensions_are_known_and_never_shown(corp: Any) -> None:
    unchecked = ToySettings(url="http://x.example", extensions=[table()])
    checked = made(table())
    assert SECRET in checked.secrets()
    assert SECRET not in repr(checked)
    assert SECRET not in repr(unchecked)


def test_notes_on_the_settings_of_extensions_name_the_extension(corp: Any) -> None:
    [(name, note)] = made(table(token_url="http://corp.example")).notes()
    assert name == "corp.token_url"
    assert "unencrypted" in note or "plain" in note


def test_json_schema_of_an_extension_has_its_settings_alone(corp: Any) -> None:
    schema: Any = json_schema(corp)
    assert schema["title"] == "corp"
    assert set(schema["properties"]) == {"token_url", "secret", "header", "level", "key_file"}
    assert schema["required"] == ["token_url"]


@pytest.mark.anyio
@pytest.mark.parametrize("header", ["x-unmakeable", "x-broken"])
async def test_error_of_an_extension_names_it_and_hides_its_secrets(corp: Any, header: str) -> None:
    async with service(made(table(header=header))) as opened:
        with pytest.raises(PluginError, match="the extension 'corp' of dist-corp failed") as caught:
            await opened.chat("hi")
    assert SECRET not in str(caught.value)
    assert "***" in str(caught.value)
    assert caught.value.distribution == "dist-corp"


@pytest.mark.anyio
async def test_settings_of_a_class_that_the_installed_extension_does_not_have_are_refused(
    corp: Any, install: Callable[..., None]
) -> None:
    install("dist-old", EXTENSIONS, {"old": "plugin_old:extension"}, plugin_old=CORP.replace('"corp"', '"old"'))

    foreign = type("CorpSettings", (corp,), {"extension": "old"})(token_url="https://a.example")
    async with service(made(foreign)) as opened:
        with pytest.raises(PluginError, match="the extension 'old' of dist-old takes CorpSettings, not"):
            await opened.chat("hi")


# Several extensions in one service


@pytest.mark.anyio
async def test_several_extensions_of_one_distribution_and_instances_of_one_class_work_together(corp: Any) -> None:
    seen: list[str] = []

    @attrs.frozen
    class Note(Observer):
        """Its instances are equal, which pluggy refuses."""

        @hookimpl
        def trunkline_observer(self, context: Any) -> Observer:
            return self

        def started(self, *arguments: object) -> None:
            seen.append("started")

    extensions = (table(header="x-a"), table(header="x-b"), "watch", "look", Note(), Note())
    async with serve(well) as server, service(made(*extensions, url=server.url)) as opened:
        await opened.chat("hi")
    assert {"x-a", "x-b"} <= set(server.requests[0].headers)
    assert seen == ["started", "started"]


def test_extension_is_made_once_for_all_event_loops_of_a_service(corp: Any) -> None:
    import plugin_corp  # type: ignore[import-not-found]

    opened = service(made(table()))
    for backend in ("asyncio", "trio"):
        anyio.run(opened.authenticate, backend=backend)
    assert len(plugin_corp.made) == 1


@pytest.mark.anyio
async def test_middlewares_of_two_instances_are_nested_in_order_and_errors_name_the_second() -> None:
    seen: list[str] = []

    @attrs.frozen
    class Step(Middleware):
        """Its instances are equal if their names are."""

        name: str

        @hookimpl
        def trunkline_middleware(self, context: Any) -> Middleware:
            return self

        async def chat(self, call: Call, request: ChatRequest, proceed: Any) -> ChatResponse:
            seen.append(self.name)
            if self.name == "b":
                raise KeyError(self.name)
            response: ChatResponse = await proceed(request)
            return response

    async with service(made(Step("a"), Step("b"))) as opened:
        with pytest.raises(PluginError, match="of Step#2 failed: KeyError"):
            await opened.chat("hi")
    assert seen == ["a", "b"]


@pytest.mark.anyio
async def test_first_extension_is_asked_first_and_wraps_the_others() -> None:
    class Step:
        def __init__(self, name: str) -> None:
            self.name = name

    class Wraps(Step):
        @hookimpl(wrapper=True)
        def trunkline_auth(self, context: Any) -> Any:
            auth = yield
            sign = auth.sign
            auth.sign = lambda wire_request, credentials: sign(wire_request, credentials).with_headers(
                {"x-path": self.name + sign(wire_request, credentials).headers.get("x-path", "")}
            )
            return auth

    class Overrides(Step):
        @hookimpl
        def trunkline_auth(self, context: Any) -> Any:
            return HeaderAuth("authorization", self.name, prefix="")

        @hookimpl
        def trunkline_observer(self, context: Any) -> Observer:
            observer = Observer()
            observer.finished = lambda *_: seen.append(self.name)  # type: ignore[method-assign]
            return observer

    seen: list[str] = []
    extensions = (Wraps("a"), Wraps("b"), Overrides("c"), Overrides("d"))
    async with serve(well) as server, service(made(*extensions, url=server.url)) as opened:
        await opened.chat("hi")
    headers = server.requests[0].headers
    assert headers["x-path"] == "ab"
    assert headers["authorization"] == "c"
    assert seen == ["c", "d"]


def test_error_names_the_entry_if_several_have_the_same_name(corp: Any) -> None:
    entries = [{"name": "corp", "token_url": "https://a.example"}, "watch", {"name": "corp", "token_url": "no url"}]
    with pytest.raises(ConfigurationError, match=r"extension 'corp' \(extensions\[2\]\): setting 'token_url' must be"):
        make_settings("main", make_toy(), arguments={"url": "http://x.example", "extensions": entries}, environ={})


@pytest.mark.anyio
async def test_wrapper_that_returns_nothing_is_named() -> None:
    class Forgetful:
        @hookimpl(wrapper=True)
        def trunkline_auth(self, context: Any) -> Any:
            yield

    class Polite:
        @hookimpl(wrapper=True)
        def trunkline_auth(self, context: Any) -> Any:
            return (yield)

    async with service(made(Polite(), Forgetful())) as opened:
        with pytest.raises(PluginError, match="wrapper of the hook trunkline_auth of Forgetful returned nothing"):
            await opened.chat("hi")


@pytest.mark.anyio
async def test_uninstalled_provider_is_not_taken_for_an_installed_one_of_its_name(install: Callable[..., None]) -> None:
    install("dist-toy", PROVIDERS, {"toy": "plugin_toy:provider"}, plugin_toy="provider = None")

    def fails(context: Any) -> Any:
        raise KeyError

    settings = made()
    async with ProviderService("main", make_toy(auth=fails), settings, transports=HTTPTransports(None)) as opened:
        with pytest.raises(PluginError, match="of toy failed: KeyError") as caught:
            await opened.chat("hi")
    assert caught.value.distribution == "toy"


@pytest.mark.anyio
async def test_extension_that_is_listed_twice_is_refused(corp: Any) -> None:
    async with service(made("watch", "look", "watch")) as opened:
        with pytest.raises(PluginError, match=r"the extension 'watch' of dist-corp .* is listed twice") as caught:
            await opened.chat("hi")
    assert "(the entry point plugin_corp:watch)" in str(caught.value)


@pytest.mark.anyio
async def test_broken_extension_is_named_with_its_class() -> None:
    class Idle:
        pass

    async with service(made(Idle())) as opened:
        with pytest.raises(PluginError, match=r"Idle \(the class \S+\.Idle\) cannot be used"):
            await opened.chat("hi")


def test_path_setting_without_default_is_required() -> None:
    @settings
    class NeedsFile(ExtensionSettings):
        extension = "needs-file"
        file: str = path_setting("File", "A file.")

    assert [info.required for info in setting_infos(NeedsFile)] == [True]


@pytest.mark.anyio
async def test_provider_that_is_not_installed_is_named_by_its_name() -> None:
    def fails(context: Any) -> Any:
        raise KeyError

    async with open_service(make_toy(auth=fails, name="own"), url="http://x.example", default_model="m") as opened:
        with pytest.raises(PluginError, match="of own failed: KeyError"):
            await opened.chat("hi")


@pytest.mark.anyio
async def test_second_instance_of_a_class_has_a_number_in_errors(corp: Any) -> None:
    class Fails:
        def __init__(self, error: type[Exception] | None) -> None:
            self._error = error

        @hookimpl
        def trunkline_observer(self, context: Any) -> None:
            if self._error is not None:
                raise self._error

    async with service(made(Fails(None), Fails(KeyError))) as opened:
        with pytest.raises(PluginError, match="of Fails#2 failed: KeyError"):
            await opened.chat("hi")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("stranger", "Argument(s) {'weather'} are declared in the hookimpl but can not be found in the hookspec"),
        ("idle", "an object without any hook would do nothing"),
    ],
)
async def test_extension_that_cannot_be_used_is_reported_in_one_line(corp: Any, name: str, message: str) -> None:
    async with service(made("watch", name)) as opened:
        with pytest.raises(PluginError) as caught:
            await opened.chat("hi")
    text = str(caught.value)
    named = f"the extension {name!r} of dist-corp (the entry point plugin_corp:{name})"
    assert text.startswith(f"service 'main': {named} cannot be used: ")
    assert message in text
    assert "\n" not in text
    assert "0x" not in text  # no object of pluggy's table of plugins


@pytest.mark.anyio
async def test_extension_object_in_place_of_its_settings_is_refused_with_advice(corp: Any) -> None:
    async with service(made(load_extension("corp"))) as opened:
        with pytest.raises(PluginError, match=r"it has settings; pass them in its place: CorpSettings\("):
            await opened.chat("hi")

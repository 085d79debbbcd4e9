"""Discovery: what is asked for is imported and nothing else; a broken plugin is named and stops no other."""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import version
from types import ModuleType
from typing import Any

import attrs
import pytest
from trunkline import ConfigurationError, PluginError, ProviderNotFound, hookimpl, open_service, open_services
from trunkline._plugins import registry
from trunkline._plugins.registry import EXTENSIONS, PROVIDERS, check_hooks, installed, load_extension, load_provider
from trunkline.authoring.provider import Operations, Provider
from trunkline.testing import Exchange, serve

from .conftest import make_toy

GOOD = """
    from trunkline import Settings, Text, ChatResponse, FinishReason
    from trunkline.authoring.provider import Provider, Translation
    from trunkline.authoring.wire import WireRequest
    from trunkline.authoring.framing import JSONLinesFramer
    from trunkline.authoring.auth import NoAuth
    from trunkline.settings import setting, settings

    @settings
    class {cls}Settings(Settings):
        provider = "{name}"
        url: str = setting("URL", "Where it is.")

    class Translator:
        def __init__(self, context):
            self.url = context.settings.url
        def translate(self, request, *, stream):
            return Translation(wire_request=WireRequest(url=self.url, body=b"{{}}"))

    class Parser:
        def stream(self):
            return JSONLinesFramer(), self
        def body(self, wire_response):
            return ChatResponse(parts=(Text(text=wire_response.body.decode()),), finish_reason=FinishReason.STOP)
        def error(self, wire_response):
            raise AssertionError

    provider = Provider(
        name="{name}", settings={cls}Settings, auth=lambda context: NoAuth(),
        translator=Translator, response_parser=lambda context: Parser(),
    )
"""


def good(name: str) -> str:
    return GOOD.format(name=name, cls=name.title().replace("-", ""))


@pytest.fixture
def crowd(install: Callable[..., None]) -> None:
    """One good provider among broken ones."""
    install("dist-good", PROVIDERS, {"fine": "plugin_fine:provider"}, plugin_fine=good("fine"))
    install("dist-raises", PROVIDERS, {"raises": "plugin_raises:provider"}, plugin_raises="raise OSError('no disk')")
    install("dist-missing", PROVIDERS, {"missing": "plugin_missing:provider"}, plugin_missing="")
    install("dist-other", PROVIDERS, {"other": "plugin_other:provider"}, plugin_other="provider = 1")
    install("dist-named", PROVIDERS, {"named": "plugin_named:provider"}, plugin_named=good("something"))
    install("dist-twice-a", PROVIDERS, {"twice": "plugin_twice:provider"}, plugin_twice=good("twice"))
    install("dist-twice-b", PROVIDERS, {"twice": "plugin_twice:provider"})
    misspelt = good("misspelt") + (
        "\n    from trunkline import hookimpl"
        "\n    class Wrong(Provider):"
        "\n        @hookimpl"
        "\n        def trunkline_authh(self, context):"
        "\n            return None"
        "\n    provider = Wrong("
        "\n        name='misspelt', settings=MisspeltSettings, auth=None, translator=None, response_parser=None)"
    )
    install("dist-misspelt", PROVIDERS, {"misspelt": "plugin_misspelt:provider"}, plugin_misspelt=misspelt)
    unmarked = misspelt.replace("@hookimpl", "").replace("authh", "observer").replace("misspelt", "unmarked")
    unmarked = unmarked.replace("Misspelt", "Unmarked")
    install("dist-unmarked", PROVIDERS, {"unmarked": "plugin_unmarked:provider"}, plugin_unmarked=unmarked)


BROKEN = [
    ("raises", "dist-raises", "OSError: no disk"),
    ("missing", "dist-missing", "provider"),
    ("other", "dist-other", "is a int"),
    ("named", "dist-named", "'something'"),
    ("twice", "dist-twice-a, dist-twice-b", "uninstall all but one"),
    ("misspelt", "dist-misspelt", "trunkline_authh, which is not a hook"),
    ("unmarked", "dist-unmarked", "trunkline_observer, which would never be called"),
]


@pytest.mark.usefixtures("crowd")
@pytest.mark.parametrize(("name", "distribution", "message"), BROKEN)
def test_broken_provider_raises_an_error_with_its_distribution(name: str, distribution: str, message: str) -> None:
    with pytest.raises(PluginError, match=message) as caught:
        load_provider(name)
    assert caught.value.distribution == distribution
    assert distribution.split(", ")[0] in str(caught.value)


@pytest.mark.parametrize(
    ("requirement", "stated"),
    [
        ("trunkline>=99.1,<99.2", ">=99.1,<99.2"),
        ("trunkline<99.2,>=99.1", "<99.2,>=99.1"),
        ("trunkline[cli] (>=99.1)", ">=99.1"),
        ("Trunkline ~= 99.1.0", "~= 99.1.0"),
        ("trunkline==99.*", "==99.*"),
    ],
)
@pytest.mark.parametrize("source", ["from trunkline import NotYetThere", "provider = NotYetThere(", good("newer")])
def test_plugin_that_needs_a_newer_core_says_so(install: Any, requirement: str, stated: str, source: str) -> None:
    requires = ["attrs>=99", requirement]
    install("dist-newer", PROVIDERS, {"newer": "plugin_newer:provider"}, requires, plugin_newer=source)
    with pytest.raises(PluginError) as caught:
        open_service("newer", url="http://localhost")
    assert str(caught.value) == (
        f"the provider 'newer' of the distribution 'dist-newer' 1.0 needs trunkline{stated}, "
        f"and {version('trunkline')} is installed: pip install -U trunkline"
    )
    assert caught.value.distribution == "dist-newer"


@pytest.mark.parametrize(
    "requirement",
    [
        "trunkline",
        "trunkline>=0.1,<0.2",
        f"trunkline=={version('trunkline')}",
        f"trunkline>={version('trunkline')}.dev1",
        "trunkline<99",
        "trunkline!=99.0",
        "trunkline>=99; extra == 'next'",
        "trunkline-openai>=99",
    ],
)
def test_plugin_that_this_core_satisfies_is_loaded(install: Any, requirement: str) -> None:
    install("dist-fits", PROVIDERS, {"fits": "plugin_fits:provider"}, [requirement], plugin_fits=good("fits"))
    assert load_provider("fits").name == "fits"


@pytest.mark.anyio
async def test_hook_of_a_newer_core_is_ignored_if_it_is_optional(toy: Any) -> None:
    class Optional:
        @hookimpl(optionalhook=True)
        def trunkline_not_yet_there(self, context: Any) -> None:
            raise AssertionError("nobody calls this")

    class Required:
        @hookimpl
        def trunkline_not_yet_there(self, context: Any) -> None: ...

    async def handler(exchange: Exchange) -> None:
        await exchange.respond(b'{"text":"hello"}')

    async with serve(handler) as server:
        async with toy(server.url, extensions=[Optional()]) as service:
            assert (await service.chat("hi")).text == "hello"
        async with toy(server.url, extensions=[Required()]) as service:
            with pytest.raises(PluginError, match="trunkline_not_yet_there, which is not a hook"):
                await service.chat("hi")


@pytest.mark.anyio
async def test_failure_in_the_function_operations_raises_an_error_without_secrets(toy: Any) -> None:
    def operations(context: Any) -> Operations:
        raise LookupError(f"no operations for {context.settings.api_key.reveal()}")

    async with toy("http://localhost", provider={"operations": operations}, api_key="sk-0123456789") as service:
        with pytest.raises(PluginError, match=r"operations of toy failed: LookupError: no operations for \*\*\*"):
            await service.chat("hi")


class MisspeltSpecname:
    @hookimpl(specname="trunkline_aut")
    def auth(self, context: Any) -> None: ...


class MarkedObject:
    trunkline_auth = hookimpl(partial(lambda context: None))


@pytest.mark.parametrize(
    ("extension", "message"),
    [
        (MisspeltSpecname(), "trunkline_aut, which is not a hook"),
        (MarkedObject(), "trunkline_auth, which would never be called"),
    ],
)
def test_implementation_that_pluggy_ignores_raises(extension: object, message: str) -> None:
    with pytest.raises(PluginError, match=message):
        check_hooks(extension, "dist-acme")


def test_implementation_may_name_its_hook_in_specname() -> None:
    class Named:
        @hookimpl(specname="trunkline_auth")
        def trunkline_token(self, context: Any) -> None: ...

    check_hooks(Named(), "dist-acme")


def test_extension_module_may_import_a_plugin() -> None:
    module = ModuleType("acme")
    vars(module)["trunkline_openai"] = ModuleType("trunkline_openai")
    check_hooks(module, "dist-acme")


@pytest.mark.usefixtures("crowd")
@pytest.mark.anyio
async def test_a_broken_provider_stops_no_other() -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.respond(b"well")

    async with serve(handler) as server, open_service("fine", url=server.url, default_model="m") as service:
        assert (await service.chat("hi")).text == "well"


@pytest.mark.usefixtures("crowd")
def test_listing_imports_nothing() -> None:
    names = {item.name for item in installed(PROVIDERS)}
    assert {"fine", "raises", "twice"} <= names
    assert not {module for module in sys.modules if module.startswith("plugin_")}


@pytest.mark.usefixtures("crowd")
def test_opening_one_provider_imports_no_other() -> None:
    load_provider("fine")
    assert {module for module in sys.modules if module.startswith("plugin_")} == {"plugin_fine"}


@pytest.mark.usefixtures("crowd")
def test_error_for_a_missing_provider_lists_the_installed_ones() -> None:
    with pytest.raises(
        ProviderNotFound, match=r"'fin' is installed; did you mean 'fine'\? installed: .*fine"
    ) as caught:
        load_provider("fin")
    assert "pip install" not in str(caught.value)


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The core's metadata name the distributions of three providers, in its extras."""
    requirements = ["attrs>=25", "rich>=14; extra == 'cli'", "trunkline-evil; extra == 'cli'"]
    requirements += [f"trunkline-{name}; extra == '{name}'" for name in ("bedrock", "openai", "azure-openai", "otel")]
    monkeypatch.setattr(registry, "requires", lambda name: requirements)
    monkeypatch.setattr(registry, "installed", lambda group: ())
    registry._own_distributions.cache_clear()
    yield
    registry._own_distributions.cache_clear()


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("bedrock", "no provider 'bedrock' is installed (pip install trunkline-bedrock); installed: none"),
        ("bedrok", "did you mean 'bedrock'? (pip install trunkline-bedrock) installed"),
        ("opnai", "did you mean 'openai'? (pip install trunkline-openai) installed"),
        ("OpenAI", "did you mean 'openai'? (pip install trunkline-openai) installed"),
        ("azure_openai", "did you mean 'azure-openai'? (pip install trunkline-azure-openai) installed"),
        ("azure", "did you mean 'azure-openai'? (pip install trunkline-azure-openai) installed"),
        ("openai-compatible", "it may be in trunkline-openai (pip install trunkline-openai); installed"),
    ],
)
def test_error_for_a_provider_of_ours_names_its_distribution(name: str, hint: str) -> None:
    with pytest.raises(ProviderNotFound, match=re.escape(hint)):
        load_provider(name)


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize("name", ["otel", "otell"])
def test_error_for_an_extension_of_ours_names_its_distribution(name: str) -> None:
    with pytest.raises(ConfigurationError, match=r"\(pip install trunkline-otel\)"):
        load_extension(name)
    with pytest.raises(ConfigurationError, match="no extension 'openai' is installed; installed: none"):
        load_extension("openai")


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize("name", ["acme", "evil", "otel", "cli", "reqeusts", "", "x"])
def test_error_for_an_unknown_provider_suggests_no_package(name: str) -> None:
    with pytest.raises(ProviderNotFound, match="installed: none") as caught:
        load_provider(name)
    assert "pip" not in str(caught.value)


def test_known_distributions_are_those_of_the_extras_of_the_core() -> None:
    own = registry._own_distributions()
    assert {"openai": "trunkline-openai", "azure-openai": "trunkline-azure-openai"}.items() <= own.items()
    assert all(distribution == f"trunkline-{provider}" for provider, distribution in own.items())


# Extensions


class Wrapped:
    """Adds a header to what the provider's own auth does."""

    @hookimpl(wrapper=True)
    def trunkline_auth(self, context: Any) -> Any:
        auth = yield
        sign = auth.sign
        auth.sign = lambda wire_request, credentials: sign(wire_request.with_headers({"X-Wrapped": "1"}), credentials)
        return auth


@pytest.mark.anyio
async def test_an_extension_can_wrap_a_step_of_a_provider_that_it_did_not_write(toy: Any) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.respond(b'{"text":"well"}')

    async with serve(handler) as server:
        async with toy(server.url, extensions=[Wrapped()]) as service, toy(server.url) as plain:
            await service.chat("hi")
            await plain.chat("hi")
    assert ["x-wrapped" in request.headers for request in server.requests] == [True, False]


class Misspelt:
    @hookimpl
    def trunkline_oberver(self, context: Any) -> None: ...


class Unmarked:
    def trunkline_observer(self, context: Any) -> None: ...


class WrongArguments:
    @hookimpl
    def trunkline_observer(self, context: Any, call: Any) -> None: ...


class WrongType:
    @hookimpl(tryfirst=True)
    def trunkline_auth(self, context: Any) -> object:
        return "a token"


class WrongObserver:
    @hookimpl
    def trunkline_observer(self, context: Any) -> object:
        return print


class Raises:
    @hookimpl
    def trunkline_observer(self, context: Any) -> object:
        raise ZeroDivisionError


@pytest.mark.anyio
@pytest.mark.parametrize("extension", [Misspelt, Unmarked, WrongArguments, WrongType, WrongObserver, Raises])
async def test_a_broken_extension_fails_the_services_that_name_it_and_no_other(toy: Any, extension: type) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.respond(b'{"text":"well"}')

    async with serve(handler) as server:
        async with toy(server.url, extensions=[extension()]) as service, toy(server.url) as plain:
            with pytest.raises(PluginError, match=extension.__name__):
                await service.chat("hi")
            assert (await plain.chat("hi")).text == "well"
        assert len(server.requests) == 1


@pytest.mark.anyio
async def test_an_extension_is_loaded_by_name_and_a_broken_one_is_named(install: Any) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.respond(b"well")

    install("dist-fine", PROVIDERS, {"fine": "plugin_fine:provider"}, plugin_fine=good("fine"))
    source = (
        "from trunkline import Observer, hookimpl\n@hookimpl\ndef trunkline_observer(context):\n    return Observer()"
    )
    install("dist-watch", EXTENSIONS, {"watch": "plugin_watch"}, plugin_watch=source)
    install("dist-bad", EXTENSIONS, {"bad": "plugin_bad_extension"}, plugin_bad_extension="import nothing_of_the_kind")
    async with serve(handler) as server:
        common = {"provider": "fine", "url": server.url, "default_model": "m"}
        services = {"good": {**common, "extensions": ["watch"]}, "bad": {**common, "extensions": ["bad"]}}
        async with open_services({"services": {"good": services["good"]}}) as opened:
            assert (await opened["good"].chat("hi")).text == "well"
        with pytest.raises(PluginError, match="dist-bad") as caught:
            open_services({"services": services})
        assert caught.value.service == "bad"


@pytest.mark.parametrize("name", [pytest.param(10**5000, id="a large number"), b"openai"])
def test_a_name_that_is_not_a_string_is_refused(install: Any, name: Any) -> None:
    install("dist-fine", PROVIDERS, {"fine": "plugin_fine:provider"}, plugin_fine=good("fine"))
    with pytest.raises(ConfigurationError, match="the name of a service must be a string, not"):
        open_service("fine", name=name, url="http://x.example")


# open_services


def test_every_mistake_of_every_service_is_reported_together(install: Any) -> None:
    install("dist-fine", PROVIDERS, {"fine": "plugin_fine:provider"}, plugin_fine=good("fine"))
    services = {
        "a": {"provider": "fine"},
        "b": {"provider": "fine", "url": "http://x.example", "max_retries": -1},
        "c": {"provider": "nowhere"},
        "d": {"url": "http://x.example"},
        "e": {"provider": "fine", "url": "http://x.example", "extensions": ["ghost"]},
        "f": {"provider": "fine", "url": "http://x.example"},
    }
    with pytest.raises(ConfigurationError, match="5 settings are wrong") as caught:
        open_services({"services": services}, environ={})
    message = str(caught.value)
    for word in ("'a'", "'url'", "'max_retries'", "'nowhere'", "'provider'", "'ghost'"):
        assert word in message


@pytest.mark.anyio
async def test_services_share_one_transport_and_close_together(install: Any) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.respond(b"well")

    install("dist-fine", PROVIDERS, {"fine": "plugin_fine:provider"}, plugin_fine=good("fine"))
    async with serve(handler) as server:
        common = {"provider": "fine", "url": server.url, "default_model": "m"}
        async with open_services({"services": {"a": common, "b": common}}) as services:
            assert sorted(services) == ["a", "b"]
            await services["a"].chat("hi")
            await services["b"].chat("hi")
            assert server.accepted == 1
            with pytest.raises(KeyError, match="the services are a, b"):
                _ = services["c"]
        await server.wait_idle()


def test_a_settings_object_opens_its_own_provider(install: Any) -> None:
    install("dist-fine", PROVIDERS, {"fine": "plugin_fine:provider"}, plugin_fine=good("fine"))
    cls = load_provider("fine").settings
    service = open_service(cls(url="http://x.example"), name="mine")  # type: ignore[call-arg]
    assert (service.name, service.provider) == ("mine", "fine")
    with pytest.raises(ConfigurationError, match="not both"):
        open_service(cls(url="http://x.example"), url="http://y.example")  # type: ignore[call-arg]


@pytest.fixture
def loose() -> Provider:
    """A provider that is in no installed package."""
    namespace: dict[str, Any] = {"__name__": "loose"}
    exec(textwrap.dedent(good("loose")), namespace)
    provider: Provider = namespace["provider"]
    return provider


@pytest.mark.anyio
async def test_provider_without_package_takes_settings_by_keyword_and_from_the_environment(
    loose: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.respond(b"Hello")

    async with serve(handler) as server:
        async with open_service(loose, url=server.url, default_model="m") as service:
            assert (service.name, service.provider) == ("loose", "loose")
            assert (await service.chat("hi")).provider == "loose"
        monkeypatch.setenv("TRUNKLINE_MINE_URL", server.url)
        async with open_service(loose, name="mine", default_model="m") as service:
            assert (await service.chat("hi")).service == "mine"


@pytest.mark.anyio
async def test_provider_without_package_takes_a_settings_object(loose: Provider) -> None:
    made = loose.settings(url="http://x.example")  # type: ignore[call-arg]
    service = open_service(loose, made, name="mine")
    assert (service.name, service.provider, service.settings) == ("mine", "loose", made)


def test_errors_about_a_provider_without_package_name_the_provider(loose: Provider, install: Any) -> None:
    install("dist-fine", PROVIDERS, {"fine": "plugin_fine:provider"}, plugin_fine=good("fine"))
    with pytest.raises(ConfigurationError, match=r"service 'loose': .*'url' \(URL\) is required.*TRUNKLINE_LOOSE_URL"):
        open_service(loose)
    with pytest.raises(ConfigurationError, match="setting 'ulr' does not exist; did you mean 'url'"):
        open_service(loose, ulr="http://x.example")
    fine: Any = load_provider("fine").settings
    with pytest.raises(ConfigurationError, match="the provider 'loose' takes LooseSettings, not FineSettings"):
        open_service(loose, fine(url="http://x.example"))
    made: Any = loose.settings
    with pytest.raises(ConfigurationError, match="not both"):
        open_service(loose, made(url="http://x.example"), url="http://y.example")
    for first in ("fine", made(url="http://x.example")):
        with pytest.raises(ConfigurationError, match="only after a Provider"):
            open_service(first, made(url="http://x.example"))


@pytest.mark.anyio
async def test_broken_part_of_a_provider_without_package_names_the_provider(loose: Provider) -> None:
    broken = attrs.evolve(loose, translator=lambda context: 1 / 0)
    service = open_service(broken, url="http://x.example", default_model="m")
    with pytest.raises(PluginError, match="the hook trunkline_translator of loose failed") as caught:
        await service.chat("hi")
    assert caught.value.distribution == "loose"


def test_misspelt_hook_of_a_provider_without_package_is_an_error(loose: Provider) -> None:
    class Misspelt(Provider):
        @hookimpl
        def trunkline_observr(self, context: Any) -> None: ...

    parts = {field.name: getattr(loose, field.name) for field in attrs.fields(Provider)}
    with pytest.raises(PluginError, match="'loose' has trunkline_observr, which is not a hook"):
        open_service(Misspelt(**parts), url="http://x.example")


def test_a_proxy_beside_a_client_of_one_s_own_is_refused(install: Any) -> None:
    class AsyncClient: ...

    install("dist-fine", PROVIDERS, {"fine": "plugin_fine:provider"}, plugin_fine=good("fine"))
    client: Any = AsyncClient()
    with pytest.raises(ConfigurationError, match="'proxy' has no effect"):
        open_service("fine", url="http://x.example", proxy="http://p.example", http_client=client)


def test_provider_values_implement_the_hooks() -> None:
    assert all(
        hasattr(getattr(Provider, name), "trunkline_impl") for name in dir(Provider) if name.startswith("trunkline_")
    )


# Errors of opening name the service


@pytest.mark.parametrize(
    ("provider", "settings", "kind"),
    [
        ("fine", {"worse": 3, "bad": 1}, ConfigurationError),
        ("fien", {}, ProviderNotFound),
        (None, {}, ConfigurationError),
        (b"fine", {}, ConfigurationError),
    ],
)
def test_error_of_opening_names_the_service(
    install: Any, provider: Any, settings: dict[str, Any], kind: type[ConfigurationError]
) -> None:
    install("dist-fine", PROVIDERS, {"fine": "plugin_fine:provider"}, plugin_fine=good("fine"))
    with pytest.raises(kind) as caught:
        open_service(provider, name="main", **settings)
    assert caught.value.service == "main"


def test_error_for_no_provider_says_what_is_expected() -> None:
    with pytest.raises(
        ConfigurationError, match="takes the name of a provider, a settings object or a Provider, not NoneT"
    ):
        open_service(None)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["trunkline-openai", "trunkline_openai"])
def test_name_of_a_distribution_suggests_its_provider(name: str) -> None:
    with pytest.raises(ProviderNotFound, match="did you mean 'openai'"):
        open_service(name)


@pytest.mark.anyio
async def test_extension_that_is_a_class_is_refused_with_advice(toy: Any) -> None:
    class Extension:
        @hookimpl
        def trunkline_observer(self, context: Any) -> None:
            """An extension may have any hook."""

    async with toy("http://127.0.0.1:1", extensions=[Extension]) as service:
        with pytest.raises(PluginError, match=r"is a class; pass an instance of it: Extension\("):
            await service.chat("hi")


def test_provider_without_a_name_is_refused() -> None:
    with pytest.raises(ValueError, match="name"):
        make_toy(name="")

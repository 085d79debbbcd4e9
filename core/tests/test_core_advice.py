"""What to do about an error: the provider's advice is in the error, its text, and nowhere if the provider fails."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from trunkline.authoring.advice import Advice, find_advice, unknown_model
from trunkline.authoring.provider import ServiceContext
from trunkline.errors import AuthenticationError, ConfigurationError, NotFound, TrunklineError
from trunkline.testing import Exchange, serve

pytestmark = pytest.mark.anyio

TABLE = (
    Advice("make a new key", problem="key", kind=AuthenticationError, message="expired"),
    Advice("deploy it first", problem="deployment", kind=NotFound, codes=("NoDeployment",)),
    Advice("read the manual", message="manual"),
    unknown_model("https://toy.example/models"),
)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (AuthenticationError("the key has EXPIRED"), "make a new key"),
        (AuthenticationError("wrong"), None),
        (NotFound("nothing", code="nodeployment"), "deploy it first"),
        (NotFound("nothing"), None),
        (NotFound("see the manual"), "read the manual"),
        (NotFound("no such model"), "set default_model to a current model: https://toy.example/models lists them"),
        (ConfigurationError("see the manual"), None),
    ],
)
def test_advice_is_found_by_class_code_and_message(error: TrunklineError, text: str | None) -> None:
    found = find_advice(error, TABLE)
    assert (found and found.text) == text


async def test_error_has_the_advice_of_the_provider_and_shows_it_without_secrets(toy: Any) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.respond(b"the key is bad", status=401)

    def advise(context: ServiceContext[Any], error: TrunklineError) -> Advice:
        return Advice(f"replace {context.settings.api_key.reveal()} in {context.name}", problem="key")

    async with serve(handler) as server, toy(server.url, provider={"advice": advise}) as service:
        with pytest.raises(AuthenticationError) as caught:
            await service.chat("hi")
    error = caught.value
    assert (error.advice, error.problem) == ("replace *** in toy", "key")
    assert str(error) == f"toy: the key is bad ({error.endpoint}, status 401); replace *** in toy"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


async def test_provider_whose_advice_fails_does_not_hide_the_error(toy: Any) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.respond(b"the key is bad", status=401)

    def advise(context: ServiceContext[Any], error: TrunklineError) -> Advice:
        raise RuntimeError("no advice today")

    async with serve(handler) as server, toy(server.url, provider={"advice": advise}) as service:
        with pytest.raises(AuthenticationError, match="the key is bad") as caught:
            await service.chat("hi")
    assert caught.value.advice is None

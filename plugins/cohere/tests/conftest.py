"""Both backends, and a service context."""

import pytest
from trunkline.authoring.provider import ServiceContext
from trunkline.secrets import Secret
from trunkline_cohere import CohereSettings


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def context() -> ServiceContext[CohereSettings]:
    return ServiceContext(name="s", provider="cohere", settings=CohereSettings(api_key=Secret("cohere-secret")))

"""`ProviderTests`, the class that a plugin's tests subclass. All tests run offline, on asyncio and on trio.

from trunkline.testing import ProviderTests, canary

class TestAcme(ProviderTests):
    provider = "acme"
    settings = {"api_url": "{url}", "api_key": canary("api_key")}
    wire = CHAT_COMPLETIONS
"""

from __future__ import annotations

from trunkline.testing.basics import BasicTests
from trunkline.testing.credentials import CredentialTests
from trunkline.testing.faults.calls import ErrorFaults, RetryFaults
from trunkline.testing.faults.connection import ConnectionFaults
from trunkline.testing.faults.embeddings import EmbeddingFaults
from trunkline.testing.faults.history import HistoryFaults
from trunkline.testing.faults.hostile import HostileFaults
from trunkline.testing.faults.lifecycle import FuzzFaults, LifecycleFaults
from trunkline.testing.faults.wire import WireFaults
from trunkline.testing.kit import check_subclass
from trunkline.testing.request_contents import RequestContentTests
from trunkline.testing.requests import RequestTests


class WireTests(
    BasicTests,
    RequestTests,
    RequestContentTests,
    CredentialTests,
    WireFaults,
    HistoryFaults,
    ErrorFaults,
    FuzzFaults,
    HostileFaults,
    EmbeddingFaults,
):
    """The tests of the provider's own code: its settings, translator, parser, authentication and errors."""


class TransportTests(ConnectionFaults, RetryFaults, LifecycleFaults):
    """The tests of code that providers share: connections, timeouts, retries, redirects, cancellation and closing.

    Their results depend only on the provider's framing and, if it has its own, on its transport.
    """


class ProviderTests(WireTests, TransportTests):
    """The conformance kit: tests of one provider, including the fault catalogue. Subclass it and set its attributes.

    - `provider`: the name of an installed provider, or a `Provider`.
    - `variant`: a name that distinguishes several test classes of one provider in reports.
    - `settings`: the settings of the tested services. Use `{url}` for the address of the kit's server, and `canary(…)`
      for each secret. Extensions in `settings` are active in every test.
    - `wire`: the provider's wire format.
    - `samples`: exchanges to test in addition to those of `wire`.
    - `models`: names of models, one of each family that the translator treats differently. The first one accepts the
      `replays` of the samples.
    - `families`: groups of models, if the translator sets `Translation.family`. Models of one group accept each other's
      reasoning, and models of different groups do not.
    - `secrets`: canaries that do not come from the settings, for example a token that an extension acquires.
    - `embedding_model`: the model that embeds texts, if the provider does and not every model can.
    - `operation_requests`: the HTTP requests that the API's documentation asks for, by the name of the operation, each
      compared like the `request_wire` of a sample. `list_models` lists the first page. `embed` asks `embedding_model`
      for vectors of `EMBED_TEXTS` with `EMBED_DIMENSIONS` numbers each. `count_tokens` counts the tokens of
      `TOOL_HISTORY` with the first one of `models`, and `model_info` asks about that model. Each operation that the
      provider has needs one.
    - `model_pages`: the bodies of a list of models that has several pages, in order. They are returned one by one, and
      each page must be requested once.
    - `listed_models`: the models that `model_pages` list, in order, with the limits and capabilities that the API
      reports. Their `raw` is not compared.
    - `routes`: further endpoints that the kit's server answers, such as the one for tokens, each with its response: a
      JSON object, or bytes. A key is a path, or a method and a path (`POST /token`). Use `canary(…)` for each token.
    - `credentials`: the headers of each request that contain credentials, with their values. No other header may
      contain a secret of the provider. For requests that are only signed, leave it out.
    - `skips`: tests to leave out, by name, each with the reason that the report shows.
    """

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        check_subclass(cls, ProviderTests)

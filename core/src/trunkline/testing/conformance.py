"""`ProviderTests`: the class that a plugin's tests subclass. Everything runs offline, on asyncio and on trio.

from trunkline.testing import ProviderTests, canary

class TestAcme(ProviderTests):
    provider = "acme"
    settings = {"api_url": "{url}", "api_key": canary("api_key")}
    wire = CHAT_COMPLETIONS
"""

from __future__ import annotations

from trunkline.testing.basics import BasicTests
from trunkline.testing.faults.calls import ErrorFaults, RetryFaults
from trunkline.testing.faults.connection import ConnectionFaults
from trunkline.testing.faults.lifecycle import FuzzFaults, LifecycleFaults
from trunkline.testing.faults.wire import WireFaults
from trunkline.testing.requests import RequestTests


class WireTests(BasicTests, RequestTests, WireFaults, ErrorFaults, FuzzFaults):
    """What depends on the provider: its settings, translator, parser, authentication and errors."""


class TransportTests(ConnectionFaults, RetryFaults, LifecycleFaults):
    """What the core does alike for each provider: connections, timeouts, retries, redirects, cancelling and closing.

    What depends on the provider in these tests is its framing, and its transport if it has one of its own.
    """


class ProviderTests(WireTests, TransportTests):
    """Conformance and the fault catalogue, for one provider.

    `provider` is the name of an installed provider, or a `Provider`; `variant` tells apart several classes of one.
    In `settings` the text `{url}` stands for the address of the kit's server, and `canary(…)` for each secret; the
    extensions that `settings` names take part in every test. `secrets` are canaries that come by another way than
    the settings, a token that an extension acquires, say. `wire` is what the kit has to know of the wire; `samples`
    are further exchanges. `request_body` is the decoded body of the first sample's streamed request, to the model
    `m`, where the test is to hold the translator to it. `skips` maps the name of a test that is left out to the
    reason, which the report shows.
    """

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        standard = {name for name in dir(ProviderTests) if name.startswith("test_")}
        for name in standard & vars(cls).keys():
            raise TypeError(f"{cls.__name__}.{name} replaces a standard test; to leave it out, give 'skips' the reason")
        for name, reason in cls.skips.items():
            if name not in standard:
                raise TypeError(f"{cls.__name__}.skips names {name!r}, which is no standard test")
            if not reason.strip():
                raise TypeError(f"{cls.__name__}.skips leaves out {name} without a reason")

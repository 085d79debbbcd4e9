"""`Prices`, the extension `prices`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from decimal import Decimal
from weakref import WeakValueDictionary

from trunkline import Middleware, Observer, ServiceContext, Settings, hookimpl

from trunkline_prices.ledger import Ledger
from trunkline_prices.settings import PricesSettings
from trunkline_prices.values import Charge, Spending


class Prices:
    """The extension `prices`, for an application that reads its budgets or shares them between services.

    Put one object into the setting `extensions` of several services, and they share its budgets. `on_charge` is called
    after each call with what it was charged, in the task of the call; it must not wait. If it fails, the failure is
    logged.
    """

    def __init__(
        self, settings: PricesSettings | None = None, *, on_charge: Callable[[Charge], None] | None = None
    ) -> None:
        self._settings = settings = settings if settings is not None else PricesSettings()
        self._on_charge = on_charge
        self._ledger = Ledger(
            budget=settings.budget,
            label_budget=settings.label_budget,
            label_budgets=settings.label_budgets,
            period=settings.budget_period,
        )

    def spent(self, label: str | None = None) -> Spending:
        """Return what was spent by all calls, or by those with a label, in the current period."""
        return self._ledger.spent(label)

    def labels(self) -> tuple[str, ...]:
        """Return the labels that calls were made with, or that have a budget of their own."""
        return self._ledger.labels()

    def add_spent(self, amount: Decimal, label: str | None = None) -> None:
        """Record an amount in USD that was spent before, such as one that the application had stored.

        An amount of a label also counts for the budget of all calls.
        """
        self._ledger.add(amount, label)

    # The last of all hooks: the innermost middleware, which sees the calls that are sent, and not what a cache answers.
    @hookimpl(trylast=True)
    def trunkline_middleware(self, context: ServiceContext[Settings]) -> Middleware:
        """Return the middleware of a service, which reserves and charges what its calls cost."""
        from trunkline_prices.middleware import PricesMiddleware

        return PricesMiddleware(self._settings, self._ledger, context, self._on_charge)

    # The first of all hooks: the other observers of a call find its cost in the state.
    @hookimpl(tryfirst=True)
    def trunkline_observer(self, context: ServiceContext[Settings]) -> Observer:
        """Return the observer of a service, which puts the cost of each call into its state."""
        from trunkline_prices.middleware import PricesObserver, options_of

        return PricesObserver(options_of(self._settings, context), context)


_made: WeakValueDictionary[int, Prices] = WeakValueDictionary()
"""The extensions of services, by the identity of their settings, which each extension keeps alive."""
_making = threading.Lock()


def made_for(settings: PricesSettings) -> Prices:
    """Return the extension for these settings. There is one for each object of settings."""
    with _making:
        made = _made.get(id(settings))
        if made is None:
            made = _made[id(settings)] = Prices(settings)
        return made


def find_prices(extensions: Iterable[object]) -> Prices:
    """Return the first extension `prices` among the extensions of a service. Raises `LookupError`."""
    for extension in extensions:
        if isinstance(extension, Prices):
            return extension
        if isinstance(extension, PricesSettings):
            return made_for(extension)
    raise LookupError("the service does not have the extension 'prices'")

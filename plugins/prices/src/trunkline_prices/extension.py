"""`Prices`, the extension `prices`."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterable
from decimal import Decimal

import attrs
from trunkline import ConfigurationError, Middleware, Observer, ServiceContext, Settings, hookimpl

from trunkline_prices.ledger import Ledger
from trunkline_prices.settings import PricesSettings
from trunkline_prices.values import Charge, Spending


class Prices:
    """The extension `prices`, for an application that reads its budgets or shares them between services.

    Put one object into the setting `extensions` of several services, and they share its budgets. `on_charge` is called
    after each call with what it was charged, in the task of the call; it must not wait. If it fails, the failure is
    logged.

    Raises `ConfigurationError` if the setting `shared` names budgets that other settings have set differently.
    """

    def __init__(
        self, settings: PricesSettings | None = None, *, on_charge: Callable[[Charge], None] | None = None
    ) -> None:
        self._settings = settings = settings if settings is not None else PricesSettings()
        self._ledger = _new_ledger(settings) if settings.shared is None else _shared_ledger(settings.shared, settings)
        if on_charge is not None:
            self.on_charge = on_charge

    @property
    def on_charge(self) -> Callable[[Charge], None] | None:
        """What is called after each call. You can set it. Services that share their budgets share it too."""
        return self._ledger.on_charge

    @on_charge.setter
    def on_charge(self, callback: Callable[[Charge], None] | None) -> None:
        self._ledger.on_charge = callback

    def spent(self, label: str | None = None) -> Spending:
        """Return what was spent by all calls, or by those with a label, in the current period."""
        return self._ledger.spent(label)

    def labels(self) -> tuple[str, ...]:
        """Return the labels that calls were made with, or that have a budget of their own."""
        return self._ledger.labels()

    def add_spent(self, amount: Decimal, label: str | None = None) -> None:
        """Record an amount in USD that was spent before, such as one that the application had stored.

        An amount of a label also counts for the budget of all calls. Raises `ValueError` if it is negative or not a
        finite `Decimal`.
        """
        self._ledger.add(amount, label)

    # The last of all hooks: the innermost middleware, which sees the calls that are sent, and not what a cache answers.
    @hookimpl(trylast=True)
    def trunkline_middleware(self, context: ServiceContext[Settings]) -> Middleware:
        """Return the middleware of a service, which reserves and charges what its calls cost."""
        from trunkline_prices.middleware import PricesMiddleware

        if (shared := self._settings.shared) is not None:
            context.keep(_Use, lambda: _Use(shared, self._ledger))
        return PricesMiddleware(self._settings, self._ledger, context)

    # The first of all hooks: the other observers of a call find its cost in the state.
    @hookimpl(tryfirst=True)
    def trunkline_observer(self, context: ServiceContext[Settings]) -> Observer:
        """Return the observer of a service, which puts the cost of each call into its state."""
        from trunkline_prices.middleware import PricesObserver, options_of

        return PricesObserver(options_of(self._settings, context), context)


_made: dict[int, Prices] = {}
"""The extensions of services, by the identity of their settings. Each is forgotten together with its settings."""
_shared: weakref.WeakValueDictionary[str, Ledger] = weakref.WeakValueDictionary()
"""The budgets with a name. They end when the last service that has used them is closed, or with the last extension."""
_making = threading.RLock()


def _begin_anew() -> None:
    global _making
    _making = threading.RLock()  # in the child of a fork; another thread of the parent may have held the old one


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)


class _Use:
    """The use of shared budgets by an open service, which drops this object when it is closed."""

    def __init__(self, name: str, ledger: Ledger) -> None:
        with _making:
            ledger.services += 1
            _shared.setdefault(name, ledger)
        weakref.finalize(self, _end_use, name, ledger).atexit = False


def _end_use(name: str, ledger: Ledger) -> None:
    with _making:
        ledger.services -= 1
        if ledger.services == 0 and _shared.get(name) is ledger:
            del _shared[name]


def made_for(settings: PricesSettings) -> Prices:
    """Return the extension for these settings. There is one for each object of settings, as long as that exists."""
    with _making:
        made = _made.get(id(settings))
        if made is None:
            own = attrs.evolve(settings)  # type: ignore[misc]  # see trunkline.settings
            made = _made[id(settings)] = Prices(own)  # not with `settings`, which it would keep alive
            weakref.finalize(settings, _made.pop, id(settings), None).atexit = False
        return made


def _new_ledger(settings: PricesSettings) -> Ledger:
    return Ledger(
        budget=settings.budget,
        label_budget=settings.label_budget,
        label_budgets=settings.label_budgets,
        period=settings.budget_period,
    )


def _shared_ledger(name: str, settings: PricesSettings) -> Ledger:
    """Return the budgets with a name. Raises `ConfigurationError` if they are not those of the settings."""
    with _making:
        ledger = _shared.get(name)
        if ledger is None:
            ledger = _shared[name] = _new_ledger(settings)
            return ledger
    given = {
        "budget": (settings.budget, ledger.budget),
        "label_budget": (settings.label_budget, ledger.label_budget),
        "label_budgets": (settings.label_budgets, ledger.label_budgets),
        "budget_period": (settings.budget_period, ledger.period),
    }
    different = [setting for setting, (own, other) in given.items() if own != other]
    if different:
        raise ConfigurationError(
            f"extension 'prices': services share the budgets {name!r}, but their settings differ in "
            f"{', '.join(different)}; set the same for all of them, for example in [defaults]"
        )
    return ledger


def find_prices(extensions: Iterable[object]) -> Prices:
    """Return the first extension `prices` among the extensions of a service. Raises `LookupError`."""
    for extension in extensions:
        if isinstance(extension, Prices):
            return extension
        if isinstance(extension, PricesSettings):
            return made_for(extension)
    raise LookupError("the service does not have the extension 'prices'")

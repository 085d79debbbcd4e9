"""What to do about an error, as a provider knows it: a table of its codes and messages, with an advice for each.

The core attaches the advice to the errors of a service (`TrunklineError.advice`), and `trunkline check` shows it:

    _TABLE = (
        Advice("make a new key at https://acme.example/keys", problem="key", kind=AuthenticationError),
        Advice("enable the model in the console", problem="permission", message="not enabled for (this|the) account"),
        unknown_model("https://acme.example/models"),
    )

    def advice(context: ServiceContext[AcmeSettings], error: TrunklineError) -> Advice | None:
        return find_advice(error, _TABLE)

Pass the function as `advice` to `ProviderParts` or `Provider`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import attrs

from trunkline._base_errors import Problem
from trunkline.errors import NotFound, RemoteError, TrunklineError

__all__ = ["Advice", "Problem", "find_advice", "unknown_model"]


@attrs.frozen(kw_only=True)
class Advice:
    """What to do about the errors of one kind: an imperative sentence without a capital letter and a full stop.

    It applies to errors of the class `kind` whose `code` is one of `codes` and whose message matches the regular
    expression `message`; without `codes` or `message`, any will do. Case does not matter. `problem` is what is wrong,
    if that is more exact than the class of the error.
    """

    text: str = attrs.field(kw_only=False)
    problem: Problem | None = None
    kind: type[TrunklineError] = RemoteError
    codes: tuple[str, ...] = ()
    message: str = ""

    def applies_to(self, error: TrunklineError) -> bool:
        """Return whether it is advice about an error."""
        if not isinstance(error, self.kind):
            return False
        code = (getattr(error, "code", None) or "").lower()
        if self.codes and code not in (known.lower() for known in self.codes):
            return False
        text = error.message if isinstance(error, RemoteError) else str(error)
        return not self.message or re.search(self.message, text, re.IGNORECASE) is not None


def find_advice(error: TrunklineError, table: Iterable[Advice]) -> Advice | None:
    """Return the first advice of a table that applies to an error, or `None`."""
    return next((advice for advice in table if advice.applies_to(error)), None)


def unknown_model(page: str) -> Advice:
    """Return the advice about a model that the provider does not have. `page` is the URL of its list of models."""
    text = f"set default_model to a current model: {page} lists them"
    return Advice(text, problem="model", kind=NotFound, message="model")

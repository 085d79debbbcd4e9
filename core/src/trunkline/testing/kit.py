"""What the test classes of the kit share: two backends, no proxies, skips with a reason, and the search for secrets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import pytest

from trunkline.testing.wireformat import CANARY

LIMIT = 30.0
"""The time after which a hanging test fails, in seconds."""

_UPPER_CASE = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
PROXY_VARIABLES = (*_UPPER_CASE, *map(str.lower, _UPPER_CASE))


class KitTests:
    """The base class of `ProviderTests`, `AuthTests` and `ExtensionTests`."""

    skips: ClassVar[Mapping[str, str]] = {}

    pytestmark: pytest.MarkDecorator = pytest.mark.anyio

    @pytest.fixture(params=["asyncio", "trio"])
    def anyio_backend(self, request: pytest.FixtureRequest) -> str:
        """Run each test on both backends."""
        return str(request.param)

    @pytest.fixture(autouse=True)
    def _skipping(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
        for variable in PROXY_VARIABLES:
            monkeypatch.delenv(variable, raising=False)
        name = request.node.originalname
        if name in self.skips:
            pytest.skip(f"skipped by {type(self).__name__}: {self.skips[name]}")


def check_subclass(subclass: type[KitTests], kit: type[KitTests]) -> None:
    """Raise `TypeError` if a subclass replaces a test of the kit, or skips an unknown test or one without a reason."""
    standard = {name for name in dir(kit) if name.startswith("test_")}
    for name in standard & vars(subclass).keys():
        raise TypeError(f"{subclass.__name__}.{name} replaces a test of the kit; to skip that test, add it to 'skips'")
    for name, reason in subclass.skips.items():
        if name not in standard:
            raise TypeError(f"{subclass.__name__}.skips names {name!r}, which is not a test of the kit")
        if not reason.strip():
            raise TypeError(f"{subclass.__name__}.skips has no reason for {name}")


def assert_no_secret(what: str, value: object, secrets: Iterable[str]) -> None:
    """Assert that the text, the `repr` and the attributes of a value show none of the secrets."""
    text = f"{value} {value!r} {getattr(value, '__dict__', '')!r}"
    for secret in secrets:
        assert secret not in text, f"{what} shows a secret: {text.replace(secret, '***')}"


def canaries_in(value: object) -> set[str]:
    """Return the canaries in a setting or a response, also within tables and lists."""
    return set(re.findall(rf"{CANARY}[\w-]*", str(value)))


def replaced(value: Any, old: str, new: str) -> Any:
    """Return a setting in which a text is replaced, also within tables and lists."""
    if isinstance(value, str):
        return value.replace(old, new)
    if isinstance(value, Mapping):
        return {name: replaced(item, old, new) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [replaced(item, old, new) for item in value]
    return value

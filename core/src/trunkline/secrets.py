"""Values that never show themselves."""

from __future__ import annotations

from typing import NoReturn


class Secret:
    """A secret string: no `repr`, `str`, format or pickle of it shows the value; `reveal` does."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value. Call it where the bytes are made and keep the result nowhere."""
        return self._value

    def __repr__(self) -> str:
        return "Secret('***')"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __bool__(self) -> bool:
        return bool(self._value)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret cannot be pickled")


MASK = "***"


def scrub(text: str, secrets: tuple[str, ...]) -> str:
    """The text with each of `secrets` replaced. Secrets under six characters are left, since they would tear words."""
    for secret in secrets:
        if len(secret) >= 6 and secret in text:
            text = text.replace(secret, MASK)
    return text

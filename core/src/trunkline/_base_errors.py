"""The base class of all errors, and the errors that messages and requests raise. Import them from `trunkline.errors`.

They have a module of their own because `trunkline.errors` refers to `ChatResponse`, whose module raises these.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from trunkline._masking import without_name

Problem: TypeAlias = Literal[
    "settings",
    "key",
    "permission",
    "clock",
    "model",
    "deployment",
    "region",
    "url",
    "redirect",
    "not-the-api",
    "quota",
    "rate-limit",
    "request",
    "server",
    "proxy",
    "certificate",
    "tls",
    "dns",
    "refused",
    "timeout",
    "connection",
    "unexpected",
]
"""What is wrong, in a word, as `trunkline check` reports it."""


class TrunklineError(Exception):
    """The base class of all errors of Trunkline and its plugins."""

    def __init__(
        self,
        *args: object,
        service: str | None = None,
        advice: str | None = None,
        problem: Problem | None = None,
    ) -> None:
        super().__init__(*args)
        self.service = service
        """The name of the service that raised the error, or `None` if no service was involved."""
        self.advice = advice
        """What the administrator of the service can do about it, if that is known. The text of the error ends with
        it."""
        self.problem: Problem | None = problem
        """What is wrong, in a word, if that is known more exactly than from the class: `dns`, `certificate`, …"""

    def __str__(self) -> str:
        text = self._with_advice(super().__str__())
        if self.service is None:
            return text
        # Many messages name the service themselves.
        named = text if f"service {self.service!r}" in text else f"service {self.service!r}: {text}"
        return without_name(named, self.service)

    def _with_advice(self, text: str) -> str:
        return f"{text}; {self.advice}" if self.advice else text

    def __reduce__(self) -> tuple[Any, ...]:
        # `Exception` would call the class with `args` alone, but an error of a plugin may have other parameters.
        state = dict(vars(self))
        if "__notes__" in state:
            state["__notes__"] = list(state["__notes__"])  # a copy gets its own list
        return _rebuild, (type(self), self.args), state


def _rebuild(cls: type[TrunklineError], args: tuple[object, ...]) -> TrunklineError:
    return cls.__new__(cls, *args)


class CallError(TrunklineError):
    """The call is wrong and cannot be made as written, or the service or the stream was closed."""

    another_may_serve: bool = False
    """Whether another service may serve the call, so that a fallback goes on to it. An extension sets it for a refusal
    that is about its own service, such as a used-up budget."""


class InvalidRequest(CallError):
    """The request is invalid before any provider sees it: a message, a tool or an option contradicts another."""


def refuse_dict(value: object, where: str, expected: str) -> None:
    """Raise `InvalidRequest` for a dict where a message or a part belongs, and name the function that converts it."""
    if isinstance(value, dict):
        # Most applications come with conversations in OpenAI's form, so this error names one plugin's function.
        raise InvalidRequest(
            f"{where} is a dict, not {expected}; to convert a conversation in OpenAI's form, call "
            "trunkline_openai.messages_from(messages), from the package trunkline-openai"
        )


for _error in (TrunklineError, CallError, InvalidRequest):
    _error.__module__ = "trunkline.errors"  # the module that applications import from, so tracebacks show it

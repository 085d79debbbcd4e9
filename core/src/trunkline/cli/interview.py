"""The questions of `trunkline init`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from trunkline._config.sources import variable_name
from trunkline._plugins.registry import PROVIDERS, installed
from trunkline.authoring.provider import Provider
from trunkline.cli.failures import CommandError
from trunkline.cli.terminal import DIM, print_note, safe
from trunkline.settings import SettingInfo, convert, setting_infos

_PLACES = {"e": "env", "f": "file", "k": "keyring", "env": "env", "file": "file", "keyring": "keyring"}
_WHERE = {
    "env": "The NAME of the environment variable (not its value)",
    "file": "The file that holds the secret and nothing else",
    "keyring": "The keyring entry, as service/user",
}


class Interview:
    """Asks on the terminal; the answers go into `values` and `references`, which hold what needs no question."""

    def __init__(self, values: dict[str, object], references: dict[str, dict[str, str]]) -> None:
        self._values = values
        self._references = references

    def provider(self) -> str:
        """Which of the installed providers."""
        names = sorted({item.name for item in installed(PROVIDERS)})
        if not names:
            raise CommandError("no provider is installed; install one: pip install trunkline-PROVIDER")
        print_note(f"Installed providers: {', '.join(names)}")
        return _ask(
            "Provider",
            default=names[0] if len(names) == 1 else "",
            problem=lambda text: None if text in names else f"one of {', '.join(names)}",
        )

    def service(self, provider: str) -> str:
        """The service's name."""
        return _ask("Name of the service", default=provider)

    def settings(self, plugin: Provider, service: str) -> None:
        """Each required setting and each secret that is not given, and the model."""
        for info in setting_infos(plugin.settings):
            if info.name in self._values or info.name in self._references:
                continue
            if info.secret:
                self._secret(info, service)
            elif info.required or info.name == "default_model":
                self._plain(info)

    def _plain(self, info: SettingInfo) -> None:
        print_note(info.description, style=DIM)

        def problem(text: str) -> str | None:
            if not text:
                return "an answer" if info.required else None
            try:
                convert(info, text)
            except ValueError as error:
                return str(error)
            return None

        text = _ask(f"{info.label}{'' if info.required else ' (empty: none)'}", problem=problem)
        if text:
            self._values[info.name] = text

    def _secret(self, info: SettingInfo, service: str) -> None:
        from trunkline.cli.init import is_variable

        need = "required" if info.required else "may be left out"
        print_note(
            f"{info.label}: {info.description} It is a secret ({need}): the file says where it is, not what it is."
        )
        choices = "env, file, keyring" + ("" if info.required else ", none")
        default = "env" if info.required else "none"
        allowed = {**_PLACES} if info.required else {**_PLACES, "n": "", "none": ""}
        place = allowed[
            _ask(
                f"Where is it ({choices})",
                default=default,
                problem=lambda text: None if text in allowed else f"one of {choices}",
            )
        ]
        if not place:
            return
        names = [*info.environment, variable_name(service, info.name)]
        known = next((name for name in names if os.environ.get(name)), names[0])

        def problem(text: str) -> str | None:
            if place == "env" and not is_variable(text):
                return "the name of a variable (capitals, digits and _), not the secret itself"
            if place == "keyring" and "/" not in text:
                return "service/user"
            return None if text else "an answer"

        answer = _ask(_WHERE[place], default=known if place == "env" else "", problem=problem)
        self._references[info.name] = {place: answer}


def _ask(question: str, *, default: str = "", problem: Callable[[str], str | None] = lambda text: None) -> str:
    """Ask until the answer will do. Raises `CommandError` at the end of the input."""
    while True:
        print(safe(f"{question}{f' [{default}]' if default else ''}: "), end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line:
            print(file=sys.stderr)
            raise CommandError("the questions were not answered; nothing is written")
        answer = line.strip() or default
        wrong = problem(answer)
        if wrong is None:
            return answer
        print_note(f"Please enter {wrong}.")

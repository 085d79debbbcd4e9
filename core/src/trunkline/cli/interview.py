"""The questions that `trunkline init` asks on a terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from trunkline._config.sources import variable_name
from trunkline._masking import looks_like_key
from trunkline._plugins.registry import PROVIDERS, installed
from trunkline._urls import url_secrets
from trunkline.authoring.provider import Provider
from trunkline.cli.failures import CommandError
from trunkline.cli.hidden import hide
from trunkline.cli.references import Reference, reference_problem
from trunkline.cli.terminal import DIM, print_note, write
from trunkline.settings import SettingInfo, convert, setting_infos

_PLACES = {"e": "env", "f": "file", "k": "keyring", "env": "env", "file": "file", "keyring": "keyring"}
_QUESTIONS = {
    "env": "The NAME of the environment variable (not its value)",
    "file": "The file that contains only the secret",
    "keyring": "The keyring entry, as service/user",
}


class Interview:
    """Asks for the settings that are not in `values` or `references` yet, and adds the answers there."""

    def __init__(self, values: dict[str, object], references: dict[str, Reference]) -> None:
        self._values = values
        self._references = references

    def provider(self) -> str:
        """Ask for one of the installed providers."""
        names = sorted({item.name for item in installed(PROVIDERS)})
        if not names:
            raise CommandError("no provider is installed; to install one: pip install trunkline-PROVIDER")
        print_note(f"Installed providers: {', '.join(names)}")
        return _ask(
            "Provider",
            default=names[0] if len(names) == 1 else "",
            problem=lambda text: None if text in names else f"one of {', '.join(names)}",
        )

    def service(self, provider: str) -> str:
        """Ask for the name of the service."""
        return _ask(
            "Name of the service",
            default=provider,
            problem=lambda text: "a name that is no key" if looks_like_key(text) else None,
        )

    def settings(self, plugin: Provider, service: str) -> None:
        """Ask for each missing setting that is required or a credential, and for the default model."""
        for info in setting_infos(plugin.settings):
            if info.name in self._values or info.name in self._references:
                continue
            if info.secret and info.in_header:
                self._secret(info, service)
            elif info.required or info.name == "default_model":
                self._plain(info)

    def _plain(self, info: SettingInfo) -> None:
        print_note(info.description, style=DIM)

        def problem(text: str) -> str | None:
            if not text:
                return "an answer" if info.required else None
            if looks_like_key(text) or any(url_secrets(text)):
                return "a value that is no secret: the file would show it"
            try:
                convert(info, text)
            except ValueError as error:
                return str(error)
            return None

        text = _ask(f"{info.label}{'' if info.required else ' (optional)'}", problem=problem)
        if text:
            self._values[info.name] = text

    def _secret(self, info: SettingInfo, service: str) -> None:
        need = "required" if info.required else "optional"
        print_note(f"{info.label}: {info.description} This is a secret ({need}); the file only says where it is kept.")
        choices = "env, file, keyring" + ("" if info.required else ", none")
        default = "env" if info.required else "none"
        allowed = {**_PLACES} if info.required else {**_PLACES, "n": "", "none": ""}
        place = allowed[
            _ask(
                f"Where is it kept ({choices})",
                default=default,
                problem=lambda text: None if text in allowed else f"one of {choices}",
            )
        ]
        if not place:
            return
        names = [*info.environment, variable_name(service, info.name)]
        known = next((name for name in names if os.environ.get(name)), names[0])

        def problem(text: str) -> str | None:
            wrong = reference_problem({place: text}) if text else None
            if wrong is not None:
                return wrong
            if place == "keyring" and "/" not in text:
                return "service/user"
            return None if text else "an answer"

        answer = _ask(_QUESTIONS[place], default=known if place == "env" else "", problem=problem)
        self._references[info.name] = {place: answer}


def _ask(question: str, *, default: str = "", problem: Callable[[str], str | None] = lambda text: None) -> str:
    """Ask until the answer is valid, and return it. `problem` returns what is expected instead, or `None`.

    Raises `CommandError` at the end of the input.
    """
    while True:
        write(f"{question}{f' [{default}]' if default else ''}: ", sys.stderr)
        line = sys.stdin.readline()
        if not line:
            print_note("")
            raise CommandError("the input ended before all questions were answered; nothing was written")
        hide(line)
        answer = line.strip() or default
        wrong = problem(answer)
        if wrong is None:
            return answer
        print_note(f"Please enter {wrong}.")

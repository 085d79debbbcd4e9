"""The questions of `trunkline init` on a terminal, and the checks of the answers."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Literal, get_args, get_origin

import anyio
import attrs

from trunkline._config.references import resolve_reference
from trunkline._config.sources import json_or_text, variable_name
from trunkline._exception_text import exception_text
from trunkline._excerpts import cut
from trunkline._masking import names_credential
from trunkline._plugins.registry import PROVIDERS, installed
from trunkline._setting_types import is_mapping, without_none
from trunkline._visible_text import one_line
from trunkline.cli.draft import Draft, holds_secret, may_be_reference, placeholder, secret_problem
from trunkline.cli.failures import CommandError
from trunkline.cli.hidden import hide
from trunkline.cli.prompts import ask, choose, choose_model, confirm
from trunkline.cli.questions import AskAdvanced, ChooseWay, Progress, Question, next_question, way_of
from trunkline.cli.references import Reference, missing_now, parse_reference, reference_problem
from trunkline.cli.terminal import BOLD, DIM, print_note
from trunkline.errors import ConfigurationError, TrunklineError
from trunkline.secrets import Headers, scrub
from trunkline.settings import SettingInfo, Settings, convert, raise_config_errors

LISTING_LIMIT = 10.0
"""The longest time to wait for the list of a service's models, in seconds."""

_LONGEST_REASON = 400

_PLACES = {"env": "an environment variable", "file": "a file", "keyring": "the keyring of the system"}
_NAMES = {
    "env": "The NAME of the environment variable (not its value)",
    "file": "The file that contains only the secret",
    "keyring": "The keyring entry, as service/user",
}


def ask_provider() -> str:
    """Ask for one of the installed providers."""
    names = sorted({item.name for item in installed(PROVIDERS)})
    if not names:
        raise CommandError("no provider is installed; to install one: pip install trunkline-PROVIDER")
    print_note("Installed providers:")
    return choose("Provider", dict.fromkeys(names, ""), default=names[0] if len(names) == 1 else "")


def ask_service(default: str, problem: Callable[[str], str | None]) -> str:
    """Ask for the name of the service. `problem` returns what is expected instead of a name, or `None`."""
    return ask("Name of the service", default=default, problem=problem)


@attrs.define
class Interview:
    """Asks for the settings of a draft that are not known yet, and adds the answers to it."""

    draft: Draft
    progress: Progress = attrs.field(init=False)
    _heading: str | None = None

    def __attrs_post_init__(self) -> None:
        known = {*self.draft.table(), *self.draft.defaults}
        self.progress = Progress(known=known, way=way_of(self.draft.plugin.settings, known))

    def run(self) -> None:
        """Ask until the draft has no mistakes. Only the settings with mistakes are asked for again.

        Raises `CommandError` at the end of the input, and `ConfigurationError` for a mistake that no answer corrects.
        """
        settings = self.draft.plugin.settings
        print_note(f"Settings of {settings.display_name or self.draft.plugin.name}. An empty answer leaves one out.")
        if self.draft.defaults:
            print_note(f"Already in [defaults]: {', '.join(self.draft.defaults)}", style=DIM)
        self._ask_again(self._mistakes(), only_answered=True)
        while True:
            while (question := self._next_question()) is not None:
                self._answer(question)
            mistakes = self._mistakes()
            if not mistakes:
                return
            if not self._ask_again(mistakes):
                raise_config_errors(mistakes)

    def _next_question(self) -> Question | None:
        settings = self.draft.plugin.settings
        belonging = {name for way in settings.alternatives for name in way.settings}
        # What this service cannot do without depends on the answers so far, such as a region on the AWS profile.
        missing = {error.setting or "" for error in self._mistakes()} - self.draft.table().keys()
        self.progress.needed = missing & self.draft.infos.keys() - belonging
        return next_question(settings, self.progress)

    def _mistakes(self) -> tuple[ConfigurationError, ...]:
        try:
            return self.draft.mistakes()
        except CommandError as error:  # a secret in the settings of an extension
            return (ConfigurationError(str(error), setting="extensions"),)

    def _answer(self, question: Question) -> None:
        if isinstance(question, AskAdvanced):
            self.progress.advanced = confirm(f"Go through the {question.count} advanced settings too?", default=False)
            return
        self._show_heading(question.group if isinstance(question, ChooseWay) else question.info.group)
        if isinstance(question, ChooseWay):
            ways = {way.title: way for way in question.ways}
            default = next((title for title, way in ways.items() if not way.required), "")
            texts = {title: way.description for title, way in ways.items()}
            self.progress.way = ways[choose(question.group or "Which one", texts, default=default)]
            return
        info = question.info
        again = info.name in self.progress.again
        self._forget(info.name)
        choices = _choices(info)
        if question.required and not again and len(choices) == 1 and info.default is None:
            self.draft.values[info.name] = only = next(iter(choices))
            print_note(f"{info.label}: {only}")
        elif info.secret:
            self._secret(info, required=question.required)
        elif info.name == "default_model":
            self._model(info, required=question.required)
        else:
            self._plain(info, choices, required=question.required)
        self.progress.known.add(info.name)
        if not again:
            # Combinations that cannot work are found as soon as the settings in them are known.
            self._ask_again(self._mistakes(), only_answered=True)

    def _forget(self, name: str) -> None:
        self.draft.values.pop(name, None)
        self.draft.references.pop(name, None)
        if name in self.progress.again:
            self.progress.again.remove(name)

    def _ask_again(self, mistakes: Iterable[ConfigurationError], *, only_answered: bool = False) -> bool:
        """Show the mistakes and reopen the settings that they are about. Return whether there are any.

        An error that is about a combination names the other settings in its text. With `only_answered`, errors about
        settings without a value are left for later.
        """
        answered = {*self.draft.values, *self.draft.references}
        found = False
        for error in mistakes:
            name = error.setting
            if name is None or (only_answered and name not in answered):
                continue
            names = [name]
            if name in self.draft.infos:
                names += [other for other in answered if other != name and re.search(rf"\b{other}\b", str(error))]
            print_note(one_line(str(error)))
            found = True
            for wrong in names:
                self._reopen(wrong)
        return found

    def _reopen(self, name: str) -> None:
        """Forget the value of a setting, and have the setting asked for again."""
        self._forget(name)
        self.progress.known.discard(name)
        if name not in self.draft.infos:
            return
        way = self.progress.way
        if way is not None and name in way.settings and len(_choices(self.draft.infos[name])) == 1:
            # The only value of the setting does not work here, so another way must be chosen.
            self.progress.way = None
        else:
            self.progress.again.append(name)

    def _show_heading(self, group: str) -> None:
        if group and group != self._heading:
            print_note("")
            print_note(group, style=BOLD)
        self._heading = group

    def _plain(self, info: SettingInfo, choices: Mapping[str, str], *, required: bool) -> None:
        self._describe(info)
        known = [os.environ.get(name, "") for name in info.environment]
        default = next((text for text in known if text.strip() and self._problem(info, text) is None), "")
        question = f"{info.label}{_requirement(info, required)}"
        problem = functools.partial(self._problem, info, required=required)
        shown = "" if required else _shown(info.default)
        if choices:
            text = choose(question, choices, shown=shown, default=default, problem=problem)
        else:
            text = ask(question, default=default, shown=shown, problem=problem)
        self._store(info, text)

    def _store(self, info: SettingInfo, text: str) -> None:
        reference = parse_reference(text) if may_be_reference(info) else None
        if reference is not None:
            self.draft.references[info.name] = reference
            self._note_missing(reference)
        elif text:
            self.draft.values[info.name] = json_or_text(info, text)

    def _describe(self, info: SettingInfo) -> None:
        lines = [info.description]
        if info.examples:
            lines.append(f"Example{'s' if len(info.examples) > 1 else ''}: {', '.join(map(_example, info.examples))}")
        kind = without_none(info.type)
        if kind is Headers:
            lines.append('As JSON, such as {"name": "value"}')
        elif is_mapping(kind):
            lines.append("As JSON")
        elif get_origin(kind) is tuple:
            lines.append("Several with commas between them, or as JSON")
        elif may_be_reference(info) and names_credential(info.name) and not (info.secret or info.path):
            lines.append("env:NAME, file:PATH or keyring:SERVICE/USER says where it is kept instead")
        for line in lines:
            print_note(one_line(line), style=DIM)

    def _problem(self, info: SettingInfo, text: str, *, required: bool = True) -> str | None:
        """Return what is expected instead of an answer, or `None` if the answer is valid."""
        if not text:
            return "an answer" if required else None
        reference = parse_reference(text) if may_be_reference(info) else None
        if reference is not None:
            return self._reference_problem(info, reference)
        if holds_secret(info.name, text):
            instead = ", or env:NAME to name an environment variable" if may_be_reference(info) else ""
            return f"a value that is no secret, since the file would show it{instead}"
        try:
            value = json_or_text(info, text)
        except ValueError as error:
            return f"JSON: {error}"
        wrong = secret_problem(info.name, value)
        if wrong is not None:
            return f"another value: {wrong}"
        try:
            convert(info, placeholder(value))
        except ValueError as error:
            return str(error)
        return None

    def _secret(self, info: SettingInfo, *, required: bool) -> None:
        self._describe(info)
        places = _PLACES if required else {**_PLACES, "none": "leave it out"}
        need = "a secret" if required else "a secret, optional"

        def place_problem(text: str) -> str | None:
            reference = parse_reference(text)
            if reference is not None:
                return self._reference_problem(info, reference)
            return None if text in places else f"a number from 1 to {len(places)}, or one of {', '.join(places)}"

        place = choose(
            f"{info.label} ({need}). Where is it kept",
            places,
            default="env" if required else "none",
            short=True,
            problem=place_problem,
        )
        reference = parse_reference(place)
        if reference is not None:
            self.draft.references[info.name] = reference
            self._note_missing(reference)
        if reference is not None or place == "none":
            return
        free = self.draft.variables(info)
        names = [name for name in (*free, info.name.upper()) if self.draft.owner(name, info.name) is None]
        known = next((name for name in names if os.environ.get(name)), free[0])
        for name in (*info.environment, variable_name(self.draft.service, info.name)) if place == "env" else ():
            if name == known:
                break
            owner = self.draft.owner(name, info.name)
            if owner is not None:
                print_note(one_line(f"{name} belongs to the service {owner}. Enter it if both share a secret."))

        def problem(text: str) -> str | None:
            return self._reference_problem(info, {place: text}) if text else "an answer"

        answer = ask(_NAMES[place], default=known if place == "env" else "", problem=problem)
        self.draft.references[info.name] = {place: answer}
        self._note_missing({place: answer})

    def _reference_problem(self, info: SettingInfo, reference: Reference) -> str | None:
        [(place, name)] = reference.items()
        wrong = reference_problem(reference)
        if wrong is None and place == "keyring" and "/" not in name:
            return "service/user"
        if wrong is not None:
            return wrong
        try:
            secret = resolve_reference(reference, environ=os.environ, folder=self.draft.folder)
        except ConfigurationError:
            return None  # it may be set later
        try:
            convert(info, secret)
        except ValueError as error:
            return f"another place, since the value there must be {error}"
        return None

    def _note_missing(self, reference: Reference) -> None:
        """Say at once that a file or a keyring entry is missing. A missing variable is mentioned at the end."""
        missing = missing_now(reference, self.draft.folder)
        if missing is not None:
            print_note(one_line(f"Before you use the service: it {missing}."))

    def _model(self, info: SettingInfo, *, required: bool) -> None:
        try:
            default = self.draft.trial().default_model or ""
        except ConfigurationError:
            default = ""
        default = default if required else ""
        self._describe(attrs.evolve(info, examples=info.examples or self.draft.plugin.settings.model_examples))
        models = self._models() if self.draft.plugin.settings.needs_model else ()
        question = f"{info.label}{_requirement(info, required)}"
        problem = functools.partial(self._problem, info, required=required)
        if models:
            text = choose_model(question, models, default=default, problem=problem)
        else:
            text = ask(question, default=default, shown=_shown(info.default), problem=problem)
        self._store(info, text)

    def _models(self) -> Sequence[str]:
        """Return the models that the service lists, if its secrets are within reach and the user wants it."""
        try:
            settings = self.draft.settings()
        except ConfigurationError:
            return ()
        hide(settings.secrets())
        if not confirm(f"Ask the service which models it has (at most {LISTING_LIMIT:g} s)?", default=True):
            return ()
        try:
            with _quiet_libraries():
                models = anyio.run(_list_models, settings, self.draft.service)
        except Exception as error:  # a mistake in a plugin must not end the questions
            if isinstance(error, TimeoutError):
                reason = f"no answer within {LISTING_LIMIT:g} s"
            elif isinstance(error, TrunklineError):
                reason = str(error)
            else:
                reason = f"unexpected {exception_text(error)}"
            reason = cut(one_line(scrub(reason, settings.secrets())), _LONGEST_REASON)
            print_note(f"The service did not list its models: {reason}")
            return ()
        if not models:
            print_note("The service lists no models.")
        return models


@contextlib.contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Keep Python from showing the warnings that other libraries log. The error contains what matters."""
    handler = logging.NullHandler()
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)


async def _list_models(settings: Settings, name: str) -> Sequence[str]:
    from trunkline.opening import open_service

    with anyio.fail_after(LISTING_LIMIT):
        hurried = attrs.evolve(settings, max_retries=0)  # type: ignore[misc]  # see settings.py
        async with open_service(hurried, name=name) as service:
            return sorted({model.id for model in await service.list_models()})


def _requirement(info: SettingInfo, required: bool) -> str:
    if without_none(info.type) is bool and info.choices is None:
        return " (true or false)"
    return "" if required or _shown(info.default) else " (optional)"


def _shown(default: object) -> str:
    """Return the default of a setting as the question shows it."""
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, float):
        return f"{default:g}"
    return str(default) if isinstance(default, (str, int)) else ""


def _example(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _choices(info: SettingInfo) -> Mapping[str, str]:
    """Return the values that a setting accepts, with what each means."""
    if info.choices is not None:
        return info.choices
    kind = without_none(info.type)
    if get_origin(kind) is Literal:
        return {str(value): "" for value in get_args(kind)}
    branches = (info.schema or {}).get("oneOf")
    return {
        str(branch["const"]): str(branch.get("description", ""))
        for branch in (branches if isinstance(branches, list) else ())
        if isinstance(branch, Mapping) and "const" in branch
    }

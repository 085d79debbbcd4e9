"""Ask one question on the terminal and read the answer: any text, yes or no, one of several choices, or a model."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence

from trunkline._setting_types import trimmed
from trunkline._suggestions import nearest
from trunkline._visible_text import one_line
from trunkline.cli.failures import CommandError
from trunkline.cli.hidden import hide
from trunkline.cli.terminal import print_note, write

MODELS_SHOWN = 20
"""How many models are listed at once."""


def ask(
    question: str,
    *,
    default: str = "",
    shown: str = "",
    problem: Callable[[str], str | None] = lambda text: None,
) -> str:
    """Ask until the answer is valid, and return it. `problem` returns what is expected instead, or `None`.

    An empty answer means `default`. Where an empty answer is returned as it is, `shown` is shown in its place. Raises
    `CommandError` at the end of the input.
    """
    hint = default or shown
    while True:
        write(f"{question}{f' [{hint}]' if hint else ''}: ", sys.stderr)
        try:
            line = sys.stdin.readline()
        except UnicodeDecodeError:
            print_note(f"Please enter text in {sys.stdin.encoding}.")
            continue
        if not line:
            print_note("")
            raise CommandError("the input ended before all questions were answered; nothing was written")
        hide(line)
        answer = trimmed(line) or default
        if unquoted := re.fullmatch(r"""(["'])([^"']+)\1""", answer):
            print_note("The quotes were removed.")
            answer = trimmed(unquoted[2])
        wrong = problem(answer)
        if wrong is None:
            return answer
        print_note(one_line(f"Please enter {wrong}."))


def confirm(question: str, *, default: bool) -> bool:
    """Ask a question that is answered with yes or no."""
    words = {"y": True, "yes": True, "n": False, "no": False, "": default}
    hint = "Y/n" if default else "y/N"
    answer = ask(question, shown=hint, problem=lambda text: None if text.lower() in words else "y or n")
    return words[answer.lower()]


def choose(
    question: str,
    choices: Mapping[str, str],
    *,
    default: str = "",
    shown: str = "",
    short: bool = False,
    problem: Callable[[str], str | None] | None = None,
) -> str:
    """Show the choices with numbers, and return the one that is chosen by its number or its name.

    With `short`, the start of a name is enough. `problem` returns what is expected instead of an answer, or `None`; by
    default, only the choices are accepted.
    """
    for number, (name, meaning) in enumerate(choices.items(), 1):
        print_note(one_line(f"  {number}. {name}{f': {meaning}' if meaning else ''}"))

    def chosen(text: str) -> str:
        lowered = {name.lower(): name for name in choices}
        if text.lower() in lowered:
            return lowered[text.lower()]
        if text.isdecimal() and 1 <= int(text) <= len(choices):
            return list(choices)[int(text) - 1]
        starts = [name for name in choices if text and name.startswith(text.lower())] if short else []
        return starts[0] if len(starts) == 1 else text

    def wrong(text: str) -> str | None:
        name = chosen(text)
        listed = f"a number from 1 to {len(choices)}, or one of {', '.join(choices)}"
        expected = problem(name) if problem is not None else None if name in choices else listed
        found = nearest(name, choices) if name and expected else None
        return f"{expected} (did you mean {found}?)" if found else expected

    return chosen(ask(question, default=default, shown=shown, problem=wrong))


def choose_model(question: str, models: Sequence[str], *, default: str, problem: Callable[[str], str | None]) -> str:
    """Show the models with numbers, and return the one that is chosen by its number or its name.

    Another text shows the models whose name contains it. If there is none, or the text is entered again, it is the
    name of a model that the service does not list. A number must be entered again to be a name.
    """
    found, part = list(models), ""
    while True:
        for number, name in enumerate(found[:MODELS_SHOWN], 1):
            print_note(one_line(f"  {number}. {name}"))
        if len(found) > MODELS_SHOWN:
            print_note(f"  and {len(found) - MODELS_SHOWN} more: enter a part of a name to see those that contain it")
        only = found[0] if part and len(found) == 1 else default
        text = ask(question, default=only, problem=problem)
        if text.isdecimal() and text not in models and 1 <= int(text) <= min(len(found), MODELS_SHOWN):
            return found[int(text) - 1]
        matching = [name for name in models if text.lower() in name.lower()]
        if not text or text in (part, *models) or not (matching or text.isdecimal()):
            return text
        if not matching:
            print_note(f"There is no model number {text}. To use a model called just that, enter it again.")
            part = text
            continue
        print_note(one_line(f"Models with {text!r} in their name. To use a model called just that, enter it again."))
        found, part = matching, text

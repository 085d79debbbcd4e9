"""Which question `trunkline init` asks next, given what is known. Nothing here asks, shows or reads anything."""

from __future__ import annotations

from collections.abc import Collection
from typing import TypeAlias

import attrs

from trunkline.settings import GROUPS, Alternative, SettingInfo, Settings, setting_infos


@attrs.frozen
class AskSetting:
    """Ask for one setting, which may be left out unless it is `required`."""

    info: SettingInfo
    required: bool


@attrs.frozen
class ChooseWay:
    """Ask which of several ways to use, such as kinds of credentials. `group` is the heading of their settings."""

    ways: tuple[Alternative, ...]
    group: str


@attrs.frozen
class AskAdvanced:
    """Ask whether to go on with the advanced settings. `count` is how many there are."""

    count: int


Question: TypeAlias = AskSetting | ChooseWay | AskAdvanced


@attrs.define(kw_only=True)
class Progress:
    """The state of the questions: `known` holds the settings that need no question any more.

    `needed` holds optional settings that this service requires. `again` holds settings whose value was wrong; they are
    asked for first. `way` is the chosen alternative, and `advanced` is whether to ask for advanced settings. Both are
    `None` until the user has chosen.
    """

    known: set[str]
    needed: set[str] = attrs.Factory(set)
    way: Alternative | None = None
    advanced: bool | None = None
    again: list[str] = attrs.Factory(list)


def next_question(settings: type[Settings], progress: Progress) -> Question | None:
    """Return the next question of the form, or `None` at its end.

    The choice between alternatives comes first, with the settings of the chosen one, since others may depend on it: a
    region may come from the chosen profile. The basic settings follow, group by group, with the required ones at the
    start of each group, then the question whether to go on with the advanced settings.
    """
    infos = {info.name: info for info in setting_infos(settings)}
    belonging = {name: infos[name].group for way in settings.alternatives for name in way.settings}
    if progress.way is None and belonging and not progress.again:
        return ChooseWay(settings.alternatives, next(iter(belonging.values())))
    if progress.again:
        info = infos[progress.again[0]]
        return AskSetting(info, is_required(settings, info, progress))
    questions: dict[bool, list[AskSetting]] = {False: [], True: []}
    for info in _in_form_order(settings, progress):
        required = is_required(settings, info, progress)
        if info.name not in progress.known and (info.name not in belonging or _has(progress.way, info.name)):
            questions[info.advanced and not required].append(AskSetting(info, required))
    basic, advanced = questions[False], questions[True]
    if basic:
        return basic[0]
    if not advanced or progress.advanced is False:
        return None
    return advanced[0] if progress.advanced else AskAdvanced(len(advanced))


def is_required(settings: type[Settings], info: SettingInfo, progress: Progress) -> bool:
    """Whether the form requires a setting: the class does, the chosen way does, or no request could be answered."""
    by_way = progress.way is not None and info.name in progress.way.required
    by_model = info.name == "default_model" and settings.needs_model
    return info.required or by_way or by_model or info.name in progress.needed


def way_of(settings: type[Settings], names: Collection[str]) -> Alternative | None:
    """Return the alternative to which settings with these names belong; of several, the one that the library uses."""
    return next((way for way in settings.alternatives if not {*names}.isdisjoint(way.settings)), None)


def _has(way: Alternative | None, name: str) -> bool:
    return way is not None and name in way.settings


def _in_form_order(settings: type[Settings], progress: Progress) -> list[SettingInfo]:
    infos = setting_infos(settings)
    # The plugin's own groups come first.
    groups = [*dict.fromkeys(info.group for info in infos if info.group not in GROUPS), *GROUPS]
    return sorted(
        infos,
        key=lambda info: (
            not _has(progress.way, info.name),
            groups.index(info.group),
            not is_required(settings, info, progress),
        ),
    )

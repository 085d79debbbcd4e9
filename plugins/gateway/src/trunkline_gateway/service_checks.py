"""Checks services: what is wrong with their settings, and what `trunkline check` says of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial

import anyio
from trunkline import ConfigurationError, ProviderService
from trunkline.cli.check import Report, Step, check_service
from trunkline.cli.diagnosis import diagnose
from trunkline.cli.selection import SelectedService, WrongService
from trunkline.settings import raise_config_errors

from trunkline_gateway.database.services import StoredService
from trunkline_gateway.networks import Networks
from trunkline_gateway.service_opening import composition_errors, open_stored
from trunkline_gateway.service_tables import ServiceDraft, is_composed, kind_of, members_of

# Settings


async def validate(
    draft: ServiceDraft, stored: Mapping[str, StoredService], networks: Networks
) -> tuple[StoredService, list[ConfigurationError]]:
    """Return a service as it would be stored beside the stored ones, and its mistakes."""
    service, errors = draft.stored()
    if is_composed(service.table):
        # The error of a cycle is that of the service in it that comes first.
        others = {name: other for name, other in stored.items() if name != draft.name}
        wrong = composition_errors({draft.name: service, **others})
        if draft.name in wrong:
            errors.append(wrong[draft.name])
        return service, errors
    opened: ProviderService | None = None
    try:
        _, opened = await open_stored(service, networks)
    except ConfigurationError as error:
        errors.append(error)
    errors += draft.form_errors(service, errors)
    if opened is not None:
        errors += draft.secret_errors(opened)
        try:
            await networks.check(opened.settings, service=draft.name)
        except ConfigurationError as error:
            errors.append(error)
    return service, errors


def one_error(errors: Sequence[ConfigurationError], name: str) -> ConfigurationError:
    """Return one error for all, whose `errors` lists each with its setting, also if there is only one."""
    flat = [single for error in errors for single in (error.errors or (error,))]
    for single in flat:
        # An error about the installation of a provider, for example.
        single.setting = single.setting or "provider"
    try:
        raise_config_errors(flat)
    except ConfigurationError as error:
        return (
            error
            if error.errors
            else ConfigurationError(str(error), service=name, setting=error.setting, errors=[error])
        )
    raise AssertionError("there is at least one error")


# Connections


async def check_draft(
    draft: ServiceDraft, stored: Mapping[str, StoredService], model: str | None, networks: Networks
) -> Report:
    """Test a service as the console sends it, without storing it."""
    service, errors = await validate(draft, stored, networks)
    if errors:
        return await check_service(WrongService(error=one_error(errors, draft.name), provider=_provider(draft.table)))
    if not is_composed(service.table):
        return await _check_stored(service, model, networks)
    every = {**stored, draft.name: service}
    checks = {leaf: partial(_check_stored, every[leaf], None, networks) for leaf in _leaves(draft.name, every)}
    return await check_members(draft.name, kind_of(service.table), checks)


async def _check_stored(stored: StoredService, model: str | None, networks: Networks) -> Report:
    """Test a service with a provider."""
    try:
        _, service = await open_stored(stored, networks)
        await networks.check(service.settings, service=stored.name)
    except ConfigurationError as error:
        error.service = error.service or stored.name
        return await check_service(WrongService(error=error, provider=_provider(stored.table)))
    selected = SelectedService(name=stored.name, settings=service.settings, origin="the console")
    return await check_service(selected, model=model)


async def check_members(name: str, kind: str | None, checks: Mapping[str, Callable[[], Awaitable[Report]]]) -> Report:
    """Test the members of a composed service at the same time. The service works if one of them does.

    `kind` is `fallback` or `balance`; `checks` has a function for each member that tests it.
    """
    found: dict[str, Report] = {}

    async def check_member(member: str) -> None:
        found[member] = await checks[member]()

    async with anyio.create_task_group() as tasks:
        for member in checks:
            tasks.start_soon(check_member, member)
    reports = {member: found[member] for member in checks}
    report = Report(name=name)
    report.members = {member: result.ok for member, result in reports.items()}
    report.notes += [
        f"{member} does not work: {_reason(result)}" for member, result in reports.items() if not result.ok
    ]
    if any(report.members.values()):
        detail = f"{kind} of {', '.join(checks)}"
        report.steps.append(Step(name="settings", status="ok", seconds=0.0, detail=detail))
    else:
        error = ConfigurationError(f"none of the services that it is made of works: {', '.join(checks)}")
        report.fail("settings", diagnose(error, None, None), seconds=0.0)
    report.running = None
    return report


def _leaves(name: str, stored: Mapping[str, StoredService]) -> list[str]:
    """Return the services with a provider that a composed service is made of. It has no cycle."""
    found: dict[str, None] = {}
    for member in members_of(stored[name].table):
        if is_composed(stored[member].table):
            found.update(dict.fromkeys(_leaves(member, stored)))
        else:
            found[member] = None
    return list(found)


def _reason(report: Report) -> str:
    return report.diagnosis.message if report.diagnosis is not None else "it was not tested"


def _provider(table: Mapping[str, object]) -> str | None:
    name = table.get("provider")
    return name.strip() if isinstance(name, str) else None

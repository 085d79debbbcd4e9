"""`trunkline check`: tests each service of a configuration file, from its settings to one tiny answer."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import anyio
import attrs

from trunkline._exception_text import exception_text
from trunkline._visible_text import one_line
from trunkline.cli.selection import SelectedService, ServiceOptions, select_services
from trunkline.cli.terminal import print_result
from trunkline.errors import (
    AuthenticationError,
    ConfigurationError,
    ProtocolViolation,
    RemoteError,
    TrunklineError,
    UnsupportedOperation,
)
from trunkline.messages import user
from trunkline.request import ChatRequest
from trunkline.secrets import scrub
from trunkline.service import Service

OUTPUT_TOKENS = 16
"""The smallest limit that every provider accepts (OpenAI's Responses API refuses fewer)."""

_NO_OPTIONS = ServiceOptions()


def check(
    *,
    target: ServiceOptions = _NO_OPTIONS,
    request: bool = True,
    timeout: float = 60.0,
) -> int:
    """Test the services of a configuration file, all at the same time. The exit status is 0 if all work, else 1.

    Parameters
    ----------
    request
        Ask each service for a tiny answer (at most 16 tokens), which may cost a fraction of a cent.
    timeout
        The longest time for one step of a service, in seconds. The service's own timeouts still apply.
    """
    return anyio.run(_check_all, select_services(target), request, timeout)


async def _check_all(services: dict[str, SelectedService | ConfigurationError], request: bool, timeout: float) -> int:
    failed: list[str] = []
    labels = {name: one_line(name) for name in services}
    width = max(map(len, labels.values()))

    async def check_and_print(name: str, service: SelectedService | ConfigurationError) -> None:
        started = time.monotonic()
        done, problem = await _check_one(service, request, timeout)
        seconds = time.monotonic() - started
        if problem is None:
            print_result(f"{labels[name].ljust(width)}  ok      {seconds:5.1f} s  {', '.join(done)}")
            return
        failed.append(name)
        text = problem.replace("\n", "\n    ")
        print_result(f"{labels[name].ljust(width)}  FAILED  {seconds:5.1f} s\n    {text}")

    async with anyio.create_task_group() as tasks:
        for name, service in services.items():
            tasks.start_soon(check_and_print, name, service)
    return 1 if failed else 0


async def _check_one(
    selected: SelectedService | ConfigurationError, request: bool, timeout: float
) -> tuple[list[str], str | None]:
    """Return the results of the steps that succeeded, and the problem of the step that failed, if any."""
    if isinstance(selected, ConfigurationError):
        return [], f"settings: {selected}"
    settings = selected.settings
    total = timeout if settings.total_timeout is None else min(timeout, settings.total_timeout)
    # No retries: a check reports every failure.
    settings = attrs.evolve(settings, max_retries=0, total_timeout=total)  # type: ignore[misc]  # see settings.py
    steps: dict[str, Callable[[Service], Awaitable[str]]] = {"credentials": _credentials, "reachability": _reachability}
    if request:
        steps["request"] = _request
    done = ["settings"]
    step = "settings"
    try:
        from trunkline.opening import open_service

        async with open_service(settings, name=selected.name) as service:
            for step, run in steps.items():  # noqa: B007  # used in the except clauses
                done.append(await run(service))
    except TrunklineError as error:
        return done, f"{step}: {error}"
    except Exception as error:  # a mistake in one plugin must not end the check of the other services
        return done, scrub(f"{step}: unexpected {exception_text(error)}", settings.secrets())
    return done, None


async def _credentials(service: Service) -> str:
    await service.authenticate()
    return "credentials"


async def _reachability(service: Service) -> str:
    """Check that the provider answers, by listing its models, which costs nothing.

    An error such as 403 or 404 is an answer too: some providers do not list models.
    """
    try:
        models = await service.list_models()
    except UnsupportedOperation:
        return "reachability cannot be tested without a request"
    except ProtocolViolation:
        return "reachable (the list of models cannot be read)"
    except RemoteError as error:
        if error.status is None or error.status >= 500 or isinstance(error, AuthenticationError):
            raise
        return "reachable"
    return f"reachable ({len(models)} model{'' if len(models) == 1 else 's'})"


async def _request(service: Service) -> str:
    response = await service.chat(ChatRequest(messages=user("Say ok"), max_output_tokens=OUTPUT_TOKENS))
    return f"answer from {one_line(response.model or service.settings.default_model or 'the model')}"

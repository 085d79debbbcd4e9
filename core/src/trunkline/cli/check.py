"""`trunkline check`: each service of a configuration, from its settings to one tiny answer."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import anyio
import attrs

from trunkline.cli.selection import SelectedService, ServiceOptions, select_services
from trunkline.cli.terminal import safe
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
"""The least that every wire takes (the Responses API refuses fewer)."""

_NOWHERE = ServiceOptions()


def check(
    *,
    target: ServiceOptions = _NOWHERE,
    request: bool = True,
    timeout: float = 60.0,
) -> int:
    """Try each service of a configuration, several at once. The exit status is 0 when all are well, else 1.

    Parameters
    ----------
    request
        Ask each service for a tiny answer (at most 16 tokens), which may cost a fraction of a cent.
    timeout
        Seconds that one step of a service may take, where its own timeouts allow more.
    """
    return anyio.run(_check_all, select_services(target), request, timeout)


async def _check_all(found: dict[str, SelectedService | ConfigurationError], request: bool, timeout: float) -> int:
    failed: list[str] = []
    width = max(map(len, found))

    async def one(name: str, chosen: SelectedService | ConfigurationError) -> None:
        started = time.monotonic()
        done, problem = await _check_one(chosen, request, timeout)
        seconds = time.monotonic() - started
        if problem is None:
            print(f"{name.ljust(width)}  ok      {seconds:5.1f} s  {', '.join(done)}", flush=True)
            return
        failed.append(name)
        text = safe(problem).replace("\n", "\n    ")
        print(f"{name.ljust(width)}  FAILED  {seconds:5.1f} s\n    {text}", flush=True)

    async with anyio.create_task_group() as tasks:
        for name, chosen in found.items():
            tasks.start_soon(one, name, chosen)
    return 1 if failed else 0


async def _check_one(
    chosen: SelectedService | ConfigurationError, request: bool, timeout: float
) -> tuple[list[str], str | None]:
    """The steps that went well, and what was wrong with the next."""
    if isinstance(chosen, ConfigurationError):
        return [], f"settings: {chosen}"
    settings = chosen.settings
    total = timeout if settings.total_timeout is None else min(timeout, settings.total_timeout)
    # One attempt: a check tells what it meets.
    settings = attrs.evolve(settings, max_retries=0, total_timeout=total)  # type: ignore[misc]  # see settings.py
    steps: dict[str, Callable[[Service], Awaitable[str]]] = {"credentials": _credentials, "reachability": _reachability}
    if request:
        steps["request"] = _request
    done = ["settings"]
    step = "settings"
    try:
        from trunkline.opening import open_service

        async with open_service(settings, name=chosen.name) as service:
            for step, run in steps.items():  # noqa: B007  # named where it fails  # told where it fails
                done.append(await run(service))
    except TrunklineError as error:
        return done, f"{step}: {error}"
    except Exception as error:  # a plugin's mistake must not hide the other services
        return done, scrub(f"{step}: unexpected {type(error).__name__}: {error}", settings.secrets())
    return done, None


async def _credentials(service: Service) -> str:
    await service.authenticate()
    return "credentials"


async def _reachability(service: Service) -> str:
    """Whether anything answers. The list of models is free of charge; who forbids it or has none answers as well."""
    try:
        models = await service.list_models()
    except UnsupportedOperation:
        return "reachability not testable without a request"
    except ProtocolViolation:
        return "reachable (its list of models cannot be read)"
    except RemoteError as error:
        if error.status is None or error.status >= 500 or isinstance(error, AuthenticationError):
            raise
        return "reachable"
    return f"reachable ({len(models)} models)"


async def _request(service: Service) -> str:
    response = await service.chat(ChatRequest(messages=user("Say ok"), max_output_tokens=OUTPUT_TOKENS))
    return f"answer from {safe(response.model or service.settings.default_model or 'the model')}"

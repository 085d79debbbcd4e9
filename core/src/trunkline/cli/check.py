"""`trunkline check`: tests each service of a configuration file, from its settings to one tiny answer.

If the model answers, the service works, even if its models cannot be listed, for whatever reason. Without a request, a
list that fails is a failure. The module `diagnosis` says what is wrong and what to do about it.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from http import HTTPStatus
from typing import Literal, TypeVar
from urllib.parse import urlsplit

import anyio
import attrs

from trunkline._exception_text import exception_text
from trunkline._http.proxies import Proxies
from trunkline._visible_text import one_line
from trunkline.cli.diagnosis import Diagnosis, diagnose, near_models, not_listed
from trunkline.cli.failures import CommandError
from trunkline.cli.selection import ComposedService, SelectedService, ServiceOptions, WrongService, select_services
from trunkline.cli.terminal import live_lines, print_json, print_result
from trunkline.errors import (
    BadRequest,
    ConfigurationError,
    PluginError,
    ProtocolViolation,
    RemoteError,
    TrunklineError,
    UnsupportedOperation,
)
from trunkline.messages import user
from trunkline.provider_service import ProviderService, last_endpoint
from trunkline.request import ChatRequest
from trunkline.response import ModelInfo
from trunkline.secrets import scrub
from trunkline.settings import Settings

OUTPUT_TOKENS = 16
"""The smallest limit that every provider accepts (OpenAI's Responses API refuses fewer)."""

LIST_LIMIT = 10.0
"""The longest time for the list of models if a request follows, in seconds. It gets at most half of the whole time."""

_NO_OPTIONS = ServiceOptions()

R = TypeVar("R")
StepName = Literal["settings", "credentials", "models", "request"]


def check(
    *,
    target: ServiceOptions = _NO_OPTIONS,
    model: str | None = None,
    request: bool = True,
    timeout: float | None = 60.0,
    json: bool = False,
) -> int:
    """Test the services of a configuration file, all at the same time. The exit status is 0 if all work, else 1.

    Parameters
    ----------
    model
        The model to ask. Default: the service's default_model.
    request
        Ask each service for a tiny answer (at most 16 tokens), which may cost a fraction of a cent.
    timeout
        The longest time for one step of a service, in seconds, or none. The service's own timeouts still apply.
    json
        Write a JSON array with an object for each service, in the order of the file, or with one object, whose name
        is null, if the file itself is wrong.
    """
    if timeout is not None and not (timeout > 0 and math.isfinite(timeout)):
        raise CommandError("--timeout takes a number of seconds above 0, or none")
    options = _Options(model=model, request=request, timeout=timeout)
    try:
        services = select_services(target)
    except ConfigurationError as error:
        if not json:
            raise
        report = Report(name=None)
        report.fail("settings", diagnose(error, None, None), seconds=0.0)
        print_json([report.as_json()], indent=2)
        return 1
    return anyio.run(_check_all, services, options, json)


@attrs.frozen(kw_only=True)
class _Options:
    model: str | None
    request: bool
    timeout: float | None


@attrs.frozen(kw_only=True)
class Step:
    """A step that has ended. `unavailable` means that it could not be tested, which does not fail the service."""

    name: StepName
    status: Literal["ok", "failed", "unavailable"]
    seconds: float
    detail: str


@attrs.define(kw_only=True)
class Report:
    """What is known of one service. It grows while the service is checked."""

    name: str | None
    """The name of the service, or `None` for a mistake in the file that belongs to no service."""
    provider: str | None = None
    model: str | None = None
    url: str | None = None
    proxy: str | None = None
    members: dict[str, bool] | None = None
    """For a composed service: the services it is made of, and whether each works."""
    models: tuple[str, ...] = ()
    """The models that the service lists, as far as it was asked."""
    steps: list[Step] = attrs.field(factory=list)
    notes: list[str] = attrs.field(factory=list)
    diagnosis: Diagnosis | None = None
    running: str | None = "settings"
    """The step that runs, or `None` at the end."""

    @property
    def ok(self) -> bool:
        """Whether the service works, as far as it was tested."""
        return self.running is None and self.diagnosis is None

    @property
    def seconds(self) -> float:
        """The time that all steps took."""
        return sum(step.seconds for step in self.steps)

    def fail(self, name: StepName, diagnosis: Diagnosis, seconds: float) -> None:
        """Note that a step failed, and why."""
        self.diagnosis = diagnosis
        self.steps.append(Step(name=name, status="failed", seconds=seconds, detail=diagnosis.message))

    def as_json(self) -> dict[str, object]:
        """Return the object of `--json`."""
        problem = self.diagnosis
        return {
            "name": self.name,
            "provider": self.provider,
            "ok": self.ok,
            "model": self.model,
            "url": self.url,
            "proxy": self.proxy,
            **({} if self.members is None else {"members": self.members}),
            "steps": [{**attrs.asdict(step), "seconds": round(step.seconds, 3)} for step in self.steps],
            "problem": problem and problem.problem,
            "message": problem and problem.message,
            "advice": problem and problem.advice,
            "notes": self.notes,
        }

    def as_text(self, width: int) -> str:
        """Return the lines for a person. `width` is that of the longest name of a service."""
        label = one_line(self.name or "").ljust(width)
        if self.running is not None:
            return f"{label}  checking: {self.running}"
        done = ", ".join(one_line(step.detail) for step in self.steps if step.status == "ok")
        asked = [f"asked: {self._where()}"] if self.url and (self.diagnosis or self.proxy) else []
        notes = [*asked, *(f"note: {note}" for note in self.notes)]
        if self.diagnosis is None:
            head = f"{label}  ok      {self.seconds:5.1f} s  {done}"
        else:
            failed = next((step.name for step in self.steps if step.status == "failed"), "settings")
            problem = self.diagnosis.problem
            what = f"{failed}: {problem}" if problem != failed else problem
            head = f"{label}  FAILED  {self.seconds:5.1f} s  {what}"
            notes = [self.diagnosis.message, f"to do: {self.diagnosis.advice}", *notes]
        return "\n    ".join([head, *(line for note in notes for line in note.split("\n"))])

    def _where(self) -> str:
        return f"{self.url} {self.proxy}" if self.proxy else str(self.url)


async def check_service(
    selected: SelectedService | WrongService,
    *,
    model: str | None = None,
    request: bool = True,
    timeout: float | None = 60.0,
    report: Report | None = None,
    show: Callable[[], None] = lambda: None,
) -> Report:
    """Test one service as `trunkline check` does, and return the report.

    `model` is the model to ask, by default the service's `default_model`. Without `request`, the service is not asked
    for an answer. `timeout` is the longest time for one step, in seconds, or `None`. If `report` is given, it is filled
    while the service is tested, and `show` is called after each change of it.

    Mistakes and failures are in the report; none is raised.
    """
    if report is None:
        name = selected.name if isinstance(selected, SelectedService) else selected.error.service
        report = Report(name=name)
    options = _Options(model=model, request=request, timeout=timeout)
    await _Check(selected, report, options, show).run()
    return report


async def _check_all(
    services: dict[str, SelectedService | ComposedService | WrongService], options: _Options, as_json: bool
) -> int:
    reports = [Report(name=name) for name in services]
    width = max(len(one_line(name)) for name in services)
    printed = 0
    live: AbstractContextManager[Callable[[str], None] | None]
    live = nullcontext() if as_json else live_lines(sys.stdout)
    with live as draw:

        def show() -> None:
            # A terminal has a line for each service. A pipe gets the results in order, each as soon as possible.
            nonlocal printed
            if draw is not None:
                draw("\n".join(report.as_text(width).split("\n")[0] for report in reports))
            elif not as_json:
                for report in reports[printed:]:
                    if report.running is not None:
                        return
                    print_result(report.as_text(width))
                    printed += 1

        async with anyio.create_task_group() as tasks:
            for selected, report in zip(services.values(), reports, strict=True):
                if not isinstance(selected, ComposedService):
                    tasks.start_soon(
                        partial(
                            check_service,
                            selected,
                            model=options.model,
                            request=options.request,
                            timeout=options.timeout,
                            report=report,
                            show=show,
                        )
                    )
        found = {report.name: report for report in reports}
        for selected in services.values():
            if isinstance(selected, ComposedService):
                _conclude(selected, found)
        show()
    if as_json:
        print_json([report.as_json() for report in reports], indent=2)
    else:
        for report in reports[printed:]:
            print_result(report.as_text(width))
    return 0 if all(report.ok for report in reports) else 1


def _conclude(selected: ComposedService, reports: Mapping[str | None, Report]) -> None:
    """Complete the report of a composed service from those of its members. It works if one of them does."""
    report = reports[selected.name]
    members = {name: reports[name] for name in selected.members}
    working = [name for name, member in members.items() if member.ok]
    report.members = {name: member.ok for name, member in members.items()}
    kind = selected.compositions.services[selected.name].kind
    report.notes += [f"{one_line(name)} does not work" for name in members if name not in working]
    if working:
        detail = f"{kind} of {', '.join(members)}"
        report.steps.append(Step(name="settings", status="ok", seconds=0.0, detail=detail))
    else:
        error = ConfigurationError(f"none of the services that it is made of works: {', '.join(members)}")
        report.fail("settings", diagnose(error, None, None), seconds=0.0)
    report.running = None


class _Check:
    """The check of one service. It calls `show` after each change of the report."""

    def __init__(
        self,
        selected: SelectedService | WrongService,
        report: Report,
        options: _Options,
        show: Callable[[], None],
    ) -> None:
        self._selected = selected
        self._report = report
        self._options = options
        self._show = show
        self._models: tuple[ModelInfo, ...] | None = None
        self._request = ChatRequest(messages=user("Say ok"), max_output_tokens=OUTPUT_TOKENS)

    async def run(self) -> None:
        """Run the steps until one fails."""
        selected = self._selected
        if isinstance(selected, WrongService):
            self._report.provider = selected.provider
            self._fail("settings", selected.error, None, 0.0)
        else:
            await self._run(selected)
        self._report.running = None
        self._show()

    async def _run(self, selected: SelectedService) -> None:
        given = selected.settings
        report = self._report
        limits = [limit for limit in (self._options.timeout, given.total_timeout) if limit is not None]
        model = self._options.model or given.default_model
        # No retries: a check reports every failure.
        settings = attrs.evolve(  # type: ignore[misc]  # see settings.py
            given, max_retries=0, total_timeout=min(limits, default=None), default_model=model
        )
        report.provider, report.model = settings.provider, model
        report.steps.append(Step(name="settings", status="ok", seconds=0.0, detail="settings"))
        steps: list[tuple[StepName, Callable[[ProviderService], Awaitable[str | None]]]]
        steps = [("credentials", self._credentials), ("models", self._list)]
        if self._options.request:
            steps.append(("request", self._ask))
        name: StepName = "settings"
        started = time.monotonic()
        try:
            from trunkline.opening import open_service

            async with open_service(settings, name=selected.name) as service:
                for name, step in steps:  # used in the except clauses
                    report.running = name
                    self._show()
                    started = time.monotonic()
                    detail = await step(service)
                    if detail is not None:
                        seconds = time.monotonic() - started
                        report.steps.append(Step(name=name, status="ok", seconds=seconds, detail=detail))
        except TrunklineError as error:
            self._fail(name, error, settings, time.monotonic() - started)
        except BrokenPipeError:  # nobody reads what is shown
            raise
        except Exception as error:  # a mistake in one plugin must not end the check of the other services
            text = scrub(f"unexpected {exception_text(error)}", settings.secrets())
            self._fail(name, TrunklineError(text), settings, time.monotonic() - started)

    def _fail(self, name: StepName, error: TrunklineError, settings: Settings | None, seconds: float) -> None:
        report = self._report
        proxied = (report.proxy or "").startswith("through")
        found = diagnose(error, settings, self._models, provider=report.provider, proxied=proxied)
        report.fail(name, found, seconds)

    # The steps. Each returns what it found, or `None` if it could not be tested.

    async def _noting_endpoint(self, service: ProviderService, call: Awaitable[R]) -> R:
        """Make a call of a service, and note what it asked last."""
        was_sent = True
        try:
            return await call
        except ConfigurationError as error:
            # Settings that are wrong are found before anything is sent, except by a proxy.
            was_sent = isinstance(error, PluginError) or error.problem == "proxy"
            raise
        finally:
            endpoint = last_endpoint(service) if was_sent else None
            if endpoint is not None:
                self._report.url = endpoint
                self._report.proxy = _proxy_for(endpoint.rpartition(" ")[2], service.settings)

    async def _credentials(self, service: ProviderService) -> str:
        await self._noting_endpoint(service, service.authenticate())
        return "credentials"

    async def _list(self, service: ProviderService) -> str | None:
        settings, report = service.settings, self._report
        follows = self._options.request and not _lacks_model(settings)
        limit = min(LIST_LIMIT, (settings.total_timeout or math.inf) / 2) if follows else math.inf
        started = time.monotonic()
        try:
            with anyio.fail_after(limit):
                self._models = await self._noting_endpoint(service, service.list_models())
        except TimeoutError:
            reason = f"the models cannot be listed (no answer within {limit:g} s)"
        except UnsupportedOperation:
            reason = "this provider lists no models"
            if not self._options.request:
                report.notes.append(f"{reason}, so the key, the URL and the model were not tested")
        except TrunklineError as error:
            status = error.status if isinstance(error, RemoteError) else None
            if not self._options.request and status in _NO_LIST:
                report.notes.append("if this server does not list its models, check it without --no-request")
            if not follows and not (self._options.request and status in _NO_LIST):
                if settings.default_model is None:
                    report.notes.append("default_model is not set")
                raise
            what = error.message if isinstance(error, RemoteError) else str(error)
            reason = (
                f"the models cannot be listed ({f'status {status}' if status is not None and status >= 300 else what})"
            )
        else:
            report.models = tuple(model.id for model in self._models)
            self._compare(settings.default_model)
            count = len(self._models)
            return f"{count} model{'' if count == 1 else 's'}"
        seconds = time.monotonic() - started
        report.steps.append(Step(name="models", status="unavailable", seconds=seconds, detail=reason))
        return None

    def _compare(self, model: str | None) -> None:
        """Note that the model is not in the list, if no request tests it. Deployments and aliases are in no list."""
        if self._options.request:
            return
        notes = self._report.notes
        if model is None:
            notes.append(f"default_model is not set, so that each request has to name its model{self._examples()}")
        elif not_listed(model, self._models):
            near = near_models(model, self._models)
            hint = f"; similar names: {', '.join(near)}" if near else ""
            notes.append(f"the list of models does not have the default_model {model!r}{hint}")
        notes.append("the model was not asked for an answer; a list that anybody may read does not test the key")

    async def _ask(self, service: ProviderService) -> str:
        settings = service.settings
        if _lacks_model(settings):
            self._note_list()
            raise ConfigurationError(
                "default_model is not set, and no request can be tested without a model",
                setting="default_model",
                problem="model",
                advice=f"set default_model, or name one for this check with --model{self._examples()}",
            )
        try:
            response = await self._noting_endpoint(service, service.chat(self._request))
        except BadRequest as error:
            # A model that thinks may need more tokens than the test allows. Some servers refuse that as a mistake.
            if "output limit was reached" not in error.message:
                raise
            return f"answer from {one_line(settings.default_model or 'the model')}"
        if not response.parts and response.finish_reason is None:
            raise ProtocolViolation("the answer has neither content nor a finish reason")
        self._note_list()
        return f"answer from {one_line(response.model or settings.default_model or 'the model')}"

    def _note_list(self) -> None:
        self._report.notes += [step.detail for step in self._report.steps if step.status == "unavailable"]

    def _examples(self) -> str:
        names = [model.id for model in (self._models or ())[:3]]
        return f"; the service lists {', '.join(names)}" if names else ""


_NO_LIST = (HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED)
"""The statuses of servers that do not list their models."""


def _lacks_model(settings: Settings) -> bool:
    return settings.default_model is None and settings.needs_model


def _proxy_for(url: str, settings: Settings) -> str | None:
    """Return how a request goes to a URL, if a proxy is configured: through it, or past it because of `NO_PROXY`."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        return None
    if parts.scheme not in ("http", "https"):
        return None
    with suppress(ConfigurationError):  # the request reports it
        proxies = Proxies(settings.proxy)
        proxy = proxies.find(parts.scheme, host, port)
        if proxy is not None:
            return f"through {proxy}"
        if proxies.bypasses(parts.scheme, host, port):
            return "without a proxy, because NO_PROXY excludes the host"
    return None

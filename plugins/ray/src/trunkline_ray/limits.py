"""Limits that all workers of a Ray cluster share.

A named actor, the limiter, keeps a `Ledger`. Each worker has a `ClusterLimiter`, which asks the limiter for all
requests that wait, in one call at a time, and reports with the same call what became of earlier ones.

The limiter writes each change to a log before it answers. If the actor dies, Ray starts it again, and it replays the
log. If it is started on another machine, where there is no log, it grants nothing until what the workers were granted
before can no longer count. Either way, the limits hold.
"""

from __future__ import annotations

import asyncio
import contextvars
import json
import os
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

import attrs
from trunkline.authoring.limits import TRAVEL
from trunkline.errors import ConfigurationError, ConnectionFailed

from trunkline_ray.ledger import Entry, Exchange, Ledger, Limits

if TYPE_CHECKING:
    from ray.actor import ActorHandle

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

NAMESPACE = "trunkline"
POLL = 0.2
"""How often, in seconds, a worker asks for requests that wait, and reports those that were sent."""
HEARTBEAT = 2.0
"""How often, in seconds, a worker reports that it lives while its requests run."""
BREATH = 0.004
"""The least time between two calls, in seconds, in which requests gather."""
STALE_AFTER = 10.0
"""A grant that takes longer than so many seconds to arrive is given back, since it may no longer count."""
UNREACHABLE_AFTER = 60.0
"""After how many seconds without an answer of the limiter the waiting requests fail."""
LOCKED_FOR = 60.0
"""How long, in seconds, a limiter waits for the log of one that has not ended yet."""
ROTATE_AFTER = 150.0
"""The log starts anew after so many seconds. It must be longer than any grant counts."""


def _absolute(folder: str | os.PathLike[str] | None) -> str | None:
    """Return the path for other processes, which may run in another folder."""
    return None if folder is None else str(Path(folder).absolute())


@attrs.frozen(kw_only=True)
class ClusterLimits:
    """The limits of all workers of a cluster together.

    `requests_per_minute` counts all requests, retries included, and `tokens_per_minute` the tokens of input and output;
    no interval of 60 seconds has more. `concurrency` is the number of requests that run at once. `None` is no limit.

    `name` is the name of the limits. All jobs of a cluster that use one name share the limits. `folder` is where the
    limiter keeps its log, on the machine of the job that starts it; by default a folder for temporary files. `period`
    is the length of the intervals in seconds, for tests.

    Raises `ConfigurationError` if there is no limit, or if one is not a positive whole number.
    """

    name: str
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int | None = None
    folder: str | os.PathLike[str] | None = attrs.field(default=None, converter=_absolute)
    period: float = 60.0

    def __attrs_post_init__(self) -> None:
        limits = (self.requests_per_minute, self.tokens_per_minute, self.concurrency)
        if all(limit is None for limit in limits):
            raise ConfigurationError(
                "ClusterLimits needs one of requests_per_minute, tokens_per_minute and concurrency"
            )
        if any(limit is not None and (type(limit) is not int or limit < 1) for limit in limits):
            raise ConfigurationError("ClusterLimits: a limit must be a positive whole number")
        if not self.name or not self.name.replace("-", "").replace("_", "").isalnum():
            raise ConfigurationError("ClusterLimits: name must consist of letters, digits, hyphens and underscores")

    @property
    def limits(self) -> Limits:
        """The limits as the ledger has them."""
        return Limits(
            requests=self.requests_per_minute,
            tokens=self.tokens_per_minute,
            concurrency=self.concurrency,
            period=self.period,
        )

    @property
    def log(self) -> Path:
        """The folder of the log."""
        return Path(self.folder or Path(gettempdir()) / f"trunkline-limits-{_user()}") / self.name


def _user() -> str:
    return str(os.getuid()) if hasattr(os, "getuid") else "user"


@attrs.frozen(kw_only=True)
class LimiterStatus:
    """The current state of the limits of a cluster.

    `running` is the number of requests that were granted and have not ended, `waiting` the number of those that wait.
    `requests` and `tokens` are those of the last minute. `paused_for` is for how many seconds nothing is granted.
    `process` is the id of the limiter's process.
    """

    running: int
    waiting: int
    requests: int
    tokens: int
    paused_for: float
    process: int


@attrs.frozen(kw_only=True)
class _Reply:
    """The numbers of the requests that are granted, and what tells one start of the limiter from another."""

    granted: tuple[int, ...]
    incarnation: str


class EntryLog:
    """The entries of the last minutes, in two files of a folder. Only one process can have it open.

    The times are those of `time.monotonic`, which all processes of a machine share until it restarts.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        self._boot = _boot()
        self._lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR, 0o600)
        self._take_lock()
        self._file = os.open(folder / "new.jsonl", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        self._rotate_at = time.monotonic() + ROTATE_AFTER
        os.write(self._file, b"\n")  # the last line may be torn

    def _take_lock(self) -> None:
        until = time.monotonic() + LOCKED_FOR
        while fcntl is not None:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > until:
                    raise ConfigurationError(
                        f"another limiter uses the folder {str(self._folder)!r}; two clusters on one machine need "
                        "limits of different names, or different folders"
                    ) from None
                time.sleep(0.1)

    def entries(self) -> Iterator[Entry] | None:
        """Return the entries, or `None` if there are none of this machine since its start."""
        found = [entry for name in ("old.jsonl", "new.jsonl") for entry in self._read(name)]
        return iter(found) if found else None

    def _read(self, name: str) -> Iterator[Entry]:
        try:
            lines = (self._folder / name).read_bytes().splitlines()
        except FileNotFoundError:
            return
        for line in lines:
            try:
                boot, moment, granted, exchange = json.loads(line)
                entry = Entry(time=moment, exchange=Exchange(**_tuples(exchange)), granted=tuple(map(tuple, granted)))
            except (ValueError, TypeError):
                continue  # torn: its grants never reached a worker
            if boot == self._boot and moment <= time.monotonic():
                yield entry

    def append(self, entry: Entry) -> None:
        """Write an entry, so that it is kept if this process dies."""
        if entry.time >= self._rotate_at:
            self._rotate_at = entry.time + ROTATE_AFTER
            os.close(self._file)
            (self._folder / "new.jsonl").replace(self._folder / "old.jsonl")
            self._file = os.open(self._folder / "new.jsonl", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        reported = {
            name: value
            for name, value in attrs.asdict(entry.exchange, recurse=False).items()
            if value and name != "wanted"
        }
        os.write(self._file, json.dumps([self._boot, entry.time, entry.granted, reported]).encode() + b"\n")

    def close(self) -> None:
        """Close the files, and let another process open the log."""
        os.close(self._file)
        os.close(self._lock)


def _tuples(fields: dict[str, Any]) -> dict[str, Any]:
    return {
        name: tuple(tuple(item) if isinstance(item, list) else item for item in value)
        if isinstance(value, list)
        else value
        for name, value in fields.items()
    }


def _boot() -> str:
    """Return what tells one start of this machine from another."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return str(round((time.time() - time.monotonic()) / 60))


class Limiter:
    """The actor. Ray makes one call at a time."""

    def __init__(self, limits: Limits, folder: str) -> None:
        self._ledger = Ledger(limits)
        self._incarnation = uuid4().hex
        self._log = EntryLog(Path(folder))
        entries = self._log.entries()
        for entry in entries or ():
            self._ledger.replay(entry)
        now = time.monotonic()
        self._ledger.start(now)
        if entries is None and _is_restarted():
            self._ledger.paused_until = now + STALE_AFTER + limits.period * (1 + TRAVEL)
        self._log.append(Entry(time=now, exchange=Exchange(worker="")))  # so that a restart finds that there is a log

    def limits(self) -> Limits:
        """Return the limits."""
        return self._ledger.limits

    def exchange(self, exchange: Exchange) -> _Reply:
        """Take the reports of a worker, and return what it may send."""
        granted, entry = self._ledger.exchange(time.monotonic(), exchange)
        if entry.changes_something:
            self._log.append(entry)
        return _Reply(granted=granted, incarnation=self._incarnation)

    def status(self) -> LimiterStatus:
        """Return the current state."""
        now = time.monotonic()
        requests, tokens = self._ledger.used(now)
        return LimiterStatus(
            running=self._ledger.running,
            waiting=self._ledger.waiting,
            requests=requests,
            tokens=tokens,
            paused_for=max(self._ledger.paused_until - now, 0.0),
            process=os.getpid(),
        )


def _is_restarted() -> bool:
    import ray

    return bool(ray.is_initialized() and ray.get_runtime_context().was_current_actor_reconstructed)


def start_limiter(limits: ClusterLimits) -> ActorHandle[Any]:
    """Return the limiter of a cluster, which is started if it does not run. It runs until the cluster ends.

    Raises `ConfigurationError` if it runs with other limits.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = ray.get_runtime_context().get_node_id()
    handle = (
        cast(Any, ray.remote(Limiter))
        .options(
            name=f"limiter-{limits.name}",
            namespace=NAMESPACE,
            get_if_exists=True,
            lifetime="detached",
            num_cpus=0,
            max_restarts=-1,
            max_task_retries=-1,
            # Where its log is. If that machine is lost, another one will do.
            scheduling_strategy=NodeAffinitySchedulingStrategy(here, soft=True),
        )
        .remote(limits.limits, str(limits.log))
    )
    running = ray.get(handle.limits.remote())
    if running != limits.limits:
        raise ConfigurationError(
            f"the limits {limits.name!r} of this cluster are in use with other values ({running}); give the new ones "
            f"another name, or end the old ones: ray.kill(ray.get_actor('limiter-{limits.name}', '{NAMESPACE}'))"
        )
    return cast("ActorHandle[Any]", handle)


def limiter_status(name: str) -> LimiterStatus:
    """Return the state of the limits of a name. Raises `ValueError` if they are not in use."""
    import ray

    handle: Any = ray.get_actor(f"limiter-{name}", NAMESPACE)
    return cast("LimiterStatus", ray.get(handle.status.remote()))


class ClusterLimiter:
    """The limits of a cluster in one worker: a `trunkline.authoring.limits.SharedLimiter`.

    It belongs to the event loop of asyncio in which it is used first.
    """

    def __init__(self, limits: ClusterLimits) -> None:
        self._limits = limits
        self._worker = uuid4().hex[:16]
        self._numbers = count(1)
        self._handle: Any = None
        self._incarnation: str | None = None
        self._waiting: dict[int, tuple[int, asyncio.Future[int]]] = {}
        self._running: set[int] = set()
        # Reports may come from a finalizer, at any point and in any thread. So they are appended here, without a lock,
        # and `_forget` deletes from the front those that the limiter has.
        self._sent: list[int] = []
        self._arrived: list[int] = []
        self._ended: list[tuple[int, int | None]] = []
        self._held: tuple[int, ...] = ()
        self._paused_until = 0.0
        self._news: asyncio.Event | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def tokens_per_minute(self) -> int | None:
        """The limit of tokens."""
        return self._limits.tokens_per_minute

    @property
    def waiting(self) -> int:
        """The number of requests of this worker that wait."""
        return len(self._waiting)

    async def acquire(self, tokens: int, timeout: float | None) -> _ClusterLease:
        """Wait until a request may be sent that will use about so many tokens, and return the lease for it.

        Raises `ConnectionFailed` if the limiter cannot be reached for a minute.
        """
        number = next(self._numbers)
        granted = asyncio.get_running_loop().create_future()
        self._waiting[number] = (tokens, granted)
        self._wake()
        try:
            number = await granted
        except BaseException:
            for waiting, (_, future) in self._waiting.items():
                if future is granted:
                    del self._waiting[waiting]
                    break
            else:
                if not granted.cancelled() and granted.exception() is None:
                    self._end(granted.result(), None)
            self._wake()
            raise
        return _ClusterLease(self, number)

    def pause(self, seconds: float) -> None:
        """Let no worker send anything for so many seconds."""
        self._paused_until = max(self._paused_until, time.monotonic() + seconds)
        self._wake()

    async def aclose(self) -> None:
        """Report what is left to report, for a second at most."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        if self._handle is not None and (self._sent or self._ended):
            exchange = self._exchange()
            try:
                await asyncio.wait_for(asyncio.wrap_future(self._handle.exchange.remote(exchange).future()), 1)
            except Exception:
                return  # the limiter will take this worker for dead

    def _end(self, number: int, tokens: int | None) -> None:
        self._running.discard(number)
        self._ended.append((number, tokens))

    def _wake(self) -> None:
        if self._task is None or self._task.done():
            self._news = asyncio.Event()
            # Without the context of the call that happens to be the first.
            self._task = asyncio.get_running_loop().create_task(self._run(), context=contextvars.Context())
        elif self._news is not None:
            self._news.set()

    async def _run(self) -> None:
        """Exchange with the limiter for as long as there is something to ask or to report."""
        reached = time.monotonic()
        while self._waiting or self._running or self._ended or self._paused_until > time.monotonic():
            assert self._news is not None
            self._news.clear()
            exchange = self._exchange()
            began = time.monotonic()
            try:
                reply = await self._call(exchange)
            except Exception as error:
                if isinstance(error, ConfigurationError) or time.monotonic() - reached > UNREACHABLE_AFTER:
                    self._fail(error)
                    return
                await asyncio.sleep(POLL)
                continue
            reached = time.monotonic()
            self._forget(exchange)
            if self._incarnation not in (None, reply.incarnation):
                self._held = tuple(self._running)
            self._incarnation = reply.incarnation
            self._take(reply.granted, is_stale=reached - began > STALE_AFTER)
            await asyncio.sleep(BREATH)
            try:
                busy = self._waiting or self._sent or self._arrived or self._ended or self._held
                await asyncio.wait_for(self._news.wait(), POLL if busy else HEARTBEAT)
            except TimeoutError:
                pass

    def _exchange(self) -> Exchange:
        now = time.monotonic()
        return Exchange(
            worker=self._worker,
            wanted=tuple((number, tokens) for number, (tokens, _) in self._waiting.items()),
            held=self._held,
            sent=tuple(self._sent),
            arrived=tuple(self._arrived),
            ended=tuple(self._ended),
            pause=max(self._paused_until - now, 0.0),
        )

    def _forget(self, exchange: Exchange) -> None:
        """Forget what was reported."""
        del self._sent[: len(exchange.sent)]
        del self._arrived[: len(exchange.arrived)]
        del self._ended[: len(exchange.ended)]
        self._held = ()

    async def _call(self, exchange: Exchange) -> _Reply:
        from ray.exceptions import ActorDiedError

        if self._handle is None:
            self._handle = await asyncio.to_thread(start_limiter, self._limits)
        try:
            return cast("_Reply", await self._handle.exchange.remote(exchange))
        except ActorDiedError:
            self._handle = None
            raise

    def _take(self, granted: tuple[int, ...], *, is_stale: bool) -> None:
        for number in granted:
            tokens, future = self._waiting.pop(number, (0, None))
            if future is not None and not future.done() and not is_stale:
                self._running.add(number)
                future.set_result(number)
                continue
            self._ended.append((number, None))
            if future is not None and not future.done():
                self._waiting[next(self._numbers)] = (tokens, future)

    def _fail(self, error: Exception) -> None:
        waiting = list(self._waiting.values())
        self._waiting.clear()
        for _, future in waiting:
            if future.done():
                continue
            if isinstance(error, ConfigurationError):
                future.set_exception(error)
            else:
                message = f"the limiter of the limits {self._limits.name!r} cannot be reached: {type(error).__name__}"
                future.set_exception(ConnectionFailed(message))


class _ClusterLease:
    """A granted request. A `trunkline.authoring.limits.Lease`."""

    __slots__ = ("_ended", "_limiter", "_number")

    def __init__(self, limiter: ClusterLimiter, number: int) -> None:
        self._limiter = limiter
        self._number = number
        self._ended = False

    def sent(self) -> None:
        self._limiter._sent.append(self._number)

    def arrived(self) -> None:
        self._limiter._arrived.append(self._number)

    def end(self, tokens: int | None) -> None:
        if not self._ended:
            self._ended = True
            self._limiter._end(self._number, tokens)

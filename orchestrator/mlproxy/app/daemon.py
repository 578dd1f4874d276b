"""The daemon: one task group that holds supervisors, feed and control socket."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import enum
import os
import signal
import zlib
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from mlproxy import __version__
from mlproxy.app.control import control_server, group_id
from mlproxy.app.critical import PressureWatch
from mlproxy.app.feedholder import FeedHolder, FeedMaker
from mlproxy.app.lock import instance_lock, private_directory
from mlproxy.app.sinks import EventSink, Fanout, LogSink, Notifier
from mlproxy.app.supervisor import Limits, Supervisor
from mlproxy.app.worker import Worker
from mlproxy.clock import Clock, SystemClock
from mlproxy.config.load import Config, Source, load
from mlproxy.config.show import shown
from mlproxy.errors import ConfigError, ControlError, MlproxyError, Problem
from mlproxy.events.types import PluginEvent
from mlproxy.log import get_logger
from mlproxy.plugin.registry import Registry
from mlproxy.proxy.knob_restore import Restored, restore_all
from mlproxy.psi import PsiSource
from mlproxy.subsystem import SubsystemContext

__all__ = ("Daemon", "Ended")

# A change of these takes effect by a restart only; a reload with one is refused whole.
FIXED = ("node", "state_dir", "socket", "socket_group", "import_seconds", "log_level", "log_format")


class Ended(enum.Enum):
    """How a daemon's run ended."""

    STOPPED = "stopped"
    DONE = "done"
    DEGRADED = "degraded"


class Daemon:
    """Runs subsystems until told to stop.

    Args:
        config: validated configuration.
        registry: the loaded plugins.
        source: where the configuration came from, for reloads; None: no reload.
        sinks: where messages go, beside the feed, the log and the plugins' hooks.
        feed: makes the feed from the section `[feed]`; None: no feed.
        clock: time.
        root: where pressure files are found; for tests.
    """

    def __init__(
        self,
        config: Config,
        registry: Registry,
        *,
        source: Source | None = None,
        sinks: tuple[EventSink, ...] = (),
        feed: FeedMaker | None = None,
        clock: Clock | None = None,
        root: str = "/",
    ) -> None:
        self.config = config
        self.registry = registry
        self.ready = asyncio.Event()
        """Set when the control socket listens and every subsystem is being started."""
        self._source = source
        self._clock = clock or SystemClock()
        self._make_feed = feed
        self._sink = Fanout([LogSink(), *sinks])
        self._feed: FeedHolder | None = None
        self._supervisors: dict[str, Supervisor] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None
        self._pressure = PressureWatch(self._critical, self._clock, root=root)
        self._stop = asyncio.Event()
        self._hold_all = False
        self._holds: dict[str, bool] = {}
        self._reloading = asyncio.Lock()
        self._reloads = 0
        self._restored: list[Restored] = []
        self._started_at = self._clock.utc_now()
        self._log = get_logger()

    # -- life -----------------------------------------------------------------

    def request_stop(self) -> None:
        """Ask for a clean end (signal handlers and the verb `stop` call this)."""
        self._stop.set()

    async def run(self, *, signals: bool = False) -> Ended:
        """Run until stopped or, with `exit_when_done`, until all subsystems are settled.

        Args:
            signals: handle SIGTERM, SIGINT (stop) and SIGHUP (reload).

        Raises:
            ControlError: `daemon.already_running`, `daemon.no_directory`,
                `daemon.no_socket`, `daemon.no_group`.
            FeedError: the feed cannot be set up.
        """
        settings = self.config.daemon
        path = Path(settings.socket_path)
        group = group_id(settings.socket_group) if settings.socket_group else None
        private_directory(Path(settings.state_dir), what="the state directory")
        async with AsyncExitStack() as stack:
            stack.enter_context(instance_lock(path))
            notifier = Notifier(self.registry.hooks)
            stack.callback(notifier.close)
            self._sink.sinks.append(notifier)
            try:
                async with asyncio.TaskGroup() as tasks:
                    await self._inside(tasks, path, group, signals=signals)
            except* MlproxyError as errors:
                raise errors.exceptions[0] from None
        return self._ended()

    async def _inside(
        self, tasks: asyncio.TaskGroup, path: Path, group: int | None, *, signals: bool
    ) -> None:
        self._group = tasks
        if self._make_feed is not None:
            holder = FeedHolder(self._make_feed, tasks, self._clock)
            await holder.start(self.config.feed)
            self._feed = holder
            self._sink.sinks.insert(1, holder)
        try:
            async with control_server(path, self._handle, group=group):
                with self._signals(tasks) if signals else contextlib.nullcontext():
                    self._announce()
                    await self._put_back()
                    for name in self._wanted(self.config):
                        self._launch(name)
                    self._pressure.set_sources(self._sources(self.config))
                    watch = tasks.create_task(self._pressure.run(), name="pressure")
                    self._log.info(
                        "daemon.started",
                        version=__version__,
                        socket=str(path),
                        subsystems=sorted(self._supervisors),
                    )
                    self.ready.set()
                    await self._until_end(tasks)
                    watch.cancel()
                    await self._shut_down()
        finally:
            if self._feed is not None:
                await self._feed.stop()
            self._log.info("daemon.stopped")

    @contextlib.contextmanager
    def _signals(self, tasks: asyncio.TaskGroup) -> Any:
        loop = asyncio.get_running_loop()

        def reload() -> None:
            tasks.create_task(self._reload_quietly(), name="reload")

        handlers: dict[signal.Signals, Callable[[], None]] = {
            signal.SIGTERM: self.request_stop,
            signal.SIGINT: self.request_stop,
            signal.SIGHUP: reload,
        }
        for number, handler in handlers.items():
            loop.add_signal_handler(number, handler)
        try:
            yield
        finally:
            for number in handlers:
                loop.remove_signal_handler(number)

    async def _until_end(self, tasks: asyncio.TaskGroup) -> None:
        watch = tasks.create_task(self._stop_when_settled(), name="exit-when-done")
        await self._stop.wait()
        watch.cancel()

    async def _stop_when_settled(self) -> None:
        while True:
            waiting = [s for s in self._supervisors.values() if not s.settled.is_set()]
            if waiting:
                await waiting[0].settled.wait()
            elif self.config.daemon.exit_when_done:
                self.request_stop()
                return
            else:
                # A reload may bring new subsystems, or ask for the end.
                await self._clock.sleep(1.0)

    async def _shut_down(self) -> None:
        for supervisor in self._supervisors.values():
            supervisor.request_stop()
        if self._tasks:
            d = self.config.daemon
            # Every part has its own deadline; this one only bounds a bug of ours.
            limit = d.start_seconds + d.step_seconds + 2 * d.stop_seconds + 5
            _, late = await asyncio.wait(self._tasks.values(), timeout=limit)
            for task in late:  # pragma: no cover - a bug of ours
                self._log.error("subsystem.abandoned", task=task.get_name())
                task.cancel()

    def _ended(self) -> Ended:
        if any(s.state == "quarantined" for s in self._supervisors.values()):
            return Ended.DEGRADED
        finished = [s.state == "finished" for s in self._supervisors.values()]
        return Ended.DONE if finished and all(finished) else Ended.STOPPED

    # -- subsystems -------------------------------------------------------------

    @staticmethod
    def _wanted(config: Config) -> list[str]:
        return sorted(name for name, s in config.subsystems.items() if s.enabled)

    def _launch(self, name: str) -> None:
        if self._group is None:  # pragma: no cover - only called while running
            raise RuntimeError("not running")
        supervisor = Supervisor(
            self.registry.factories[name],
            self._context(self.config, name),
            self._limits(self.config),
            self._sink,
            self._clock,
            plugin=self.registry.owners.get(name, name),
        )
        supervisor.hold(
            everything=self._hold_all,
            proxies=self._holds,
            critical={
                source: self._pressure.critical[source][0]
                for source in self.config.subsystems[name].critical
                if source in self._pressure.critical
            },
        )
        self._supervisors[name] = supervisor
        self._tasks[name] = self._group.create_task(supervisor.run(), name=f"subsystem-{name}")

    # -- pressure ---------------------------------------------------------------

    @staticmethod
    def _guards(config: Config, name: str) -> dict[str, PsiSource]:
        """The pressure sources that a subsystem names."""
        return {source: config.psi[source] for source in config.subsystems[name].critical}

    def _sources(self, config: Config) -> dict[str, PsiSource]:
        """Those that any enabled subsystem names."""
        found: dict[str, PsiSource] = {}
        for name in self._wanted(config):
            found |= self._guards(config, name)
        return found

    async def _critical(self, source: str, on: bool, words: str, code: str) -> None:
        """A source became critical, or is no longer: tell those who name it."""
        self._log.warning("pressure.critical" if on else "pressure.relieved", what=words, code=code)
        for name, supervisor in list(self._supervisors.items()):
            if source in self.config.subsystems[name].critical:
                # One that cannot be reached has told so; the others must hear too.
                with contextlib.suppress(MlproxyError):
                    await supervisor.critical(source, on, words, code)

    async def _retire(self, name: str) -> None:
        self._supervisors[name].request_stop()
        await asyncio.wait([self._tasks.pop(name)])
        del self._supervisors[name]

    def _context(self, config: Config, name: str) -> SubsystemContext:
        factory = self.registry.factories[name]
        overrides = config.overrides()
        return SubsystemContext(
            name=name,
            options=config.subsystems[name].options,
            # Each subsystem its own stream of chance, whoever else is enabled.
            seed=(config.daemon.seed ^ (zlib.crc32(name.encode()) << 16)) & ((1 << 63) - 1),
            state_dir=str(Path(config.daemon.state_dir) / name),
            overrides={p: overrides[p] for p in factory.proxies if p in overrides},
            guard=config.daemon.guard,
            journal_dir=self._journals(config),
            models=self.registry.models,
        )

    @staticmethod
    def _journals(config: Config) -> str:
        # No subsystem can have this name.
        return str(Path(config.daemon.state_dir) / "knob-journal")

    async def _put_back(self) -> None:
        """Put back what a daemon that died has left in knobs, before anybody holds them."""
        worker = Worker("mlproxy-restore")
        directory = self._journals(self.config)
        try:
            self._restored = await worker.call(
                lambda: restore_all(directory), self.config.daemon.start_seconds
            )
        except TimeoutError:
            # A tunable that hangs: its proxy finds the journal locked.
            self._log.error("knob.left", outcome="failed", what=f"{directory}: no end in sight")
        finally:
            worker.close()
        for told in self._restored:
            self._log.warning("knob.left", proxy=told.proxy, outcome=told.outcome, what=str(told))
            code = "knob.journal" if told.outcome in ("failed", "damaged") else ""
            self._sink.emit(
                PluginEvent(
                    proxy=told.proxy,
                    what="put_back",
                    code=code,
                    message=str(told)[:4096],
                )
            )

    @staticmethod
    def _limits(config: Config) -> Limits:
        d = config.daemon
        return Limits(
            start=d.start_seconds,
            step=d.step_seconds,
            stop=d.stop_seconds,
            restart_limit=d.restart_limit,
            restart_backoff=d.restart_backoff_seconds,
            report_interval=d.report_interval_seconds,
            state_interval=d.state_interval_seconds,
        )

    def _announce(self) -> None:
        for record in self.registry.records:
            if record.state == "denied":
                continue
            quarantined = record.state == "quarantined"
            self._sink.emit(
                PluginEvent(
                    proxy=record.name,
                    what="quarantined" if quarantined else "loaded",
                    phase=record.phase,
                    code=record.code,
                    message=record.reason,
                )
            )

    # -- reload -----------------------------------------------------------------

    async def _reload_quietly(self) -> None:
        with contextlib.suppress(MlproxyError):
            await self.reload()

    async def reload(self) -> dict[str, Any]:
        """Read the configuration again and apply what changed, or nothing at all.

        Returns:
            Names of subsystems `restarted`, `started`, `stopped`, and whether the `feed` was.

        Raises:
            ConfigError: the new configuration is invalid or needs a restart; the old
                one stays as it is.
            FeedError: the new feed could not be set up; everything stays as it is.
        """
        async with self._reloading:
            try:
                return await self._reload()
            except MlproxyError as error:
                self._log.error("config.refused", code=error.code, error=str(error))
                self._sink.emit(
                    PluginEvent(
                        proxy="config",
                        what="refused",
                        phase="reload",
                        code=error.code,
                        message=str(error)[:4096],
                    )
                )
                raise

    async def _reload(self) -> dict[str, Any]:
        if self._source is None:
            raise ConfigError("there is no configuration to read again", code="config.no_source")
        source = self._source
        # Reading files must not hold up the loop.
        new, _ = await asyncio.to_thread(lambda: load(source, registry=self.registry))
        self._refuse_fixed(new)
        old = self.config
        before, after = set(self._wanted(old)), set(self._wanted(new))
        everything = self._limits(old) != self._limits(new)
        changed = {
            name
            for name in before & after
            if everything
            or self._context(old, name) != self._context(new, name)
            or self._guards(old, name) != self._guards(new, name)
        }
        feed_changed = old.feed != new.feed
        if feed_changed and self._feed is not None:
            await self._feed.replace(old.feed, new.feed)
        self.config = new
        for name in sorted((before - after) | changed):
            await self._retire(name)
        self._pressure.set_sources(self._sources(new))
        for name in sorted((after - before) | changed):
            self._launch(name)
        self._reloads += 1
        result = {
            "restarted": sorted(changed),
            "started": sorted(after - before),
            "stopped": sorted(before - after),
            "feed": feed_changed,
        }
        self._log.info("config.reloaded", **result)
        return result

    def _refuse_fixed(self, new: Config) -> None:
        old = self.config
        keys = [
            ("daemon", key) for key in FIXED if getattr(old.daemon, key) != getattr(new.daemon, key)
        ]
        keys += [
            ("plugins", key)
            for key in ("allow", "deny")
            if getattr(old.plugins, key) != getattr(new.plugins, key)
        ]
        if keys:
            problems = [
                Problem(
                    "config.needs_restart",
                    ".".join(key),
                    new.merged.origin(key),
                    "cannot change while the daemon runs",
                    "restart the daemon, or set it back",
                )
                for key in keys
            ]
            raise ConfigError(
                "the new configuration needs a restart", code="config.invalid", problems=problems
            )

    # -- control ------------------------------------------------------------------

    async def _handle(self, verb: str, arguments: Mapping[str, Any]) -> Any:
        match verb:
            case "status":
                return self.status()
            case "plugins":
                return [record.as_dict() for record in self.registry.records]
            case "config":
                return shown(self.config, self.registry)
            case "reload":
                return await self.reload()
            case "stop":
                self.request_stop()
                return {"stopping": True}
            case _:
                return await self.emergency(arguments["on"], arguments.get("proxy"))

    async def emergency(self, on: bool, proxy: str | None = None) -> dict[str, Any]:
        """Hold proxies in emergency, or release them.

        Args:
            on: hold or release.
            proxy: only this one; None: all, also those that start later.

        Raises:
            ControlError: `daemon.unknown_proxy`.
            PluginError: `plugin.emergency_failed`.
        """
        known = {name for s in self._supervisors.values() for name in s.proxies()}
        if proxy is not None and proxy not in known:
            raise ControlError(
                f"no proxy {proxy!r}",
                code="daemon.unknown_proxy",
                hint=f"there are: {', '.join(sorted(known)) or 'none'}",
            )
        if proxy is None:
            self._hold_all = on
            self._holds.clear()
        else:
            self._holds[proxy] = on
        self._log.warning("emergency.requested", on=on, proxy=proxy or "all")
        told: list[str] = []
        failed: MlproxyError | None = None
        for supervisor in list(self._supervisors.values()):
            if proxy is None or proxy in supervisor.proxies():
                try:
                    told += await supervisor.emergency(on, proxy)
                except MlproxyError as error:
                    failed = error  # tell the others first
        if failed is not None:
            raise failed
        return {"on": on, "proxies": sorted(told)}

    def status(self) -> dict[str, Any]:
        """Everything about the daemon, ready for JSON (docs/reference/cli.md, status)."""
        subsystems = {n: s.status() for n, s in sorted(self._supervisors.items())}
        broken = [r.name for r in self.registry.records if r.state == "quarantined"]
        bad = [n for n, s in subsystems.items() if s["state"] in ("quarantined", "backoff")]
        return {
            "schema": 1,
            "version": __version__,
            "pid": os.getpid(),
            "node": self.config.daemon.node,
            "started_at": self._started_at.isoformat(),
            "health": "degraded" if broken or bad else "ok",
            "emergency": self._hold_all,
            "reloads": self._reloads,
            "plugins": [r.as_dict() for r in self.registry.records],
            "subsystems": subsystems,
            "put_back": [dataclasses.asdict(told) for told in self._restored],
            "feed": self._feed.status() if self._feed else {"state": "none"},
        }

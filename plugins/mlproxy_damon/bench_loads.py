"""The bench's workloads: real programs, with the operations of a seed."""

from __future__ import annotations

import json
import random
import shutil
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, ClassVar, Final

import numpy as np

from mlproxy.errors import MlproxyError
from mlproxy_damon import bench_jobs
from mlproxy_damon.bench_streams import ARCHIVE_SHARE, Calls, cached_objects, key_value, phases

__all__ = ("LOADS", "SECOND", "Load", "LoadError")

SECOND: Final = 4
"""Ticks in a second."""
VALUE: Final = 1900
PARTITIONS: Final = 20
WAIT: Final = 600.0


class LoadError(MlproxyError):
    """Raised when a program of the bench cannot be had, or answers wrongly."""


class Load(ABC):
    """A program and what it is asked to do.

    Args:
        folder: for its files; what `prepare` wrote there stays between runs.
        seed: of the operations.
        ticks: how many there will be.
    """

    name: ClassVar[str]
    about: ClassVar[str]

    def __init__(self, folder: Path, seed: int, ticks: int) -> None:
        self.folder = folder
        self.seed = seed
        self.ticks = ticks
        self.process: subprocess.Popen[Any] | None = None

    @classmethod
    def prepare(cls, folder: Path) -> None:
        """Write files that all runs read; most have none."""
        del folder

    @abstractmethod
    def start(self) -> None:
        """Start the program and fill it; when this returns it is ready.

        Raises:
            LoadError: `damon.bench_program`.
        """

    @abstractmethod
    def tick(self, number: int) -> int:
        """Do the operations of a tick; gives how many."""

    @property
    def pid(self) -> int:
        """Of the program."""
        assert self.process is not None
        return self.process.pid

    def stop(self) -> None:
        """End the program; a second time is harmless."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            for stream in (self.process.stdin, self.process.stdout):
                if stream is not None:
                    stream.close()

    def _spawn(self, command: Sequence[str | Path], *, pipes: bool = False) -> None:
        program = shutil.which(str(command[0]))
        if program is None:
            raise LoadError(
                f"{command[0]} is not installed",
                code="damon.bench_program",
                hint=f"install it, or leave {self.name} out with --load",
            )
        pipe = subprocess.PIPE if pipes else subprocess.DEVNULL
        self.process = subprocess.Popen(  # noqa: S603 - a program of the bench
            [program, *map(str, command[1:])],
            stdin=pipe,
            stdout=pipe,
            text=pipes,
            cwd=self.folder,
        )

    def _wrong(self, what: str) -> LoadError:
        return LoadError(
            f"the program of the workload {self.name} {what}", code="damon.bench_program"
        )


class _Server(Load):
    """A server that is asked over a socket, many operations at a time."""

    socket_name: ClassVar[str]
    calls: Calls

    def _connect(self) -> None:
        path = str(self.folder / self.socket_name)
        end = time.monotonic() + WAIT
        while True:
            self._socket = socket.socket(socket.AF_UNIX)
            try:
                self._socket.connect(path)
            except OSError:
                self._socket.close()
                assert self.process is not None
                if self.process.poll() is not None or time.monotonic() > end:
                    raise self._wrong("does not answer") from None
                time.sleep(0.05)
            else:
                break
        self._answers: IO[bytes] = self._socket.makefile("rb")

    def stop(self) -> None:
        """End the program and the connection."""
        super().stop()
        if self.process is not None:
            self._answers.close()
            self._socket.close()
            (self.folder / self.socket_name).unlink(missing_ok=True)

    def _values(self) -> list[bytes]:
        """Half of a value is noise, half of it text: it compresses as data of people does."""
        rng = random.Random(self.seed)
        text = b"name=value; path=/index; lang=en; " * (VALUE // 34 + 1)
        return [rng.randbytes(VALUE // 2) + text[: VALUE - VALUE // 2] for _ in range(256)]


class Redis(_Server):
    """redis-server, 80,000 keys, Zipf."""

    name = "redis"
    about = (
        "redis-server, 80,000 keys of 1.9 kB in steady use, Zipf 0.99, one operation in ten writes"
    )
    socket_name = "redis.sock"
    keys: ClassVar[int] = 80_000
    per_tick: ClassVar[int] = 120

    def start(self) -> None:
        """Start it and set all keys."""
        self.calls = key_value(self.seed, self.ticks, keys=self.keys, per_tick=self.per_tick)
        settings = {"port": "0", "unixsocket": self.socket_name, "save": "", "appendonly": "no"}
        self._spawn(["redis-server", *(f for k, v in settings.items() for f in (f"--{k}", v))])
        self._connect()
        self._some = self._values()
        for first in range(0, self.keys, 200):
            self._ask([(key, True) for key in range(first, min(first + 200, self.keys))])

    def tick(self, number: int) -> int:
        """As `Load.tick`."""
        calls = self.calls.tick(number)
        self._ask(calls)
        return len(calls)

    def _ask(self, calls: Sequence[tuple[int, bool]]) -> None:
        parts = []
        for key, writes in calls:
            name = b"key:%07d" % key
            if writes:
                value = self._some[key % 256]
                parts.append(
                    b"*3\r\n$3\r\nSET\r\n$11\r\n%b\r\n$%d\r\n%b\r\n" % (name, len(value), value)
                )
            else:
                parts.append(b"*2\r\n$3\r\nGET\r\n$11\r\n%b\r\n" % name)
        self._socket.sendall(b"".join(parts))
        for _, writes in calls:
            line = self._answers.readline()
            if writes and line != b"+OK\r\n":
                raise self._wrong(f"answers {line!r}")
            if not writes and len(self._answers.read(int(line[1:]) + 2)) != VALUE + 2:
                raise self._wrong(f"answers {line!r}")


class Memcached(_Server):
    """memcached that is idle, then busy."""

    name = "memcached"
    about = (
        "memcached, 70,000 objects of 1.9 kB: busy for 40 to 70 s with the newest seventh of"
        " them, then idle for 60 to 120 s, in turns; without its crawler, which now and then"
        " looks at every object"
    )
    socket_name = "memcached.sock"
    keys: ClassVar[int] = 70_000
    per_tick: ClassVar[int] = 600

    def start(self) -> None:
        """Start it and set all objects."""
        self.calls = cached_objects(
            self.seed, self.ticks, keys=self.keys, per_tick=self.per_tick, second=SECOND
        )
        options = ("-o", "no_lru_crawler,no_lru_maintainer")
        self._spawn(["memcached", "-u", "root", "-s", self.socket_name, "-m", "256", *options])
        self._connect()
        self._some = self._values()
        for first in range(0, self.keys, 200):
            self._ask([(key, True) for key in range(first, min(first + 200, self.keys))])

    def tick(self, number: int) -> int:
        """As `Load.tick`."""
        calls = self.calls.tick(number)
        self._ask(calls)
        return len(calls)

    def _ask(self, calls: Sequence[tuple[int, bool]]) -> None:
        parts = []
        for key, writes in calls:
            value = self._some[key % 256]
            parts.append(
                b"set k%07d 0 0 %d\r\n%b\r\n" % (key, len(value), value)
                if writes
                else b"get k%07d\r\n" % key
            )
        self._socket.sendall(b"".join(parts))
        for _, writes in calls:
            line = self._answers.readline()
            if line != b"STORED\r\n" if writes else not line.startswith(b"VALUE"):
                raise self._wrong(f"answers {line!r}")
            if not writes:
                self._answers.read(VALUE + 2)
                self._answers.readline()


class _Job(Load):
    """A Python program that does a tick's work for a line of its input."""

    def _run(self, *arguments: str | Path) -> None:
        self._spawn([sys.executable, bench_jobs.__file__, *arguments], pipes=True)
        self._expect("ready")

    def _expect(self, wanted: str) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        if line != wanted:
            raise self._wrong(f"answers {line!r}")

    def _do(self, wanted: list[int], count: int) -> int:
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(wanted) + "\n")
        self.process.stdin.flush()
        self._expect(str(count))
        return count


class Orders(_Job):
    """SQLite with a cold archive."""

    name = "sqlite"
    about = (
        "a Python service over an SQLite database of 200,000 orders, read through mmap: all but"
        " one operation in 2,000 on the last 12,000 orders, a third of them updates; that one"
        " on any order of the archive"
    )
    per_tick: ClassVar[int] = 60

    @classmethod
    def prepare(cls, folder: Path) -> None:
        """Write the database."""
        bench_jobs.make_orders(folder / "orders.sqlite")

    def start(self) -> None:
        """Start it; it has checked all orders."""
        rng = np.random.default_rng([self.seed, 4])
        self._archive = rng.binomial(self.per_tick, ARCHIVE_SHARE, self.ticks).tolist()
        self._run("orders", self.folder / "orders.sqlite", str(self.seed))

    def tick(self, number: int) -> int:
        """As `Load.tick`."""
        return self._do([number, self.per_tick, self._archive[number]], self.per_tick)


class Analysis(_Job):
    """An analysis with phases."""

    name = "analytics"
    about = (
        "a Python job (numpy) over partitions of 12 MB mapped from disk, and 36 MB of features"
        " made of them: phases of 20 to 40 s, each on a new partition and the one before, and"
        " one look at an older one; all stay mapped; an operation is a piece of a partition"
    )

    @classmethod
    def prepare(cls, folder: Path) -> None:
        """Write the partitions."""
        bench_jobs.make_partitions(folder, PARTITIONS)

    def start(self) -> None:
        """Start it."""
        self._phases = phases(self.seed, self.ticks, second=SECOND)
        self._run("analysis", self.folder)

    def tick(self, number: int) -> int:
        """As `Load.tick`."""
        chosen = self._phases[number]
        return self._do([number, *chosen], sum(1 for one in chosen if one >= 0))


LOADS: Final[dict[str, type[Load]]] = {
    load.name: load for load in (Redis, Orders, Analysis, Memcached)
}

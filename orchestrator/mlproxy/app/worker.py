"""One daemon thread that runs a plugin's code, one call at a time.

A call that overruns its deadline cannot be stopped from outside: the worker is
then *abandoned*, never joined. Being a daemon thread it does not keep the
process alive either.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ("Escaped", "Worker")

T = TypeVar("T")
_Job = tuple[concurrent.futures.Future[Any], Callable[[], Any]]


class Escaped(Exception):  # noqa: N818
    """A plugin raised SystemExit or KeyboardInterrupt; the daemon goes on."""


class Worker:
    """A named daemon thread with a queue of calls.

    Args:
        name: the thread's name.
    """

    def __init__(self, name: str) -> None:
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread still runs (an abandoned one may)."""
        return self._thread.is_alive()

    def submit(self, function: Callable[[], T]) -> concurrent.futures.Future[T]:
        """Queue a call and return its future."""
        future: concurrent.futures.Future[T] = concurrent.futures.Future()
        self._queue.put((future, function))
        return future

    async def call(self, function: Callable[[], T], deadline: float) -> T:
        """Run `function` in the thread and wait for it.

        Args:
            function: what to run.
            deadline: seconds, from now (waiting in the queue counts).

        Raises:
            TimeoutError: the deadline passed; the thread may still be busy.
            Exception: whatever the function raised.
        """
        async with asyncio.timeout(deadline):
            return await asyncio.wrap_future(self.submit(function))

    def call_sync(self, function: Callable[[], T], deadline: float) -> T:
        """Like `call`, for code outside the event loop."""
        return self.submit(function).result(deadline)

    def close(self) -> None:
        """Let the thread end once it is idle; does not wait."""
        self._queue.put(None)

    def _run(self) -> None:
        while (job := self._queue.get()) is not None:
            future, function = job
            if not future.set_running_or_notify_cancel():
                continue
            try:
                result = function()
            except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to the caller
                _settle(future, error)
            except BaseException as error:  # noqa: BLE001 - a plugin must not end the thread silently
                escaped = Escaped(f"{type(error).__name__}: {error}")
                escaped.__cause__ = error
                _settle(future, escaped)
            else:
                with contextlib.suppress(concurrent.futures.InvalidStateError):
                    future.set_result(result)
            del job, future, function  # keep no frame of the plugin alive while idle


def _settle(future: concurrent.futures.Future[Any], error: BaseException) -> None:
    with contextlib.suppress(concurrent.futures.InvalidStateError):
        future.set_exception(error)

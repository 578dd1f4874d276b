"""The thread that runs a plugin's code."""

from __future__ import annotations

import sys
import threading
import time

import pytest

from mlproxy.app.worker import Escaped, Worker


async def test_calls_run_in_order_in_one_other_thread() -> None:
    worker = Worker("w")
    seen = []
    for number in range(20):
        worker.submit(lambda n=number: seen.append((n, threading.get_ident())))
    await worker.call(lambda: None, 10)

    assert [n for n, _ in seen] == list(range(20))
    assert len({ident for _, ident in seen}) == 1
    assert threading.get_ident() not in {ident for _, ident in seen}
    worker.close()


async def test_exceptions_arrive_and_the_thread_survives() -> None:
    worker = Worker("w")
    with pytest.raises(ZeroDivisionError):
        await worker.call(lambda: 1 // 0, 10)
    with pytest.raises(Escaped, match="SystemExit"):
        await worker.call(sys.exit, 10)

    assert await worker.call(lambda: 7, 10) == 7
    worker.close()


@pytest.mark.parametrize("busy", [False, True])
async def test_an_overrun_is_told_and_what_waits_behind_it_is_dropped(busy: bool) -> None:
    worker = Worker("w")
    release = threading.Event()
    ran = threading.Event()

    def hang() -> None:
        while not release.is_set():
            if not busy:
                time.sleep(0.001)

    with pytest.raises(TimeoutError):
        await worker.call(hang, 0.05)
    with pytest.raises(TimeoutError):
        await worker.call(ran.set, 0.05)
    assert worker.alive
    release.set()
    assert await worker.call(lambda: 1, 10) == 1
    assert not ran.is_set()
    worker.close()


def test_close_lets_the_thread_end_after_what_is_queued() -> None:
    worker = Worker("w")
    future = worker.submit(lambda: 5)
    worker.close()

    assert future.result(10) == 5
    worker._thread.join(10)
    assert not worker.alive

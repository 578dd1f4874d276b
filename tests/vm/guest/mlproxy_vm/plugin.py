"""The pytest plugin of the guest: results to the host, kernel log into results, fixtures."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from mlproxy_vm.kernellog import KernelLog, reports
from mlproxy_vm.modules import EXAMPLE, MODULE, is_loaded, loaded
from mlproxy_vm.port import Port

_MEASURES = pytest.StashKey[dict[str, float]]()
_KMEMLEAK = Path("/sys/kernel/debug/kmemleak")
_LONGEST_TEXT = 20_000
_CONTRACTS = "tests/contract/"


def running() -> tuple[int, int]:
    """Version and patch level of the running kernel, as in (6, 12)."""
    major, minor = os.uname().release.split(".")[:2]
    return int(major), int(minor.partition("-")[0])


class Plugin:
    """See the module; `first` cases were run by an earlier boot that ended with a crash."""

    def __init__(self, port: Port, release: str, first: int = 0) -> None:
        self._port = port
        self._release = release
        self._first = first
        self._log = KernelLog()
        self._phases: dict[str, pytest.TestReport] = {}
        self._seconds = 0.0

    def pytest_configure(self, config: pytest.Config) -> None:
        for line in (
            "requires_kernel(major, minor): skip on an older kernel",
            "allow_log(*patterns): kernel messages that this case provokes",
        ):
            config.addinivalue_line("markers", line)
        if _KMEMLEAK.exists():
            _KMEMLEAK.write_text("clear")

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if _is_of_guest(item)]
        self._port.send(event="plan", cases=[item.nodeid for item in items])
        del items[: self._first]

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.outcome != "passed" and not self._first:
            outcome = "failed" if report.failed else "skipped"
            self._port.send(event="begin", case=report.nodeid, timeout=0)
            self._end(report.nodeid, outcome, _why(report), 0.0, {}, str(report.longrepr))

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        for mark in item.iter_markers("requires_kernel"):
            if running() < mark.args:
                version = ".".join(map(str, mark.args))
                pytest.skip(f"needs kernel {version}, this is {os.uname().release}")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, Any, Any]:
        item.stash[_MEASURES] = {}
        self._phases.clear()
        own = item.get_closest_marker("timeout")
        limit = own.args[0] if own and own.args else item.config.getoption("timeout")
        self._port.send(event="begin", case=item.nodeid, timeout=limit)
        begin = time.monotonic()
        result = yield
        self._report(item, time.monotonic() - begin)
        if is_loaded(MODULE):
            # It cannot be unloaded, so that what follows would fail for a fault that is not its.
            self._port.send(event="again")
            item.session.shouldstop = f"{MODULE} stays loaded"
        return result

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, Any, Any]:
        result = yield
        allowed = tuple(p for mark in item.iter_markers("allow_log") for p in mark.args)
        lines = self._log.new()
        if reports(lines, allowed):
            found = "\n".join(lines[-200:])
            pytest.fail(f"the kernel complained: {reports(lines, allowed)[0]}\n{found}", False)
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._phases[report.when] = report

    def _report(self, item: pytest.Item, seconds: float) -> None:
        phases = list(self._phases.values())
        worst = next((r for r in phases if r.failed), None)
        worst = worst or next((r for r in phases if r.skipped), None)
        outcome = "passed" if worst is None else "failed" if worst.failed else "skipped"
        text = "" if worst is None or worst.skipped else worst.longreprtext
        reason = "" if worst is None else _why(worst)
        self._end(item.nodeid, outcome, reason, seconds, item.stash[_MEASURES], text)

    def _end(
        self,
        case: str,
        outcome: str,
        reason: str,
        seconds: float,
        measures: dict[str, float],
        text: str,
    ) -> None:
        self._port.send(
            event="end",
            case=case,
            outcome=outcome,
            reason=reason,
            seconds=round(seconds, 3),
            measures=measures,
            text=text[-_LONGEST_TEXT:],
        )

    def pytest_sessionfinish(self) -> None:
        """Ask kmemleak, where there is one, what was lost in the whole run."""
        if not _KMEMLEAK.exists():
            return
        self._port.send(event="begin", case="kmemleak", timeout=600)
        begin = time.monotonic()
        time.sleep(6)  # younger objects are not looked at
        for _ in range(2):  # and the first scan only takes check sums
            _KMEMLEAK.write_text("scan")
        leaks = _KMEMLEAK.read_text(encoding="utf-8", errors="replace")
        lost = leaks.count("unreferenced object")
        outcome, reason = ("failed", f"{lost} leaks") if lost else ("passed", "")
        self._end("kmemleak", outcome, reason, time.monotonic() - begin, {}, leaks)

    @pytest.fixture
    def measure(self, request: pytest.FixtureRequest) -> Callable[[str, float], None]:
        """`measure(name, value)`: a number for the results, of this case on this kernel."""
        measures = request.node.stash[_MEASURES]

        def keep(name: str, value: float) -> None:
            measures[name] = value

        return keep

    @pytest.fixture
    def result(self) -> Callable[[str, Any], None]:
        """`result(name, document)`: what a bench has measured, for the host to keep."""

        def send(name: str, document: Any) -> None:
            self._port.send(event="result", name=name, document=document)

        return send

    @pytest.fixture
    def expected_release(self) -> str:
        """`uname -r` of the kernel that the host booted."""
        return self._release

    @pytest.fixture
    def module(self) -> Iterator[Path]:
        """mlproxy.ko is loaded during the case, and must go afterwards; gives /dev/mlproxy."""
        with loaded(MODULE):
            yield Path("/dev/mlproxy")

    @pytest.fixture(autouse=True)
    def module_for_contracts(self, request: pytest.FixtureRequest) -> None:
        """Tests of the host that run over all transports find the module loaded."""
        if request.node.nodeid.startswith(_CONTRACTS):
            request.getfixturevalue("module")

    @pytest.fixture
    def example(self, module: Path) -> Iterator[Path]:
        """As `module`, with the example consumer mlproxy_example.ko too."""
        with loaded(EXAMPLE):
            yield module


def _is_of_guest(item: pytest.Item) -> bool:
    """Not so are tests of the host that need no kernel: the host runs them, and faster."""
    if not item.nodeid.startswith(_CONTRACTS):
        return True
    call = getattr(item, "callspec", None)
    return call is not None and call.params.get("transport") == "kernel"


def _why(report: pytest.TestReport | pytest.CollectReport) -> str:
    """One line: why it was skipped or failed."""
    expected = getattr(report, "wasxfail", None)
    if expected is not None:
        return f"expected to fail: {expected}"
    if isinstance(report.longrepr, tuple):
        return report.longrepr[2].removeprefix("Skipped: ")
    crash = getattr(report.longrepr, "reprcrash", None)
    text = crash.message if crash is not None else report.longreprtext
    return text.strip().splitlines()[0] if text.strip() else "failed without a word"

"""What a boot's events become, also when the guest does not live to tell the end."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

from harness import session
from harness.case import Case
from harness.host import HarnessError

KERNEL = SimpleNamespace(name="6.12", release="6.12.0", slow=1.0)
PLAN = ["a", "b", "c"]


class FakeGuest:
    console = Path("console.log")

    def __init__(self, events: list[dict], error: str = "", crash: str = "") -> None:
        self._events, self._error, self._crash = events, error, crash
        self.limits: list[float] = []

    def events(self, silence: list[float]) -> Iterator[dict]:
        for event in self._events:
            yield event
            self.limits.append(silence[0])
        if self._error:
            raise HarnessError(self._error)

    def console_tail(self) -> str:
        return f"Kernel panic {self._crash}"


def plan(*cases: str) -> dict:
    return {"event": "plan", "cases": list(cases)}


def begin(case: str, timeout: float = 300) -> dict:
    return {"event": "begin", "case": case, "timeout": timeout}


def end(case: str, outcome: str = "passed", **measures: float) -> dict:
    fields = {"reason": "", "seconds": 1.0, "measures": measures, "text": ""}
    return {"event": "end", "case": case, "outcome": outcome, **fields}


def done(status: int = 0) -> dict:
    return {"event": "done", "status": status}


def boot(
    events: list[dict],
    error: str = "",
    *,
    last_try: bool = False,
    tried: str = "",
    crash: str = "mlp_submit+0x1c/0x80 [mlproxy]",
) -> tuple[session._Boot, list[Case], FakeGuest]:
    guest = FakeGuest([{"event": "boot"}, *events] if events else [], error, crash)
    one = session._Boot(KERNEL, guest, 180, last_try, tried)
    return one, list(one.cases()), guest


def test_a_boot_that_goes_well():
    events = [plan("a", "b"), begin("a"), end("a", n=2.5), begin("b"), end("b", "skipped"), done()]
    one, cases, _ = boot(events)
    assert [(c.name, c.outcome, c.measures) for c in cases] == [
        ("a", "passed", {"n": 2.5}),
        ("b", "skipped", {}),
    ]
    assert one.complete
    assert one.ended == 2


def test_a_crash_fails_the_case_that_ran_and_leaves_the_rest_to_the_next_boot():
    one, cases, _ = boot([plan(*PLAN), begin("a"), end("a"), begin("b")])
    assert [(c.name, c.outcome) for c in cases] == [("a", "passed"), ("b", "failed")]
    assert "Kernel panic" in cases[1].text
    assert not one.complete
    assert one.planned[one.ended :] == ["c"]


def test_a_crash_elsewhere_is_forgiven_once():
    events = [plan(*PLAN), begin("a"), end("a"), begin("b")]
    one, cases, _ = boot(events, crash="ktime_get+0x1c/0x80")
    assert [c.name for c in cases] == ["a"]
    assert (one.again_for, one.planned[one.ended :]) == ("b", ["b", "c"])
    one, cases, _ = boot([plan(*PLAN), begin("b")], tried="b", crash="ktime_get+0x1c/0x80")
    assert [(c.name, c.outcome) for c in cases] == [("b", "failed")]
    assert one.again_for == ""


def test_a_guest_that_hangs_is_a_failure_of_the_case_that_ran():
    _, cases, _ = boot([plan(*PLAN), begin("a")], error="the guest said nothing for 480 s")
    assert [(c.name, c.outcome, c.reason) for c in cases] == [
        ("a", "failed", "the guest said nothing for 480 s")
    ]


def test_a_boot_that_dies_before_any_case_is_forgiven_once():
    one, cases, _ = boot([], error="QEMU ended with status 1: no such machine")
    assert (one.early, cases) == (True, [])
    one, cases, _ = boot([], error="QEMU ended with status 1: no such machine", last_try=True)
    assert not one.early
    assert [(c.name, c.outcome) for c in cases] == [("boot", "failed")]


def test_a_boot_that_ends_itself_early_is_neither_complete_nor_a_failure():
    again = {"event": "again"}
    events = [plan(*PLAN), begin("a"), end("a", "failed"), again, done(2)]
    one, cases, _ = boot(events)
    assert [(c.name, c.outcome) for c in cases] == [("a", "failed")]
    assert not one.complete
    assert one.planned[one.ended :] == ["b", "c"]


def test_pytest_that_cannot_run_is_a_failure():
    _, cases, _ = boot([plan(), done(4)])
    assert [(c.name, c.reason) for c in cases] == [("pytest", "pytest ended with status 4")]


def test_a_case_may_take_longer_than_a_boot():
    _, _, guest = boot([plan("a"), begin("a", timeout=900), end("a"), done()])
    assert guest.limits[2] == 900 + 180


def test_contract_tests_are_those_that_use_the_transport():
    found = session.contracts()
    assert "tests/contract/test_proxy_contract.py" in found
    assert "tests/contract/test_learn_candidates.py" not in found


def test_what_is_left_out_is_left_out_of_what_is_wanted() -> None:
    without = session.Suite((), without="test_a or test_b")
    assert session.ALL.select("") == ""
    assert session.ALL.select("x or y") == "(x or y)"
    assert without.select("") == "not (test_a or test_b)"
    assert without.select("x or y") == "(x or y) and not (test_a or test_b)"

"""The mode machine: the core against an independent reference, cell by cell and on walks."""

import dataclasses
import random
import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mlproxy import _core
from mlproxy.errors import ProxyError
from mlproxy.proxy import (
    Arm,
    InProcessProxy,
    Kind,
    Mode,
    ProxyConfig,
    Reason,
    Recommendation,
    Reject,
)

ROOT = Path(__file__).resolve().parents[2]
lib, ffi = _core.lib, _core.ffi

STATES = ("stopped", "emergency", "gated", "learning", "collaboration", "trusted")
EVENTS = (
    *("start", "stop", "promote", "demote", "no_gain", "heartbeat", "rejects", "spike", "budget"),
    *("critical_on", "critical_off", "operator_on", "operator_off", "cooldown_over", "latch"),
    *("set_emergency", "set_learning", "set_collaboration", "set_trusted"),
)
MODE_OF = {
    "stopped": Mode.EMERGENCY,
    "emergency": Mode.EMERGENCY,
    "gated": Mode.LEARNING,
    "learning": Mode.LEARNING,
    "collaboration": Mode.COLLABORATION,
    "trusted": Mode.TRUSTED,
}
FLAGS = {1: "trip", 2: "backoff", 4: "cooldown", 8: "forget", 16: "refuse"}
GUARD = frozenset({"trip", "backoff", "cooldown"})


def expected(state, event):
    """What DESIGN and docs say, written as rules instead of a table: (next, flags)."""
    live = state not in ("stopped", "emergency")
    model_acts = state in ("learning", "collaboration", "trusted")
    none = frozenset()
    if event == "start":
        return ("gated", none) if state == "stopped" else (state, {"refuse"})
    if event == "stop":
        return ("stopped", none)
    if event.startswith("set_"):
        if state == "stopped":
            return (state, {"refuse"})
        if event == "set_emergency":
            return ("emergency", {"cooldown"})
        if event == "set_learning":
            return ("learning" if state == "learning" else "gated", none)
        return (event.removeprefix("set_"), none)
    if event == "cooldown_over" and state == "emergency":
        return ("gated", none)
    if event in ("critical_off", "operator_off") and state == "emergency":
        return (state, {"cooldown"})
    if not live:
        return (state, none)
    if event == "promote":
        return (STATES[min(STATES.index(state) + 1, 5)], none)
    if event == "demote":
        if state == "gated":
            return (state, {"forget"})
        return ("emergency", {"backoff", "cooldown"}) if state == "learning" else ("gated", none)
    if event == "no_gain":
        return ("gated", none) if state in ("collaboration", "trusted") else (state, none)
    if event in ("heartbeat", "rejects"):
        return ("emergency", GUARD)
    if event in ("spike", "budget"):
        return ("emergency", GUARD) if model_acts else (state, none)
    if event in ("critical_on", "operator_on"):
        return ("emergency", {"cooldown"})
    return (state, none)


def cell_of(state, event):
    cell = ffi.new("struct mlp_cell *")
    lib.mlp_mode_cell(STATES.index(state), EVENTS.index(event), cell)
    return STATES[cell.next], {name for bit, name in FLAGS.items() if cell.flags & bit}


def test_every_cell_of_the_table_is_what_the_rules_say():
    for state in STATES:
        for event in EVENTS:
            assert cell_of(state, event) == expected(state, event), (state, event)


def test_states_and_events_are_all_there():
    assert len(STATES) == lib.MLP_STATE_NR
    assert len(EVENTS) == lib.MLP_EVENT_NR
    cell = ffi.new("struct mlp_cell *")
    for state, event in ((6, 0), (0, 19), (2**32 - 1, 2**32 - 1)):
        lib.mlp_mode_cell(state, event, cell)
        assert cell.flags == lib.MLP_DO_REFUSE


def test_the_document_shows_the_table_that_the_code_has():
    text = (ROOT / "docs/reference/proxy-core.md").read_text(encoding="utf-8")
    table = text.split("<!-- mode table -->")[1]
    rows = dict(re.findall(r"^\| `(\w+)` \|(.*)\|$", table, re.MULTILINE))
    assert set(rows) == set(EVENTS)
    for event, cells in rows.items():
        shown = [c.strip() for c in cells.split("|")]
        assert len(shown) == len(STATES), event
        for state, cell in zip(STATES, shown, strict=True):
            target, flags = cell_of(state, event)
            words = set(re.findall(r"\w+", cell))
            if "refuse" in flags:
                assert words == {"refused"}, (event, state)
            else:
                assert words == (({target} if target != state else set()) | flags), (event, state)


@dataclass
class Reference:
    """The machine once more, with its holds, trips and cooldown, in plain Python."""

    gate: bool
    trip_limit: int
    cooldown: int
    cooldown_max: int
    heartbeat_limit: int
    state: str = "stopped"
    holds: set = field(default_factory=set)
    trips: int = 0
    backoff: int = 0
    until: int = 0
    beat: int = 0
    reason: Reason = Reason.NONE
    changes: int = 0

    def fire(self, event, reason, now):
        target, flags = expected(self.state, event)
        if "refuse" in flags or (
            event in ("set_learning", "set_collaboration", "set_trusted") and self.holds
        ):
            return False
        if event.endswith("_on"):
            self.holds.add(event[:-3])
        if event == "critical_off":
            self.holds.discard("critical")
        if event == "operator_off":
            self.holds -= {"operator", "latch"}
            self.trips = self.backoff = 0
        if target == "gated" and not self.gate:
            target = "learning"
        if target != self.state and target not in ("stopped", "emergency") and self.holds:
            target = "emergency"
            order = [("operator", Reason.OPERATOR), ("latch", Reason.LATCHED)]
            reason = next((r for h, r in order if h in self.holds), Reason.CRITICAL)
        self.trips += "trip" in flags
        self.backoff += "backoff" in flags
        if "cooldown" in flags:
            pause = self.cooldown * 2 ** max(self.backoff - 1, 0)
            self.until = now + min(pause, self.cooldown_max)
        if target != self.state:
            self.state, self.reason = target, reason
            self.changes += 1
        if "trip" in flags and self.trip_limit and self.trips >= self.trip_limit:
            self.holds.add("latch")
            self.reason = Reason.LATCHED
            self.changes += 1
        return True

    def silent(self, now):
        return self.heartbeat_limit and now - self.beat > self.heartbeat_limit

    def tick(self, now):
        if self.state not in ("stopped", "emergency"):
            if self.silent(now):
                self.fire("heartbeat", Reason.HEARTBEAT, now)
        elif self.state == "emergency" and not (self.holds or now < self.until or self.silent(now)):
            self.fire("cooldown_over", Reason.COOLDOWN, now)


def accepted(call, *args):
    try:
        call(*args)
    except ProxyError as e:
        if e.code != "proxy.state":
            raise
        return False
    return True


@pytest.mark.parametrize("seed", range(60))
def test_random_walks_agree_with_the_reference(seed):
    rng = random.Random(seed)
    limits = {
        "trip_limit": rng.choice([0, 2, 3]),
        "cooldown": rng.randrange(30),
        "heartbeat_limit": rng.choice([0, 40]),
    }
    limits["cooldown_max"] = limits["cooldown"] + rng.randrange(200)
    config = ProxyConfig(name="walk", kind=Kind.VALUE, twin_gate=seed % 2, reject_limit=1, **limits)
    proxy = InProcessProxy(config, capacity=0)
    model = Reference(gate=bool(seed % 2), **limits)
    now = 0
    for _ in range(400):
        now += rng.choice([0, 1, 5, 20])
        choice = rng.randrange(12)
        if choice == 0:
            done = model.fire("start", Reason.START, now)
            if done:
                model.beat = now
            assert accepted(proxy.start, now) == done
        elif choice == 1 and rng.random() < 0.2:
            model.fire("stop", Reason.AGENT_GONE, now)
            proxy.stop(now)
        elif choice in (2, 3):
            on = rng.random() < 0.5
            if on != ("critical" in model.holds):
                model.fire("critical_on" if on else "critical_off", Reason.CRITICAL, now)
            proxy.critical(on, now)
        elif choice == 4 and rng.random() < 0.5:
            on = rng.random() < 0.3
            model.fire("operator_on" if on else "operator_off", Reason.OPERATOR, now)
            proxy.operator_emergency(on, now)
        elif choice == 5:
            mode = rng.choice(list(Mode))
            event = f"set_{mode.name.lower()}"
            done = model.fire(event, Reason.OPERATOR, now)
            assert accepted(proxy.set_mode, mode, Reason.OPERATOR, now) == done
        elif choice == 6:  # two rejects where one is allowed
            live = model.state not in ("stopped", "emergency")
            for _ in range(2):
                assert proxy.submit(Recommendation(Kind.RANK, 1, 1, 1, 1), now) is not Reject.NONE
            if live:
                model.fire("rejects", Reason.REJECTS, now)
        elif choice in (7, 8):
            proxy.heartbeat(now)
            model.beat = max(model.beat, now)
        else:
            proxy.tick(now)
            model.tick(now)
        s = proxy.snapshot(now)
        assert STATES[s.state] == model.state
        assert s.mode is MODE_OF[model.state]
        assert (s.latched, s.operator_hold) == ("latch" in model.holds, "operator" in model.holds)
        assert (s.trips, s.mode_seq) == (model.trips, model.changes)
        assert s.reason is model.reason
        assert s.cooldown_until == model.until


def proxy_in(mode, **changes):
    settings = {"name": "p", "kind": Kind.VALUE, "cooldown": 10, "cooldown_max": 80} | changes
    proxy = InProcessProxy(ProxyConfig(**settings), capacity=256)
    proxy.start(0)
    if mode is not Mode.LEARNING:
        proxy.set_mode(mode, Reason.OPERATOR, 0)
    return proxy


def test_cooldown_doubles_and_too_many_trips_latch_until_the_operator_clears():
    proxy = proxy_in(Mode.LEARNING, heartbeat_limit=5, trip_limit=3)
    now, pauses = 0, []
    for _ in range(3):
        now += 6
        proxy.tick(now)
        pauses.append(proxy.snapshot(now).cooldown_until - now)
        now += pauses[-1]
        proxy.heartbeat(now)
        proxy.tick(now)
    assert pauses == [10, 20, 40]
    s = proxy.snapshot(now)
    assert s.latched
    assert s.mode is Mode.EMERGENCY
    assert s.reason is Reason.LATCHED
    proxy.operator_emergency(False, now)
    proxy.heartbeat(now + 10)
    proxy.tick(now + 10)
    s = proxy.snapshot(now + 10)
    assert (s.mode, s.latched, s.trips) == (Mode.LEARNING, False, 0)


def test_critical_holds_emergency_for_as_long_as_it_lasts():
    proxy = proxy_in(Mode.TRUSTED)
    proxy.critical(True, 5)
    assert proxy.snapshot(5).mode is Mode.EMERGENCY
    proxy.tick(1000)
    assert proxy.snapshot(1000).mode is Mode.EMERGENCY
    proxy.critical(False, 1000)
    proxy.tick(1009)
    assert proxy.snapshot(1009).mode is Mode.EMERGENCY
    proxy.tick(1010)
    s = proxy.snapshot(1010)
    assert (s.mode, s.reason, s.trips) == (Mode.LEARNING, Reason.COOLDOWN, 0)


def test_a_mode_change_is_published_with_reason_and_evidence():
    proxy = proxy_in(Mode.LEARNING)
    for t in range(1, 41):
        proxy.report(Arm.DEFAULT, 1, 1000 + t % 3, t)
        proxy.report(Arm.MODEL, 2, 800 + t % 3, t)
    (view,) = proxy.peek()
    changes = view[view["type"] == 5]
    assert list(changes["default_action"][:3]) == [Reason.START, Reason.PROMOTED, Reason.PROMOTED]
    assert list(changes["mode"][:3]) == [1, 2, 3]
    assert list(changes["stream"][:3]) == [0, 1, 2]
    first = changes[1]
    assert 190_000 < first["aux"] < 210_000
    assert 0 < first["cost"] < first["aux"]
    assert first["unit"] == 16


def test_time_in_each_mode_adds_up():
    proxy = proxy_in(Mode.LEARNING)
    proxy.set_mode(Mode.TRUSTED, Reason.OPERATOR, 30)
    proxy.operator_emergency(True, 50)
    assert proxy.snapshot(75).mode_time == (25, 30, 0, 20)


def test_the_document_s_example_runs():
    text = (ROOT / "docs/reference/proxy-core.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    names = {}
    exec(example, names)
    assert names["proxy"].snapshot(2).accepted == 1


def test_the_document_names_every_field_and_reject():
    text = (ROOT / "docs/reference/proxy-core.md").read_text(encoding="utf-8")
    words = set(re.findall(r"`(\w+)`", text))
    assert {field.name for field in dataclasses.fields(ProxyConfig)} <= words
    assert {reject.name for reject in Reject if reject is not Reject.NONE} <= words

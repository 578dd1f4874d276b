"""What `mlproxy top` shows, by golden text."""

import io

import msgspec
import pytest
from rich.console import Console

from mlproxy.events.types import EvidenceData, StateMessage
from mlproxy.report.live import render

EVIDENCE = {
    "source": "twin",
    "default_mean": 1.903,
    "model_mean": 1.552,
    "default_count": 210,
    "model_count": 211,
    "saving_ratio": 0.184,
    "lower_ratio": 0.151,
    "upper_ratio": 0.217,
}
STATUS = {
    "schema": 1,
    "version": "0.1.0",
    "pid": 4711,
    "node": "lab-7",
    "started_at": "2026-11-23T12:41:00.123456+00:00",
    "health": "degraded",
    "emergency": False,
    "feed": {
        "connected": True,
        "broker": "127.0.0.1:1883",
        "sent": {"event": 234, "state": 1000},
        "spooled": 0,
        "dropped": {},
    },
    "plugins": [{"name": "lfs", "state": "loaded"}],
    "subsystems": {
        "lfs": {"state": "running", "steps": 51234, "restarts": 0, "failure": None, "proxies": {}},
        "odd": {
            "state": "quarantined",
            "steps": 3,
            "restarts": 2,
            "failure": {"phase": "step", "code": "plugin.raised", "message": "ValueError: no"},
            "proxies": {},
        },
    },
}
PROXIES = {
    "lfs.victim": {
        "mode": "emergency",
        "reason": "cost-spike",
        "guard": "in-process",
        "at": 5_200_000,
        "mode_since": 5_190_000,
        "latched": True,
        "trips": 5,
        "trial": EVIDENCE | {"saving_ratio": -0.1, "lower_ratio": -0.3, "upper_ratio": -0.02},
    },
    "lfs.placement": {
        "mode": "trusted",
        "reason": "promoted",
        "guard": "in-process",
        "at": 5_200_000,
        "mode_since": 4_080_000,
        "mode_share": {"emergency": 0, "learning": 0.2, "collaboration": 0.1, "trusted": 0.7},
        "decisions": {"default": 100_000, "model": 900_000},
        "accepted": 12,
        "rejected": {"range": 2, "replay": 1, "cycle": 0},
        "champion": "river-tree",
        "model_version": 12,
        "drifts": 1,
        "twin": EVIDENCE,
        "models": {"river-tree": {}, "linear": {}, "bandit": {}},
        "metrics": {"wa_ratio": 1.6, "free_segments_count": 31.0},
    },
}
STATUS["subsystems"]["lfs"]["proxies"] = PROXIES
AT_80 = """\
mlproxy     lab-7  degraded  since 2026-11-23 12:41:00  pid 4711  version 0.1.0
feed        connected  127.0.0.1:1883  sent 1234  spooled 0  dropped 0
────────────────────────────────────────────────────────────────────────────────
subsystem   lfs  running  steps 51.23k  restarts 0
lfs.victim  EMERGENCY  [latched]
  mode      cost-spike, for 10k since 5.19M  guard in-process
  twin      no comparison yet
  trial     default 1.903  model 1.552  saving -10.0% (-30.0% to -2.0%)
            n 210/211
  champion  none  version 0  drift 0
  acted     model 0 of 0  accepted 0  rejected 0  fallbacks 0  trips 5

lfs.placement  TRUSTED
  mode      promoted, for 1.12M since 4.08M  guard in-process
  time in   learning 20%  collaboration 10%  trusted 70%
  twin      default 1.903  model 1.552  saving +18.4% (+15.1% to +21.7%)
            n 210/211
  trial     no comparison yet
  champion  river-tree  version 12  drift 1  2 challengers
  acted     model 900k of 1M  accepted 12  rejected 3 (range 2, replay 1)
            fallbacks 0  trips 0
  numbers   free_segments_count 31  wa_ratio 1.6
────────────────────────────────────────────────────────────────────────────────
subsystem   odd  quarantined  steps 3  restarts 2
            in step: [plugin.raised] ValueError: no
"""


def shown(status, width=80, **options):
    console = Console(file=io.StringIO(), width=width, **options)
    console.print(render(status, width))
    return console.file.getvalue()


def test_plain_text_at_80_columns():
    assert shown(STATUS) == AT_80


@pytest.mark.parametrize("width", [24, 40, 60, 80, 100, 132, 200])
def test_every_line_fits_at_any_width(width):
    lines = shown(STATUS, width).splitlines()
    assert max(len(line) for line in lines) <= width
    assert sum("TRUSTED" in line for line in lines) == 1


def test_a_wide_terminal_shows_an_arm_comparison_in_one_line():
    (line,) = [line for line in shown(STATUS, 120).splitlines() if "+18.4%" in line]
    assert line == (
        "  twin      default 1.903  model 1.552  saving +18.4% (+15.1% to +21.7%)  n 210/211"
    )


def test_colour_is_an_addition_to_text(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured = shown(STATUS, force_terminal=True, color_system="standard")
    assert "\x1b[1;32mTRUSTED\x1b[0m" in coloured
    assert "\x1b[1;31mEMERGENCY\x1b[0m" in coloured


def test_no_color_is_respected(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    text = shown(STATUS, force_terminal=True, color_system="standard")
    assert "TRUSTED" in text
    assert "\x1b[1;32m" not in text
    assert "\x1b[32m" not in text


def test_what_is_missing_does_no_harm():
    assert shown({}) == (
        "mlproxy     -  -  since -  pid -  version -\n"
        "feed        none\n"
        "────────────────────────────────────────────────────────────────────────────────\n"
        "no subsystems\n"
    )
    text = shown({"subsystems": {"s": {"proxies": {"p": {}}}}})
    assert "p  -\n" in text
    assert "  mode      -, for - since -  guard -\n" in text


def first(status, word):
    return next(line for line in shown(status).splitlines() if line.startswith(word))


def test_trouble_with_the_feed_is_said():
    feed = {"connected": False, "broker": "b", "sent": {}, "spooled": 77, "dropped": {"event": 3}}
    assert first({"feed": feed}, "feed") == "feed        away  b  sent 0  spooled 77  dropped 3"
    assert first({"feed": {"state": "down", "waiting": 2}}, "feed") == "feed        down"


def test_the_operators_emergency_is_said():
    assert "EMERGENCY by the operator: default logic only" in shown({"emergency": True})


def test_a_quarantined_plugin_is_said():
    plugin = {
        "name": "bad",
        "state": "quarantined",
        "phase": "import",
        "code": "plugin.import",
        "reason": "no module named x",
    }
    assert first({"plugins": [plugin, {"name": "good", "state": "loaded"}]}, "plugin") == (
        "plugin      bad quarantined in import [plugin.import]  no module named x"
    )


def test_text_from_elsewhere_cannot_steer_the_terminal():
    evil = "x\x1b[2J\x07\r\n[bold]y"
    status = {
        "node": evil,
        "feed": {"connected": True, "broker": evil},
        "plugins": [{"name": evil, "state": "quarantined"}],
        "subsystems": {
            evil: {
                "state": evil,
                "failure": {"phase": evil, "code": evil, "message": evil},
                "proxies": {
                    evil: {
                        "mode": evil,
                        "reason": evil,
                        "champion": evil,
                        "rejected": {evil: 1},
                        "metrics": {evil: 1.0},
                    }
                },
            }
        },
    }
    text = shown(status, 200)
    assert "\x1b" not in text
    assert "\r" not in text
    assert text.count("[bold]y") >= 5  # taken literally, not as markup


def test_the_keys_shown_here_are_those_that_the_daemon_sends():
    """The golden status is made of real messages; a renamed field is noticed."""
    for name, state in PROXIES.items():
        known = {key: value for key, value in state.items() if key != "metrics"}
        evidence = {k: EvidenceData(**known[k]) for k in ("trial", "twin") if k in known}
        message = StateMessage(
            proxy=name, subsystem="lfs", kind="choice", mode_seq=1, **(known | evidence)
        )
        sent = msgspec.to_builtins(message)
        real, golden = (
            shown({"subsystems": {"lfs": {"proxies": {name: document}}}})
            for document in (sent, known)
        )
        assert real == golden

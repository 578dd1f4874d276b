"""The plugin in front of the store: options, steps, events in the feed's units."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from mlproxy import SubsystemContext
from mlproxy.config.sample import sample_text
from mlproxy.errors import TraceError
from mlproxy.events.types import ModeEvent
from mlproxy.hooks import Hooks
from mlproxy.plugin.registry import Registry
from mlproxy.proxy import Mode
from mlproxy_lfs import plugin
from mlproxy_lfs.decisions import PLACEMENT, VICTIM
from mlproxy_lfs.options import LfsOptions
from mlproxy_lfs.subsystem import PROXIES, LfsSubsystem, make_workload

README = Path(plugin.__file__).with_name("README.md")
TINY = {"workload": "mixed", "segments": 192, "segment_blocks": 32, "pace_blocks_per_second": 0.0}


def context(seed=1, overrides=None, **options):
    return SubsystemContext(
        "lfs", LfsOptions(**{**TINY, **options}), seed, "/nonexistent", overrides or {}
    )


def play(steps, clock=None, until=lambda result: result.done, **options):
    """(subsystem, results) of so many steps at most."""
    subsystem = LfsSubsystem(clock) if clock else LfsSubsystem()
    subsystem.start(context(**options))
    results = []
    for _ in range(steps):
        results.append(subsystem.step())
        if until(results[-1]):
            break
    return subsystem, results


# -- options ------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"segments": 64, "over_provisioning": 0.07},
        {"segment_blocks": 64, "twin_share": 32},
        {"poison_at": 1.0},
        {"poison": "worse"},
        {"over_provisioning": 0.5},
        {"trace": [""]},
        {"pace": 1.0},
        {"capacities": 1.0},
    ],
)
def test_options_that_cannot_work_are_refused(options):
    with pytest.raises(ValidationError):
        LfsOptions(**options)


def test_readme_lists_every_option_with_its_default():
    rows = dict(
        re.findall(r"^\| `(\w+)` \| (.+?) \|", README.read_text(encoding="utf-8"), re.MULTILINE)
    )
    assert list(rows) == list(LfsOptions.model_fields)
    for name, info in LfsOptions.model_fields.items():
        shown = "not set" if info.default is None else f"`{info.default!r}`".replace("'", '"')
        assert rows[name] == shown, name


def test_sample_configuration_shows_the_plugin():
    hooks = Hooks()
    hooks.register("lfs", plugin)
    factories = {f.name: f for f in hooks.subsystems("lfs")}
    text = sample_text(Registry(hooks, factories=factories, owners={"lfs": "lfs"}), "lfs")
    assert '#workload = "mix-office"' in text
    assert '#[proxy."lfs-placement"]' in text


# -- the stream ----------------------------------------------------------------


def test_stream_is_as_long_as_asked_for_in_whole_windows():
    options = LfsOptions(**TINY, capacities=2.0)
    workload = make_workload(options, 1)
    window = int(workload.capacity * 0.02)
    assert workload.writes % window == 0
    assert abs(workload.writes - 2 * workload.capacity) < window


def test_recording_without_room_is_a_coded_error():
    with pytest.raises(TraceError) as caught:
        make_workload(LfsOptions(**(TINY | {"workload": "mix-office"})), 1)
    assert caught.value.code == "trace.does_not_fit"


def test_unknown_workload_and_missing_recording_are_coded_errors():
    with pytest.raises(TraceError) as caught:
        make_workload(LfsOptions(workload="nothing"), 1)
    assert caught.value.code == "trace.workload"
    with pytest.raises(TraceError) as caught:
        make_workload(LfsOptions(trace=["/nonexistent.trace"]), 1)
    assert caught.value.code == "trace.unreadable"


def test_own_recordings_are_mixed_as_tenants():
    traces = [str(README.parent / "recordings" / f"{n}.trace") for n in ("mail", "sqlite-wal")]
    one = make_workload(LfsOptions(trace=traces[:1], segment_blocks=256, capacities=2.0), 1)
    both = make_workload(LfsOptions(trace=traces, segment_blocks=256, capacities=2.0), 1)
    assert one.writes == both.writes
    assert both.groups[0] > 1


# -- steps ----------------------------------------------------------------------


def test_steps_promote_with_evidence_in_blocks_per_user_block():
    def tried(result):
        return any(getattr(e, "new", "") == "collaboration" for e in result.events)

    subsystem, results = play(
        600, until=tried, segments=256, segment_blocks=64, stream_capacities=8.0
    )
    modes = [e for r in results for e in r.events if isinstance(e, ModeEvent)]
    promoted = [e for e in modes if e.proxy == PLACEMENT and e.new == "collaboration"]
    assert promoted, "placement is learnable on this stream"
    evidence = promoted[0].evidence[0]
    assert evidence.source == "twin"
    assert evidence.pairs >= 8
    assert 1.0 < evidence.model_mean < evidence.default_mean < 10.0
    assert evidence.saving_ratio > 0.01
    assert evidence.lower_ratio <= evidence.saving_ratio <= evidence.upper_ratio
    for proxy in PROXIES:
        numbers = [e.mode_seq for e in modes if e.proxy == proxy]
        assert numbers == list(range(1, 1 + len(numbers)))
    assert subsystem.now(PLACEMENT) == subsystem.now(VICTIM) > 0


def test_metrics_and_models_are_named_and_finite():
    subsystem, results = play(100)
    last = results[-1]
    metrics = last.metrics[PLACEMENT]
    assert metrics["written_blocks"] == subsystem.now(PLACEMENT)
    moved = 1 + metrics["moved_blocks"] / metrics["written_blocks"]
    assert metrics["write_amplification_whole_ratio"] == pytest.approx(moved)
    assert metrics["write_amplification_ratio"] >= 1.0
    assert 0 <= metrics["model_share_ratio"] <= 1
    assert {"twin_default_ratio", "twin_htr_ratio", "twin_sepbit_ratio"} <= set(metrics)
    assert {"twin_reference_ratio", "twin_f2fs_mix_ratio"} <= set(last.metrics[VICTIM])
    assert set(last.models) == set(PROXIES)
    assert last.models[PLACEMENT]["candidates"]["htr"]["labels"] > 0


def test_same_seed_same_run():
    runs = [play(120)[1] for _ in range(2)]
    told = [
        [(e.proxy, getattr(e, "new", getattr(e, "what", "")), e.at) for r in run for e in r.events]
        for run in runs
    ]
    assert told[0] == told[1]
    assert runs[0][-1].metrics == runs[1][-1].metrics
    assert play(120, seed=2)[1][-1].metrics != runs[0][-1].metrics


def test_capacities_end_the_run_and_zero_begins_the_stream_again():
    _, results = play(200, capacities=2.0)
    assert [r.done for r in results] == [False] * (len(results) - 1) + [True]
    assert len(results) == pytest.approx(100, abs=1)
    subsystem, results = play(220, stream_capacities=2.0)
    assert len(results) == 220
    assert not any(r.done for r in results)
    assert results[-1].metrics[PLACEMENT]["stream_rounds"] == 3
    system = subsystem._system
    assert system.engine.check(system.main) == 0, "a repeated stream leaves the store whole"
    assert results[-1].models[PLACEMENT]["labels"] > results[100].models[PLACEMENT]["labels"]


def test_operator_overrides_reach_the_proxies():
    subsystem = LfsSubsystem()
    proxies = subsystem.start(context(overrides={PLACEMENT: {"alpha": 12_345}}))
    assert [p.config.name for p in proxies] == list(PROXIES)
    assert proxies[0].config.alpha == 12_345
    assert {p.snapshot(0).mode for p in proxies} == {Mode.LEARNING}
    subsystem.stop()
    assert {p.snapshot(0).mode for p in proxies} == {Mode.EMERGENCY}


def test_pace_says_how_long_to_wait_and_gives_up_what_it_missed():
    now = [100.0]
    subsystem = LfsSubsystem(lambda: now[0])
    subsystem.start(context(pace_blocks_per_second=1000.0))
    window = int(subsystem._system.capacity * 0.02)

    result = subsystem.step()
    assert not result.worked
    assert subsystem.period_seconds == pytest.approx(window / 1000)
    now[0] += window / 1000 + 0.01
    subsystem.step()
    assert subsystem.period_seconds == pytest.approx(window / 1000 - 0.01)
    now[0] += 60
    late = [subsystem.step().worked for _ in range(30)]
    caught_up = late.index(False)
    assert 0 < caught_up <= 1000 / window + 2, "a second is caught up with, not a minute"

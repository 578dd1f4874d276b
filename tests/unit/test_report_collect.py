"""From events to timelines: no gap, no overlap, nothing lost."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mlproxy.events.types import EvidenceData, ModeEvent, ModelEvent
from mlproxy.report.collect import Curves, champion_history, evidence_text, mode_history
from mlproxy.report.model import MODES, ModeSpan


def event(at, old, new, reason="promoted", **more):
    return ModeEvent(proxy="p", old=old, new=new, reason=reason, at=at, **more)


def test_a_run_becomes_spans_and_changes():
    twin = EvidenceData(source="twin", saving_ratio=0.1)
    spans, changes = mode_history(
        [
            event(0, "emergency", "learning", "start"),
            event(300, "learning", "trusted", evidence=(twin,)),
            event(500, "trusted", "emergency", "cost-spike"),
        ],
        0,
        600,
        scale=100,
    )
    assert spans == [
        ModeSpan(0, 3, "learning", "start"),
        ModeSpan(3, 5, "trusted", "promoted"),
        ModeSpan(5, 6, "emergency", "cost-spike"),
    ]
    assert [(c.at, c.old, c.new) for c in changes] == [
        (0, "emergency", "learning"),
        (3, "learning", "trusted"),
        (5, "trusted", "emergency"),
    ]
    assert changes[1].evidence_text == "twin: saving +10.0%"


def test_without_events_the_first_mode_lasts():
    assert mode_history([], 0, 10, initial="learning") == ([ModeSpan(0, 10, "learning")], [])


def test_the_mode_before_a_late_first_event_is_known():
    spans, _ = mode_history([event(5, "learning", "trusted")], 0, 10)
    assert [span.mode for span in spans] == ["learning", "trusted"]


@given(st.lists(st.tuples(st.integers(0, 100), st.sampled_from(MODES)), max_size=12))
def test_spans_have_no_gap_and_no_overlap(steps):
    events, mode = [], "emergency"
    for at, new in sorted(steps, key=lambda step: step[0]):
        events.append(event(at, mode, new))
        mode = new
    spans, changes = mode_history(events, 0, 100)
    assert spans[0].start == 0
    assert spans[-1].end == 100
    assert all(a.end == b.start for a, b in pairwise(spans))
    assert all(span.end > span.start for span in spans)
    assert len(changes) == len(events)


def test_evidence_of_two_comparisons_is_two_lines():
    arms = {"default_mean": 2000.0, "model_mean": 1500.0, "default_count": 3, "model_count": 4}
    both = [EvidenceData(source=source, **arms) for source in ("trial", "twin")]
    first, second = evidence_text(both, unit=1000).split("\n")
    assert first.startswith("trial: default 2 (n 3), model 1.5 (n 4), saving +0.0% (")
    assert second.startswith("twin: ")


def test_champions_are_told_from_other_model_events():
    events = [
        ModelEvent(proxy="p", what="champion", candidate="tree", at=200),
        ModelEvent(proxy="p", what="drift", candidate="tree", at=300),
        ModelEvent(proxy="p", what="champion", candidate="linear", previous="tree", at=400),
        ModelEvent(proxy="p", what="champion", candidate="tree", reason="lower loss", at=500),
    ]
    assert champion_history(events, scale=100) == [
        (2, "tree", "first"),
        (4, "linear", "after tree"),
        (5, "tree", "lower loss"),
    ]


def test_curves_keep_their_bounds():
    curves = Curves()
    curves.add(0, {"model": 1.0})
    curves.add(1, {"model": 2.0}, {"model": (1.5, 2.5)})
    curves.add(2, {"never": None})
    model, never = curves.series()
    np.testing.assert_array_equal(model.low, [np.nan, 1.5])
    np.testing.assert_array_equal(model.high, [np.nan, 2.5])
    assert (never.name, len(never.x), never.low) == ("never", 0, None)

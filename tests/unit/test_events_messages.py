"""Codec, schemas and wording of the feed's messages."""

from __future__ import annotations

import contextlib
import json
import math
from importlib.resources import files

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlproxy.errors import FeedError
from mlproxy.events import (
    EvidenceData,
    FeedMessage,
    InfoMessage,
    LossEvent,
    MetricMessage,
    ModeEvent,
    ModelEvent,
    PluginEvent,
    RejectEvent,
    StateMessage,
    decode_event,
    encode,
    schema,
)
from mlproxy.events.codec import MAX_MESSAGE_BYTES, decode, kind_of
from mlproxy.events.describe import line
from mlproxy.events.gaps import GapWatch

STAMPS = {
    "seq": 3,
    "ts": "2026-02-06T12:00:00.000050Z",
    "mono_ns": 9,
    "node": "box",
    "session": "s1",
}
EVIDENCE = EvidenceData(
    source="trial", default_mean=1.5, pairs=40, saving_ratio=0.12, lower_ratio=0.05, upper_ratio=0.2
)
EXAMPLES: dict[str, FeedMessage] = {
    "info": InfoMessage(
        version="0.1.0", started_at="2026-02-06T12:00:00Z", plugins=("lfs",), **STAMPS
    ),
    "state": StateMessage(
        proxy="p",
        subsystem="lfs",
        kind="program",
        mode="trusted",
        reason="promoted",
        guard="in-process",
        at=7,
        mode_since=5,
        mode_seq=2,
        mode_share={"learning": 0.5},
        decisions={"default": 4},
        trial=EVIDENCE,
        models={"tree": {"loss": 0.5, "state": "champion", "drifts": 0, "cost": None}},
        **STAMPS,
    ),
    "metric": MetricMessage(proxy="p", values={"write_amplification_ratio": 1.25}, **STAMPS),
    "event-mode": ModeEvent(
        proxy="p",
        old="learning",
        new="trusted",
        reason="promoted",
        at=1,
        evidence=(EVIDENCE,),
        **STAMPS,
    ),
    "event-model": ModelEvent(
        proxy="p", what="champion", candidate="tree", previous="linear", reason="loss", **STAMPS
    ),
    "event-reject": RejectEvent(proxy="p", reason="range", count=2, total=5, **STAMPS),
    "event-plugin": PluginEvent(
        proxy="lfs",
        what="quarantined",
        phase="step",
        code="plugin.raised",
        message="boom",
        **STAMPS,
    ),
    "event-loss": LossEvent(proxy="feed", dropped={"model": 3, "metric": 1}, total=4, **STAMPS),
}


def validator(name: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(schema.load(name))


@pytest.mark.parametrize("name", sorted(schema.MESSAGES))
def test_shipped_schemas_are_those_of_the_structs(name, tmp_path):
    path = {p.stem: p for p in schema.write(tmp_path / "new")}[name]
    shipped = files("mlproxy.events").joinpath("schemas", f"{name}.json").read_text("utf-8")
    assert shipped == path.read_text(), "run: python -m mlproxy.events.schema"
    jsonschema.Draft202012Validator.check_schema(json.loads(shipped))


def test_no_other_schemas_are_shipped():
    shipped = {p.name for p in files("mlproxy.events").joinpath("schemas").iterdir()}
    assert shipped == {f"{name}.json" for name in schema.MESSAGES}


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_messages_are_valid_against_their_schema(name):
    validator(name).validate(json.loads(encode(EXAMPLES[name])))


@pytest.mark.parametrize("name", sorted(schema.MESSAGES))
def test_schemas_refuse_what_lacks_a_stamp_or_has_a_wrong_type(name):
    message = json.loads(encode(EXAMPLES[name]))
    for key in ("seq", "ts", "node", "session"):
        assert not validator(name).is_valid({k: v for k, v in message.items() if k != key})
    assert not validator(name).is_valid(message | {"seq": "3"})
    assert not validator(name).is_valid(message | {"v": 2})
    assert validator(name).is_valid(message | {"new_field": 1})


@pytest.mark.parametrize("name", [n for n in sorted(EXAMPLES) if n.startswith("event-")])
def test_events_come_back_as_they_were(name):
    event = EXAMPLES[name]
    assert decode_event(encode(event)) == event
    assert f"event-{kind_of(event)}" == name
    others = [n for n in EXAMPLES if n.startswith("event-") and n != name]
    assert not any(validator(n).is_valid(json.loads(encode(event))) for n in others)


@pytest.mark.parametrize("name", ["info", "state", "metric"])
def test_other_messages_come_back_as_they_were(name):
    message = EXAMPLES[name]
    assert decode(encode(message), type(message)) == message


def test_unknown_fields_are_ignored():
    payload = json.dumps(json.loads(encode(EXAMPLES["event-mode"])) | {"later": [1]}).encode()
    assert decode_event(payload) == EXAMPLES["event-mode"]


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_are_left_out(odd):
    metric = json.loads(encode(MetricMessage(proxy="p", values={"a": odd, "b": 2.0}, **STAMPS)))
    assert metric["values"] == {"b": 2.0}
    validator("metric").validate(metric)
    bad = EvidenceData(source="twin", regret=odd)
    event = json.loads(
        encode(ModeEvent(proxy="p", old="a", new="b", reason="c", at=1, evidence=(bad,), **STAMPS))
    )
    assert "regret" not in event["evidence"][0]
    validator("event-mode").validate(event)
    # A None that is meant stays.
    assert json.loads(encode(EXAMPLES["state"]))["models"]["tree"]["cost"] is None


@pytest.mark.parametrize(
    "message",
    [
        MetricMessage(proxy="p", values={"a": object()}),
        MetricMessage(proxy="p", values={"a" * MAX_MESSAGE_BYTES: 1.0}),
        PluginEvent(proxy="p", what="x", message="\ud800"),
    ],
)
def test_what_has_no_json_form_is_a_coded_error(message):
    with pytest.raises(FeedError) as caught:
        encode(message)
    assert caught.value.code == "feed.unencodable"


def test_only_known_events_have_a_kind():
    for message in (MetricMessage(proxy="p"), FeedMessage()):
        with pytest.raises(FeedError) as caught:
            kind_of(message)
        assert caught.value.code == "feed.unknown_message"


@given(
    st.one_of(
        st.binary(max_size=200),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=5),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=5), inner),
            max_leaves=10,
        ).map(lambda value: json.dumps(value).encode()),
        st.fixed_dictionaries({"kind": st.sampled_from(["mode", "x", 1]), "proxy": st.text()}).map(
            lambda value: json.dumps(value).encode()
        ),
    )
)
def test_anything_else_is_a_coded_error(payload):
    with contextlib.suppress(FeedError):
        decode_event(payload)


def test_deep_nesting_and_long_payloads_are_coded_errors():
    deep = b'{"kind":"mode","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    for payload in (deep, b" " * (MAX_MESSAGE_BYTES + 1)):
        with pytest.raises(FeedError) as caught:
            decode_event(payload)
        assert caught.value.code == "feed.bad_message"


def test_every_event_has_a_line():
    assert [line(EXAMPLES[name]) for name in sorted(EXAMPLES) if name.startswith("event-")] == [
        "2026-02-06T12:00:00.000050Z box feed loss of 1 metric, 3 model",
        (
            "2026-02-06T12:00:00.000050Z box p mode learning -> trusted (promoted); "
            "trial: saves +12.0% [+5.0%, +20.0%] in 40 pairs"
        ),
        "2026-02-06T12:00:00.000050Z box p model champion tree (was linear): loss",
        "2026-02-06T12:00:00.000050Z box lfs plugin quarantined in step: [plugin.raised] boom",
        "2026-02-06T12:00:00.000050Z box p reject 2 recommendations (range), 5 in all",
    ]


def test_a_line_cannot_steer_the_terminal():
    event = PluginEvent(proxy="p\n", what="x", code="c", message="\x1b[2Jhi\nthere", **STAMPS)
    assert line(event).isprintable()


def test_latched_is_said():
    event = msgspec.structs.replace(EXAMPLES["event-mode"], latched=True, evidence=())
    assert line(event).endswith("(promoted), latched")


def test_gaps_are_counted_per_node_and_session():
    watch = GapWatch()
    seen = [
        ("a", "1", 5),
        ("a", "1", 6),
        ("b", "1", 1),
        ("a", "2", 1),
        ("a", "1", 6),
        ("a", "1", 9),
    ]
    assert [watch.see(*s) for s in seen] == [0, 0, 0, 0, None, 2]

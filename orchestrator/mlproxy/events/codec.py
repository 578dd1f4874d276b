"""JSON encoding and decoding of the feed's messages."""

from __future__ import annotations

import math
from typing import Any, TypeAlias, TypeVar

import msgspec

from mlproxy.errors import FeedError
from mlproxy.events.types import (
    FeedEvent,
    FeedMessage,
    LossEvent,
    ModeEvent,
    ModelEvent,
    PluginEvent,
    RejectEvent,
)

__all__ = ("MAX_MESSAGE_BYTES", "AnyEvent", "decode", "decode_event", "encode", "kind_of")

AnyEvent: TypeAlias = ModeEvent | ModelEvent | RejectEvent | PluginEvent | LossEvent
Message = TypeVar("Message", bound=FeedMessage)

MAX_MESSAGE_BYTES = 256 << 10
"""Longer payloads are refused on both sides: one that the broker does not take
(mosquitto 2.1: above 2 MB, less where configured) would hold up all behind it."""

_encoder = msgspec.json.Encoder()
_event_decoder = msgspec.json.Decoder(AnyEvent)
_decoders: dict[type[FeedMessage], msgspec.json.Decoder[Any]] = {}


def kind_of(message: FeedMessage) -> str:
    """Return the event's kind as in its topic (`mode`, `model`, ...).

    Raises:
        FeedError: `feed.unknown_message` when it is no event of this library.
    """
    tag = message.__struct_config__.tag
    if not isinstance(message, FeedEvent) or not isinstance(tag, str):
        raise FeedError(
            f"{type(message).__name__} is not an event that the feed knows",
            code="feed.unknown_message",
            hint="emit one of the structs in mlproxy.events",
        )
    return tag


def encode(message: FeedMessage) -> bytes:
    """Return the message as UTF-8 JSON.

    JSON has no NaN and no infinity: a number that is not finite is left out.

    Raises:
        FeedError: `feed.unencodable` when a value has no JSON form or the
            result is longer than `MAX_MESSAGE_BYTES`.
    """
    try:
        payload = _encoder.encode(message)
        # msgspec writes `null` for NaN; only then the slow way is needed.
        if b"null" in payload:
            payload = _encoder.encode(_finite(msgspec.to_builtins(message)))
    except (TypeError, ValueError, OverflowError, msgspec.MsgspecError) as exc:
        raise FeedError(
            f"cannot encode {type(message).__name__}: {exc}",
            code="feed.unencodable",
            hint="use plain numbers, strings, tuples and dicts with string keys",
        ) from exc
    if len(payload) > MAX_MESSAGE_BYTES:
        raise FeedError(
            f"{type(message).__name__} takes {len(payload)} bytes, at most {MAX_MESSAGE_BYTES} go",
            code="feed.unencodable",
            hint="send less per message",
        )
    return payload


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items() if not _is_odd(v)}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value if not _is_odd(v)]
    return value


def _is_odd(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def decode_event(payload: bytes) -> AnyEvent:
    """Return the event in a payload; unknown fields are ignored.

    Raises:
        FeedError: `feed.bad_message`.
    """
    _check_length(payload)
    try:
        event: AnyEvent = _event_decoder.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise _bad(exc) from exc
    return event


def decode(payload: bytes, struct: type[Message]) -> Message:
    """Return the message of a known class in a payload; unknown fields are ignored.

    Raises:
        FeedError: `feed.bad_message`.
    """
    _check_length(payload)
    decoder = _decoders.setdefault(struct, msgspec.json.Decoder(struct))
    try:
        message: Message = decoder.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise _bad(exc) from exc
    return message


def _check_length(payload: bytes) -> None:
    if len(payload) > MAX_MESSAGE_BYTES:
        raise FeedError(
            f"payload of {len(payload)} bytes, at most {MAX_MESSAGE_BYTES} are read",
            code="feed.bad_message",
            hint="something else publishes below this topic",
        )


def _bad(exc: Exception) -> FeedError:
    return FeedError(
        f"not a message of the feed: {exc}",
        code="feed.bad_message",
        hint="compare it with the JSON Schema of its topic",
    )

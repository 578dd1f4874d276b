"""The control socket's lines: one JSON object per request and per reply.

Request: {"verb": "...", ...arguments}. Reply: {"ok": true, "result": ...} or
{"ok": false, "error": {"code", "message", "hint", "context"}}.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mlproxy.errors import ControlError, MlproxyError

__all__ = ("MAX_REQUEST", "VERBS", "decode_reply", "decode_request", "encode", "failure")

MAX_REQUEST = 64 * 1024
"""Longest request line in bytes, its newline included."""


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a verb."""

    kind: type
    required: bool = False


VERBS: Mapping[str, Mapping[str, Argument]] = {
    "status": {},
    "plugins": {},
    "config": {},
    "reload": {},
    "stop": {},
    "emergency": {"on": Argument(bool, required=True), "proxy": Argument(str)},
}


def encode(message: Mapping[str, Any]) -> bytes:
    """One line."""
    return json.dumps(message, separators=(",", ":"), default=str).encode() + b"\n"


def _bad(code: str, message: str, hint: str) -> ControlError:
    return ControlError(message, code=code, hint=hint)


def decode_request(line: bytes) -> tuple[str, dict[str, Any]]:
    """Read a request line.

    Returns:
        The verb and its arguments, checked against `VERBS`.

    Raises:
        ControlError: `control.too_long`, `control.bad_json`, `control.bad_request`,
            `control.unknown_verb` or `control.bad_argument`.

    Example:
        >>> decode_request(b'{"verb": "emergency", "on": true}')
        ('emergency', {'on': True})
    """
    if len(line) > MAX_REQUEST:
        raise _bad("control.too_long", f"request above {MAX_REQUEST} bytes", "send less")
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _bad("control.bad_json", f"not JSON: {error}", "one object per line") from error
    if not isinstance(message, dict) or not isinstance(message.get("verb"), str):
        raise _bad("control.bad_request", "no verb", 'send {"verb": "status"}')
    verb = message.pop("verb")
    arguments = VERBS.get(verb)
    if arguments is None:
        known = ", ".join(sorted(VERBS))
        raise _bad("control.unknown_verb", f"no verb {verb[:64]!r}", f"there are: {known}")
    for name, value in message.items():
        argument = arguments.get(name)
        if argument is None or type(value) is not argument.kind:
            raise _bad(
                "control.bad_argument",
                f"{verb}: argument {name[:64]!r} is unknown or of the wrong type",
                ", ".join(f"{k}: {a.kind.__name__}" for k, a in arguments.items()) or "it has none",
            )
    for name, argument in arguments.items():
        if argument.required and name not in message:
            raise _bad(
                "control.bad_argument", f"{verb} needs {name!r}", "see docs/reference/cli.md"
            )
    return verb, message


def failure(error: MlproxyError) -> dict[str, Any]:
    """The reply for an error."""
    described: dict[str, Any] = {
        "code": error.code,
        "message": str(error.args[0]),
        "hint": error.hint,
        "context": {k: str(v) for k, v in error.context.items()},
    }
    problems = getattr(error, "problems", ())
    if problems:
        described["problems"] = [p.as_dict() for p in problems]
    return {"ok": False, "error": described}


def decode_reply(line: bytes, *, load: Callable[[bytes], Any] = json.loads) -> Any:
    """Read a reply line and return its result.

    Raises:
        ControlError: `control.bad_reply`, or whatever error the daemon replied with.
    """
    try:
        reply = load(line)
    except (ValueError, RecursionError) as error:
        raise _bad(
            "control.bad_reply", f"not JSON: {error}", "is this mlproxy's socket?"
        ) from error
    if not isinstance(reply, dict) or not isinstance(reply.get("ok"), bool):
        raise _bad("control.bad_reply", "not a reply of mlproxy", "is this mlproxy's socket?")
    if reply["ok"]:
        return reply.get("result")
    described = reply.get("error")
    if not isinstance(described, dict):
        raise _bad("control.bad_reply", "an error without description", "see the daemon's log")
    raise ControlError(
        str(described.get("message", "")),
        code=str(described.get("code", "control.bad_reply")),
        hint=str(described.get("hint", "")),
        problems=described.get("problems", []),
    )

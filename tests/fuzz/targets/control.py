"""Lines of the control socket, both ways."""

from __future__ import annotations

import contextlib
import json

from mlproxy.app.protocol import VERBS, decode_reply, decode_request, encode, failure
from mlproxy.errors import ControlError

SEEDS = [
    b'{"verb": "status"}\n',
    b'{"verb": "emergency", "on": true, "proxy": "lfs.gc"}\n',
    b'{"verb": "reload"}',
    b'{"ok": true, "result": {"a": [1, 2.5, null]}}',
    b'{"ok": false, "error": {"code": "config.invalid", "message": "m", "problems": [{}]}}',
]


def fuzz_one(data: bytes) -> None:
    """A request is understood or refused with a code; so is a reply."""
    try:
        verb, arguments = decode_request(data)
    except ControlError as error:
        line = encode(failure(error))
        assert line.endswith(b"\n")
        assert line.count(b"\n") == 1
        assert json.loads(line)["error"]["code"] == error.code
    else:
        assert set(arguments) <= set(VERBS[verb])
    with contextlib.suppress(ControlError):
        decode_reply(data)

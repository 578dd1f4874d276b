"""JSON Schemas (2020-12) of the messages, generated from the structs.

The files beside this module (`schemas/*.json`) are made by
`python -m mlproxy.events.schema`; a test compares them with the structs.
"""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec

from mlproxy.events.types import (
    FeedMessage,
    InfoMessage,
    LossEvent,
    MetricMessage,
    ModeEvent,
    ModelEvent,
    PluginEvent,
    RejectEvent,
    StateMessage,
)

__all__ = ("MESSAGES", "build", "load", "write")

DIALECT = "https://json-schema.org/draft/2020-12/schema"

MESSAGES: dict[str, tuple[type[FeedMessage], str]] = {
    "info": (InfoMessage, "mlproxy/v1/<node>/info"),
    "state": (StateMessage, "mlproxy/v1/<node>/state/<proxy>"),
    "metric": (MetricMessage, "mlproxy/v1/<node>/metric/<proxy>"),
    "event-mode": (ModeEvent, "mlproxy/v1/<node>/event/<proxy>/mode"),
    "event-model": (ModelEvent, "mlproxy/v1/<node>/event/<proxy>/model"),
    "event-reject": (RejectEvent, "mlproxy/v1/<node>/event/<proxy>/reject"),
    "event-plugin": (PluginEvent, "mlproxy/v1/<node>/event/<plugin>/plugin"),
    "event-loss": (LossEvent, "mlproxy/v1/<node>/event/feed/loss"),
}
"""Name of the schema -> struct and topic."""

STAMPS = ("v", "seq", "ts", "mono_ns", "node", "session")


def build(name: str) -> dict[str, Any]:
    """Return the schema of one kind of message.

    Unknown fields are allowed: a reader has to ignore them, so that fields can
    be added within `v1`.
    """
    struct, topic = MESSAGES[name]
    (reference,), components = msgspec.json.schema_components(
        [struct], ref_template="#/$defs/{name}"
    )
    main = components.pop(reference["$ref"].rpartition("/")[2])
    properties = main["properties"]
    properties["v"] = {"const": 1}
    properties["ts"] |= {"format": "date-time"}
    # The feed stamps every message, so these are always there.
    required = {*main.get("required", ()), *STAMPS}
    main["required"] = [key for key in properties if key in required]
    schema = {"$schema": DIALECT, "$id": f"urn:mlproxy:v1:{name}", "$comment": topic, **main}
    return schema | ({"$defs": components} if components else {})


def load(name: str) -> dict[str, Any]:
    """Return the shipped schema of one kind of message."""
    text = files("mlproxy.events").joinpath("schemas", f"{name}.json").read_text("utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def write(directory: Path) -> list[Path]:
    """Write all schemas into a directory; return the files."""
    directory.mkdir(exist_ok=True)
    paths = []
    for name in MESSAGES:
        path = directory / f"{name}.json"
        path.write_text(json.dumps(build(name), indent=2) + "\n", encoding="utf-8")
        paths.append(path)
    return paths


if __name__ == "__main__":
    write(Path(__file__).parent / "schemas")

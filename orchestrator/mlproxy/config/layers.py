"""Read the layers of a configuration and merge them, keeping who said what.

Order, later wins: defaults, main file, conf.d/*.toml beside it (lexical order),
environment (MLPROXY__SECTION__KEY), `-o section.key=value`. Tables are merged
deeply, everything else is replaced.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlproxy.errors import Problem

__all__ = ("Layer", "Merged", "merge", "read_layers")

Path_ = tuple[str, ...]
PREFIX = "MLPROXY__"
MAX_FILE_BYTES = 1 << 20
_HEADER = re.compile(r"\s*\[\[?\s*([^\[\]]+?)\s*\]\]?\s*(?:#.*)?\Z")
_KEY = re.compile(
    r"\s*((?:[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*'))*)\s*="
)
_PART = re.compile(r"\"([^\"]*)\"|'([^']*)'|([A-Za-z0-9_-]+)")


@dataclass(frozen=True, slots=True)
class Layer:
    """One source of settings: a file, a variable or an option."""

    source: str
    data: Mapping[str, Any]
    lines: Mapping[Path_, int] = field(default_factory=dict)

    def where(self, path: Path_) -> str:
        """The source, with the line where it is known."""
        for length in range(len(path), 0, -1):
            if line := self.lines.get(path[:length]):
                return f"{self.source}:{line}"
        return self.source


@dataclass(frozen=True, slots=True)
class Merged:
    """All layers in one tree; `origins` says where each leaf (and table) came from."""

    data: dict[str, Any]
    origins: dict[Path_, str]

    def origin(self, path: Path_) -> str:
        """Where a key came from; of a missing one its table's origin, else `default`."""
        for length in range(len(path), 0, -1):
            if source := self.origins.get(path[:length]):
                return source
        return "default"


def _split(key: str) -> Path_:
    return tuple(a or b or c for a, b, c in _PART.findall(key))


def key_lines(text: str) -> dict[Path_, int]:
    r"""Line numbers of the keys of a TOML text, as well as a line scanner can tell.

    Example:
        >>> key_lines("[daemon]\nnode = 'a'")[("daemon", "node")]
        2
    """
    lines: dict[Path_, int] = {}
    table: Path_ = ()
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            table = _split(header.group(1))
            lines.setdefault(table, number)
        elif key := _KEY.match(line):
            lines.setdefault(table + _split(key.group(1)), number)
    return lines


def _read_file(path: Path, problems: list[Problem]) -> Layer | None:
    source = str(path)
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        problems.append(
            Problem(
                "config.not_found", "", source, "no such file", "check --config or $MLPROXY_CONFIG"
            )
        )
        return None
    except OSError as error:
        problems.append(
            Problem(
                "config.unreadable",
                "",
                source,
                error.strerror or str(error),
                "check its permissions",
            )
        )
        return None
    if len(raw) > MAX_FILE_BYTES:
        problems.append(
            Problem("config.unreadable", "", source, "larger than 1 MiB", "is this the right file?")
        )
        return None
    return parse(raw, source, problems)


def parse(raw: bytes, source: str, problems: list[Problem]) -> Layer | None:
    """Parse the bytes of a TOML file; on an error append a problem and return None."""
    try:
        text = raw.decode("utf-8")
        data = tomllib.loads(text)
    except UnicodeDecodeError as error:
        problems.append(
            Problem(
                "config.syntax", "", source, f"not UTF-8 at byte {error.start}", "save it as UTF-8"
            )
        )
        return None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        message = str(error) or "nested too deeply"
        problems.append(
            Problem(
                "config.syntax", "", source, f"not valid TOML: {message}", "see https://toml.io"
            )
        )
        return None
    return Layer(source, data, key_lines(text))


def _value(text: str) -> Any:
    """A value that reads as TOML is taken so, anything else is a string."""
    try:
        parsed = tomllib.loads(f"x = {text}")
    except (tomllib.TOMLDecodeError, RecursionError):
        return text
    return parsed["x"] if list(parsed) == ["x"] else text


def _environment(environ: Mapping[str, str]) -> Iterator[Layer]:
    for name in sorted(environ):
        if name.startswith(PREFIX):
            parts = name.removeprefix(PREFIX).lower().split("__")
            yield Layer(f"${name}", _nested(parts, _value(environ[name])))


def _nested(parts: Sequence[str], value: Any) -> dict[str, Any]:
    for part in reversed(parts):
        value = {part: value}
    return dict(value)


def _option(text: str, problems: list[Problem]) -> Layer | None:
    key, equals, value = text.partition("=")
    source = f"-o {key.strip()}"
    try:
        # Without `=` this is no TOML either, and ends in the same problem.
        data = tomllib.loads(f"{key.strip()} = {json.dumps('')}" if equals else text)
    except (tomllib.TOMLDecodeError, RecursionError):
        problems.append(
            Problem(
                "config.bad_override",
                "",
                f"-o {text}",
                "not of the form KEY=VALUE",
                "-o daemon.node=a",
            )
        )
        return None
    path: list[str] = []
    table: Any = data
    while isinstance(table, dict) and len(table) == 1:
        part, table = next(iter(table.items()))
        path.append(part)
    return Layer(source, _nested(path, _value(value.strip())))


def read_layers(
    path: Path | None,
    environ: Mapping[str, str],
    options: Sequence[str],
    problems: list[Problem],
) -> list[Layer]:
    """Read every layer; what cannot be read becomes a problem and is left out.

    Args:
        path: the main file, or None for none.
        environ: the environment.
        options: `section.key=value` each.
        problems: is appended to.
    """
    layers: list[Layer | None] = []
    if path is not None:
        layers.append(_read_file(path, problems))
        drop_ins = path.parent / "conf.d"
        if drop_ins.is_dir():
            layers += [_read_file(p, problems) for p in sorted(drop_ins.glob("*.toml"))]
    layers += _environment(environ)
    layers += [_option(text, problems) for text in options]
    return [layer for layer in layers if layer is not None]


def merge(layers: Sequence[Layer]) -> Merged:
    """Merge layers, later ones over earlier ones.

    Example:
        >>> a, b = Layer("a", {"x": {"y": 1, "z": 1}}), Layer("b", {"x": {"y": 2}})
        >>> merge([a, b]).data, merge([a, b]).origin(("x", "y"))
        ({'x': {'y': 2, 'z': 1}}, 'b')
    """
    merged = Merged({}, {})
    for layer in layers:
        _merge_into(merged.data, layer.data, (), layer, merged.origins)
    return merged


def _merge_into(
    target: dict[str, Any],
    data: Mapping[str, Any],
    path: Path_,
    layer: Layer,
    origins: dict[Path_, str],
) -> None:
    for key, value in data.items():
        here = (*path, key)
        origins[here] = layer.where(here)
        if isinstance(value, Mapping):
            table = target.get(key)
            if not isinstance(table, dict):
                table = target[key] = {}
            _merge_into(table, value, here, layer, origins)
        else:
            target[key] = value
            for stale in [p for p in origins if len(p) > len(here) and p[: len(here)] == here]:
                del origins[stale]

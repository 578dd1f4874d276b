"""The configuration as a flat list of keys, for `config show` and the control socket."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from mlproxy.config.load import Config
from mlproxy.plugin.registry import Registry

__all__ = ("redacted", "shown")

_SECRET = ("password", "token", "secret", "credential")


def redacted(key: str, value: Any) -> Any:
    """Hide what a secret's key holds; the name of a file with a secret is none.

    Example:
        >>> redacted("password", "abc"), redacted("password_file", "/run/x")
        ('<redacted>', '/run/x')
    """
    name = key.rsplit(".", 1)[-1].lower()
    secret = any(part in name for part in _SECRET) and not name.endswith(("_file", "_dir"))
    return "<redacted>" if secret and value not in (None, "") else value


def _flat(prefix: tuple[str, ...], table: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(table, Mapping) and table:
        for key, value in table.items():
            yield from _flat((*prefix, str(key)), value)
    else:
        yield prefix, table


def _dump(model: BaseModel) -> dict[str, Any]:
    return model.model_dump(mode="json")


def shown(config: Config, registry: Registry) -> list[dict[str, Any]]:
    """Every key in force, as {key, value, origin}; secrets are hidden.

    Args:
        config: what to show.
        registry: for the order of subsystems.
    """
    tables: dict[tuple[str, ...], dict[str, Any]] = {
        ("daemon",): _dump(config.daemon) | {"socket": config.daemon.socket_path},
        ("feed",): _dump(config.feed),
        ("plugins",): _dump(config.plugins),
    }
    for name, source in sorted(config.psi.items()):
        tables["psi", name] = _dump(source)
    for name in sorted(registry.factories):
        if name in config.subsystems:
            settings = config.subsystems[name]
            own = {"enabled": settings.enabled, "critical": list(settings.critical)}
            tables["subsystem", name] = own | _dump(settings.options)
    for name, numbers in config.overrides().items():
        tables["proxy", name] = dict(numbers)
    rows = []
    for prefix, table in tables.items():
        for path, value in _flat(prefix, table):
            # A proxy's dotted name may have been written as nested tables.
            nested = ("proxy", *path[1].split("."), *path[2:]) if prefix[0] == "proxy" else path
            origin = config.merged.origins.get(path) or config.merged.origins.get(nested)
            rows.append(
                {
                    "key": ".".join(path),
                    "value": redacted(path[-1], value),
                    "origin": origin or "default",
                }
            )
    return rows

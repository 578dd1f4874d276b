"""From layers to a validated configuration, or to all its problems at once."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from mlproxy.config.layers import Merged, merge, read_layers
from mlproxy.config.model import DaemonConfig, FeedConfig, PluginsConfig, ProxyOverrides
from mlproxy.errors import ConfigError, Problem
from mlproxy.plugin.discover import discover
from mlproxy.plugin.registry import Registry
from mlproxy.psi.config import BUILT_IN, PsiSource

__all__ = ("Config", "Source", "SubsystemSettings", "load", "plugin_settings")

SECTIONS: dict[str, type[BaseModel]] = {
    "daemon": DaemonConfig,
    "feed": FeedConfig,
    "plugins": PluginsConfig,
}
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Source:
    """Where a configuration is read from; kept for reloading."""

    path: Path | None = None
    options: tuple[str, ...] = ()
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))


@dataclass(frozen=True, slots=True)
class SubsystemSettings:
    """One `[subsystem.<name>]`: whether it runs, what stops it, and the plugin's own options."""

    enabled: bool
    options: BaseModel
    critical: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Config:
    """A configuration that holds together; nothing in it needs checking again."""

    daemon: DaemonConfig
    feed: FeedConfig
    plugins: PluginsConfig
    subsystems: Mapping[str, SubsystemSettings]
    proxies: Mapping[str, ProxyOverrides]
    psi: Mapping[str, PsiSource]
    merged: Merged

    def overrides(self) -> dict[str, dict[str, int]]:
        """Proxy name -> what `[proxy.<name>]` sets."""
        return {name: table.set_fields() for name, table in self.proxies.items()}


def load(
    source: Source,
    *,
    registry: Registry | None = None,
    find: Callable[[PluginsConfig, float], Registry] | None = None,
) -> tuple[Config, Registry]:
    """Read and validate a configuration.

    Args:
        source: what to read.
        registry: plugins loaded already (for a reload), else they are discovered.
        find: how to discover them, given `[plugins]` and the import deadline.

    Raises:
        ConfigError: `config.invalid`, with every problem found in `problems`.
    """
    problems: list[Problem] = []
    layers = read_layers(source.path, source.environ, source.options, problems)
    merged = merge(layers)
    known = [*SECTIONS, "psi", "subsystem", "proxy"]
    problems += [
        _unknown((key,), known, merged, "section") for key in merged.data if key not in known
    ]
    daemon = _section(DaemonConfig, "daemon", merged, problems)
    feed = _section(FeedConfig, "feed", merged, problems)
    plugins = _section(PluginsConfig, "plugins", merged, problems)
    psi = _psi(merged, problems)
    if registry is None and plugins is not None:
        seconds = daemon.import_seconds if daemon else 30.0
        registry = (find or _discover)(plugins, seconds)
    subsystems: dict[str, SubsystemSettings] = {}
    proxies: dict[str, ProxyOverrides] = {}
    if registry is not None:
        subsystems = _subsystems(merged, registry, problems)
        problems += _unknown_sources(merged, subsystems, psi)
        proxies = _proxies(merged, registry, problems)
    if problems or daemon is None or feed is None or plugins is None or registry is None:
        raise _invalid(problems)
    return Config(daemon, feed, plugins, subsystems, proxies, psi, merged), registry


def plugin_settings(source: Source) -> tuple[PluginsConfig, float]:
    """Only `[plugins]` and the import deadline, for commands that need no more.

    Raises:
        ConfigError: `config.invalid`, for problems in these two sections or in reading.
    """
    problems: list[Problem] = []
    merged = merge(read_layers(source.path, source.environ, source.options, problems))
    daemon = _section(DaemonConfig, "daemon", merged, problems)
    plugins = _section(PluginsConfig, "plugins", merged, problems)
    if problems or daemon is None or plugins is None:
        raise _invalid(problems)
    return plugins, daemon.import_seconds


def _invalid(problems: Sequence[Problem]) -> ConfigError:
    count = len(problems)
    return ConfigError(
        f"the configuration has {count} problem{'s' if count != 1 else ''}",
        code="config.invalid",
        problems=problems,
    )


def _discover(plugins: PluginsConfig, deadline: float) -> Registry:
    return discover(plugins.allow, plugins.deny, deadline=deadline)


def _table(path: tuple[str, ...], merged: Merged, problems: list[Problem]) -> dict[str, Any] | None:
    table: dict[str, Any] = merged.data
    for part in path:
        table = table.get(part, {})
        if not isinstance(table, dict):
            problems.append(
                Problem(
                    "config.wrong_type",
                    ".".join(path),
                    merged.origin(path),
                    "must be a table",
                    f"write [{'.'.join(path)}] and the keys below it",
                )
            )
            return None
    return table


def _section(model: type[M], name: str, merged: Merged, problems: list[Problem]) -> M | None:
    table = _table((name,), merged, problems)
    return None if table is None else _validate(model, table, (name,), merged, problems)


def _validate(
    model: type[M],
    table: Mapping[str, Any],
    path: tuple[str, ...],
    merged: Merged,
    problems: list[Problem],
) -> M | None:
    try:
        return model.model_validate(dict(table))
    except ValidationError as error:
        items = error.errors(include_url=False, include_context=False)
        problems += [_problem(item, model, path, merged) for item in items]
        return None


def _problem(item: Any, model: type[BaseModel], path: tuple[str, ...], merged: Merged) -> Problem:
    inner = tuple(str(part) for part in item["loc"])
    here = path + inner
    kind = item["type"]
    if kind == "extra_forbidden":
        return _unknown(here, list(model.model_fields), merged, "key")
    message = item["msg"].removeprefix("Value error, ")
    field_info = model.model_fields.get(inner[0]) if inner else None
    hint = (field_info.description or "") if field_info else ""
    if kind == "missing":
        hint = hint or "set it"
        return Problem(
            "config.missing_key", ".".join(here), merged.origin(path), "must be set", hint
        )
    if kind.endswith(("_type", "_parsing")) or kind == "int_from_float":
        code = "config.wrong_type"
    elif kind.startswith(("greater_than", "less_than", "too_", "finite", "string_too")):
        code = "config.out_of_range"
    else:
        code = "config.invalid_value"
    return Problem(code, ".".join(here), merged.origin(here), message, hint)


def _unknown(path: tuple[str, ...], known: Sequence[str], merged: Merged, what: str) -> Problem:
    close = difflib.get_close_matches(path[-1], known, n=1)
    hint = (
        f"did you mean {close[0]!r}?" if close else f"known: {', '.join(sorted(known)) or 'none'}"
    )
    return Problem(
        "config.unknown_key", ".".join(path), merged.origin(path), f"no such {what}", hint
    )


def _subsystems(
    merged: Merged, registry: Registry, problems: list[Problem]
) -> dict[str, SubsystemSettings]:
    tables = _table(("subsystem",), merged, problems)
    if tables is None:
        return {}
    missing = {r.name: r for r in registry.records if r.state != "loaded"}
    problems += [
        _unknown_subsystem(name, registry, missing, merged)
        for name in tables
        if name not in registry.factories
    ]
    settings: dict[str, SubsystemSettings] = {}
    for name, factory in registry.factories.items():
        path = ("subsystem", name)
        found = _table(path, merged, problems)
        if found is None:
            continue
        table = dict(found)
        enabled = table.pop("enabled", factory.enabled_by_default)
        critical = table.pop("critical", [])
        if not isinstance(enabled, bool):
            problems.append(_wrong_type((*path, "enabled"), merged, "must be true or false"))
            continue
        if not isinstance(critical, list) or not all(isinstance(c, str) for c in critical):
            what = "must be a list of names of pressure sources"
            problems.append(_wrong_type((*path, "critical"), merged, what))
            continue
        if not enabled and not table:
            # What is switched off needs no options, not even required ones.
            options = factory.options_model.model_construct()
        else:
            valid = _validate(factory.options_model, table, path, merged, problems)
            if valid is None:
                continue
            options = valid
        settings[name] = SubsystemSettings(enabled, options, tuple(dict.fromkeys(critical)))
    return settings


def _wrong_type(path: tuple[str, ...], merged: Merged, message: str) -> Problem:
    return Problem("config.wrong_type", ".".join(path), merged.origin(path), message)


def _psi(merged: Merged, problems: list[Problem]) -> dict[str, PsiSource]:
    """The built-in pressure sources, and those of `[psi.<name>]`."""
    sources = dict(BUILT_IN)
    for name in _table(("psi",), merged, problems) or {}:
        path = ("psi", name)
        table = _table(path, merged, problems)
        if table is None:
            continue
        # A table of a built-in name changes what it says, and leaves the rest.
        base = BUILT_IN[name].model_dump() if name in BUILT_IN else {}
        found = _validate(PsiSource, base | table, path, merged, problems)
        if found is not None:
            sources[name] = found
    return sources


def _unknown_sources(
    merged: Merged, subsystems: Mapping[str, SubsystemSettings], psi: Mapping[str, PsiSource]
) -> list[Problem]:
    tables = merged.data.get("psi")
    # A table that is there but invalid has been told already.
    known = {*psi, *(tables if isinstance(tables, Mapping) else ())}
    problems = []
    for name, settings in subsystems.items():
        for source in settings.critical:
            if source not in known:
                path = ("subsystem", name, "critical")
                close = difflib.get_close_matches(source, sorted(known), n=1)
                problems.append(
                    Problem(
                        "config.unknown_source",
                        ".".join(path),
                        merged.origin(path),
                        f"there is no pressure source {source!r}",
                        f"did you mean {close[0]!r}?"
                        if close
                        else f"there are: {', '.join(sorted(known))}; or make a table"
                        f" [psi.{source}]",
                    )
                )
    return problems


def _unknown_subsystem(
    name: str, registry: Registry, missing: Mapping[str, Any], merged: Merged
) -> Problem:
    path = ("subsystem", name)
    if name in missing:
        record = missing[name]
        why = f"plugin {name!r} is {record.state}"
        hint = record.reason or "see [plugins] and $MLPROXY_PLUGINS"
    else:
        why = "no loaded plugin brings this subsystem"
        close = difflib.get_close_matches(name, list(registry.factories), n=1)
        hint = (
            f"did you mean {close[0]!r}?"
            if close
            else f"there are: {', '.join(sorted(registry.factories)) or 'none'}; see plugins list"
        )
    return Problem("config.unknown_subsystem", ".".join(path), merged.origin(path), why, hint)


def _proxies(
    merged: Merged, registry: Registry, problems: list[Problem]
) -> dict[str, ProxyOverrides]:
    tables = _table(("proxy",), merged, problems)
    declared = registry.proxies()
    overrides: dict[str, ProxyOverrides] = {}
    for path, table in _flatten(("proxy",), tables or {}, declared):
        name = ".".join(path[1:])
        if name not in declared:
            close = difflib.get_close_matches(name, declared, n=1)
            problems.append(
                Problem(
                    "config.unknown_proxy",
                    ".".join(path),
                    merged.origin(path),
                    "no loaded plugin has this proxy",
                    f"did you mean {close[0]!r}?"
                    if close
                    else f"there are: {', '.join(sorted(declared)) or 'none'}",
                )
            )
            continue
        found = _validate(ProxyOverrides, table, path, merged, problems)
        if found is not None:
            overrides[name] = found
    return overrides


def _flatten(
    path: tuple[str, ...], table: Mapping[str, Any], declared: set[str]
) -> list[tuple[tuple[str, ...], dict[str, Any]]]:
    """`[proxy.lfs.gc]` and `[proxy."lfs.gc"]` both mean the proxy `lfs.gc`."""
    own = {k: v for k, v in table.items() if not isinstance(v, Mapping)}
    found = [(path, own)] if own or ".".join(path[1:]) in declared else []
    for key, value in table.items():
        if isinstance(value, Mapping):
            found += _flatten((*path, key), value, declared)
    if not found and len(path) > 1:
        found = [(path, {})]
    return found

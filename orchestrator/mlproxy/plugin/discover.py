"""Find plugins through entry points, one by one, and trust none of them.

pluggy's own loader imports without a guard and stops at the first broken
plugin; here each one is imported, registered and asked under a deadline, and a
broken one is written down and left out.
"""

from __future__ import annotations

import concurrent.futures
import importlib.metadata
import os
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TypeVar

from mlproxy import hookspecs
from mlproxy.app.worker import Worker
from mlproxy.errors import PluginError
from mlproxy.hooks import Hooks
from mlproxy.plugin.api import accepts
from mlproxy.plugin.registry import PluginRecord, Registry
from mlproxy.subsystem import SubsystemFactory

__all__ = ("ENVIRONMENT", "allowed_by_environment", "discover")

ENVIRONMENT = "MLPROXY_PLUGINS"
IMPORT_SECONDS = 30.0
_NAME = re.compile(r"[a-z][a-z0-9_]*\Z")
_PROXY_NAME = re.compile(r"[a-z][a-z0-9_.-]*\Z")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Offer:
    factories: Sequence[SubsystemFactory]
    models: dict[str, list[Any]]


def allowed_by_environment() -> list[str] | None:
    """Names in MLPROXY_PLUGINS (comma-separated; empty: none), or None when unset."""
    text = os.environ.get(ENVIRONMENT)
    return None if text is None else [n for n in (p.strip() for p in text.split(",")) if n]


def discover(
    allow: Collection[str] | None = None,
    deny: Collection[str] = (),
    *,
    deadline: float = IMPORT_SECONDS,
    entry_points: Iterable[importlib.metadata.EntryPoint] | None = None,
) -> Registry:
    """Load the plugins that may be loaded; quarantine those that are broken.

    Args:
        allow: names that may be loaded; None: all.
        deny: names that are never imported, stronger than `allow`.
        deadline: seconds for each import and for each hook.
        entry_points: those to use instead of the installed ones.

    Returns:
        The registry: one record per entry point, sorted by name. Never raises for
        what a plugin does.
    """
    found = (
        importlib.metadata.entry_points(group=hookspecs.ENTRY_POINT_GROUP)
        if entry_points is None
        else entry_points
    )
    environment = allowed_by_environment()
    hooks = Hooks()
    records: list[PluginRecord] = []
    registry = Registry(hooks=hooks, records=records)
    seen: set[str] = set()
    for point in sorted(found, key=lambda e: (e.name, e.value)):
        refused = (
            point.name in deny
            or (allow is not None and point.name not in allow)
            or (environment is not None and point.name not in environment)
        )
        if refused:
            records.append(_record(point, "denied"))
            continue
        if point.name in seen:
            twice = PluginError(
                f"another distribution has a plugin named {point.name!r} already",
                code="plugin.duplicate",
                hint="uninstall one of them",
                phase="register",
            )
            records.append(_record(point, "quarantined", error=twice))
            continue
        seen.add(point.name)
        try:
            offer = _load(point, hooks, registry, deadline)
        except PluginError as error:
            hooks.unregister(point.name)
            records.append(_record(point, "quarantined", error=error))
            continue
        for factory in offer.factories:
            registry.factories[factory.name] = factory
            registry.owners[factory.name] = point.name
        for decision, candidates in offer.models.items():
            registry.models.setdefault(decision, []).extend(candidates)
        records.append(_record(point, "loaded", offer=offer))
    return registry


def _record(
    point: importlib.metadata.EntryPoint,
    state: Any,
    *,
    error: PluginError | None = None,
    offer: _Offer | None = None,
) -> PluginRecord:
    distribution = getattr(point, "dist", None)
    return PluginRecord(
        name=point.name,
        value=point.value,
        state=state,
        distribution=distribution.name if distribution else "",
        version=distribution.version if distribution else "",
        code=error.code if error else "",
        phase=str(error.context.get("phase", "")) if error else "",
        reason=str(error.args[0]) if error else "",
        hint=error.hint if error else "",
        subsystems=tuple(f.name for f in offer.factories) if offer else (),
        decisions=tuple(sorted(offer.models)) if offer else (),
    )


def _guarded(name: str, phase: str, deadline: float, function: Callable[[], T]) -> T:
    """Run a plugin's code in a thread of its own; turn what goes wrong into a PluginError."""
    worker = Worker(f"mlproxy-load-{name}")
    try:
        return worker.call_sync(function, deadline)
    except PluginError:
        raise
    except concurrent.futures.TimeoutError:
        raise PluginError(
            f"did not finish its {phase} within {deadline:g} s",
            code="plugin.overrun",
            hint="imports and hooks must only declare; do the work in start()",
            plugin=name,
            phase=phase,
        ) from None
    except Exception as error:
        raise PluginError(
            f"{type(error).__name__}: {error}",
            code="plugin.import_failed" if phase == "import" else "plugin.hook_failed",
            hint=f"try it by itself: mlproxy plugins check {name}",
            plugin=name,
            phase=phase,
        ) from error
    finally:
        worker.close()


def _load(
    point: importlib.metadata.EntryPoint, hooks: Hooks, registry: Registry, deadline: float
) -> _Offer:
    name = point.name
    module = _guarded(name, "import", deadline, point.load)
    if not isinstance(module, ModuleType):
        raise PluginError(
            f"entry point {point.value!r} is a {type(module).__name__}, not a module",
            code="plugin.not_a_module",
            hint='name the module with the hooks: NAME = "package.plugin"',
            plugin=name,
            phase="import",
        )
    _guarded(name, "register", deadline, lambda: hooks.register(name, module))
    factories = _guarded(name, "hooks", deadline, lambda: hooks.subsystems(name))
    models = _guarded(name, "hooks", deadline, lambda: dict(hooks.models(name)))
    for factory in factories:
        _check_factory(factory, name, registry)
    if len({f.name for f in factories}) < len(factories):
        raise _bad(name, "two of its subsystems have the same name")
    return _Offer(list(factories), {k: list(v) for k, v in models.items()})


def _bad(
    plugin: str, message: str, code: str = "plugin.bad_factory", hint: str = ""
) -> PluginError:
    return PluginError(
        message,
        code=code,
        hint=hint or "see docs/reference/hooks.md, mlproxy_subsystems",
        plugin=plugin,
        phase="hooks",
    )


def _check_factory(factory: object, plugin: str, registry: Registry) -> None:
    from pydantic import BaseModel

    if not isinstance(factory, SubsystemFactory):
        kind = type(factory).__name__
        raise _bad(plugin, f"mlproxy_subsystems returned a {kind}, not a SubsystemFactory")
    if not isinstance(factory.name, str) or not _NAME.match(factory.name):
        raise _bad(plugin, f"subsystem name {factory.name!r} is not [a-z][a-z0-9_]*")
    if not (
        isinstance(factory.options_model, type) and issubclass(factory.options_model, BaseModel)
    ):
        raise _bad(plugin, f"subsystem {factory.name!r}: options_model is not a pydantic model")
    for own in ("enabled", "critical"):
        if own in factory.options_model.model_fields:
            raise _bad(plugin, f"subsystem {factory.name!r}: the option `{own}` belongs to mlproxy")
    if not callable(factory.create):
        raise _bad(plugin, f"subsystem {factory.name!r}: create cannot be called")
    for proxy in factory.proxies:
        if not isinstance(proxy, str) or not _PROXY_NAME.match(proxy) or len(proxy) > 31:
            raise _bad(plugin, f"proxy name {proxy!r} is not [a-z][a-z0-9_.-]*, 31 characters")
    if not accepts(factory.requires_api, hookspecs.API_VERSION):
        version = ".".join(map(str, hookspecs.API_VERSION))
        raise _bad(
            plugin,
            f"needs plugin API {factory.requires_api}, this is {version}",
            code="plugin.api_mismatch",
            hint="install a version of the plugin made for this mlproxy",
        )
    owner = registry.owners.get(factory.name)
    if owner is not None:
        raise _bad(
            plugin,
            f"subsystem {factory.name!r} is plugin {owner!r}'s already",
            code="plugin.duplicate_subsystem",
            hint="deny one of the two plugins in [plugins]",
        )

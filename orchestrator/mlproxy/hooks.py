"""The typed face of the hooks: nobody else calls `pm.hook`.

Every call goes to one plugin at a time, so that an error has an owner.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pluggy

from mlproxy import hookspecs
from mlproxy.errors import PluginError

if TYPE_CHECKING:
    import click

    from mlproxy.demo import Demo
    from mlproxy.events.types import FeedEvent
    from mlproxy.subsystem import SubsystemFactory

__all__ = ("Hooks",)


class Hooks:
    """Registered plugins and one typed method per hook."""

    def __init__(self) -> None:
        self._pm = pluggy.PluginManager(hookspecs.PROJECT)
        self._pm.add_hookspecs(hookspecs)

    def names(self) -> list[str]:
        """Names of the registered plugins, sorted."""
        return sorted(name for name, plugin in self._pm.list_name_plugin() if plugin is not None)

    def register(self, name: str, module: ModuleType) -> None:
        """Register a plugin after checking its hooks against the specifications.

        Raises:
            PluginError: `plugin.bad_hook` when a hook is unknown, misspelt or takes
                arguments that the specification does not pass;
                `plugin.duplicate` when the name or module is registered already.
        """
        try:
            self._pm.register(module, name)
        except pluggy.PluginValidationError as error:
            raise PluginError(
                str(error),
                code="plugin.bad_hook",
                hint="see docs/reference/hooks.md for the hooks and their arguments",
                plugin=name,
                phase="register",
            ) from error
        except ValueError as error:
            raise PluginError(
                str(error),
                code="plugin.duplicate",
                hint="one module can be one plugin only",
                plugin=name,
                phase="register",
            ) from error
        unknown = [
            hook
            for hook, caller in vars(self._pm.hook).items()
            if isinstance(caller, pluggy.HookCaller) and not caller.has_spec()
        ]
        if unknown:
            self.unregister(name)
            raise PluginError(
                f"unknown hook {', '.join(sorted(unknown))}",
                code="plugin.bad_hook",
                hint="see docs/reference/hooks.md for the hooks and their arguments",
                plugin=name,
                phase="register",
            )

    def unregister(self, name: str) -> None:
        """Forget a plugin (no error when it is not there)."""
        if self._pm.has_plugin(name):
            self._pm.unregister(name=name)
        for hook, caller in list(vars(self._pm.hook).items()):
            if isinstance(caller, pluggy.HookCaller) and not caller.has_spec():
                delattr(self._pm.hook, hook)

    def _only(self, hook: str, name: str) -> Any:
        others = [
            plugin
            for other, plugin in self._pm.list_name_plugin()
            if other != name and plugin is not None
        ]
        return self._pm.subset_hook_caller(hook, others)

    def implements(self, hook: str, name: str) -> bool:
        """Whether the plugin `name` implements `hook`."""
        caller = getattr(self._pm.hook, hook)
        return any(impl.plugin_name == name for impl in caller.get_hookimpls())

    def subsystems(self, name: str) -> Sequence[SubsystemFactory]:
        """Call `mlproxy_subsystems` of one plugin; unchecked, errors pass through."""
        return [f for part in self._only("mlproxy_subsystems", name)() for f in _listed(part)]

    def models(self, name: str) -> Mapping[str, Sequence[Any]]:
        """Call `mlproxy_models` of one plugin; unchecked, errors pass through."""
        results = self._only("mlproxy_models", name)()
        return {str(k): _listed(v) for part in results for k, v in dict(part).items()}

    def commands(self, name: str, cli: click.Group) -> None:
        """Call `mlproxy_commands` of one plugin; errors pass through."""
        self._only("mlproxy_commands", name)(cli=cli)

    def demo(self, name: str) -> Demo | None:
        """Call `mlproxy_demo` of one plugin; errors pass through."""
        found = self._only("mlproxy_demo", name)()
        return found[0] if found else None

    def event(self, name: str, event: FeedEvent) -> None:
        """Call `mlproxy_event` of one plugin; errors pass through."""
        self._only("mlproxy_event", name)(event=event)


def _listed(part: Any) -> list[Any]:
    if isinstance(part, (str, bytes, Mapping)) or not isinstance(part, Sequence):
        raise TypeError(f"expected a list, got {type(part).__name__}")
    return list(part)

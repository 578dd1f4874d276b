"""The hooks that a plugin can implement: entry-point group `mlproxy.plugins`.

A plugin is a module that the entry point names, with functions decorated with
`hookimpl`. An implementation may leave out arguments it does not need, so a
later version of a hook can pass more without breaking anybody.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    import click

    from mlproxy.demo import Demo
    from mlproxy.events.types import FeedEvent
    from mlproxy.subsystem import SubsystemFactory

__all__ = (
    "API_VERSION",
    "ENTRY_POINT_GROUP",
    "PROJECT",
    "hookimpl",
    "hookspec",
    "mlproxy_commands",
    "mlproxy_demo",
    "mlproxy_event",
    "mlproxy_models",
    "mlproxy_subsystems",
)

PROJECT = "mlproxy"
ENTRY_POINT_GROUP = "mlproxy.plugins"
API_VERSION = (1, 0)
"""Version of these hooks and of the Subsystem protocol; apart from the package's version."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def mlproxy_subsystems() -> Sequence[SubsystemFactory]:  # type: ignore[empty-body]
    """Say which subsystems this plugin brings.

    When: once, right after the plugin was imported, before the configuration
    of subsystems is validated; also for `config` and `plugins` commands, so it
    must not touch the machine.
    Thread: a helper thread with the import's deadline. May not be async.

    Returns:
        A list of `SubsystemFactory`, possibly empty.

    If it raises, overruns or returns something else, the plugin is quarantined
    (phase `hooks`) and the others go on.

    Example:
        >>> @hookimpl
        ... def mlproxy_subsystems():
        ...     return [SubsystemFactory("demo", DemoOptions, DemoSubsystem)]
    """


@hookspec
def mlproxy_models() -> Mapping[str, Sequence[Any]]:  # type: ignore[empty-body]
    """Offer candidate models for decisions of any subsystem.

    When: once, after all plugins were loaded; also by `plugins check`.
    Thread: a helper thread with the import's deadline. May not be async.

    Returns:
        Decision name (for instance `lfs-placement`) -> candidates; what is used of
        them is documented by the decision's plugin. `lfs` takes a
        `mlproxy.learn.CandidateRecipe`.

    If it raises or returns something else, the plugin is quarantined (phase
    `hooks`), none of its candidates is used. A candidate that its decision cannot
    use is left out with an event `dropped`; the others go on.

    Example:
        >>> @hookimpl
        ... def mlproxy_models():
        ...     return {"lfs-placement": [CandidateRecipe("my-tree", MyTree)]}
    """


@hookspec
def mlproxy_commands(cli: click.Group) -> None:
    """Add subcommands to the `mlproxy` command or to one of its groups.

    When: the first time that a command is looked up which `mlproxy` itself does
    not have, or a group that is open to plugins (`bench`) is entered.
    Thread: the command line's main thread. May not be async.

    Args:
        cli: the top-level group; `mlproxy.cli.lazy.subgroup(cli, "bench")` gives one below.

    If it raises, the command line says so in one line on stderr and goes on
    without that plugin's commands.

    Example:
        >>> @hookimpl
        ... def mlproxy_commands(cli):
        ...     cli.add_command(my_command)
    """


@hookspec
def mlproxy_demo() -> Demo:  # type: ignore[empty-body]
    """Offer a demonstration for `mlproxy demo`.

    When: by `mlproxy demo` only.
    Thread: the command line's main thread. May not be async.

    Returns:
        A `mlproxy.demo.Demo`: parts that run in processes of their own, and what
        is to be concluded from them.

    If it raises, `mlproxy demo` ends with that error; nothing else is touched.

    Example:
        >>> @hookimpl
        ... def mlproxy_demo():
        ...     return Demo("mine", "what it shows", my_parts, my_conclusion)
    """


@hookspec
def mlproxy_event(event: FeedEvent) -> None:
    """Hear of every event (mode, model, reject, plugin) that goes to the feed.

    When: while the daemon runs, shortly after the event.
    Thread: one notifier thread for all plugins, never a subsystem's worker and
    never the event loop; a slow listener makes the queue drop (and count).

    Args:
        event: an immutable struct of `mlproxy.events.types`.

    If it raises, the error is logged (rate-limited) and the others still hear.

    Example:
        >>> @hookimpl
        ... def mlproxy_event(event):
        ...     print(event.proxy)
    """

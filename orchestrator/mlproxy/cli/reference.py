"""Reference pages that are made from the code: `make docs` writes, a test compares.

A page has blocks between `<!-- made by make docs: NAME -->` and `<!-- end -->`;
what is around them is written by people.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import click
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from mlproxy import hookspecs
from mlproxy.cli import cli
from mlproxy.cli.exit import ExitCode, exit_codes
from mlproxy.config.model import DaemonConfig, FeedConfig, PluginsConfig, ProxyOverrides
from mlproxy.config.sample import toml_value
from mlproxy.psi.config import PsiSource

__all__ = ("BLOCKS", "outdated", "regenerate", "walk")

_BLOCK = re.compile(r"(<!-- made by make docs: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
MEANING = {
    ExitCode.OK: "done; for `status`: all is well",
    ExitCode.FAILURE: "failed, for a reason without a status of its own",
    ExitCode.USAGE: "the command line was wrong, or names a proxy that is not there",
    ExitCode.NOT_RUNNING: "no daemon listens on the control socket (as LSB's `status`)",
    ExitCode.DEGRADED: (
        "it runs, or ran to its end, but something is in quarantine; `doctor`: something that is"
        " there, or wanted, cannot be used"
    ),
    ExitCode.UNREACHABLE: "there is a daemon, but it does not answer as it should",
    ExitCode.TEMPORARY: "try again later: another daemon has the socket, or it is busy",
    ExitCode.PERMISSION: "not permitted: socket, state directory",
    ExitCode.CONFIG: "the configuration is invalid; every problem is on stderr",
}


def walk(group: click.Group, path: str = "mlproxy") -> Iterator[tuple[str, click.Command]]:
    """Every command below a group, with its full name, sorted; plugins' are left out."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None or command.hidden:
            continue
        if isinstance(command, click.Group):
            yield f"{path} {name}", command
            yield from walk(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", "\\|").strip()


def _commands() -> Iterator[str]:
    for path, command in walk(cli):
        yield f"### `{path}`"
        yield ""
        text = inspect.cleandoc(command.help or command.get_short_help_str())
        yield text.replace("\b", "").strip()
        yield ""
        arguments = [p for p in command.params if isinstance(p, click.Argument)]
        if arguments:
            shown = (p.make_metavar(click.Context(command)) for p in arguments)
            yield f"Arguments: {', '.join(f'`{text}`' for text in shown)}"
            yield ""
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                names = ", ".join(f"`{n}`" for n in (*parameter.opts, *parameter.secondary_opts))
                yield f"- {names}: {_cell(parameter.help or '')}"
        yield ""


def _default(model: type[BaseModel], name: str) -> str:
    special = {
        "node": "the host's name",
        "state_dir": "`/var/lib/mlproxy`, or `~/.local/state/mlproxy`",
    }
    if model is DaemonConfig and name in special:
        return special[name]
    default = model.model_fields[name].get_default(call_default_factory=True, validated_data={})
    if default is PydanticUndefined:
        return "must be set"
    return "not set" if default is None else f"`{toml_value(default)}`"


def _table(model: type[BaseModel], section: str) -> Callable[[], Iterator[str]]:
    def rows() -> Iterator[str]:
        yield "| key | default | meaning |"
        yield "|---|---|---|"
        for name, info in model.model_fields.items():
            meaning = _cell(info.description or "")
            yield f"| `{section}.{name}` | {_cell(_default(model, name))} | {meaning} |"

    return rows


def _exit_codes() -> Iterator[str]:
    yield "| status | name | meaning | error codes |"
    yield "|---|---|---|---|"
    by_code = exit_codes()
    for code in ExitCode:
        slugs = ", ".join(f"`{s}`" for s, c in sorted(by_code.items()) if c is code)
        if code is ExitCode.CONFIG:
            slugs = f"`config.*`, {slugs}"
        yield f"| {code.value} | {code.name} | {MEANING[code]} | {slugs} |"


def _hooks() -> Iterator[str]:
    for name, function in sorted(vars(hookspecs).items()):
        if name.startswith("mlproxy_"):
            signature = inspect.signature(function)
            yield f"## `{name}({', '.join(signature.parameters)})`"
            yield ""
            yield "```text"
            yield inspect.getdoc(function) or ""
            yield "```"
            yield ""


BLOCKS: Mapping[str, Callable[[], Iterator[str]]] = {
    "commands": _commands,
    "daemon": _table(DaemonConfig, "daemon"),
    "feed": _table(FeedConfig, "feed"),
    "plugins": _table(PluginsConfig, "plugins"),
    "psi": _table(PsiSource, "psi.NAME"),
    "proxy": _table(ProxyOverrides, "proxy.NAME"),
    "exit_codes": _exit_codes,
    "hooks": _hooks,
}


def _fresh(text: str) -> str:
    def block(match: re.Match[str]) -> str:
        body = "\n".join(BLOCKS[match.group(2)]()).strip("\n")
        return f"{match.group(1)}{body}\n{match.group(3)}"

    return _BLOCK.sub(block, text)


def outdated(folder: Path) -> list[Path]:
    """The pages below a folder whose blocks no longer say what the code says."""
    pages = {path: path.read_text(encoding="utf-8") for path in sorted(folder.rglob("*.md"))}
    return [path for path, text in pages.items() if text != _fresh(text)]


def regenerate(folder: Path) -> list[Path]:
    """Write the outdated pages again; return them."""
    stale = outdated(folder)
    for path in stale:
        path.write_text(_fresh(path.read_text(encoding="utf-8")), encoding="utf-8")
    return stale


if __name__ == "__main__":
    for changed in regenerate(Path(sys.argv[1])):
        click.echo(changed)

"""The command line; one command per file, imported when it is used."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from mlproxy.cli.exit import ExitCode, exit_code
from mlproxy.cli.lazy import LazyGroup
from mlproxy.cli.output import print_error
from mlproxy.errors import MlproxyError

__all__ = ("cli", "main")

COMMANDS = {
    "run": ("mlproxy.cli.run:command", "Run the daemon in the foreground."),
    "demo": ("mlproxy.cli.demo:command", "Watch models learn on recorded streams."),
    "status": ("mlproxy.cli.status:command", "Show what a running daemon does."),
    "top": ("mlproxy.cli.top:command", "Watch proxies and models live."),
    "doctor": ("mlproxy.cli.doctor:command", "Say what of this machine can be used."),
    "events": ("mlproxy.cli.events:group", "Read the feed."),
    "plugins": ("mlproxy.cli.plugins:group", "List and check plugins."),
    "config": ("mlproxy.cli.config:group", "Check, show and sample the configuration."),
    "emergency": ("mlproxy.cli.emergency:command", "Force the default logic, or release it."),
    "trace": ("mlproxy.cli.trace:group", "Record and inspect write streams."),
    "bench": ("mlproxy.cli.bench:group", "Measure."),
    "completion": ("mlproxy.cli.completion:command", "Print a shell completion script."),
    "version": ("mlproxy.cli.version:command", "Print the version."),
}


@click.group(
    cls=LazyGroup,
    lazy=COMMANDS,
    plugins=True,
    name="mlproxy",
    context_settings={"help_option_names": ["-h", "--help"]},
)
def cli() -> None:
    """Learned policies for kernel decisions, with the kernel keeping the stick."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with the documented status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        result = cli.main(given, prog_name="mlproxy", standalone_mode=False)
    except MlproxyError as error:
        print_error(error, as_json="--json" in given)
        sys.exit(exit_code(error.code))
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)
    except BrokenPipeError:
        # The reader (head, less) has gone; point stdout elsewhere for the flush at exit.
        sys.stdout = None
        sys.exit(ExitCode.FAILURE)
    sys.exit(result if isinstance(result, int) else ExitCode.OK)

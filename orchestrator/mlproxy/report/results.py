"""Results of benches as committed files: NAME.json, NAME.md and NAME-*.svg.

The Markdown is a function of the JSON alone, and the JSON carries check sums
of its own numbers and of the pictures. So a page that no longer agrees with
its numbers is found by `python -m mlproxy.report.results --check`, which runs
as a test.
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import click

from mlproxy.report.table import Table

__all__ = ("Plot", "Provenance", "check", "render_markdown", "this_machine", "write_result")

_FORMAT = 1
_DIGITS = 6
_PAGE = "page"


@dataclass(frozen=True, slots=True)
class Plot:
    """One picture of a result; it becomes the file NAME-`slug`.svg."""

    slug: str
    svg: str
    caption: str


@dataclass(frozen=True, slots=True)
class Provenance:
    """What made a result; no host names, no paths of one machine.

    Attributes:
        command: what a reader types to get the files again, from the top of
            the project.
        date: day of the measurement, YYYY-MM-DD; passed in, never looked up.
        versions: package -> version.
        cpu: model name of the processor.
        python: version of the interpreter.
        cores: how many processors the run could use.
    """

    command: str
    date: str
    versions: Mapping[str, str]
    cpu: str
    python: str
    cores: int = 0


def this_machine(
    command: str, date: str, packages: Sequence[str] = ("mlproxy", "river", "numpy")
) -> Provenance:
    """Provenance of a run on this machine."""
    import os

    versions = {}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return Provenance(
        command=command,
        date=date,
        versions=versions,
        cpu=_cpu_model(),
        python=platform.python_version(),
        cores=len(os.sched_getaffinity(0)),
    )


def _cpu_model() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    found = re.search(r"^(?:model name|Hardware|cpu)\s*:\s*(.+)$", text, re.MULTILINE)
    return found.group(1).strip() if found else platform.machine()


def write_result(
    name: str,
    result: Mapping[str, Any],
    out_dir: Path | str,
    *,
    title: str,
    intro: str,
    tables: Sequence[Table],
    plots: Sequence[Plot],
    provenance: Provenance,
) -> list[Path]:
    """Write a result; the same input gives the same bytes.

    Args:
        name: stem of the files, for example "gc".
        result: the numbers, ready for JSON; NaN and infinities become null,
            floats are rounded to six significant digits.
        out_dir: folder; made when missing.
        title: heading of the page.
        intro: Markdown, what was measured and how to read it.
        tables: in this order, each with a caption.
        plots: in this order, after the tables.
        provenance: what made it.

    Returns:
        The files written. Pictures of an earlier run that are not part of
        this one are removed.

    Raises:
        ValueError: on a name or slug that is no plain file name, on a result
            that has the key "page", and on a command that names absolute paths.
    """
    for stem in (name, *(plot.slug for plot in plots)):
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", stem):
            raise ValueError(f"{stem!r} is not a plain file name")
    if len({plot.slug for plot in plots}) != len(plots):
        raise ValueError("two plots have the same slug")
    if _PAGE in result:
        raise ValueError(f"the key {_PAGE!r} is taken by the page itself")
    if re.search(r"(?:^|[\s=\"'])(?:/|~)", provenance.command):
        raise ValueError(f"the command names an absolute path: {provenance.command}")
    numbers = _plain(dict(result))
    pictures = {f"{name}-{plot.slug}.svg": plot for plot in plots}
    document = {
        **numbers,
        _PAGE: {
            "format": _FORMAT,
            "title": title,
            "intro": intro.strip(),
            "tables": [
                {
                    "caption": table.caption,
                    "headers": list(table.headers),
                    "align": list(table.alignment()),
                    "rows": table.cells(),
                }
                for table in tables
            ],
            "plots": [
                {"file": file, "caption": plot.caption, "sha256": _digest(plot.svg)}
                for file, plot in pictures.items()
            ],
            "generated": _plain(
                {
                    "command": provenance.command,
                    "date": provenance.date,
                    "versions": dict(provenance.versions),
                    "cpu": provenance.cpu,
                    "python": provenance.python,
                    "cores": provenance.cores,
                }
            ),
            "sha256": _digest(_dump(numbers)),
        },
    }
    folder = Path(out_dir)
    folder.mkdir(parents=True, exist_ok=True)
    files = {file: plot.svg for file, plot in pictures.items()}
    stored = _dump(document)
    files[f"{name}.md"] = render_markdown(name, json.loads(stored))
    files[f"{name}.json"] = stored  # last: a page without numbers fails the check
    for old in folder.glob(f"{name}-*.svg"):
        if old.name not in files and _owner(folder, old.name) == name:
            old.unlink()
    for file, text in files.items():
        (folder / file).write_text(text, encoding="utf-8")
    return [folder / file for file in files]


def _owner(folder: Path, picture: str) -> str:
    """The result a picture belongs to: `core-full-x.svg` may be of core or of core-full."""
    stems = [p.stem for p in folder.glob("*.json") if picture.startswith(f"{p.stem}-")]
    return max(stems, key=len, default="")


def render_markdown(name: str, document: Mapping[str, Any]) -> str:
    """NAME.md from the contents of NAME.json."""
    page = document[_PAGE]
    parts = [f"# {page['title']}"]
    if page["intro"]:
        parts.append(page["intro"])
    for table in page["tables"]:
        one = Table(table["headers"], table["rows"], table["align"], table["caption"])
        parts.append(one.to_markdown())
    parts.extend(f"![{plot['caption']}]({plot['file']})" for plot in page["plots"])
    made = page["generated"]
    versions = ", ".join(f"{package} {version}" for package, version in made["versions"].items())
    cores = f" ({made['cores']} cores)" if made["cores"] else ""
    parts.append(
        f"---\n\nGenerated by `{made['command']}` on {made['date']} with {versions}, "
        f"Python {made['python']}, on {made['cpu']}{cores}. "
        f"All numbers: [{name}.json]({name}.json)."
    )
    return "\n\n".join(parts) + "\n"


def check(folder: Path | str) -> list[str]:
    """What disagrees in a folder of results, one line each; empty when all is well.

    Files NAME.json without a page are none of ours and are left alone, pages
    and pictures without their JSON are reported.
    """
    folder = Path(folder)
    problems: list[str] = []
    known = {"README.md"}
    for path in sorted(folder.glob("*.json")):
        document = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(document, dict) or _PAGE not in document:
            continue
        problems += _check_one(path, document)
        known |= {f"{path.stem}.md", *(plot["file"] for plot in document[_PAGE]["plots"])}
    for path in sorted([*folder.glob("*.md"), *folder.glob("*.svg")]):
        if path.name not in known:
            problems.append(f"{path.name}: no result in a JSON file beside it says so")
    return problems


def _check_one(path: Path, document: Mapping[str, Any]) -> list[str]:
    page = document[_PAGE]
    problems = []
    numbers = {key: value for key, value in document.items() if key != _PAGE}
    if _digest(_dump(numbers)) != page["sha256"]:
        problems.append(f"{path.name}: the numbers are not those the page was made from")
    if _dump(document) != path.read_text(encoding="utf-8"):
        problems.append(f"{path.name}: not in canonical form, edited by hand?")
    markdown = path.with_suffix(".md")
    if not markdown.is_file():
        problems.append(f"{markdown.name}: missing")
    elif markdown.read_text(encoding="utf-8") != render_markdown(path.stem, document):
        problems.append(f"{markdown.name}: differs from what {path.name} says")
    for plot in page["plots"]:
        picture = path.with_name(plot["file"])
        if not picture.is_file():
            problems.append(f"{picture.name}: missing")
        elif _digest(picture.read_text(encoding="utf-8")) != plot["sha256"]:
            problems.append(
                f"{picture.name}: differs from the picture {path.name} was written with"
            )
    return problems


def _plain(value: Any) -> Any:
    """Values that JSON knows, keys as text, floats to six significant digits."""
    if hasattr(value, "tolist"):  # numpy arrays and scalars
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None
    if value is None or isinstance(value, str | int | bool):
        return value
    raise TypeError(f"{type(value).__name__} is not for JSON")


def _dump(document: Mapping[str, Any]) -> str:
    text = json.dumps(document, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
    return text + "\n"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@click.command()
@click.option("--check", "checking", is_flag=True, required=True, help="Compare, write nothing.")
@click.argument("folder", default="docs/results", type=click.Path(path_type=Path))
def main(checking: bool, folder: Path) -> None:
    """Check that the result pages in FOLDER agree with their numbers."""
    del checking
    if not folder.is_dir():
        raise click.UsageError(f"{folder} is not a folder; run this at the top of the project")
    problems = check(folder)
    for problem in problems:
        click.echo(problem, err=True)
    if problems:
        click.echo("run the command named at the end of the page again to regenerate it", err=True)
        raise SystemExit(1)


if __name__ == "__main__":
    main()

"""Documentation that cannot drift: reference pages, error codes, the how-to's example."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlproxy.cli import cli
from mlproxy.cli.exit import ExitCode
from mlproxy.cli.lazy import LazyGroup
from mlproxy.cli.reference import outdated, walk
from mlproxy.config.model import DaemonConfig, FeedConfig, PluginsConfig, ProxyOverrides
from mlproxy.psi import PsiSource
from mlproxy.testing.install import install_plugin

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "docs/reference"
AREAS = (
    "config|control|daemon|demo|events|feed|kernel|knob|learn|lfs|plugin|program|proxy|psi"
    "|readahead|report|trace"
)
CODE = re.compile(rf"({AREAS})\.[a-z][a-z_-]*\Z")
LOGGING = {"debug", "info", "warning", "error", "exception", "critical"}


def page(name: str) -> str:
    return (REFERENCE / name).read_text(encoding="utf-8")


def codes_in(tree: ast.AST) -> Iterator[str]:
    """Error codes: `code=` anywhere, constants in tables of codes, first arguments of helpers."""
    for node in ast.walk(tree):
        found: list[ast.AST] = []
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            found = [k.value for k in node.keywords if k.arg == "code"]
            if name not in LOGGING and ("Problem" in name or name.startswith("_bad")):
                found += node.args
        elif isinstance(node, ast.Assign):
            targets = [getattr(t, "id", "") for t in node.targets]
            if any(t.lower().endswith("code") or t == "_FAILED" for t in targets):
                found = [node.value]
        for constant in (inner for value in found for inner in ast.walk(value)):
            text = getattr(constant, "value", None)
            if isinstance(text, str) and CODE.match(text):
                yield text


def raised() -> set[str]:
    sources = [*(ROOT / "orchestrator").rglob("*.py"), *(ROOT / "plugins").rglob("*.py")]
    found = {c for path in sources for c in codes_in(ast.parse(path.read_text(encoding="utf-8")))}
    # Nothing but tables of what an errno means.
    tables = (ROOT / "orchestrator/mlproxy/proxy/refusal.py").read_text(encoding="utf-8")
    return found | set(re.findall(rf'"((?:{AREAS})\.[a-z][a-z_-]*)"', tables))


def test_every_error_code_is_documented() -> None:
    documented = set(re.findall(rf"`((?:{AREAS})\.[a-z_-]+)`", page("errors.md")))
    # Plugins and the recorder document their own pages; all together must cover all.
    for other in REFERENCE.glob("*.md"):
        documented |= set(re.findall(rf"`((?:{AREAS})\.[a-z_-]+)`", page(other.name)))
    codes = raised()

    assert len(codes) > 60
    assert sorted(codes - documented) == []


def test_no_error_code_is_documented_that_nobody_raises() -> None:
    rows = set(re.findall(r"^\| `([a-z]+\.[a-z_-]+)` \|", page("errors.md"), re.MULTILINE))
    everywhere = "".join(
        p.read_text(encoding="utf-8") for p in (ROOT / "orchestrator").rglob("*.py")
    ) + "".join(p.read_text(encoding="utf-8") for p in (ROOT / "plugins").rglob("*.py"))

    # trace/format.py puts the area before the problem itself.
    short = {c: c.removeprefix("trace.") for c in rows}
    missing = [c for c in rows if f'"{c}"' not in everywhere and f'"{short[c]}"' not in everywhere]
    assert missing == []


def test_reference_pages_say_what_the_code_says() -> None:
    assert outdated(ROOT / "docs") == [], "run `make docs`"


def test_every_command_and_option_is_documented() -> None:
    text = page("cli.md")
    assert isinstance(cli, LazyGroup)

    for path, command in walk(cli):
        assert f"### `{path}`" in text
        for parameter in command.params:
            if parameter.param_type_name == "option":
                assert all(f"`{name}`" in text for name in parameter.opts), (path, parameter.name)


def test_every_exit_status_is_documented() -> None:
    for code in ExitCode:
        assert f"| {code.value} | {code.name} |" in page("exit-codes.md")


@pytest.mark.parametrize(
    ("section", "model"),
    [
        ("daemon", DaemonConfig),
        ("feed", FeedConfig),
        ("plugins", PluginsConfig),
        ("psi.NAME", PsiSource),
        ("proxy.NAME", ProxyOverrides),
    ],
)
def test_every_key_is_documented_with_its_meaning(section: str, model: type) -> None:
    for name, info in model.model_fields.items():  # type: ignore[attr-defined]
        assert info.description, f"{section}.{name} has no description"
        assert f"| `{section}.{name}` |" in page("configuration.md")


def test_links_between_pages_hold() -> None:
    for path in (ROOT / "docs").rglob("*.md"):
        for target in re.findall(r"\]\(([^)#:]+?\.(?:md|json|html|svg))\)", path.read_text()):
            assert (path.parent / target).exists(), f"{path.relative_to(ROOT)} -> {target}"


def test_the_how_tos_example_is_a_plugin_that_learns(tmp_path: Path) -> None:
    text = (ROOT / "docs/how-to/write-a-plugin.md").read_text(encoding="utf-8")
    match = re.search(r"exactly this block -->\n```python\n(.*?)```", text, re.DOTALL)
    assert match
    install_plugin(tmp_path, "coin", match.group(1))
    environment = {
        "PYTHONPATH": ":".join([str(tmp_path), *(p for p in sys.path if p)]),
        "MLPROXY_PLUGINS": "coin",
        "PYTHONDONTWRITEBYTECODE": "1",
    }

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "mlproxy", *arguments],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    checked = run("plugins", "check", "coin")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    ran = run(
        "run",
        "--once-done",
        *("-o", f"daemon.state_dir={tmp_path}/state", "-o", "feed.enabled=false"),
        *("-o", "subsystem.coin.throws=20000"),
    )
    assert ran.returncode == 0, ran.stderr
    assert '"new":"trusted"' in ran.stderr

"""Discovery trusts no plugin: what is broken is written down, the rest is loaded."""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mlproxy.plugin.discover import ENVIRONMENT, discover
from mlproxy.plugin.registry import PluginRecord, Registry
from mlproxy.testing.install import install_plugin
from mlproxy.testing.sample import RELEASE

HEADER = """
from mlproxy import hookimpl
from mlproxy.testing.sample import demo_factory
import dataclasses
"""
FACTORY = """
@hookimpl
def mlproxy_subsystems():
    return [dataclasses.replace(demo_factory('x'), {})]
"""
BROKEN = {
    "import": ("raise RuntimeError('on purpose')", "import", "plugin.import_failed"),
    "missing": ("import no_such_module_anywhere", "import", "plugin.import_failed"),
    "exits": ("import sys; sys.exit(1)", "import", "plugin.import_failed"),
    "syntax": ("def f(:", "import", "plugin.import_failed"),
    "misspelt": (
        "@hookimpl\ndef mlproxy_subsystem():\n    return []",
        "register",
        "plugin.bad_hook",
    ),
    "argument": (
        "@hookimpl\ndef mlproxy_event(event, more):\n    pass",
        "register",
        "plugin.bad_hook",
    ),
    "raises": (
        "@hookimpl\ndef mlproxy_subsystems():\n    raise KeyError('x')",
        "hooks",
        "plugin.hook_failed",
    ),
    "nothing": (
        "@hookimpl\ndef mlproxy_subsystems():\n    return 3",
        "hooks",
        "plugin.hook_failed",
    ),
    "factory": (
        "@hookimpl\ndef mlproxy_subsystems():\n    return ['demo']",
        "hooks",
        "plugin.bad_factory",
    ),
    "name": (
        "@hookimpl\ndef mlproxy_subsystems():\n    return [demo_factory('A b')]",
        "hooks",
        "plugin.bad_factory",
    ),
    "options": (
        FACTORY.format("options_model=dict"),
        "hooks",
        "plugin.bad_factory",
    ),
    "twice": (
        "@hookimpl\ndef mlproxy_subsystems():\n    return [demo_factory('x'), demo_factory('x')]",
        "hooks",
        "plugin.bad_factory",
    ),
    "newer": (
        FACTORY.format("requires_api='>=2'"),
        "hooks",
        "plugin.api_mismatch",
    ),
    "range": (
        FACTORY.format("requires_api='new'"),
        "hooks",
        "plugin.bad_api_range",
    ),
    "models": (
        "@hookimpl\ndef mlproxy_models():\n    return ['x']",
        "hooks",
        "plugin.hook_failed",
    ),
    "zsame": (
        "@hookimpl\ndef mlproxy_subsystems():\n    return [demo_factory('alpha')]",
        "hooks",
        "plugin.duplicate_subsystem",
    ),
}
Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install plugins into a directory on sys.path; forget their modules afterwards."""
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def put(name: str, source: str | None = None) -> None:
        full = None if source is None else HEADER + source
        install_plugin(tmp_path, name, full)
        importlib.invalidate_caches()

    yield put
    for module in [m for m in sys.modules if m.startswith("mlproxy_test_")]:
        del sys.modules[module]


def ours(registry: Registry, path: Path) -> dict[str, PluginRecord]:
    """Records of the plugins below `path` (others may be installed too)."""
    return {r.name: r for r in registry.records if r.distribution.startswith("mlproxy-test-")}


def test_broken_plugins_are_quarantined_with_code_and_phase(
    install: Install, tmp_path: Path
) -> None:
    install("alpha")
    for name, (source, _, _) in BROKEN.items():
        install(name, source)

    registry = discover(allow=["alpha", *BROKEN])

    records = ours(registry, tmp_path)
    assert records["alpha"].state == "loaded"
    assert records["alpha"].subsystems == ("alpha",)
    got = {n: (r.phase, r.code) for n, r in records.items() if r.state == "quarantined"}
    assert got == {name: (phase, code) for name, (_, phase, code) in BROKEN.items()}
    assert all(records[name].reason for name in BROKEN)
    assert registry.loaded() == ["alpha"]
    assert list(registry.factories) == ["alpha"]
    assert registry.hooks.names() == ["alpha"]


def test_an_import_that_hangs_is_given_up(install: Install, tmp_path: Path) -> None:
    RELEASE.clear()
    install("hangs", "import time\nfrom mlproxy.testing.sample import RELEASE\nRELEASE.wait(20)")
    install("zeta")

    registry = discover(allow=["hangs", "zeta"], deadline=1.0)

    RELEASE.set()
    records = ours(registry, tmp_path)
    assert (records["hangs"].phase, records["hangs"].code) == ("import", "plugin.overrun")
    assert records["zeta"].state == "loaded"


@pytest.mark.parametrize("way", ["deny", "allow", "environment", "none"])
def test_a_denied_plugin_is_never_imported(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    install("wanted")
    install("unwanted", "import pathlib\npathlib.Path(__file__).with_suffix('.touched').touch()")
    if way in ("environment", "none"):
        monkeypatch.setenv(ENVIRONMENT, "wanted," if way == "environment" else "")

    registry = discover(
        allow=["wanted"] if way == "allow" else None,
        deny=["unwanted", "lfs"] if way == "deny" else [],
    )

    records = ours(registry, tmp_path)
    assert records["unwanted"].state == "denied"
    assert records["wanted"].state == ("denied" if way == "none" else "loaded")
    assert not list(tmp_path.glob("*.touched"))


def test_candidates_of_several_plugins_are_collected(install: Install) -> None:
    for name in ("one", "two"):
        source = f"@hookimpl\ndef mlproxy_models():\n    return {{'lfs.placement': ['{name}']}}"
        install(name, source)

    registry = discover(allow=["one", "two"])

    assert registry.models == {"lfs.placement": ["one", "two"]}
    assert [r.decisions for r in registry.records if r.state == "loaded"] == [
        ("lfs.placement",),
        ("lfs.placement",),
    ]


def test_two_distributions_with_one_name(install: Install, tmp_path: Path) -> None:
    install("same")
    other = tmp_path / "other-0.1.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 0.1\n")
    (other / "entry_points.txt").write_text("[mlproxy.plugins]\nsame = zzz_nowhere\n")

    registry = discover(allow=["same"])

    states = [(r.distribution, r.state, r.code) for r in registry.records if r.name == "same"]
    assert states == [
        ("mlproxy-test-same", "loaded", ""),
        ("other", "quarantined", "plugin.duplicate"),
    ]


def test_an_entry_point_must_name_a_module() -> None:
    point = importlib.metadata.EntryPoint("odd", "os.path:join", "mlproxy.plugins")

    registry = discover(entry_points=[point])

    assert registry.records[0].code == "plugin.not_a_module"

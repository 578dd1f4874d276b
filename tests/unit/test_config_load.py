"""From layers to a configuration: every problem, with its place, at once."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner

from mlproxy.config.load import Config, Source, load, plugin_settings
from mlproxy.config.model import DaemonConfig, ProxyOverrides
from mlproxy.config.sample import sample_text
from mlproxy.config.schema import json_schema
from mlproxy.config.show import shown
from mlproxy.errors import ConfigError, Problem
from mlproxy.hooks import Hooks
from mlproxy.plugin.registry import PluginRecord, Registry
from mlproxy.proxy.types import ProxyConfig
from mlproxy.testing.sample import demo_factory

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def registry() -> Registry:
    """Two subsystems, demo and other, and a plugin that did not load."""
    records = [
        PluginRecord("demo", "demo", "loaded", subsystems=("demo",)),
        PluginRecord("other", "other", "loaded", subsystems=("other",)),
        PluginRecord("broken", "b", "quarantined", code="plugin.import_failed", reason="why"),
    ]
    factories = {name: demo_factory(name) for name in ("demo", "other")}
    return Registry(Hooks(), records, factories, {n: n for n in factories})


def loaded(registry: Registry, path: Path | None = None, **environ: str) -> Config:
    return load(Source(path, (), environ), registry=registry)[0]


def problems(registry: Registry | None, *options: str, path: Path | None = None) -> list[Problem]:
    with pytest.raises(ConfigError) as caught:
        load(Source(path, options, {}), registry=registry)
    assert caught.value.code == "config.invalid"
    return list(caught.value.problems)


def test_defaults_hold_together(registry: Registry) -> None:
    config = loaded(registry)

    assert config.daemon.restart_limit == 3
    assert set(config.subsystems) == {"demo", "other"}
    assert all(s.enabled for s in config.subsystems.values())


@pytest.mark.parametrize(
    ("option", "code", "key", "hint"),
    [
        ("daemon.nodes=1", "config.unknown_key", "daemon.nodes", "node"),
        ("deamon.node='a'", "config.unknown_key", "deamon", "daemon"),
        ("daemon.seed='x'", "config.wrong_type", "daemon.seed", ""),
        ("daemon.seed=true", "config.wrong_type", "daemon.seed", ""),
        ("daemon.step_seconds=0", "config.out_of_range", "daemon.step_seconds", "deadline"),
        ("daemon.step_seconds=nan", "config.out_of_range", "daemon.step_seconds", ""),
        ("daemon.node='a/b'", "config.invalid_value", "daemon.node", ""),
        ("daemon.log_level='loud'", "config.invalid_value", "daemon.log_level", ""),
        ("daemon=1", "config.wrong_type", "daemon", "[daemon]"),
        ("feed.port=0", "config.out_of_range", "feed.port", ""),
        ("feed.username='a'", "config.invalid_value", "feed", ""),
        ("plugins.deny='lfs'", "config.wrong_type", "plugins.deny", ""),
        ("subsystem.demos.steps=1", "config.unknown_subsystem", "subsystem.demos", "demo"),
        ("subsystem.broken.steps=1", "config.unknown_subsystem", "subsystem.broken", "why"),
        ("subsystem.demo.stepz=1", "config.unknown_key", "subsystem.demo.stepz", "steps"),
        ("subsystem.demo.steps=-1", "config.out_of_range", "subsystem.demo.steps", "done after"),
        ("subsystem.demo.enabled='yes'", "config.wrong_type", "subsystem.demo.enabled", ""),
        ("subsystem.demo.critical='memory'", "config.wrong_type", "subsystem.demo.critical", ""),
        ("subsystem.demo.critical=[1]", "config.wrong_type", "subsystem.demo.critical", ""),
        ("subsystem.demo.critical=['mem']", "config.unknown_source", "subsystem.demo.critical", ""),
        (
            "subsystem.demo.critical=['memorie']",
            "config.unknown_source",
            "subsystem.demo.critical",
            "did you mean 'memory'?",
        ),
        ("psi=1", "config.wrong_type", "psi", "[psi]"),
        ("psi.memory=1", "config.wrong_type", "psi.memory", "[psi.memory]"),
        ("psi.memory.on_percent=0", "config.out_of_range", "psi.memory.on_percent", "critical"),
        ("psi.memory.off_percent=20.0", "config.invalid_value", "psi.memory", ""),
        ("psi.tight.onpercent=5", "config.unknown_key", "psi.tight.onpercent", "on_percent"),
        ("proxy.demo.demo.alpha=-1", "config.out_of_range", "proxy.demo.demo.alpha", "rate"),
        ('proxy."demo.dem".alpha=1', "config.unknown_proxy", "proxy.demo.dem", "demo.demo"),
        ("proxy.alpha=1", "config.unknown_proxy", "proxy", ""),
    ],
)
def test_one_problem(registry: Registry, option: str, code: str, key: str, hint: str) -> None:
    found = problems(registry, option)

    assert [(p.code, p.key) for p in found] == [(code, key)]
    assert found[0].source.startswith("-o ")
    assert hint in found[0].hint


def test_pressure_sources_are_built_in_changed_and_made(registry: Registry) -> None:
    options = (
        "subsystem.demo.critical=['memory', 'db', 'memory']",
        "psi.memory.on_percent=20.0",
        "psi.db.resource='io'",
        "psi.db.cgroup='/sys/fs/cgroup/db'",
    )
    config, _ = load(Source(None, options, {}), registry=registry)

    assert config.subsystems["demo"].critical == ("memory", "db")
    assert config.subsystems["other"].critical == ()
    assert set(config.psi) == {"memory", "io", "cpu", "db"}
    assert (config.psi["memory"].on_percent, config.psi["memory"].off_percent) == (20.0, 2.0)
    assert config.psi["db"].cgroup == "/sys/fs/cgroup/db"
    assert config.psi["cpu"].stall == "some"
    rows = {row["key"]: row for row in shown(config, registry)}
    assert rows["psi.memory.on_percent"]["origin"].startswith("-o ")
    assert rows["psi.memory.off_percent"]["origin"] == "default"
    assert rows["subsystem.demo.critical"]["value"] == ["memory", "db"]


def test_a_wrong_pressure_source_is_told_once(registry: Registry) -> None:
    found = problems(registry, "subsystem.demo.critical=['db']", "psi.db.on_percent=200.0")

    assert [(p.code, p.key) for p in found] == [("config.out_of_range", "psi.db.on_percent")]


def test_all_problems_at_once_each_with_file_and_line(registry: Registry, tmp_path: Path) -> None:
    path = tmp_path / "m.toml"
    path.write_text(
        "[daemon]\nnode = 3\nlogs = 1\n[feed]\nprot = 1\n[subsystem.demo]\nsteps = 'x'\n"
        "[subsystem.demmo]\n[proxy.demo.demo]\nalpha = 2000000\n[tail]\n"
    )

    found = problems(registry, "daemon.seed=-1", path=path)

    expected = [
        ("config.unknown_key", "tail", f"{path}:11"),
        ("config.wrong_type", "daemon.node", f"{path}:2"),
        ("config.unknown_key", "daemon.logs", f"{path}:3"),
        ("config.out_of_range", "daemon.seed", "-o daemon.seed"),
        ("config.unknown_key", "feed.prot", f"{path}:5"),
        ("config.unknown_subsystem", "subsystem.demmo", f"{path}:8"),
        ("config.wrong_type", "subsystem.demo.steps", f"{path}:7"),
        ("config.out_of_range", "proxy.demo.demo.alpha", f"{path}:10"),
    ]
    assert sorted((p.code, p.key, p.source) for p in found) == sorted(expected)


def test_a_syntax_error_does_not_hide_the_other_files(registry: Registry, tmp_path: Path) -> None:
    path = tmp_path / "m.toml"
    path.write_text("= 3\n")
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "a.toml").write_text("[daemon]\nseed = 'x'\n")

    codes = [p.code for p in problems(registry, path=path)]

    assert codes == ["config.syntax", "config.wrong_type"]


def test_both_spellings_of_a_proxy(registry: Registry) -> None:
    for option in ('proxy."demo.demo".alpha=7', "proxy.demo.demo.alpha=7"):
        config, _ = load(Source(None, (option,), {}), registry=registry)
        assert config.overrides() == {"demo.demo": {"alpha": 7}}


def test_environment(registry: Registry) -> None:
    config = loaded(registry, MLPROXY__SUBSYSTEM__DEMO__STEPS="9", MLPROXY__DAEMON__NODE="n-1")

    assert config.subsystems["demo"].options.model_dump()["steps"] == 9
    assert config.daemon.node == "n-1"


def test_switched_off_subsystems_need_no_options(registry: Registry) -> None:
    config = loaded(registry, MLPROXY__SUBSYSTEM__DEMO__ENABLED="false")

    assert not config.subsystems["demo"].enabled


def test_overrides_are_fields_of_the_proxys_configuration() -> None:
    assert set(ProxyOverrides.model_fields) <= set(ProxyConfig.__dataclass_fields__)
    # The decision's shape is the plugin's business; everything else can be set.
    shape = {"name", "kind", "trial", "seed", "min", "max"}
    rest = set(ProxyConfig.__dataclass_fields__) - set(ProxyOverrides.model_fields) - shape
    assert all(name.startswith(("nr_", "max_n")) for name in rest)


def test_the_socket_is_beside_a_state_directory_of_ones_own(tmp_path: Path) -> None:
    assert DaemonConfig(state_dir="/x").socket_path == "/x/control.sock"
    assert DaemonConfig(state_dir="/x", socket="/y/z").socket_path == "/y/z"
    with pytest.raises(ValueError, match="107"):
        DaemonConfig(socket="/" + "x" * 107)


def test_show_tells_the_origin_and_hides_secrets(registry: Registry) -> None:
    config, _ = load(
        Source(None, ("daemon.node='a'", "proxy.demo.demo.budget=5"), {}), registry=registry
    )

    rows = {r["key"]: r for r in shown(config, registry)}

    assert rows["daemon.node"] == {"key": "daemon.node", "value": "a", "origin": "-o daemon.node"}
    assert rows["daemon.seed"]["origin"] == "default"
    assert rows["proxy.demo.demo.budget"]["origin"] == "-o proxy.demo.demo.budget"
    assert rows["subsystem.demo.enabled"]["value"] is True


def test_plugin_settings_ignore_mistakes_elsewhere() -> None:
    source = Source(None, ("feed.prot=1", "plugins.deny=['a']"), {})

    assert plugin_settings(source)[0].deny == ["a"]


def _uncommented(text: str) -> str:
    lines = []
    for line in text.splitlines():
        bare = line.removeprefix("#")
        is_key = line.startswith("#") and not line.startswith("# ") and not bare.endswith("=")
        lines.append(bare if is_key else line)
    return "\n".join(lines)


def test_the_sample_is_valid_both_commented_and_not(registry: Registry, tmp_path: Path) -> None:
    text = sample_text(registry)
    path = tmp_path / "m.toml"

    path.write_text(text)
    assert loaded(registry, path).daemon == DaemonConfig()
    data = tomllib.loads(_uncommented(text))
    assert set(data["daemon"]) == set(DaemonConfig.model_fields)
    assert set(data["subsystem"]["demo"]) == {
        "enabled",
        "critical",
        *registry.factories["demo"].options_model.model_fields,
    }
    assert "demo.demo" in data["proxy"]
    # What is not set by default is an example there and means nothing by itself.
    jsonschema.validate({"daemon": data["daemon"]}, json_schema(registry))


def test_the_sample_of_one_plugin_and_of_none(registry: Registry) -> None:
    assert sample_text(registry, "demo").splitlines()[1] == "[subsystem.demo]"
    with pytest.raises(ConfigError) as caught:
        sample_text(registry, "nobody")
    assert caught.value.code == "config.unknown_plugin"


def test_the_schema_agrees_with_the_validation(registry: Registry) -> None:
    schema = json_schema(registry)
    jsonschema.Draft202012Validator.check_schema(schema)
    good = {"daemon": {"seed": 2}, "subsystem": {"demo": {"enabled": False, "steps": 1}}}

    jsonschema.validate(good, schema)
    for bad in ({"daemon": {"sed": 2}}, {"subsystem": {"demmo": {}}}, {"daemon": {"seed": -1}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(bad, schema)


VALID = sorted((ROOT / "configs/samples/valid").glob("*.toml"))
INVALID = sorted((ROOT / "configs/samples/invalid").glob("*.toml"))


@pytest.mark.parametrize("path", [ROOT / "configs/mlproxy.toml", *VALID], ids=lambda p: p.stem)
def test_valid_samples(path: Path, registry: Registry) -> None:
    load(Source(path, (), {}), registry=None if bundled(path) else registry)


def bundled(path: Path) -> bool:
    """Samples of a bundled plugin need that plugin, not the one of these tests."""
    return path.stem.split("-")[0] in {"damon", "lfs", "nilfs", "readahead"}


@pytest.mark.parametrize("path", INVALID, ids=lambda p: p.stem)
def test_invalid_samples_give_the_code_in_their_first_line(path: Path, registry: Registry) -> None:
    expected = path.read_bytes().split(b"\n", 1)[0].decode().removeprefix("# expect: ").split()

    found = problems(None if bundled(path) else registry, path=path)

    assert [p.code for p in found] == expected
    assert all(p.source.startswith(str(path)) for p in found)


def test_config_check_prints_all_problems_as_json(tmp_path: Path) -> None:
    from mlproxy.cli.config import group

    path = tmp_path / "m.toml"
    path.write_text("[daemon]\nnode = 3\nsed = 1\n")
    result = CliRunner().invoke(
        group,
        ["check", "--json", "--config", str(path)],
        standalone_mode=False,
        env={"MLPROXY_PLUGINS": ""},
    )

    assert result.return_value == 78
    document = json.loads(result.stdout)
    assert [p["code"] for p in document["problems"]] == ["config.wrong_type", "config.unknown_key"]
    assert set(document["problems"][0]) == {"code", "key", "source", "message", "hint"}

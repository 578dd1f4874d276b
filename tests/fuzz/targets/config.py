"""Configuration files: any bytes give a configuration or a list of problems."""

from __future__ import annotations

import tempfile
from pathlib import Path

from mlproxy.config.load import Source, load
from mlproxy.config.sample import toml_value
from mlproxy.config.show import shown
from mlproxy.errors import ConfigError
from mlproxy.hooks import Hooks
from mlproxy.plugin.registry import Registry
from mlproxy.testing.sample import demo_factory

REGISTRY = Registry(Hooks(), [], {"demo": demo_factory()}, {"demo": "demo"})
FILE = Path(tempfile.mkdtemp(prefix="mlproxy-fuzz-")) / "mlproxy.toml"

SEEDS = [
    b"",
    b"[daemon]\nnode = 'a'\nstate_dir = '/x'\nstep_seconds = 2.5\nlog_level = 'debug'\n",
    b"[feed]\nhost = 'h'\nport = 1884\ntls = true\nusername = 'u'\npassword_file = '/p'\n",
    b"[plugins]\nallow = ['a', 'b']\ndeny = []\n",
    b"[subsystem.demo]\nenabled = false\nsteps = 3\nfault = 'step-raise'\n",
    b"[proxy.'demo.demo']\nalpha = 5\n[proxy.demo.demo]\nbudget = 1\n",
    b'daemon.seed = 9223372036854775807\n"q\\"k".b = [1, {a = 2}]\n',
    b"x = 0x1F\ny = 1979-05-27T07:32:00Z\nz = inf\ns = '''\n[no]\n'''\n",
]


def fuzz_one(data: bytes) -> None:
    """One file; the first line, up to a NUL, is an override if there is one."""
    option, nul, rest = data.partition(b"\0")
    FILE.write_bytes(rest if nul else data)
    options = (option.decode("utf-8", "replace"),) if nul else ()
    try:
        config, registry = load(Source(FILE, options, {}), registry=REGISTRY)
    except ConfigError as error:
        assert error.problems
        assert all(p.code and p.source and p.message for p in error.problems)
        return
    for row in shown(config, registry):
        if row["value"] is not None:
            toml_value(row["value"])

"""The daemon with the lfs plugin and a real mosquitto, from the first status to the last will."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from mlproxy.events.types import ModeEvent
from mlproxy.testing.mosquitto import Mosquitto, find_mosquitto
from mlproxy.testing.reader import FeedReader

pytestmark = pytest.mark.skipif(
    find_mosquitto() is None, reason="needs mosquitto (apt-get install mosquitto)"
)
CONFIG = """\
[daemon]
node = "lfs-test"
state_dir = "{state}"
[feed]
host = "127.0.0.1"
port = {port}
[plugins]
allow = ["lfs"]
[subsystem.lfs]
workload = "mixed"
segments = 256
segment_blocks = 64
seed = 1
pace_blocks_per_second = 60000.0
"""


@pytest.fixture
def broker(tmp_path):
    with Mosquitto(tmp_path) as running:
        yield running


@pytest.fixture
def mlproxy(tmp_path, broker):
    """Runs `mlproxy` with the configuration; what is still there at the end is killed."""
    config = tmp_path / "mlproxy.toml"
    config.write_text(CONFIG.format(state=tmp_path / "state", port=broker.port))
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MLPROXY")}
    environment |= {
        "MLPROXY_CONFIG": str(config),
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
    }
    started = []

    def run(*arguments, wait=True):
        process = subprocess.Popen(
            [sys.executable, "-m", "mlproxy", *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if wait else subprocess.DEVNULL,
            stderr=subprocess.STDOUT if wait else subprocess.DEVNULL,
        )
        started.append(process)
        if wait:
            out, _ = process.communicate(timeout=60)
            return process.returncode, out.decode()
        return process

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()


def statuses(reader):
    return [m.payload for m in reader.received if m.topic.endswith("/status")]


def modes(reader, proxy="lfs-placement"):
    found = [e for e in reader.events() if isinstance(e, ModeEvent) and e.proxy == proxy]
    return [(e.old, e.new, e.reason) for e in found]


def last_state(reader, proxy="lfs-placement"):
    states = [json.loads(p) for p in reader.payloads("state")]
    return [s for s in states if s["proxy"] == proxy][-1]


async def test_feed_shows_a_life_from_promotion_to_the_last_will(broker, mlproxy):
    async with FeedReader("127.0.0.1", broker.port) as reader:
        daemon = mlproxy("run", wait=False)
        await reader.until(lambda: b"online" in statuses(reader), seconds=60)
        await reader.until(
            lambda: any(new == "trusted" for _, new, _ in modes(reader)), seconds=100
        )
        assert modes(reader)[:4] == [
            ("emergency", "learning", "start"),
            ("learning", "learning", "promoted"),
            ("learning", "collaboration", "promoted"),
            ("collaboration", "trusted", "promoted"),
        ]
        event = next(
            e for e in reader.events() if isinstance(e, ModeEvent) and e.new == "collaboration"
        )
        (twin,) = [e for e in event.evidence if e.source == "twin"]
        assert 1.0 < twin.model_mean < twin.default_mean < 20.0
        assert twin.saving_ratio > 0

        (info,) = [json.loads(p) for p in reader.payloads("info")]
        assert info["proxies"] == ["lfs-placement", "lfs-victim"]
        metrics = [json.loads(p) for p in reader.payloads("metric")]
        shown = next(m for m in reversed(metrics) if m["proxy"] == "lfs-placement")
        assert shown["values"]["write_amplification_ratio"] >= 1.0

        code, out = mlproxy("status", "--json")
        status = json.loads(out)
        assert code == 0, out
        assert status["subsystems"]["lfs"]["proxies"]["lfs-placement"]["twin"]["source"] == "twin"
        code, out = mlproxy("top", "--once")
        assert code == 0
        assert "lfs-placement" in out

        code, out = mlproxy("emergency", "on", "lfs-placement")
        assert code == 0, out
        await reader.until(lambda: modes(reader)[-1][1:] == ("emergency", "operator"), seconds=30)
        await reader.until(lambda: last_state(reader)["operator_hold"], seconds=30)
        assert last_state(reader, "lfs-victim")["mode"] != "emergency"

        daemon.send_signal(signal.SIGKILL)
        daemon.wait()
        await reader.until(lambda: statuses(reader)[-1] == b"offline", seconds=60)

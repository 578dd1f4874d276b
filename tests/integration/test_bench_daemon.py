"""The footprint is that of a real daemon, which is gone afterwards."""

import subprocess

from mlproxy.bench import daemon


def test_footprint_measures_a_real_daemon_and_ends_it(monkeypatch):
    monkeypatch.setattr(daemon, "_SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(daemon, "_QUICK_SECONDS", 0.3)
    started = []

    class Watched(subprocess.Popen):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            started.append(self)

    monkeypatch.setattr(daemon.subprocess, "Popen", Watched)
    measured = daemon.footprint(quick=True)
    assert 5 < measured["rss_mib"] < 1000
    assert measured["idle_cpu_percent"] >= 0
    (process,) = started
    assert process.returncode == 0

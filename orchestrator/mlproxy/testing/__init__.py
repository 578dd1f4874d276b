"""For tests of plugins: fakes and the conformance suite."""

from __future__ import annotations

from mlproxy.testing.check import CheckResult, check_factory, check_plugin
from mlproxy.testing.clock import FakeClock
from mlproxy.testing.proxy import FakeProxy
from mlproxy.testing.sink import RecordingSink

__all__ = (
    "CheckResult",
    "FakeClock",
    "FakeProxy",
    "RecordingSink",
    "check_factory",
    "check_plugin",
)

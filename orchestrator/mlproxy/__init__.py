"""mlproxy: learned policies for kernel decisions, with the kernel keeping the stick.

The names below are what plugins may use; they are imported when first touched.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlproxy.app.report import mode_events_from_records
    from mlproxy.config.model import Section
    from mlproxy.errors import MlproxyError
    from mlproxy.hookspecs import API_VERSION, hookimpl
    from mlproxy.subsystem import StepResult, Subsystem, SubsystemContext, SubsystemFactory

__version__ = "0.1.0"

__all__ = (
    "API_VERSION",
    "MlproxyError",
    "Section",
    "StepResult",
    "Subsystem",
    "SubsystemContext",
    "SubsystemFactory",
    "__version__",
    "hookimpl",
    "mode_events_from_records",
)

_HOMES = {
    "API_VERSION": "mlproxy.hookspecs",
    "MlproxyError": "mlproxy.errors",
    "Section": "mlproxy.config.model",
    "StepResult": "mlproxy.subsystem",
    "Subsystem": "mlproxy.subsystem",
    "SubsystemContext": "mlproxy.subsystem",
    "SubsystemFactory": "mlproxy.subsystem",
    "hookimpl": "mlproxy.hookspecs",
    "mode_events_from_records": "mlproxy.app.report",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)

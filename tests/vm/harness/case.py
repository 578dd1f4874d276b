"""The outcome of a case on a kernel."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Case:
    """One case on one kernel.

    Attributes:
        kernel: `6.12`, `debug`, ...
        name: pytest's node id, or the name of a check made on the host.
        outcome: `passed`, `failed` or `skipped`.
        reason: one line; empty when passed.
        seconds: how long it took.
        measures: numbers it took down.
        text: for a person, when it failed.
    """

    kernel: str
    name: str
    outcome: str
    reason: str = ""
    seconds: float = 0.0
    measures: dict[str, float] = field(default_factory=dict)
    text: str = ""


def title(name: str) -> str:
    """A case's name as the result page shows it.

    >>> title("tests/vm/cases/test_module.py::test_an_open_device_keeps_the_module")
    'module: an open device keeps the module'
    >>> title("tests/contract/test_proxy_contract.py::test_life[kernel]")
    'proxy contract: life [kernel]'
    """
    path, _, function = name.partition("::")
    if not function:
        return name
    stem = path.rsplit("/", 1)[-1].removeprefix("test_").removesuffix(".py").replace("_", " ")
    words, bracket, rest = function.rpartition("::")[2].partition("[")
    words = words.removeprefix("test_").replace("_", " ")
    return f"{stem}: {words}{f' [{rest}' if bracket else ''}"

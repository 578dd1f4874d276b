"""Pressure over a window, with hysteresis, from files of a fake machine."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from mlproxy.errors import PsiError
from mlproxy.psi import BUILT_IN, PsiMeter, PsiSource


class Machine:
    """A root directory with pressure files; `stall` lets programs wait."""

    def __init__(self, root: Path, folder: str = "proc/pressure", name: str = "memory") -> None:
        self.root = root
        self.file = root / folder / name
        self.file.parent.mkdir(parents=True)
        self.some = self.full = 1_000_000
        self.write()

    def write(self) -> None:
        zeros = "avg10=0.00 avg60=0.00 avg300=0.00"
        self.file.write_text(
            f"some {zeros} total={self.some}\nfull {zeros} total={self.full}\n", encoding="ascii"
        )

    def stall(self, some: float, full: float) -> None:
        """Seconds of each."""
        self.some += round(some * 1e6)
        self.full += round(full * 1e6)
        self.write()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


SOURCE = PsiSource(on_percent=10, off_percent=2, window_seconds=1, quiet_seconds=2)


def test_it_is_the_share_of_the_last_window(machine: Machine) -> None:
    meter = PsiMeter(SOURCE, root=str(machine.root))

    assert not meter.update(100.0)
    assert meter.percent is None  # no window yet
    machine.stall(0.5, 0.05)
    meter.update(100.5)
    assert meter.percent is None
    machine.stall(0.1, 0.02)
    meter.update(101.0)
    assert meter.percent == pytest.approx(7.0)
    meter.update(101.5)
    assert meter.percent == pytest.approx(2.0)  # what came before is out of the window
    assert "memory pressure (full) 2.0% over 1 s, limit 10%" in meter.describe()


def test_some_and_full_are_two_figures(machine: Machine) -> None:
    some = PsiMeter(PsiSource(stall="some", on_percent=10, off_percent=2), root=str(machine.root))
    full = PsiMeter(SOURCE, root=str(machine.root))
    for now in (0.0, 1.0):
        some.update(now)
        full.update(now)
        machine.stall(0.3, 0.01)
    assert some.update(2.0)
    assert not full.update(2.0)


def test_it_comes_at_once_and_goes_only_after_quiet(machine: Machine) -> None:
    meter = PsiMeter(SOURCE, root=str(machine.root))
    meter.update(0.0)
    machine.stall(0.2, 0.2)
    assert meter.update(1.0)
    # Between the thresholds nothing changes, and the quiet time begins anew.
    assert meter.update(2.0)  # quiet since 2
    assert meter.update(3.0)
    machine.stall(0.05, 0.05)
    assert meter.update(4.0)  # 5%: not quiet
    assert meter.update(5.0)  # quiet since 5
    assert meter.update(6.9)
    assert not meter.update(7.0)
    machine.stall(0.2, 0.2)
    assert meter.update(8.0)


def test_a_counter_that_starts_anew_is_no_negative_pressure(machine: Machine) -> None:
    meter = PsiMeter(SOURCE, root=str(machine.root))
    meter.update(0.0)
    meter.update(1.0)
    machine.full = 0
    machine.write()
    meter.update(2.0)
    assert meter.percent is None
    machine.stall(0.5, 0.5)
    assert meter.update(3.0)


def test_a_control_group(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "sys/fs/cgroup/db", "io.pressure")
    source = PsiSource(resource="io", cgroup="/sys/fs/cgroup/db", on_percent=10, off_percent=2)
    meter = PsiMeter(source, root=str(tmp_path))
    meter.update(0.0)
    machine.stall(1, 1)
    assert meter.update(1.0)
    assert "/sys/fs/cgroup/db" in meter.describe()

    machine.file.unlink()
    with pytest.raises(PsiError, match=r"cgroup\.pressure") as off:
        meter.update(2.0)
    assert off.value.code == "psi.off"
    machine.file.parent.rmdir()
    with pytest.raises(PsiError) as gone:
        meter.update(3.0)
    assert gone.value.code == "psi.no_cgroup"


def test_without_psi_it_says_how_to_get_it(tmp_path: Path) -> None:
    meter = PsiMeter(SOURCE, root=str(tmp_path))

    with pytest.raises(PsiError, match="psi=1") as error:
        meter.update(0.0)
    assert error.value.code == "psi.off"


def test_a_file_that_says_something_else(machine: Machine) -> None:
    machine.file.write_text("some avg10=0.00 avg60=0.00 avg300=0.00 total=1\n")
    with pytest.raises(PsiError) as error:
        PsiMeter(SOURCE, root=str(machine.root)).update(0.0)
    assert error.value.code == "psi.unreadable"
    machine.file.unlink()
    machine.file.mkdir()
    with pytest.raises(PsiError) as error:
        PsiMeter(SOURCE, root=str(machine.root)).update(0.0)
    assert error.value.code == "psi.unreadable"


def test_after_an_error_the_window_begins_anew(machine: Machine) -> None:
    meter = PsiMeter(SOURCE, root=str(machine.root))
    meter.update(0.0)
    text = machine.file.read_text()
    machine.file.unlink()
    with pytest.raises(PsiError):
        meter.update(1.0)
    machine.file.write_text(text)
    machine.stall(1, 1)
    assert not meter.update(2.0)
    assert meter.percent is None


@pytest.mark.parametrize(
    "options",
    [
        {"on_percent": 5.0, "off_percent": 5.0},
        {"resource": "cpu"},
        {"cgroup": "system.slice"},
        {"window_seconds": 0.0},
        {"on_percent": 0.0},
    ],
)
def test_settings_that_make_no_sense(options: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        PsiSource.model_validate(options)


def test_there_is_one_source_per_resource_without_any_table() -> None:
    assert {name: s.resource for name, s in BUILT_IN.items()} == {
        "memory": "memory",
        "io": "io",
        "cpu": "cpu",
    }

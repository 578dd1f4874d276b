"""Measure how often and how fast the mode machine trusts (tests/native/trust.c).

python tests/native/trust.py        prints the tables of docs/explanation/trials-and-trust.md
"""

import importlib.util
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Runs:
    """What a series of runs came to; windows are lists over the runs it happened in."""

    count: int
    promoted: list[int]
    trusted: list[int]
    lost: list[int]
    modes: list[int]
    trusted_share: float

    @property
    def promoted_percent(self) -> float:
        """Share of the runs with any promotion at all."""
        return 100 * len(self.promoted) / self.count


def run(
    binary: Path,
    source: str,
    noise: str,
    effect: int,
    *,
    turn: int | None = None,
    windows: int,
    runs: int,
    seed: int = 7,
    spread: float = 0.2,
) -> Runs:
    """Run the simulation; effects in parts per million, see trust.c."""
    turn_text = "none" if turn is None else str(turn)
    arguments = [source, noise, effect, turn_text, windows, runs, seed, spread]
    out = subprocess.run(
        [str(binary), *map(str, arguments)], capture_output=True, text=True, check=True
    ).stdout
    rows = [[int(cell) for cell in line.split()] for line in out.splitlines()]
    return Runs(
        count=len(rows),
        promoted=[r[0] for r in rows if r[0] >= 0],
        trusted=[r[1] for r in rows if r[1] >= 0],
        lost=[r[2] for r in rows if r[2] >= 0],
        modes=[r[3] for r in rows],
        trusted_share=sum(r[5] for r in rows) / len(rows) / 1e6,
    )


def spread_of(values: list[int]) -> str:
    """Median, 95% and maximum."""
    if not values:
        return "-"
    ordered = sorted(values)
    high = ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))]
    return f"{statistics.median_low(ordered)} / {high} / {ordered[-1]}"


def main() -> None:
    """Print the tables."""
    spec = importlib.util.spec_from_file_location("build", HERE / "build.py")
    assert spec is not None
    assert spec.loader is not None
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    say = sys.stdout.write
    with tempfile.TemporaryDirectory() as folder:
        binary = build.build("trust", Path(folder) / "trust", sanitise=False)
        say("| A/A, 1,000 runs of 3,000 windows | twin | partition |\n|---|---|---|\n")
        for noise in ("iid", "ar5", "ar", "lognormal"):
            both = [
                run(binary, s, noise, 0, windows=3000, runs=1000).promoted_percent
                for s in ("gated", "partition")
            ]
            say(f"| {noise} | {both[0]:.1f}% | {both[1]:.1f}% |\n")
            sys.stdout.flush()
        say("\n| better or worse, 100 runs | source | trusted | windows until trusted |\n")
        say("|---|---|---|---|\n")
        for effect, spread, windows in (
            (50_000, 0.02, 3000),
            (50_000, 0.2, 10_000),
            (200_000, 0.2, 3000),
            (-30_000, 0.02, 3000),
            (-50_000, 0.2, 10_000),
        ):
            for source in ("gated", "partition"):
                r = run(binary, source, "iid", effect, windows=windows, runs=100, spread=spread)
                say(
                    f"| {effect / 1e4:+.0f}% at noise {spread:.0%}, {windows} windows | {source}"
                    f" | {len(r.trusted)} | {spread_of(r.trusted)} |\n"
                )
                sys.stdout.flush()
        say("\n| 5% better, then bad, 100 runs | source | out | windows until out |\n")
        say("|---|---|---|---|\n")
        for turn, spread, windows in (
            (-500_000, 0.02, 1000),
            (-50_000, 0.02, 1000),
            (-500_000, 0.2, 10_000),
            (-200_000, 0.2, 10_000),
            (-50_000, 0.2, 10_000),
        ):
            for source in ("gated", "partition"):
                r = run(
                    binary,
                    source,
                    "iid",
                    50_000,
                    turn=turn,
                    windows=windows,
                    runs=100,
                    spread=spread,
                )
                say(
                    f"| {turn / 1e4:+.0f}% at noise {spread:.0%} | {source} | {len(r.lost)} of"
                    f" {len(r.trusted)} trusted | {spread_of(r.lost)} |\n"
                )
                sys.stdout.flush()


if __name__ == "__main__":
    main()

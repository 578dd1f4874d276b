"""Run the cases in tests/vm/cases on real kernels, in guests under QEMU.

    python tests/vm/run.py [--kernel 6.12 --kernel 6.1 ...] [--case EXPRESSION]

`make vmtest` calls this. The last line is `N passed, N failed, N skipped`; status 1
when a case failed, 2 when the harness did. docs/how-to/test-in-the-vm.md explains it.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import signal
import sys
import time
from collections import Counter
from pathlib import Path

from harness import host, kernels, session, stage
from harness.case import Case
from harness.host import HarnessError, phase, say

DEFAULT = ("6.12", "6.1", "7")


def main() -> int:
    """Command line."""
    options = _options()
    if options.packages:
        say(" ".join(host.packages()))
        return 0
    names = list(dict.fromkeys(options.kernel)) or list(DEFAULT)
    # So that the guest ends too, and what is half made goes.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    reason = host.missing()
    if reason is not None:
        say(f"VM tests skipped: {reason}")
        say(f"0 passed, 0 failed, {len(names)} skipped")
        # CI installed the tools just before: a skip would hide that nothing was tested.
        return 1 if os.environ.get("CI") and os.geteuid() == 0 else 0
    run = _Run()
    try:
        with phase("copying and compiling the sources"):
            stage.sources()
        if options.selftest:
            return run.selftest(names[0])
        suite = dataclasses.replace(session.ALL, without=options.without)
        for name in names:
            run.kernel(name, options.case, suite)
        if options.results is not None:
            run.write(options.results)
    except HarnessError as error:
        say(f"the harness failed: {error}")
        return 2
    return run.close()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--kernel",
        action="append",
        choices=sorted(kernels.KERNELS),
        default=[],
        help=f"may be repeated; default: {' '.join(DEFAULT)}",
    )
    parser.add_argument("--case", default="", help="as pytest's -k")
    parser.add_argument("--without", default="", help="cases to be left out, as pytest's -k")
    parser.add_argument("--results", type=Path, help="write kernel.json and kernel.md there")
    parser.add_argument(
        "--selftest", action="store_true", help="whether crash, hang and the like are noticed"
    )
    parser.add_argument(
        "--packages", action="store_true", help="print the Debian packages that are missing here"
    )
    options = parser.parse_args()
    if (options.case or options.without) and options.results:
        parser.error("--results is for a full run, without --case and --without")
    return options


class _Run:
    """What the kernels gave so far."""

    def __init__(self) -> None:
        self.cases: list[Case] = []
        self.releases: dict[str, str] = {}
        self.seconds: dict[str, float] = {}

    def selftest(self, name: str) -> int:
        """Run cases that fail in every way on a kernel; status 0 when all end as they should."""
        self.kernel(name, "", session.SELFTEST)
        wrong = [
            case.name
            for case in self.cases
            if not case.name.partition("::test_")[2].startswith(case.outcome.removesuffix("ed"))
        ]
        for text in wrong:
            say(f"ENDED OTHERWISE {text}")
        say(f"{len(self.cases) - len(wrong)} passed, {len(wrong)} failed, 0 skipped")
        return 1 if wrong or not self.cases else 0

    def kernel(self, name: str, select: str, suite: session.Suite = session.ALL) -> None:
        """Run the cases on one kernel."""
        with phase(f"preparing kernel {name}"):
            kernel = kernels.KERNELS[name]()
        say(f"kernel {name}: {kernel.release}")
        began = time.monotonic()
        with phase(f"kernel {name}"):
            for case in session.run(kernel, select, suite):
                self.cases.append(case)
                _show(case)
        self.releases[name] = kernel.release
        self.seconds[name] = time.monotonic() - began

    def write(self, folder: Path) -> None:
        """Write the result pages."""
        # Not needed to print the missing packages, when there is no environment yet.
        from harness import results

        for file in results.write(folder, self.cases, self.releases, self.seconds):
            say(f"wrote {file}")

    def close(self) -> int:
        """Print what failed and how much there was; gives the exit status."""
        count = Counter(case.outcome for case in self.cases)
        failed = [case for case in self.cases if case.outcome == "failed"]
        for case in failed:
            say(f"FAILED {case.kernel} {case.name}: {case.reason}")
        say(f"{count['passed']} passed, {count['failed']} failed, {count['skipped']} skipped")
        return 1 if failed or not count["passed"] else 0


def _show(case: Case) -> None:
    """A line for a case, and more when it failed."""
    numbers = "".join(f" {name}={value:g}" for name, value in case.measures.items())
    reason = f" ({case.reason})" if case.reason else ""
    say(f"  {case.kernel} {case.outcome} {case.name} {case.seconds:.1f} s{numbers}{reason}")
    if case.outcome == "failed" and case.text:
        say("\n".join(f"    | {line}" for line in case.text.splitlines()))


if __name__ == "__main__":
    sys.exit(main())

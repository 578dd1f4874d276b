"""Run the cases in tests/vm/cases on real kernels, in guests under QEMU.

    python tests/vm/run.py [--kernel 6.12 --kernel 6.1 ...] [--case EXPRESSION]

`make vmtest` calls this. The last line is `N passed, N failed, N skipped`; status 1
when a case failed, 2 when the harness did. docs/how-to/test-in-the-vm.md explains it.
"""

import argparse
import os
import sys
from collections import Counter

from harness import kernels, session, stage
from harness.host import HarnessError, missing, phase, say


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--kernel", action="append", choices=sorted(kernels.KERNELS), default=[])
    parser.add_argument("--case", default="", help="as pytest's -k")
    options = parser.parse_args()
    reason = missing()
    names = options.kernel or ["6.12"]
    if reason is not None:
        say(f"VM tests skipped: {reason}")
        say(f"0 passed, 0 failed, {len(names)} skipped")
        return 1 if os.environ.get("CI") and os.geteuid() == 0 else 0
    cases: list[session.Case] = []
    try:
        with phase("copying and compiling the sources"):
            stage.sources()
        for name in names:
            kernel = kernels.KERNELS[name]()
            say(f"kernel {name}: {kernel.release}")
            with phase(f"kernel {name}"):
                for case in session.run(kernel, options.case):
                    cases.append(case)
                    show(case)
    except HarnessError as error:
        say(f"the harness failed: {error}")
        return 2
    count = Counter(case.outcome for case in cases)
    failed = [case for case in cases if case.outcome == "failed"]
    for case in failed:
        say(f"FAILED {case.kernel} {case.name}: {case.reason}")
    say(f"{count['passed']} passed, {count['failed']} failed, {count['skipped']} skipped")
    return 1 if failed or not count["passed"] else 0


def show(case: session.Case) -> None:
    """A line for a case, and more when it failed."""
    numbers = "".join(f" {name}={value:g}" for name, value in case.measures.items())
    reason = f" ({case.reason})" if case.reason else ""
    say(f"  {case.kernel} {case.outcome} {case.name} {case.seconds:.1f} s{numbers}{reason}")
    if case.outcome == "failed" and case.text:
        say("\n".join(f"    | {line}" for line in case.text.splitlines()))


if __name__ == "__main__":
    sys.exit(main())

"""The kernel's log since the last look, and what in it is a bug report."""

from __future__ import annotations

import os
import re

# Reports that stop nobody, so that only the log tells. Oopses panic in these guests.
REPORT = re.compile(
    r"WARNING:|BUG:|\bBUG\b at|KASAN:|UBSAN:|KCSAN:|KFENCE:|Oops|general protection fault"
    r"|possible (circular|recursive|irq lock inversion)|inconsistent lock state"
    r"|suspicious RCU usage|held lock freed|lock held when returning|bad unlock balance"
    r"|INFO: task .* blocked for more|detected stalls|soft lockup|hard LOCKUP"
    r"|new suspected memory leaks|refcount_t:|list_(add|del) corruption|ODEBUG:"
    r"|sleeping function called|scheduling while atomic|Bad page (state|map)"
    r"|Objects remaining|Slab .* leaked|DEBUG_LOCKS_WARN_ON|trying to register non-static key"
)


class KernelLog:
    """Reads /dev/kmsg from where it stood when this object was made."""

    def __init__(self, path: str = "/dev/kmsg") -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        os.lseek(self._fd, 0, os.SEEK_END)

    def new(self) -> list[str]:
        """Messages since the last call."""
        lines: list[str] = []
        while True:
            try:
                record = os.read(self._fd, 8192)
            except BlockingIOError:
                return lines
            except BrokenPipeError:  # overwritten before it was read
                lines.append("(messages were lost)")
                continue
            lines.append(message(record.decode(errors="replace")))


def message(record: str) -> str:
    r"""The text of one /dev/kmsg record.

    >>> message("4,1234,5678,-;mlproxy: hello\n SUBSYSTEM=x\n")
    'mlproxy: hello'
    """
    return record.partition(";")[2].split("\n", 1)[0]


def reports(lines: list[str], allowed: tuple[str, ...] = ()) -> list[str]:
    """The lines that report a bug and match none of the allowed expressions.

    >>> reports(["all well", "WARNING: CPU: 0 PID: 1", "BUG: mine"], ("mine",))
    ['WARNING: CPU: 0 PID: 1']
    """
    return [
        line
        for line in lines
        if REPORT.search(line) and not any(re.search(pattern, line) for pattern in allowed)
    ]

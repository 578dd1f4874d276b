"""Run a program under the recorder and write what it wrote as a trace."""

from __future__ import annotations

import os
import platform
import shutil
import signal
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlproxy.errors import TraceError
from mlproxy.trace.format import Trace, write_trace
from mlproxy.trace.rawlog import (
    HEADER,
    HEADER_BYTES,
    LOG_MAGIC,
    LOG_VERSION,
    SizeCheck,
    convert,
    scan,
    snapshot,
)

__all__ = ("Recording", "check_output", "is_static", "record", "save")

LIBRARY = Path(__file__).with_name("librecorder.so")
LOG_LIMIT = 16 << 30


@dataclass(frozen=True)
class Recording:
    """What came of a recorded run.

    Attributes:
        exit_status: of the command; 128 + signal if a signal ended it.
        trace: what was recorded.
        check: sizes by the log against the real ones.
        lost: records that found no room in the log.
        processes: programs that the recorder was loaded into.
    """

    exit_status: int
    trace: Trace
    check: SizeCheck
    lost: int
    processes: int


def is_static(program: Path) -> bool:
    """Tell whether an ELF program has no dynamic loader, so that nothing can be preloaded."""
    with program.open("rb") as file:
        head = file.read(64)
        if len(head) < 64 or head[:4] != b"\x7fELF":
            return False
        wide = head[4] == 2
        order = "<" if head[5] == 1 else ">"
        if wide:
            (at,) = struct.unpack_from(order + "Q", head, 32)
            entry, count = struct.unpack_from(order + "HH", head, 54)
        else:
            (at,) = struct.unpack_from(order + "I", head, 28)
            entry, count = struct.unpack_from(order + "HH", head, 42)
        file.seek(at)
        table = file.read(entry * count)
    kinds = {
        struct.unpack_from(order + "I", table, i * entry)[0]
        for i in range(min(count, len(table) // max(entry, 4)))
    }
    return 3 not in kinds  # PT_INTERP


def _program(command: Sequence[str], env: Mapping[str, str]) -> Path:
    if not command:
        raise TraceError("no command to record", code="trace.command", hint="give it after --")
    found = shutil.which(command[0], path=env.get("PATH"))
    if found is None:
        raise TraceError(
            f"{command[0]}: cannot be started: no such program",
            code="trace.command",
            hint="check the name and PATH",
            command=command[0],
        )
    program = Path(found)
    if is_static(program):
        raise TraceError(
            f"{found} is statically linked: the recorder cannot be loaded into it",
            code="trace.static",
            hint="record a dynamically linked build",
            command=found,
        )
    return program


def _new_log(path: Path, device: int) -> int:
    """Make the shared log, sparse; return its start on the monotonic clock (ns)."""
    start = time.monotonic_ns()
    with path.open("wb") as log:
        os.posix_fallocate(log.fileno(), 0, HEADER_BYTES)
        log.write(
            HEADER.pack(
                LOG_MAGIC, LOG_VERSION, device, LOG_LIMIT, start, HEADER_BYTES, HEADER_BYTES, 0, 0
            )
        )
        log.truncate(LOG_LIMIT)
    return start


def record(
    command: Sequence[str],
    *,
    root: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    scratch: Path | None = None,
    tenant: int = 0,
    time_unit_us: int = 1,
    note: str = "",
) -> Recording:
    """Run a command and record every change to regular files below `root`.

    Args:
        command: program and arguments.
        root: directory whose files are recorded, on its own file system only.
        env: environment of the command, default this process's.
        cwd: where to run it.
        scratch: where the raw log goes meanwhile (64 bytes per call).
        tenant: number of the writer, put into the trace.
        time_unit_us: grain of the times in the trace.
        note: free text for the trace's header.

    Raises:
        TraceError: `trace.command` (cannot be started), `trace.static`,
            `trace.root`, `trace.recorder` (not built).
    """
    environ = dict(os.environ if env is None else env)
    program = _program(command, environ)
    root = root.resolve()
    if not root.is_dir():
        raise TraceError(f"{root} is no directory", code="trace.root", root=str(root))
    if not LIBRARY.exists():
        raise TraceError(
            "the recorder has not been built", code="trace.recorder", hint="run make setup"
        )
    before = snapshot(root)
    with tempfile.TemporaryDirectory(prefix="mlproxy-trace-", dir=scratch) as folder:
        raw = Path(folder) / "log"
        _new_log(raw, root.stat().st_dev)
        library = LIBRARY
        if set(" :") & set(str(LIBRARY)):
            # LD_PRELOAD is split there.
            library = Path(folder) / LIBRARY.name
            library.symlink_to(LIBRARY)
        preload = environ.get("LD_PRELOAD", "")
        environ["LD_PRELOAD"] = f"{library}:{preload}" if preload else str(library)
        environ["MLPROXY_TRACE_LOG"] = str(raw)
        try:
            status = _run([str(program), *command[1:]], command[0], environ, cwd)
        except OSError as error:
            raise TraceError(
                f"{command[0]}: cannot be started: {error.strerror}",
                code="trace.command",
                command=command[0],
            ) from error
        log = scan(raw)
        meta = {
            "command": list(command),
            "machine": platform.machine(),
            "kernel": platform.release(),
            "note": note,
        }
        trace, check = convert(
            log, root, before, tenant=tenant, time_unit_us=time_unit_us, meta=meta
        )
    return Recording(status, trace, check, log.lost, log.processes)


def _run(argv: list[str], name: str, env: Mapping[str, str], cwd: Path | None) -> int:
    """Run the command; a keyboard interrupt is the command's business, not ours."""
    # Handlers, unlike ignored signals, do not go over to the command.
    main = threading.current_thread() is threading.main_thread()
    held = signal.signal(signal.SIGINT, lambda *_: None) if main else None
    try:
        child = subprocess.Popen(  # noqa: S603 - running what we are given is the purpose
            [name, *argv[1:]], executable=argv[0], env=dict(env), cwd=cwd
        )
        status = child.wait()
    finally:
        if main:
            signal.signal(signal.SIGINT, held)
    return 128 - status if status < 0 else status


def check_output(path: Path) -> None:
    """Raise `trace.output` if the file could not be written when the run is over."""
    folder = path.resolve().parent
    if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise TraceError(
            f"{path}: cannot be written",
            code="trace.output",
            hint="choose a file in a directory that exists and is yours to write",
            path=str(path),
        )


def save(recording: Recording, path: Path) -> None:
    """Write a recording to a trace file; an older one stays whole until then.

    Raises:
        TraceError: `trace.output`.
    """
    staged = path.with_name(path.name + ".new")
    try:
        write_trace(
            staged,
            recording.trace,
            exit_status=recording.exit_status,
            lost=recording.lost,
            processes=recording.processes,
            sizes=recording.check.to_json(),
        )
        staged.replace(path)
    except OSError as error:
        staged.unlink(missing_ok=True)
        raise TraceError(
            f"{path}: {error.strerror}", code="trace.output", path=str(path)
        ) from error

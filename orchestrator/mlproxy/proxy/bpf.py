"""A model as BPF: the walker (kmod/bpf) decides in the kernel, a new model is a map update."""

from __future__ import annotations

import errno
import os
import struct
import weakref
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from mlproxy import _core
from mlproxy.errors import ProxyError
from mlproxy.proxy.device import DEVICE, module_info
from mlproxy.proxy.libbpf import MAP_TYPE_ARRAY, RDONLY_PROG, ffi, libbpf
from mlproxy.proxy.program import check_program, encode_program
from mlproxy.proxy.refusal import failure
from mlproxy.proxy.types import Program

__all__ = ("MODEL_BYTES", "WALKER", "BpfModel")

WALKER: Final = Path("/usr/lib/mlproxy/walker.bpf.o")

_NAME_LEN: Final = int(_core.lib.MLP_NAME_LEN)
MODEL_BYTES: Final = _core.ffi.sizeof("struct mlp_program") + int(
    _core.lib.MLP_MAX_NODES
) * _core.ffi.sizeof("struct mlp_node")
_NAME_AT: Final = struct.calcsize("P")  # struct mlproxy_ops: decide, then proxy
_STREAM_AT: Final = _core.ffi.offsetof("struct mlp_program", "stream")
_LOG_BYTES: Final = 1 << 20
_LOG_SHOWN: Final = 12  # lines


class BpfModel:
    """The walker, attached to a proxy of the kernel that takes programs.

    While it is attached, the proxy asks it in place of the submitted program,
    and only when it would have asked that: in the model's arm, while what was
    submitted is valid. So the agent goes on submitting: `BpfProxy` does both.
    Attaching and detaching void what was submitted.

    It ends with `close` or with the process, however that comes about.

    Not for several threads at once.

    Args:
        proxy: its name, as in /sys/class/mlproxy.
        walker: the compiled `kmod/bpf/walker.bpf.c`.
        device: where the module is.

    Raises:
        ProxyError: `kernel.no_module`, `kernel.permission`; `bpf.no_libbpf`,
            `bpf.unsupported` (the kernel, or the module without BTF), `bpf.walker`
            (not there, or none), `bpf.load` (the verifier's words are in the context),
            `proxy.unknown`, `proxy.config` (not a name), `proxy.permission`,
            `bpf.kind`, `bpf.busy`.
    """

    def __init__(self, proxy: str, *, walker: Path = WALKER, device: str = DEVICE) -> None:
        self._object: Any = None
        self._link: Any = None
        self._proxy = proxy
        if not module_info(device).struct_ops:
            raise ProxyError(
                f"{proxy}: this kernel, or the module as it was built, takes no BPF models",
                code="bpf.unsupported",
                hint="Linux 6.9 or later and a module with BTF are needed; programs work without",
            )
        self._lib = libbpf()
        _OPEN.add(self)
        try:
            self._load(walker)
            self._models = self._lib.bpf_map__fd(self._map("models"))
            self._attach()
        except BaseException:
            self.close()
            raise

    def _load(self, walker: Path) -> None:
        try:
            content = walker.read_bytes()
        except OSError as e:
            raise self._unusable(walker, str(e)) from e
        # libbpf looks into these bytes until the object is closed.
        self._content = ffi.from_buffer(content)
        self._object = self._lib.bpf_object__open_mem(self._content, len(content), ffi.NULL)
        if self._object == ffi.NULL:
            raise self._unusable(walker, os.strerror(ffi.errno))
        self._name(walker)
        log = ffi.new("char[]", _LOG_BYTES)
        program = self._lib.bpf_object__next_program(self._object, ffi.NULL)
        self._lib.bpf_program__set_log_buf(program, log, _LOG_BYTES)
        error = self._lib.bpf_object__load(self._object)
        if error:
            raise self._not_loaded(walker, -error, ffi.string(log).decode(errors="replace"))

    def _name(self, walker: Path) -> None:
        """Write the proxy's name into the struct mlproxy_ops that will be attached."""
        name = self._proxy.encode()
        if not 0 < len(name) < _NAME_LEN or b"\0" in name:
            raise ProxyError(f"{self._proxy!r} is no proxy's name", code="proxy.config")
        size = ffi.new("size_t *")
        ops = self._lib.bpf_map__initial_value(self._map("walker"), size)
        if ops == ffi.NULL or size[0] != _NAME_AT + _NAME_LEN:
            raise self._unusable(walker, "no struct mlproxy_ops that libbpf lets us write to")
        ffi.memmove(ffi.cast("char *", ops) + _NAME_AT, name, len(name))

    def _map(self, name: str) -> Any:
        found = self._lib.bpf_object__find_map_by_name(self._object, name.encode())
        if found == ffi.NULL:
            raise ProxyError(f"the walker has no map {name}", code="bpf.walker")
        return found

    @staticmethod
    def _unusable(walker: Path, why: str) -> ProxyError:
        return ProxyError(
            f"{walker}: {why}",
            code="bpf.walker",
            hint="`make -C kmod/bpf install` puts it there; libbpf 1.5 or later is needed",
        )

    def _not_loaded(self, walker: Path, error: int, log: str) -> ProxyError:
        if error == errno.EPERM:
            return failure(error, "bpf_attach", self._proxy)
        shown = "\n".join(log.splitlines()[-_LOG_SHOWN:])
        return ProxyError(
            f"{walker}: the kernel does not load it: {os.strerror(error)}",
            code="bpf.load",
            hint="is it the walker of this module's release?",
            errno=errno.errorcode.get(error, str(error)),
            log=shown,
        )

    def _attach(self) -> None:
        link = self._lib.bpf_map__attach_struct_ops(self._map("walker"))
        if link == ffi.NULL:
            raise failure(ffi.errno, "bpf_attach", self._proxy)
        self._link = link

    def update(self, program: Program | bytes) -> None:
        """Let a program decide from now on, for its stream; no decision sees half of it.

        Args:
            program: that, or its bytes; checked as every proxy does, the range of its
                actions is the proxy's matter.

        Raises:
            ProgramError: `program.invalid`, `program.encode`; the model before it stays.
            ProxyError: `proxy.closed`, `kernel.memory`, `kernel.call`, likewise.
        """
        data = encode_program(program) if isinstance(program, Program) else program
        check_program(data)
        fd = self.prepare(data)
        try:
            self.publish(fd, data)
        finally:
            os.close(fd)

    def prepare(self, data: bytes) -> int:
        """Put a checked program's bytes into a map of its own that nobody sees yet.

        Returns:
            Its descriptor, for `publish`; the caller's to close.

        Raises:
            ProxyError: as `update`.
        """
        self._still_attached()
        options = ffi.new("struct bpf_map_create_opts *", {"map_flags": RDONLY_PROG})
        options.sz = ffi.sizeof("struct bpf_map_create_opts")
        fd: int = self._lib.bpf_map_create(
            MAP_TYPE_ARRAY, b"mlproxy_model", 4, MODEL_BYTES, 1, options
        )
        if fd < 0:
            raise failure(-fd, "bpf_update", self._proxy)
        first = ffi.new("uint32_t *", 0)
        error = self._lib.bpf_map_update_elem(fd, first, data.ljust(MODEL_BYTES, b"\0"), 0)
        error = error or self._lib.bpf_map_freeze(fd)
        if error:
            os.close(fd)
            raise failure(-error, "bpf_update", self._proxy)
        return fd

    def publish(self, fd: int, data: bytes) -> None:
        """Let a prepared program decide, for the stream that its bytes name.

        When this returns, no decision that uses the one before is under way.

        Raises:
            ProxyError: as `update`.
        """
        self._still_attached()
        (stream,) = struct.unpack_from("=H", data, _STREAM_AT)
        error = self._lib.bpf_map_update_elem(
            self._models, ffi.new("uint32_t *", stream), ffi.new("int *", fd), 0
        )
        if error:
            raise failure(-error, "bpf_update", self._proxy)

    @property
    def attached(self) -> bool:
        """Whether it has not been closed."""
        return self._link is not None

    def _still_attached(self) -> None:
        if not self.attached:
            raise failure(errno.ENOTCONN, "bpf_update", self._proxy)

    def close(self) -> None:
        """Detach: the default acts when this returns; a second time is harmless."""
        link, self._link = self._link, None
        if link:
            self._lib.bpf_link__destroy(link)
        loaded, self._object = self._object, None
        if loaded:
            self._lib.bpf_object__close(loaded)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


_OPEN: weakref.WeakSet[BpfModel] = weakref.WeakSet()


def _forget_in_child() -> None:
    """A forked child does not decide: with its copy of the link the model would not end."""
    for model in list(_OPEN):
        model.close()


os.register_at_fork(after_in_child=_forget_in_child)

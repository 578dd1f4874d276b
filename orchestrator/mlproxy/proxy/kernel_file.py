"""One open file of /dev/mlproxy that has a proxy: calls, the mapped ring, waiting, closing."""

from __future__ import annotations

import asyncio
import errno
import os
import select
import weakref
from typing import Any

from mlproxy import _core
from mlproxy.proxy.device import call
from mlproxy.proxy.refusal import failure
from mlproxy.proxy.ring import ring_bytes

__all__ = ("KernelFile",)

ffi = _core.ffi
lib = _core.lib


class KernelFile:
    """An agent's hold on a proxy: it ends when this is closed, or the process.

    Args:
        fd: the open device, with a proxy; this object's from now on, unless it raises.
        name: the proxy's, for errors.
        capacity: records of its ring.

    Raises:
        ProxyError: `kernel.call`, the ring cannot be mapped.
    """

    def __init__(self, fd: int, name: str, capacity: int) -> None:
        self._fd = -1
        self._name = name
        self._bytes = size = ring_bytes(capacity)
        out = ffi.new("void **")
        error = lib.mlpy_ring_map(fd, size, out)
        if error:
            raise failure(-error, "mmap", name)
        self._memory = ffi.gc(out[0], lambda ring: lib.mlpy_ring_unmap(ring, size), size)
        self._fd = fd
        _OPEN.add(self)

    @property
    def memory(self) -> Any:
        """The ring, as a read-only mapped buffer; whoever has it keeps it readable."""
        return ffi.buffer(self._memory, self._bytes)

    def fileno(self) -> int:
        """Return the descriptor; -1 when closed."""
        return self._fd

    def try_call(self, request: int, argument: Any) -> int:
        """Do an ioctl; return what the kernel returned, or a negative errno."""
        return call(self._fd, request, argument) if self._fd >= 0 else -errno.ENOTCONN

    def call(self, request: int, argument: Any, what: str) -> None:
        """Do an ioctl.

        Raises:
            ProxyError: what `failure` makes of the errno; `proxy.closed` when closed.
        """
        error = self.try_call(request, argument)
        if error < 0:
            raise failure(-error, what, self._name)

    def wait(self, seconds: float) -> bool:
        """Block until it is readable or hung up; False when the time passed."""
        poll = select.poll()
        poll.register(self.still_open("wait"), select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    async def wait_async(self, seconds: float | None) -> bool:
        """Like `wait`, in an event loop; None: without an end."""
        fd = self.still_open("wait")
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_reader(fd, ready.set)
        try:
            async with asyncio.timeout(seconds):
                await ready.wait()
        except TimeoutError:
            return False
        finally:
            loop.remove_reader(fd)
        return True

    def still_open(self, what: str) -> int:
        """Return the descriptor.

        Raises:
            ProxyError: `proxy.closed`.
        """
        if self._fd < 0:
            raise failure(errno.ENOTCONN, what, self._name)
        return self._fd

    def close(self) -> None:
        """Let the file go, whoever has views of the ring: they become zeros."""
        fd, self._fd = self._fd, -1
        _OPEN.discard(self)
        if fd >= 0:
            # The mapping holds the file too: without this the kernel would not
            # see the close before the last view is gone.
            lib.mlpy_ring_detach(self._memory, self._bytes)
            os.close(fd)

    def __del__(self) -> None:
        self.close()


_OPEN: weakref.WeakSet[KernelFile] = weakref.WeakSet()


def _forget_in_child() -> None:
    """A forked child is not the agent: with its copy of the file the proxy would not end."""
    for file in list(_OPEN):
        file.close()


os.register_at_fork(after_in_child=_forget_in_child)

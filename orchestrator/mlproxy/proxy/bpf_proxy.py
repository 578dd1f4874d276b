"""A proxy in the kernel whose submitted programs are evaluated by the BPF walker."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from mlproxy import _core
from mlproxy.errors import ProxyError
from mlproxy.proxy.bpf import MODEL_BYTES, WALKER, BpfModel
from mlproxy.proxy.kernel import KernelProxy
from mlproxy.proxy.kernel_make import Made
from mlproxy.proxy.types import Reject

__all__ = ("BpfProxy",)

_HEADER: Final = _core.ffi.sizeof("struct mlp_recommendation")


class BpfProxy(KernelProxy):
    """As `KernelProxy`, of kind PROGRAM, with a `BpfModel` that every submit updates.

    The module still checks each program, and counts its version and expiry.

    Attributes:
        model: attached until `close`; after a close of its own, submitted programs decide.

    Raises:
        ProxyError: from `create` and `attach` also what `BpfModel` raises.
    """

    def __init__(self, made: Made, *, walker: Path = WALKER) -> None:
        super().__init__(made)
        try:
            self.model = BpfModel(made.config.name, walker=walker)
        except BaseException:
            made.file.close()
            raise

    def submit_bytes(self, data: bytes, now: int) -> Reject:
        """Hand in an encoded recommendation; its program decides when it was accepted.

        First what may fail, then the module's word, then the pointer: a refused program
        never decides. For a moment the program before decides under the new version.
        When that cannot be ended, the model is detached: the default acts, and from the
        next submit on what was submitted.

        Raises:
            ProxyError: as `BpfModel.update`.
        """
        body = data[_HEADER:]
        if not self.model.attached or len(body) > MODEL_BYTES:
            return super().submit_bytes(data, now)
        fd = self.model.prepare(body)
        try:
            reject = super().submit_bytes(data, now)
            if reject is Reject.NONE:
                self.model.publish(fd, body)
        except ProxyError:
            self.model.close()
            raise
        finally:
            os.close(fd)
        return reject

    def close(self) -> None:
        """Detach the model, stop and let the proxy go; a second time is harmless."""
        self.model.close()
        super().close()

"""The example consumer: operations to play, on the kernel's proxy and in this process."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mlproxy import _core
from mlproxy.proxy import (
    RECORD_DTYPE,
    InProcessProxy,
    KernelProxy,
    Program,
    ProgramNode,
    core_functions,
)
from mlproxy.proxy.device import call

FOLDER = Path("/sys/kernel/debug/mlproxy_example")
LIBRARY = Path("/src/tests/vm/bin/libreplay.so")
EMPTY_DIGEST = 14695981039346656037
DECIDE, REPORT, TWIN, LABEL, CRITICAL, TICK = range(6)
PERIOD = 64
"""Of so many operations one each is a tick, a twin's pair, a report per arm, a label."""

OP = np.dtype(
    [
        ("now", "<u8"),
        ("unit", "<u8"),
        ("cost", "<i8"),
        ("cost2", "<i8"),
        ("what", "<u4"),
        ("stream", "<u4"),
        ("arg", "<i4"),
        ("reserved", "<u4"),
        ("features", "<i4", (16,)),
    ]
)
"""struct mlp_example_op (kmod/example/example.h)."""

ffi = _core.ffi
lib = _core.lib


class Operations:
    """Batches of operations, one unit of time apart, with costs as they are asked for."""

    def __init__(self, seed: int, features: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.now = 0
        self._features = features

    def batch(self, count: int, model: float, gap: int = 1) -> npt.NDArray[np.void]:
        """`count` operations; the model costs `model` times what the default does.

        Args:
            count: a multiple of PERIOD.
            model: factor on the model's costs.
            gap: time from the last operation of the batch before to the first of this.
        """
        rng, slot = self.rng, np.arange(count) % PERIOD
        ops = np.zeros(count, OP)
        ops["now"] = self.now + gap + np.arange(count)
        self.now = int(ops["now"][-1])
        ops["unit"] = rng.integers(0, 1 << 40, count)
        ops["arg"] = rng.integers(0, 8, count)
        ops["features"][:, : self._features] = rng.integers(-1000, 1001, (count, self._features))
        costs = rng.normal(100_000, 2_000, (2, count)).astype(np.int64)
        dear = (costs[1] * model).astype(np.int64)
        for place, (what, arm, cost) in enumerate(
            (
                (TICK, 0, costs[0]),
                (TWIN, 0, costs[0]),
                (REPORT, 0, costs[0]),
                (REPORT, 1, dear),
                (LABEL, 0, costs[0]),
            )
        ):
            here = slot == place
            ops["what"][here], ops["stream"][here], ops["cost"][here] = what, arm, cost[here]
        ops["cost2"] = dear
        return ops


def random_program(rng: np.random.Generator, features: int, depth: int) -> Program:
    """One tree with actions 0..7, of up to that depth."""
    nodes: list[ProgramNode] = []

    def grow(left: int) -> int:
        place = len(nodes)
        if not left or rng.random() < 0.1:
            nodes.append(ProgramNode(-1, int(rng.integers(8)), 0, 0, int(rng.integers(1001))))
            return place
        nodes.append(ProgramNode(-1, 0))
        feature, threshold = int(rng.integers(features)), int(rng.integers(-1000, 1001))
        nodes[place] = ProgramNode(feature, threshold, grow(left - 1), grow(left - 1))
        return place

    grow(depth)
    return Program(tuple(nodes), nr_features=features)


class Consumer:
    """The example module with this process as agent, beside a proxy that lives the same life."""

    def __init__(self, proxy: KernelProxy) -> None:
        self.proxy = proxy
        self.reference = InProcessProxy(proxy.config, capacity=4096)
        self.now = 0
        self._digest = EMPTY_DIGEST
        self._ops = os.open(FOLDER / "ops", os.O_WRONLY)
        self._replay = ctypes.CDLL(str(LIBRARY)).replay
        self._replay.restype = ctypes.c_uint64
        names = ("decide", "report", "report_twin", "publish", "critical", "tick")
        addresses = core_functions()
        self._core = (ctypes.c_void_p * len(names))(*(addresses[f"mlp_{n}"] for n in names))

    def close(self) -> None:
        """The proxy stays; only the way to play operations ends."""
        os.close(self._ops)

    def play(self, ops: npt.NDArray[np.void]) -> None:
        """Play operations on both sides."""
        if os.write(self._ops, ops.data) != ops.nbytes:
            raise OSError("the example took only a part of the operations")
        self._digest = self._replay(
            self._core,
            ctypes.c_void_p(self.reference.pointer),
            ctypes.c_void_p(ops.ctypes.data),
            ctypes.c_uint64(len(ops)),
            ctypes.c_uint64(self._digest),
        )
        self.now = int(ops["now"][-1])

    def digests(self) -> tuple[str, str]:
        """The hash over all decisions: of the kernel, of this process."""
        text = (FOLDER / "digest").read_text(encoding="ascii").strip()
        return text, f"{self._digest:016x}"

    def snapshots(self) -> tuple[bytes, bytes]:
        """struct mlp_snapshot, likewise."""
        argument = ffi.new("struct mlp_ioc_snapshot *")
        error = call(self.proxy.fileno(), lib.MLP_IOC_SNAPSHOT, argument)
        if error:
            raise OSError(-error, os.strerror(-error))
        own = ffi.new("struct mlp_snapshot *")
        lib.mlp_snapshot(ffi.cast("struct mlp_proxy *", self.reference.pointer), own, self.now)
        return bytes(ffi.buffer(ffi.addressof(argument, "snapshot"))), bytes(ffi.buffer(own))

    def drain(self) -> tuple[npt.NDArray[np.void], npt.NDArray[np.void]]:
        """The unread records of both, which are read then."""
        return _drained(self.proxy), _drained(self.reference)


def _drained(proxy: KernelProxy | InProcessProxy) -> npt.NDArray[np.void]:
    records = np.concatenate([np.zeros(0, RECORD_DTYPE), *proxy.peek()])
    if proxy.consume(len(records)):
        raise OSError("records were overwritten although nobody decides")
    return records

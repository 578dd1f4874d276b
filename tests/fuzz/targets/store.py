"""The simulated store from Python: bytes as workload and script; only coded errors may come."""

import random
import struct

import numpy as np

from mlproxy.errors import MlproxyError
from mlproxy.proxy import InProcessProxy, Kind, ProxyConfig, decode_program
from mlproxy_lfs import policies
from mlproxy_lfs.engine import Engine, Geometry
from mlproxy_lfs.pagecache import BlockStream
from mlproxy_lfs.workloads import FILE, OP, Workload, resolve

SEEDS = [
    bytes(range(200)),
    b"\x10\x04\x02" + bytes([7, 0, 0, 9, 1, 3] * 40),
    b"\x30\x08\x03" + random.Random(1).randbytes(600),
    b"\x40\x02\x01" + bytes([0, 0, 60, 0] * 20) + random.Random(2).randbytes(300),
]
NUMBERS = (-1, 0, 1, 2, 15, 16, 64, 1 << 31, (1 << 32) - 1, 1 << 40)


def _number(byte: int) -> int:
    return NUMBERS[byte >> 4 & 7] if byte & 128 else byte & 7


def _resolve(data: bytes) -> None:
    rows = np.frombuffer(data[: len(data) // 4 * 4], np.uint8).reshape(-1, 4).astype(np.int32)
    wild = np.where(rows == 255, -1, np.where(rows == 254, (1 << 31) - 1, rows))
    tables = np.zeros(256, np.int32)
    columns = [wild[:, 1], wild[:, 2], wild[:, 3] % 64]
    stream = BlockStream(
        (wild[:, 0] & 1).astype(np.uint8), *columns, tables, tables, tables, 256, 0, 0
    )
    # A whole file of 2^31 blocks would be honest, and slow.
    if columns[1].max(initial=0) < 1 << 20:
        workload = resolve("fuzz", stream, 4096)
        engine = Engine(workload)
        store = engine.add_store(Geometry(64, 1 + workload.nr_blocks // 40))
        engine.set_future()
        engine.run(workload.writes)
        assert engine.check(store) == 0


def _workload(data: bytes) -> Workload:
    nr_blocks = 1 + data[0]
    rows = np.frombuffer(data[: len(data) // 4 * 4], np.uint8).reshape(-1, 4)
    ops = np.zeros(len(rows), OP)
    ops["block"] = rows[:, 0].astype(np.uint32) % nr_blocks
    ops["count"] = rows[:, 1] % 8
    ops["file"] = rows[:, 2] % 2
    ops["trim"] = rows[:, 3] % 5 == 0
    ends = ops["block"] + ops["count"] > nr_blocks
    if data[-1] & 7:
        ops["count"][ends] = 0
    writes = int(ops["count"][ops["trim"] == 0].sum())
    files = np.array([(0, 0, 0, 5), (1, 0, 1, 50)], FILE)
    return Workload("fuzz", nr_blocks, writes, ops, files, nr_blocks)


def _call(engine: Engine, code: int, a: int, b: int, data: bytes) -> None:
    match code % 9:
        case 0:
            engine.set_victim(a, b)  # type: ignore[arg-type]
        case 1:
            engine.set_placement(a, b)  # type: ignore[arg-type]
        case 2:
            engine.set_dither(a, b)
        case 3:
            engine.set_labels(user=a, gc=b, live=a, horizon=b * 10, gc_store=a)
        case 4:
            engine.set_program(a, policies.sepbit(max(b, 0))[b & 1])
        case 5:
            engine.set_program(a, decode_program(data))
        case 6:
            engine.set_future(b)
        case 7:
            engine.rewind()
        case _:
            engine.run(b)


def fuzz_one(data: bytes) -> None:
    """Three bytes of shape, then stores, then a workload, and calls between its pieces."""
    head, body = data[:3].ljust(3, b"\1"), data[3:].ljust(8, b"\1")
    try:
        _resolve(body)
    except MlproxyError as e:
        assert e.code in {"trace.stream", "lfs.full", "lfs.workload"}, e
    engine = Engine(_workload(body), seed=head[2])
    stores = []
    for k in range(1 + head[2] % 4):
        a, b = body[k], body[-1 - k]
        try:
            geometry = Geometry(_number(head[0] | k), _number(head[1]), reserve=_number(b))
            if geometry.segments * geometry.segment_blocks > 1 << 16:
                geometry = Geometry(16 + a % 64, 1 + b % 32)
            stores.append(
                engine.add_store(
                    geometry,
                    share=_number(a),
                    slice_=_number(b) % 8,
                    placement=_number(a >> 1),  # type: ignore[arg-type]
                    victim=_number(b >> 1),  # type: ignore[arg-type]
                )
            )
        except MlproxyError as e:
            assert e.code == "lfs.store", e
    stores.append(engine.add_store(Geometry(40, 1 + engine.workload.nr_blocks // 20)))
    if head[2] & 128:
        config = ProxyConfig("fuzz", Kind.PROGRAM, nr_features=11, nr_streams=2, max=5)
        proxy = InProcessProxy(config, capacity=64)
        proxy.start(0)
        engine.connect(proxy)
    for code, a, b in struct.iter_unpack("BBB", body[: len(body) // 3 * 3][:90]):
        full = False
        try:
            _call(engine, code, _number(a), _number(b), body)
            engine.run(engine.clock + a)
        except MlproxyError as e:
            full = e.code == "lfs.full"
        if full:
            return
        for store in stores:
            assert engine.check(store) == 0, store

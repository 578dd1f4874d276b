"""The core's calls: bytes as a script; invariants of the snapshot after each call."""

import struct

import numpy as np

from mlproxy.errors import ProxyError
from mlproxy.proxy import RECORD_DTYPE, Arm, InProcessProxy, Kind, Mode, ProxyConfig, Reason, Trial

SEEDS = [bytes(range(64)), b"\x00" * 32, bytes([0, 9, 9, 9, 8, 8, 2] * 20), b"\x05\x00\x01\x06" * 9]


def _cost(data: bytes, at: int) -> int:
    value: int = struct.unpack_from("<q", data.ljust(at + 8, b"\0"), at)[0]
    return value >> (8 * (at % 8))


def fuzz_one(data: bytes) -> None:
    """Two bytes of configuration, then one call per byte."""
    head = data[:2].ljust(2, b"\0")
    config = ProxyConfig(
        name="fuzz",
        kind=Kind.VALUE,
        trial=Trial(head[0] & 1),
        epoch=16,
        twin_gate=head[0] >> 1 & 1,
        spike_count=head[0] >> 2 & 3,
        trip_limit=head[0] >> 4,
        budget=head[1] * 1000,
        heartbeat_limit=head[1] & 31,
        cooldown=head[1] & 15,
        cooldown_max=200,
    )
    proxy = InProcessProxy(config, capacity=8)
    record = np.zeros((), dtype=RECORD_DTYPE)
    now = 0
    for i, byte in enumerate(data[2:400]):
        now += byte >> 4
        try:
            match byte & 15:
                case 0:
                    proxy.start(now)
                case 1:
                    proxy.stop(now)
                case 2:
                    proxy.tick(now)
                case 3:
                    proxy.critical(bool(byte & 16), now)
                case 4:
                    proxy.operator_emergency(bool(byte & 16), now)
                case 5:
                    proxy.set_mode(Mode(byte >> 4 & 3), Reason.OPERATOR, now)
                case 6:
                    proxy.consume(sum(len(v) for v in proxy.peek()))
                case 7:
                    proxy.publish(record)
                case 8 | 9 | 10:
                    proxy.report(Arm(byte >> 4 & 1), i, _cost(data, i), now)
                case 11 | 12 | 13:
                    proxy.report_twin(_cost(data, i), _cost(data, i + 3), now)
                case 14:
                    proxy.heartbeat(now)
                case _:
                    proxy.submit_bytes(data[i:], now)
        except ProxyError as e:
            if e.code != "proxy.state":
                raise
        s = proxy.snapshot(now)
        assert s.trial.lower_ppm <= s.trial.upper_ppm
        assert s.twin.lower_ppm <= s.twin.upper_ppm
        assert not (s.latched or s.operator_hold) or s.mode is Mode.EMERGENCY
        assert sum(s.mode_time) == now
        assert s.ring_head - s.ring_lost >= 0

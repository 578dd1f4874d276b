"""The access heat map as a picture: addresses against time, and PNG without a library."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

__all__ = ("HeatMap", "heat_map", "png")

_RAMP: Final = np.array(
    # Dark where nothing was used, over violet and orange to a pale yellow.
    [(13, 8, 40), (84, 16, 110), (168, 46, 95), (229, 92, 48), (250, 178, 40), (252, 250, 190)],
    float,
)
_NOTHING: Final = (235, 238, 240)
"""Not mapped, or not looked at."""


def png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """A PNG file (ISO/IEC 15948) of 8-bit RGB pixels, shape [height, width, 3].

    Example:
        >>> png(np.zeros((1, 2, 3), np.uint8))[1:4]
        b'PNG'
    """
    height, width, _ = pixels.shape

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    rows = np.zeros((height, 1 + 3 * width), np.uint8)  # each begins with its filter: none
    rows[:, 1:] = pixels.reshape(height, 3 * width)
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(rows.tobytes(), 9)
    parts = (chunk(b"IHDR", head), chunk(b"IDAT", body), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


class HeatMap:
    """Accesses by time and address.

    Attributes:
        heat: shape [addresses, times]: 0 (never) to 1 (in each sample); NaN: not mapped.
        times: first and last, seconds.
        bytes: of memory that the rows stand for, holes left out.
    """

    def __init__(
        self, heat: npt.NDArray[np.float64], times: tuple[float, float], size: int
    ) -> None:
        self.heat = heat
        self.times = times
        self.bytes = size

    def pixels(self, scale: int = 1) -> npt.NDArray[np.uint8]:
        """Shape [height, width, 3]; high addresses at the top."""
        known = np.nan_to_num(self.heat)
        # The square root: what is used now and then must be told from what is not.
        place = np.sqrt(np.clip(known, 0, 1)) * (len(_RAMP) - 1)
        low = np.minimum(place.astype(int), len(_RAMP) - 2)
        part = (place - low)[..., None]
        colours = _RAMP[low] * (1 - part) + _RAMP[low + 1] * part
        colours[np.isnan(self.heat)] = _NOTHING
        return np.repeat(np.repeat(colours[::-1].astype(np.uint8), scale, 0), scale, 1)


def heat_map(
    pictures: Sequence[Mapping[str, Any]], most: float, *, height: int = 240, width: int = 480
) -> HeatMap | None:
    """Put pictures of one target together; None without any.

    Addresses that no picture has are left out, so that a heap at one end and stacks at the
    other lie close together.

    Args:
        pictures: records of kind `picture`, in order of time.
        most: samples in an aggregation.
        height: rows.
        width: columns, at the most.
    """
    rows = [row for picture in pictures for row in picture["regions"]]
    if not rows:
        return None
    spans = _spans(rows)
    size = sum(end - begin for begin, end in spans)
    begin, end = pictures[0]["at"], pictures[-1]["at"]
    width = min(width, len(pictures))
    heat = np.full((height, width), np.nan)
    starts = np.array([b for b, _ in spans], float)
    before = np.concatenate([[0.0], np.cumsum([e - b for b, e in spans])])[:-1]

    def place(address: int) -> float:
        index = max(0, int(np.searchsorted(starts, address, side="right")) - 1)
        inside = min(address, spans[index][1]) - spans[index][0]
        return float((before[index] + inside) / size * height)

    for picture in pictures:
        column = min(width - 1, int((picture["at"] - begin) / max(end - begin, 1e-9) * width))
        for first, last, accesses, _ in picture["regions"]:
            low, high = int(place(first)), max(int(place(first)) + 1, int(np.ceil(place(last))))
            part = heat[low:high, column]
            heat[low:high, column] = np.fmax(part, accesses / most)
    return HeatMap(heat, (begin, end), size)


def _spans(rows: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    """The union of the regions, ascending."""
    spans: list[tuple[int, int]] = []
    for begin, end in sorted((row[0], row[1]) for row in rows):
        if spans and begin <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(spans[-1][1], end))
        else:
            spans.append((begin, end))
    return spans

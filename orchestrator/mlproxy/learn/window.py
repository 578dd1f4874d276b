"""The most recent feature vectors of a stream, as they occur."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ("Window",)


class Window:
    """A ring of the last `size` feature vectors with their weights.

    Once vectors of real operations (samples) arrive, those of labels are no
    longer taken: labels may be sampled unevenly.
    """

    def __init__(self, size: int, features: int) -> None:
        self._rows = np.zeros((size, features), dtype=np.int32)
        self._weights = np.zeros(size)
        self._next = 0
        self._filled = 0
        self._from_samples = False

    def add(
        self,
        rows: npt.NDArray[np.int32],
        weights: npt.NDArray[np.float64] | None = None,
        *,
        samples: bool = False,
    ) -> None:
        """Add vectors, shape (n, at least the features); the oldest give way."""
        if samples and not self._from_samples:
            self._from_samples = True
            self._next = self._filled = 0
        elif self._from_samples and not samples:
            return
        size, features = self._rows.shape
        rows = rows[-size:, :features]
        count = len(rows)
        at = (self._next + np.arange(count)) % size
        self._rows[at] = rows
        self._weights[at] = 1.0 if weights is None else weights[-size:]
        self._next = (self._next + count) % size
        self._filled = min(size, self._filled + count)

    def __len__(self) -> int:
        return self._filled

    @property
    def rows(self) -> npt.NDArray[np.int32]:
        """The vectors, shape (n, features), in no particular order."""
        return self._rows[: self._filled]

    @property
    def weights(self) -> npt.NDArray[np.float64]:
        """Their weights, shape (n,)."""
        return self._weights[: self._filled]

"""What the load drivers share: seeded zipf keys that every program can afford."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def zipf_keys(count: int, keys: int, skew: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw keys 0..keys-1 with zipf weights; which keys are hot is a random permutation."""
    weights = 1.0 / np.arange(1, keys + 1) ** skew
    ranks = np.searchsorted(np.cumsum(weights) / weights.sum(), rng.random(count))
    keys_by_rank: NDArray[np.int64] = rng.permutation(keys)
    return np.take(keys_by_rank, ranks.clip(0, keys - 1))

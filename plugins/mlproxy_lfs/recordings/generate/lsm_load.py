"""RocksDB with compactions; arguments: FOLDER OPERATIONS.

Keys are loaded in random order, then put and deleted with zipf-skewed keys; the
tables are small (2 MB), so that compactions are many.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from mlproxy_lfs.recordings.generate.drivers import zipf_keys

KEYS = 120_000


def main(folder: Path, operations: int, seed: int) -> None:
    """Load, then put and delete."""
    # Only who records needs it; who imports this module to look at it does not.
    from rocksdict import DBCompressionType, Options, Rdict

    rng = np.random.default_rng(seed)
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_write_buffer_size(2 << 20)
    options.set_target_file_size_base(2 << 20)
    options.set_max_bytes_for_level_base(8 << 20)
    options.set_level_zero_file_num_compaction_trigger(4)
    options.set_compression_type(DBCompressionType.none())
    # One background job: what is recorded depends less on how threads happen to run.
    options.set_max_background_jobs(2)
    db = Rdict(str(folder / "db"), options)
    filler = rng.bytes(1 << 20)
    at = rng.integers(0, (1 << 20) - 1024, KEYS + operations).tolist()
    size = rng.integers(200, 800, KEYS + operations).tolist()
    for n, key in enumerate(rng.permutation(KEYS).tolist()):
        db[b"user%012d" % (key * 2654435761 % 10**12)] = filler[at[n] : at[n] + size[n]]
    keys = zipf_keys(operations, KEYS, 0.9, rng).tolist()
    deletes = (rng.random(operations) < 0.05).tolist()
    for n, (key, delete) in enumerate(zip(keys, deletes, strict=True), start=KEYS):
        name = b"user%012d" % (key * 2654435761 % 10**12)
        if delete:
            del db[name]
        else:
            db[name] = filler[at[n] : at[n] + size[n]]
    db.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), 20261123)

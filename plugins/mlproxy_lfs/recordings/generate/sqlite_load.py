"""SQLite under random updates; arguments: wal|delete FOLDER TRANSACTIONS.

One table of accounts with two indices, loaded first, then transactions of four
updates by zipf-skewed key, one insert and one delete, in either journal mode.
"""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path

import numpy as np

from mlproxy_lfs.recordings.generate.drivers import zipf_keys

ROWS = 165_000
UPDATES = 4


def main(mode: str, folder: Path, transactions: int, seed: int) -> None:
    """Load the table, then run the transactions."""
    rng = np.random.default_rng(seed)
    db = sqlite3.connect(folder / "bank.db", isolation_level=None)
    db.execute(f"PRAGMA journal_mode={mode}")
    db.execute("PRAGMA synchronous=normal")
    db.execute("PRAGMA cache_size=-8000")
    db.execute(
        "CREATE TABLE account (id INTEGER PRIMARY KEY, owner TEXT, balance INTEGER,"
        " changed INTEGER, note BLOB)"
    )
    for begin in range(0, ROWS, 5000):
        rows = [
            (i, f"owner-{int(o):08d}", int(b), 0, rng.bytes(int(n)))
            for i, o, b, n in zip(
                range(begin, begin + 5000),
                rng.integers(0, 10**8, 5000),
                rng.integers(0, 10**6, 5000),
                rng.integers(200, 700, 5000),
                strict=True,
            )
        ]
        db.execute("BEGIN")
        db.executemany("INSERT INTO account VALUES (?, ?, ?, ?, ?)", rows)
        db.execute("COMMIT")
    db.execute("CREATE INDEX by_owner ON account (owner)")
    db.execute("CREATE INDEX by_changed ON account (changed)")
    keys = zipf_keys(transactions * UPDATES, ROWS, 0.95, rng).reshape(-1, UPDATES)
    fresh, oldest = ROWS, rng.permutation(ROWS)
    for step, batch in enumerate(keys.tolist()):
        db.execute("BEGIN IMMEDIATE")
        for key in batch:
            db.execute(
                "UPDATE account SET balance = balance + ?, changed = ? WHERE id = ?",
                (int(key) % 97, step, key),
            )
        if step % 2 == 0:
            db.execute(
                "INSERT INTO account VALUES (?, ?, 0, ?, ?)",
                (fresh, f"owner-{fresh * 7919 % 10**8:08d}", step, rng.bytes(450)),
            )
            db.execute("DELETE FROM account WHERE id = ?", (int(oldest[step // 2 % ROWS]),))
            fresh += 1
        db.execute("COMMIT")
    db.close()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), 20261123)

"""A maildir spool; arguments: FOLDER MAILS.

Deliveries go tmp -> new -> cur, as a maildir wants, with fsync; the index log of
the user gets a line each time. Users belong to three classes that keep mail for a
short, a middle and a long time (exponential); expiry unlinks.
"""

from __future__ import annotations

import heapq
import os
import sys
from pathlib import Path

import numpy as np

USERS = 20
# class of a user -> mean life of a mail, in deliveries to the whole spool
LIVES = (300.0, 3_000.0, 20_000.0)


def main(folder: Path, mails: int, seed: int) -> None:
    """Deliver all mails, reading, flagging and expiring on the way."""
    rng = np.random.default_rng(seed)
    boxes = [folder / f"user{u:02d}" / "Maildir" for u in range(USERS)]
    for box in boxes:
        for sub in ("tmp", "new", "cur"):
            (box / sub).mkdir(parents=True)
    users = rng.integers(0, USERS, mails).tolist()
    sizes = np.minimum(rng.lognormal(9.0, 1.1, mails), 400_000).astype(int).tolist()
    lives = rng.exponential(1.0, mails).tolist()
    body = rng.bytes(400_000)
    expiry: list[tuple[float, str, int]] = []
    for n, (user, size, life) in enumerate(zip(users, sizes, lives, strict=True)):
        box = boxes[user]
        name = f"{1_700_000_000 + n}.M{n * 7919 % 1_000_000}P{n % 32768}.host"
        temporary = os.fspath(box / "tmp" / name)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        for begin in range(0, size, 65536):
            os.write(fd, body[begin : min(begin + 65536, size)])
        os.fsync(fd)
        os.close(fd)
        new = os.fspath(box / "new" / name)
        os.rename(temporary, new)
        where = os.fspath(box / "cur" / f"{name}:2,S")
        os.rename(new, where)
        heapq.heappush(expiry, (n + life * LIVES[user % 3], where, user))
        log = os.open(box / "index.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(log, f"{name} {size} seen\n".encode().ljust(96))
        while expiry and expiry[0][0] <= n:
            _, old, owner = heapq.heappop(expiry)
            os.unlink(old)
            if owner == user:
                os.write(log, f"{Path(old).name} expunged\n".encode().ljust(96))
        if os.fstat(log).st_size > 256 * 1024:
            # The index is rewritten when it has grown, as mail servers do.
            fresh = os.open(box / "index.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.write(fresh, body[: 64 * 1024])
            os.fsync(fresh)
            os.close(fresh)
            os.rename(box / "index.new", box / "index.log")
        os.close(log)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), 20261123)

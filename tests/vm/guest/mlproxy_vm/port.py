"""The line to the host: one JSON object per line, each on its way before the next step."""

from __future__ import annotations

import json
import os
from typing import Any


class Port:
    """A virtio-serial port, opened for writing; the host keeps what was written."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_WRONLY)

    def send(self, **event: Any) -> None:
        """Send one event."""
        data = json.dumps(event).encode() + b"\n"
        while data:
            data = data[os.write(self._fd, data) :]

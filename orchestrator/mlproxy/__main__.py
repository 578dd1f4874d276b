"""`python -m mlproxy`: the same as the command `mlproxy`."""

from __future__ import annotations

from mlproxy.cli import main

if __name__ == "__main__":
    main()

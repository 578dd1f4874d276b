"""Cases and benches run in guests, not where pytest is called on the host."""

import os

collect_ignore = (
    [] if os.environ.get("MLPROXY_VM") else ["cases", "selftest", "benches", "powerfail"]
)

"""What of this machine mlproxy can use, and why not the rest. Nothing here writes."""

from mlproxy.doctor.examine import examine
from mlproxy.doctor.finding import Finding, State
from mlproxy.doctor.host import Host

__all__ = ("Finding", "Host", "State", "examine")

"""mlproxy: learned policies for kernel decisions, with the kernel keeping the stick."""

from __future__ import annotations

__version__ = "0.1.0"

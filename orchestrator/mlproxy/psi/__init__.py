"""Pressure stall information as a sign that a subsystem is in need."""

from mlproxy.psi.config import BUILT_IN, PsiSource
from mlproxy.psi.meter import PsiMeter

__all__ = ("BUILT_IN", "PsiMeter", "PsiSource")

"""Confined processes: functions on files that others sent, without network, in bounded memory and time."""

from node.confined.bounds import Bounds, bounded
from node.confined.confined_process import ConfinedProcess, shared_process

__all__ = ["Bounds", "ConfinedProcess", "bounded", "shared_process"]

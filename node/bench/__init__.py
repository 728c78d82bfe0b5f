"""Measurements against other programs on this machine: ``ainode bench``. One module with ``run`` for each bench."""

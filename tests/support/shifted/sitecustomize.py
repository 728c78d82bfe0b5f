"""Shifts the clock of every Python process that has this folder on its path by SHIFT_SECONDS."""

import os
import time

_seconds, _time = float(os.environ["SHIFT_SECONDS"]), time.time
time.time = lambda: _time() + _seconds

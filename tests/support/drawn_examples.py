"""How many examples hypothesis draws for a test that says how many it needs."""

from __future__ import annotations

from hypothesis import settings


def examples(thorough: int, *, least: int = 2) -> int:
    """This many in `make test-all`, and a tenth of them in `make test`; never fewer than ``least``."""
    return max(least, thorough * settings().max_examples // settings.get_profile("thorough").max_examples)

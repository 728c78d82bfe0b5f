"""Facts of analyses as a site with ordinary variety records them."""

from __future__ import annotations

import random
from typing import Any


def facts(count: int, seed: int, **changed: Any) -> list[dict[str, Any]]:
    """Of a site with two scanners and ordinary variety."""
    chance = random.Random(seed)
    return [
        {
            "scanner": chance.choice(["A One", "A One", "B Two"]),
            "slices": chance.randint(200, 400),
            "slice_spacing_mm": chance.choice([1.0, 1.25]),
            "pixel_spacing_mm": round(chance.uniform(0.6, 0.8), 3),
            "level_low": chance.gauss(-1000, 20),
            "level_mid": chance.gauss(-600, 60),
            "level_high": chance.gauss(80, 20),
            "findings": chance.choice([0, 0, 0, 1, 2]),
        }
        | {key: value(chance) if callable(value) else value for key, value in changed.items()}
        for _ in range(count)
    ]

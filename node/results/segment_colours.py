"""Segment colours that are distinguishable with colour vision deficiency, on grey images and on paper."""

from __future__ import annotations

_SEVEN = (
    (213, 94, 0),
    (86, 180, 233),
    (240, 228, 66),
    (204, 121, 167),
    (0, 158, 115),
    (230, 159, 0),
    (0, 114, 178),
)
"""Vermillion, sky blue, yellow, reddish purple, bluish green, orange, blue: told apart with every kind of colour
blindness (Okabe and Ito 2008; Wong, Nature Methods 2011). Those that differ most in lightness come first."""
_TOWARDS_WHITE = 0.65
"""What is left of the way to white after each round through the seven."""


def colour_of(place: int) -> tuple[int, int, int]:
    """SRGB of the finding with ``place`` others before it: the seven colours, then the same again, lighter."""
    left = _TOWARDS_WHITE ** (place // len(_SEVEN))
    red, green, blue = (round(255 - (255 - value) * left) for value in _SEVEN[place % len(_SEVEN)])
    return red, green, blue

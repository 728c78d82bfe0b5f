"""Small charts as SVG, without scripts. Colours are classes of the style sheet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from markupsafe import Markup, escape

from node.translation import decimal, gettext
from node.wording import written

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 520, 150, 46, 22, 10


def over_time(points: Sequence[tuple[float, float]], unit: str, name: str, clock: tuple[str, str]) -> Markup:
    """Values over time as dots, their running median (of 9) as a line. ``clock``: first and last time in words."""
    if not points:
        return _empty(gettext("Nothing recorded yet."))
    times, values = (np.array(column, float) for column in zip(*points, strict=True))
    low, high = _span(values)
    x = LEFT + (times - times.min()) / max(float(np.ptp(times)), 1.0) * (WIDTH - LEFT - 10)
    if len(x) == 1:
        x = np.array([(LEFT + WIDTH) / 2])
    y = _scaled(values, low, high)
    half = 4
    middle = _scaled(
        np.array([np.median(values[max(i - half, 0) : i + half + 1]) for i in range(len(values))]), low, high
    )
    dots = "".join(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="2.6"/>' for a, b in zip(x, y, strict=True))
    line = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, middle, strict=True))
    body = f'<polyline points="{line}"/><g class="dots">{dots}</g>'
    label = gettext(
        "{name}: {number} analyses, median {median} {unit}",
        name=name,
        number=len(values),
        median=decimal(written(float(np.median(values)))),
        unit=unit,
    )
    return _framed(body, (low, high), unit, label, clock)


def intervals(
    points: Sequence[tuple[str, tuple[float, float, float] | None]], most: float, unit: str, name: str
) -> Markup:
    """Value, low and high end of an interval for each label, as a dot on a bar from 0 to ``most``.

    ``None`` leaves its place empty.
    """
    known = [(place, label, of) for place, (label, of) in enumerate(points) if of is not None]
    if not known:
        return _empty(gettext("Too few verdicts."))
    ends = np.array([of for _, _, of in known])
    step = (WIDTH - LEFT - 10) / len(points)
    body, words = "", []
    for (place, label, of), (y, bottom, top) in zip(known, _scaled(ends, 0.0, most), strict=True):
        x = LEFT + (place + 0.5) * step
        body += f'<path class="interval" d="M{x:.1f} {bottom:.1f}V{top:.1f}"/><circle cx="{x:.1f}" cy="{y:.1f}" r="4"/>'
        middle, low, high = (decimal(written(round(value, 1 if unit else 2))) for value in of)
        words.append(
            gettext(
                "{label} {middle} ({low} to {high}) {unit}", label=label, middle=middle, low=low, high=high, unit=unit
            ).strip()
        )
    first_and_last = (points[0][0], points[-1][0] if len(points) > 1 else "")
    return _framed(f'<g class="dots">{body}</g>', (0.0, most), unit, f"{name}: {'; '.join(words)}", first_and_last)


def histogram(values: Sequence[float], unit: str, name: str, bins: int = 20) -> Markup:
    """Return a histogram of values."""
    if not values:
        return _empty(gettext("Nothing recorded yet."))
    counts, edges = np.histogram(values, bins=bins, range=_span(np.array(values, float)))
    scale = (WIDTH - LEFT - 10) / (edges[-1] - edges[0])
    top = float(counts.max())
    bars = ""
    for count, (start, end) in zip(counts, pairwise(edges), strict=True):
        height = count / top * (HEIGHT - BOTTOM - TOP)
        left, width = LEFT + (start - edges[0]) * scale, max((end - start) * scale - 1.5, 1)
        y = HEIGHT - BOTTOM - height
        bars += f'<rect x="{left:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"/>'
    ends = (f"{written(float(edges[0]))} {unit}".strip(), f"{written(float(edges[-1]))} {unit}".strip())
    return _framed(
        f'<g class="bars">{bars}</g>',
        (0.0, top),
        "",
        gettext("{name}: {number} values", name=name, number=len(values)),
        ends,
    )


def profiles(
    before: Sequence[Sequence[float]], latest: Sequence[Sequence[float]], span: tuple[float, float], unit: str
) -> Markup:
    """The mean of many histograms with equal bins over ``span``: the latest as bars, those before as a line."""
    if not latest:
        return _empty(gettext("Nothing recorded yet."))
    means = [np.mean(rows, axis=0) for rows in (latest, before) if rows]
    top = max(float(mean.max()) for mean in means) or 1.0
    heights = [mean / top * (HEIGHT - BOTTOM - TOP) for mean in means]
    width = (WIDTH - LEFT - 10) / len(heights[0])
    bars = "".join(
        f'<rect x="{LEFT + i * width:.1f}" y="{HEIGHT - BOTTOM - h:.1f}" width="{width - 1:.1f}" height="{h:.1f}"/>'
        for i, h in enumerate(heights[0])
    )
    line = " ".join(f"{LEFT + (i + 0.5) * width:.1f},{HEIGHT - BOTTOM - h:.1f}" for i, h in enumerate(heights[-1]))
    earlier = f'<polyline points="{line}"/>' if before else ""
    ends = (f"{written(span[0])} {unit}", f"{written(span[1])} {unit}")
    label = gettext(
        "Grey levels: mean of {latest} latest analyses as bars, of {before} before as a line",
        latest=len(latest),
        before=len(before),
    )
    return _framed(f'<g class="bars">{bars}</g>{earlier}', (0.0, 100 * top), gettext("% of voxels"), label, ends)


def mix(counts: Mapping[str, int], name: str) -> Markup:
    """Shares of a whole as one bar."""
    total = sum(counts.values())
    if not total:
        return _empty(gettext("Nothing recorded yet."))
    left, parts = 0.0, ""
    for what, count in counts.items():
        width = 100 * count / total
        parts += f'<rect class="m-{escape(what.replace(" ", "-"))}" x="{left:.2f}" width="{width:.2f}" height="4"/>'
        left += width
    words = ", ".join(f"{count} {gettext(what)}" for what, count in counts.items())
    return Markup(  # noqa: S704 - every name in it is escaped
        f'<svg class="mix" viewBox="0 0 100 4" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(name)}: {escape(words)}">{parts}</svg>'
    )


def _empty(text: str) -> Markup:
    return Markup('<p class="faint">{}</p>').format(text)


def _span(values: np.ndarray) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    margin = (high - low) * 0.08 or abs(high) * 0.1 or 1.0
    return (0.0 if 0 <= low < margin * 4 else low - margin), high + margin


def _scaled(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return HEIGHT - BOTTOM - (values - low) / (high - low) * (HEIGHT - BOTTOM - TOP)


def _framed(body: str, span: tuple[float, float], unit: str, label: str, ends: tuple[str, str]) -> Markup:
    base = HEIGHT - BOTTOM
    marks = f'<text x="{LEFT - 6}" y="{base}" class="end">{decimal(written(span[0]))}</text>'
    marks += f'<text x="{LEFT - 6}" y="{TOP + 8}" class="end">{decimal(written(span[1]))}</text>'
    marks += f'<text x="{LEFT}" y="{HEIGHT - 5}">{escape(ends[0])}</text>'
    marks += f'<text x="{WIDTH - 10}" y="{HEIGHT - 5}" class="end">{escape(ends[1])}</text>'
    if unit:
        marks += f'<text x="{LEFT + 6}" y="{TOP + 8}">{escape(unit)}</text>'
    return Markup(  # noqa: S704 - every word in it is escaped
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">'
        f'<path class="axis" d="M{LEFT} {TOP}V{base}H{WIDTH - 10}"/>{body}{marks}</svg>'
    )

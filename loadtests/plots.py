"""Plots as inline SVG, drawn by hand: lines and stacked areas over time, with a legend, axes, and values on hover.

The drawing stretches to the page's width; words stand beside it as HTML, so that they stay readable on a phone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 1000.0, 200.0
"""Of the drawing's own units."""

TICKS = 4
Values = Sequence[float | None]


@dataclass(frozen=True)
class Line:
    """One series: its name in the legend, the name of its colour, and a value for each step, None where there is none."""

    name: str
    colour: str
    values: Values


def plot(title: str, unit: str, lines: Sequence[Line], step_s: float, *, stacked: bool = False) -> str:
    """A figure. Stacked series lie on each other, the first one at the bottom."""
    bases = _bases(lines) if stacked else [[0.0] * len(line.values) for line in lines]
    tops = [
        [None if value is None else value + base for value, base in zip(line.values, bottom, strict=True)]
        for line, bottom in zip(lines, bases, strict=True)
    ]
    most = _round_up(max((top for each in tops for top in each if top is not None), default=0.0))
    drawn = []
    for line, bottom, top in zip(lines, bases, tops, strict=True):
        if stacked:
            drawn.append(f'<path class="area {line.colour}" d="{_area(bottom, top, most)}"/>')
        drawn.append(f'<path class="line {line.colour}" d="{_line(top, most)}"/>')
    legend = "".join(f'<span class="key {line.colour}"><i></i>{escape(line.name)}</span>' for line in reversed(lines))
    count = max((len(line.values) for line in lines), default=0)
    data = {"step": step_s, "unit": unit, "lines": [[line.name, line.colour, list(line.values)] for line in lines]}
    return f"""<figure class="plot" data-plot="{escape(json.dumps(data))}">
<figcaption>{escape(title)} <small>{escape(unit)}</small></figcaption>
<div class="legend">{legend}</div>
<div class="frame"><div class="ticks">{_ticks(most)}</div>
<div class="canvas"><svg viewBox="0 0 {WIDTH:.0f} {HEIGHT:.0f}" preserveAspectRatio="none" role="img"
 aria-label="{escape(title)}">{_grid()}{"".join(drawn)}</svg><div class="cursor" hidden></div><div class="tip" hidden></div></div>
</div>
<div class="seconds">{_seconds(max(0, count - 1) * step_s)}</div>
</figure>"""


def _bases(lines: Sequence[Line]) -> list[list[float]]:
    """What each stacked series stands on."""
    below = [0.0] * max((len(line.values) for line in lines), default=0)
    found = []
    for line in lines:
        found.append(below)
        below = [base + (value or 0.0) for base, value in zip(below, line.values, strict=True)]
    return found


def _round_up(value: float) -> float:
    """The next of 1, 1.2, 1.6, 2, 3, 4, 5, 6, 8, 10 … so that the ticks are round."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 1.2, 1.6, 2, 3, 4, 5, 6, 8, 10) if step * power >= value)


def _points(values: Values, most: float) -> list[tuple[float, float] | None]:
    across = WIDTH / max(1, len(values) - 1)
    return [
        None if value is None else (round(at * across, 1), round(HEIGHT * (1 - value / most), 1))
        for at, value in enumerate(values)
    ]


def _line(values: Values, most: float) -> str:
    """A path that is interrupted where there is no value."""
    words, pen = [], "M"
    for point in _points(values, most):
        if point is None:
            pen = "M"
            continue
        words.append(f"{pen}{point[0]:g} {point[1]:g}")
        # A single value between gaps would be a line of no length; it is drawn as a dot.
        words += [f"L{point[0]:g} {point[1]:g}"] if pen == "M" else []
        pen = "L"
    return "".join(words)


def _area(bottom: Values, top: Values, most: float) -> str:
    there = [point for point in _points(top, most) if point]
    back = [point for point in _points(bottom, most) if point][::-1]
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in (*there, *back)) + "Z" if there else ""


def _grid() -> str:
    heights = [HEIGHT * tick / TICKS for tick in range(TICKS + 1)]
    return "".join(f'<line class="grid" x1="0" x2="{WIDTH:g}" y1="{y:g}" y2="{y:g}"/>' for y in heights)


def _ticks(most: float) -> str:
    return "".join(
        f'<span style="top:{100 * tick / TICKS:g}%">{_number(most * (TICKS - tick) / TICKS)}</span>'
        for tick in range(TICKS + 1)
    )


def _seconds(whole: float) -> str:
    return "".join(f"<span>{whole * tick / TICKS:.0f} s</span>" for tick in range(TICKS + 1))


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"

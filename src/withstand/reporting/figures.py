"""Curves as inline SVG: text stays text, lines take the page's colours, nothing refers outside the page."""

import io
import re
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import Any

from withstand.core.records import CurvePoint
from withstand.reporting.run import Run
from withstand.reporting.smoothed import SmoothedRun
from withstand.reporting.words import percent

CERTIFIED, GAP, SMOOTHED, INK = "#0072b2", "#56b4e9", "#cc79a7", "#010203"
_OF_PAGE = {
    CERTIFIED: "var(--blue)",
    GAP: "var(--sky)",
    SMOOTHED: "var(--purple)",
    INK: "currentColor",
}
"""What stands in the page for the colours matplotlib draws with, so that light and dark pages set their own."""


@dataclass(frozen=True)
class Figure:
    """A drawing and the sentence that says the same."""

    svg: str
    text: str


def envelope(run: Run) -> Figure | None:
    """Certified and attacked accuracy over the radius, the gap shaded, the audited radius marked.

    None where the threat has no radius or fewer than two points are measured. Between measured radii the shade is what
    still holds: a proof holds at every smaller radius, a witness at every larger one.
    """
    points = measured(run)
    if run.summary is None or run.ball is None or len(points) < 2:
        return None
    drawing, axes = _canvas(7.2, 3.5, run.ball.unit)
    _draw(axes, points)
    axes.axvline(run.ball.radius, color=INK, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    left = run.ball.radius > 0.5 * points[-1].radius
    side = "right" if left else "left"
    _label(axes, f"audited: {run.ball.radius:.4g}", (run.ball.radius, 0), (-6 if left else 6, 7), INK, ha=side)
    return Figure(drawn(drawing), _sentence(run, points))


def side_by_side(runs: list[Run], titles: list[str] | None = None) -> Figure | None:
    """One small envelope a run, all on the same share axis. titles: of the runs, instead of their models."""
    names = titles or [run.record.plan.model for run in runs]
    able = [(run, name) for run, name in zip(runs, names, strict=True) if run.ball and run.summary]
    able = [(run, name) for run, name in able if len(measured(run)) > 1]
    if not able:
        return None
    from matplotlib.figure import Figure as Canvas

    drawing = Canvas(figsize=(max(3.2 * len(able), 4.5), 3.0), layout="constrained")
    for place, (run, name) in enumerate(able, 1):
        axes = drawing.add_subplot(1, len(able), place)
        _dress(axes, run.ball.unit if run.ball else "", first=place == 1)
        axes.set_title(_plain(name), fontsize=10, color=INK)
        _draw(axes, measured(run), labels=False)
    return Figure(drawn(drawing), " ".join(_sentence(run, measured(run), name) for run, name in able))


def smoothed_curve(run: SmoothedRun) -> Figure | None:
    """Certified accuracy of the smoothed model over the radius, with the cap marked; None where no radius is told.

    It falls at the radius of every sample that the smoothed model answers right; these are statistics."""
    cap = None if run.summary is None else run.summary.cap
    if run.summary is None or cap is None:
        return None
    drawing, axes = _canvas(7.2, 3.5, "l2")
    ends = sorted(s.radius for s in run.samples if s.right and s.radius is not None)
    held = [(len(ends) - k) / len(run.samples) for k in range(len(ends) + 1)]
    radii = [0.0, *ends, 1.06 * cap]
    axes.step(radii, [held[0], *held], where="pre", color=SMOOTHED, linewidth=1.8)
    axes.set_xlim(0, radii[-1])
    axes.axvline(cap, color=INK, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    _label(axes, f"cap: {cap:.4g}", (cap, 1), (-6, 2), INK, ha="right", va="bottom")
    _label(axes, "smoothed (statistical)", (0, held[0]), (8, 6), SMOOTHED, va="bottom", fontweight="bold")
    told = "; ".join(f"above {p.radius:.4g} {percent(p.certified, run.summary.n, 'low')}" for p in run.summary.curve)
    return Figure(
        drawn(drawing),
        f"{run.record.plan.model} smoothed, statistically certified accuracy over the l2 radius: {told}; "
        f"no radius exceeds the cap {cap:.4g}.",
    )


def measured(run: Run) -> list[CurvePoint]:
    """The measured points of the curve by radius, with radius zero (the clean accuracy) and the audited radius among
    them."""
    points = {point.radius: point for point in run.record.curve}
    if run.summary and run.ball:
        s, radius = run.summary, run.ball.radius
        clean = s.clean_accuracy
        points.setdefault(0.0, CurvePoint(radius=0.0, certified=clean, attacked=clean))
        if not any(abs(known - radius) <= 1e-6 * radius for known in points):
            points[radius] = CurvePoint(radius=radius, certified=s.certified_accuracy, attacked=s.attacked_accuracy)
    return [points[radius] for radius in sorted(points) if points[radius].attacked is not None]


def _canvas(width: float, height: float, unit: str):
    from matplotlib.figure import Figure as Canvas

    drawing = Canvas(figsize=(width, height), layout="constrained")
    axes = drawing.add_subplot()
    _dress(axes, unit)
    return drawing, axes


def _dress(axes, unit: str, first: bool = True) -> None:
    axes.set_ylim(-0.02, 1.04)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"] if first else [""] * 5)
    axes.set_xlabel(f"radius ({_plain(unit)})", color=INK)
    if first:
        axes.set_ylabel("share of all samples", color=INK)
    axes.grid(axis="y", color=INK, alpha=0.12, linewidth=0.8)
    axes.tick_params(colors=INK, length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(INK)


def _draw(axes, points: list[CurvePoint], labels: bool = True) -> None:
    radii = [p.radius for p in points]
    low, high = [p.certified for p in points], [p.attacked for p in points if p.attacked is not None]
    hair = 1e-9 * radii[-1]
    fine = [r + side for r in radii for side in (-hair, hair)][1:-1]
    axes.fill_between(fine, _before(fine, radii, low), _after(fine, radii, high), color=GAP, alpha=0.3, linewidth=0)
    axes.step(radii, high, where="post", color=INK, linewidth=1.6)
    axes.step(radii, low, where="pre", color=CERTIFIED, linewidth=1.6)
    axes.plot(radii, high, "v", color=INK, markersize=6.5)
    axes.plot(radii, low, "^", color=CERTIFIED, markersize=6.5)
    axes.margins(x=0.02)
    axes.locator_params(axis="x", nbins=6 if labels else 4)
    if labels:
        middle, apart = (low[-1] + high[-1]) / 2, max(high[-1] - low[-1], 0.09) / 2
        middle = min(max(middle, apart), 1 - apart)
        for name, share, colour in (("at most", middle + apart, INK), ("surely", middle - apart, CERTIFIED)):
            _label(axes, name, (radii[-1], share), (11, 0), colour, va="center", fontweight="bold")


def _label(axes, text: str, at: tuple[float, float], off: tuple[float, float], colour: str, **style: str) -> None:
    axes.annotate(text, at, xytext=off, textcoords="offset points", color=colour, annotation_clip=False, **style)


def _before(at: list[float], radii: list[float], shares: list[float]) -> list[float]:
    """The shares at the next measured radius: what a proof there promises for x."""
    return [shares[min(bisect_left(radii, x), len(radii) - 1)] for x in at]


def _after(at: list[float], radii: list[float], shares: list[float]) -> list[float]:
    """The shares at the last measured radius: what its witnesses leave for x."""
    return [shares[max(bisect_right(radii, x) - 1, 0)] for x in at]


def _sentence(run: Run, points: list[CurvePoint], name: str = "") -> str:
    n = run.summary.n if run.summary else 0
    parts = [
        f"at {p.radius:.4g} certified {percent(p.certified, n, 'low')} and attacked {percent(p.attacked, n, 'high')}"
        for p in points
    ]
    unit, name = run.ball.unit if run.ball else "", name or run.record.plan.model
    return f"{name}, accuracy over the radius ({unit}): {'; '.join(parts)}."


def _plain(text: str) -> str:
    """Text that matplotlib must not read as mathematics, cut to what fits."""
    return (text if len(text) < 30 else "…" + text[-28:]).replace("$", r"\$")


def drawn(drawing) -> str:
    """A drawing as SVG for a page: texts stay texts, colours are those of the page."""
    import matplotlib

    text = io.StringIO()
    style: dict[Any, str] = {"svg.fonttype": "none", "svg.hashsalt": "withstand"}
    with matplotlib.rc_context(style):
        drawing.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    svg = re.sub(r"<metadata>.*?</metadata>", "", text.getvalue(), flags=re.DOTALL)
    svg = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg[svg.index("<svg") :])
    svg = re.sub(r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', r'<svg \1 aria-hidden="true">', svg, count=1)
    svg = re.sub(r"font: ([\d.]+px|\w+ [\d.]+px)[^;\"]*", r"font: \1 system-ui, sans-serif", svg)
    for colour, shown in _OF_PAGE.items():
        svg = svg.replace(colour, shown)
    return svg

"""What several attempts at a sample know together: a later one never loses what an earlier one found."""

from collections.abc import Callable

from withstand.core.records import AttackRecord, SampleRecord


def joined(before: SampleRecord, now: SampleRecord) -> SampleRecord:
    """What two attempts at a sample know together; `now` is the later one."""
    known = before if now.status == "unknown" else now
    bounds = [one.bound for one in (before, now) if one.bound is not None]
    tried = None if before.tried is None or now.tried is None else sorted({*before.tried, *now.tried})
    update = {name: getattr(before, name) + getattr(now, name) for name in ("queries", "gradients", "seconds")}
    update |= {
        "bound": max(bounds, default=None),
        "certified_radius": _end(max, before.certified_radius, now.certified_radius),
        "attacked_radius": _end(min, before.attacked_radius, now.attacked_radius),
        "flags": now.flags,
        "attacked": before.attacked or now.attacked,
        "tried": tried,
        "cut": now.cut,
        "attacks": _better(before.attacks, now.attacks),
    }
    if known.status == "unknown":
        update |= {"margin": min(before.margin, now.margin), "reason": now.reason}
    return known.model_copy(update=update)


def _end(choose: Callable[..., float | None], *radii: float | None) -> float | None:
    return choose((radius for radius in radii if radius is not None), default=None)


def _better(before: dict[str, AttackRecord], now: dict[str, AttackRecord]) -> dict[str, AttackRecord]:
    """Of each attack the attempt that found a witness, the later one unless only the earlier did."""
    kept = {text: one for text, one in before.items() if one.refuted and not (text in now and now[text].refuted)}
    return {**before, **now, **kept}

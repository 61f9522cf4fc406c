"""withstand: what a deep-learning model withstands, closed from both sides.

The verbs of the command line are functions here: `audit`, `attack`, `verify`, `radius`, `smooth`, `harden`, `masking`,
`risk`, `theory`, `doctor`, `replay`, `check`, `report` and `ls`. `closest` bounds the distance of the nearest violation
by mixed-integer programs, and `lipschitz_constants` how much outputs can change; `bpda` lets attacks see through layers
without a useful gradient; `out[3] > out[other]` is a property. `factory` marks a function that makes a model.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from withstand.auditing.attacking import attack
    from withstand.auditing.audit import audit
    from withstand.auditing.check import check
    from withstand.auditing.closest import closest
    from withstand.auditing.doctor import doctor
    from withstand.auditing.harden import harden
    from withstand.auditing.lipschitz import lipschitz_constants
    from withstand.auditing.listing import ls
    from withstand.auditing.masking.check import masking
    from withstand.auditing.radius import radius
    from withstand.auditing.risk import risk
    from withstand.auditing.single import verify
    from withstand.auditing.smooth import smooth
    from withstand.auditing.theory import theory
    from withstand.core.outputs import other, out
    from withstand.graph.bpda import bpda
    from withstand.io.callables import factory
    from withstand.io.witness import replay
    from withstand.reporting.page import report

__version__ = "0.1.0"
__all__ = [
    "attack",
    "audit",
    "bpda",
    "check",
    "closest",
    "doctor",
    "factory",
    "harden",
    "lipschitz_constants",
    "ls",
    "masking",
    "other",
    "out",
    "radius",
    "replay",
    "report",
    "risk",
    "smooth",
    "theory",
    "verify",
]

_HOME = {
    "attack": "withstand.auditing.attacking",
    "audit": "withstand.auditing.audit",
    "bpda": "withstand.graph.bpda",
    "check": "withstand.auditing.check",
    "closest": "withstand.auditing.closest",
    "doctor": "withstand.auditing.doctor",
    "factory": "withstand.io.callables",
    "harden": "withstand.auditing.harden",
    "lipschitz_constants": "withstand.auditing.lipschitz",
    "ls": "withstand.auditing.listing",
    "masking": "withstand.auditing.masking.check",
    "other": "withstand.core.outputs",
    "out": "withstand.core.outputs",
    "radius": "withstand.auditing.radius",
    "replay": "withstand.io.witness",
    "report": "withstand.reporting.page",
    "smooth": "withstand.auditing.smooth",
    "risk": "withstand.auditing.risk",
    "theory": "withstand.auditing.theory",
    "verify": "withstand.auditing.single",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'withstand' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)

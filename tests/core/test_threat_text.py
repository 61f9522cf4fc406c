"""Threats as text."""

import pytest

from withstand.core.balls import L1, L2, Linf
from withstand.core.errors import InputError
from withstand.core.flow_linf import FlowLinf
from withstand.core.patch import Patch
from withstand.core.sparse import L0
from withstand.core.spatial import Flow, Spatial
from withstand.core.threat_text import parse_threat


@pytest.mark.parametrize(
    ("text", "threat"),
    [
        ("linf:8/255", Linf(8 / 255)),
        ("linf:0.1", Linf(0.1)),
        (" l2:2 ", L2(2.0)),
        ("l1:8[-1,1]", L1(8.0, (-1.0, 1.0))),
        ("l2:.5[-inf,inf]", L2(0.5, (-float("inf"), float("inf")))),
        ("linf:8/255@u8", Linf(8 / 255, levels=255)),
        ("linf:2/255[0,1]@u8", Linf(2 / 255, levels=255)),
        ("l2:0", L2(0.0)),
        ("linf:1e-3", Linf(0.001)),
        ("l0:12", L0(12.0)),
        ("l0:3[-1,1]@u8", L0(3.0, (-1.0, 1.0), 255)),
        ("patch:5x4", Patch(window=(5, 4))),
        ("patch: 3 x 2 [0,255]", Patch(1.0, (0.0, 255.0), window=(3, 2))),
        ("flow:0.3", Flow(0.3)),
        ("spatial:30,3", Spatial(degrees=30, pixels=3)),
        ("flow+linf:0.1,8/255", FlowLinf(tau=0.1, eps=8 / 255)),
        ("spatial:22.5,7/2[-1,1]@u8", Spatial(1.0, (-1.0, 1.0), 255, degrees=22.5, pixels=3.5)),
    ],
)
def test_forms(text: str, threat: object) -> None:
    assert parse_threat(text) == threat


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is not understood; write it as NORM:RADIUS"),
        ("linf", "is not understood"),
        ("linf:", "is not understood"),
        ("l3:0.1", "is not understood"),
        ("linf:0.1@u4", "is not understood"),
        ("linf:0.1[0]", "is not understood"),
        ("l0:1.5", "counts pixels, and 1.5 is no count; give a whole number"),
        ("l0:3[-inf,1]", "Pixels of a threat l0 may take any value; give its domain"),
        ("patch:5", "has no height and width; write patch:HEIGHTxWIDTH"),
        ("patch:0x4", "A patch of 0x4 pixels has no pixel; give at least 1x1"),
        ("linf:abc", "holds 'abc', which is not a number"),
        ("linf:1/0", "holds '1/0', which is not a number"),
        ("linf:nan", "holds a NaN"),
        ("linf:-0.1", "has the radius -0.1; it must be zero or a positive number"),
        ("l2:inf", "has the radius inf"),
        ("linf:0.1[1,0]", r"the domain \[1, 0\]; the first number must be the smaller"),
        ("spatial:30", "holds one number; write spatial:DEGREES,PIXELS"),
        ("spatial:30,-1", "has the radius -1"),
        ("spatial:30,3,1", "holds '3,1', which is not a number"),
        ("linf:0.1[x,1]", "holds 'x', which is not a number"),
    ],
)
def test_errors_say_what_to_write(text: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence) as caught:
        parse_threat(text)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize(
    "text",
    [
        "linf:0.1",
        "l2:0.5[-1,1]",
        "linf:0.0313725@u8",
        "l1:12[0,255]",
        "flow:0.3",
        "spatial:30,3[-1,1]",
        "flow+linf:0.1,0.03",
    ],
)
def test_texts_read_back(text: str) -> None:
    assert str(parse_threat(text)) == text

"""Records refuse figures that nothing could have counted."""

import pytest
from pydantic import ValidationError

from withstand.core.records import CurvePoint, Interval, Seconds


@pytest.mark.parametrize("number", ["Infinity", "-Infinity", "NaN", "-1", "1e999"])
@pytest.mark.parametrize(
    ("form", "text"),
    [
        (Seconds, '{"total": NUMBER}'),
        (CurvePoint, '{"radius": NUMBER, "certified": 0.5, "attacked": null}'),
        (CurvePoint, '{"radius": 0.1, "certified": NUMBER, "attacked": null}'),
        (CurvePoint, '{"radius": 0.1, "certified": 0.5, "attacked": NUMBER}'),
        (Interval, '{"low": NUMBER, "high": null}'),
        (Interval, '{"low": 0, "high": NUMBER}'),
    ],
)
def test_shares_and_amounts_are_numbers_in_their_range(form, text, number):
    form.model_validate_json(text.replace("NUMBER", "0.5"))
    with pytest.raises(ValidationError):
        form.model_validate_json(text.replace("NUMBER", number))

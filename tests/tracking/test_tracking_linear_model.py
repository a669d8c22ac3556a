import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.tracking.linear_model import FORMAT, LinearModel, _load_pyfunc

numbers = st.floats(-1e6, 1e6)


@given(intercept=numbers, coefficients=st.lists(numbers, min_size=1, max_size=5), rows=st.lists(numbers, min_size=1, max_size=4))
def test_a_prediction_is_the_intercept_plus_the_sum_of_products(intercept: float, coefficients: list[float], rows: list[float]) -> None:
    names = [f"x{place}" for place in range(len(coefficients))]
    data = pd.DataFrame({name: [row + place for row in rows] for place, name in enumerate(names)})
    predicted = LinearModel(intercept, dict(zip(names, coefficients, strict=True))).predict(data)
    assert np.allclose(predicted, intercept + data.to_numpy() @ np.array(coefficients), rtol=1e-9, atol=1e-3)


def test_predictions_keep_the_rows_index_and_a_missing_value_stays_missing() -> None:
    data = pd.DataFrame({"x": [1.0, None], "other": ["a", "b"]}, index=["p", "q"])
    predicted = LinearModel(1.0, {"x": 2.0}).predict(data)
    assert predicted.index.tolist() == ["p", "q"]
    assert predicted["p"] == 3.0
    assert np.isnan(predicted["q"])


def test_coefficients_of_another_format_are_refused(tmp_path: Path) -> None:
    table = tmp_path / "coefficients.json"
    table.write_text(json.dumps({"format": FORMAT + 1, "intercept": 0.0, "coefficients": {"x": 1.0}}))
    with pytest.raises(ValueError, match=f"format {FORMAT + 1}"):
        _load_pyfunc(str(table))

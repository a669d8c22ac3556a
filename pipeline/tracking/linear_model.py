"""The loadable model: a linear predictor over a coefficient table, as MLflow's `python_function` loads it.

A copy of this file travels with each model, so it knows nothing of Goldtrace and imports nothing at run time but the
standard library. A model is its coefficients in JSON: nothing is pickled, and no row of the data is in it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

FORMAT = 1


@dataclass(frozen=True)
class LinearModel:
    """`intercept` + the sum of `coefficients` times their columns."""

    intercept: float
    coefficients: Mapping[str, float]

    def predict(self, model_input: pd.DataFrame, params: Mapping[str, object] | None = None) -> pd.Series:  # noqa: ARG002 - MLflow's signature
        """One prediction for each row, in the rows' order and with their index; a missing value gives a missing prediction."""
        products = [coefficient * model_input[column] for column, coefficient in self.coefficients.items()]
        return sum(products[1:], start=products[0] + self.intercept).rename("prediction")


def _load_pyfunc(data_path: str) -> LinearModel:
    """What MLflow calls with the path of the coefficients' JSON file.

    Raises:
        ValueError: the file is of a format that this code does not know.
    """
    table = json.loads(Path(data_path).read_text(encoding="utf-8"))
    if table["format"] != FORMAT:
        raise ValueError(f"the coefficients are of format {table['format']}, this code reads {FORMAT}")
    return LinearModel(intercept=table["intercept"], coefficients=table["coefficients"])

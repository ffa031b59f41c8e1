"""The Ames housing data: 2,930 sales, one row each; ``data/README.md`` says what the columns mean.

A DAG file may import this module at its top: pandas is imported when a function is called.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import pandas as pd

HOUSING_CSV: Final = Path(__file__).resolve().parent / "data" / "ames_housing.csv"

TARGET: Final = "sale_price"
NUMERIC_FEATURES: Final = [
    "lot_area",
    "living_area",
    "basement_area",
    "garage_area",
    "full_baths",
    "bedrooms",
    "fireplaces",
    "year_built",
    "year_remodeled",
    "year_sold",
]
CATEGORICAL_FEATURES: Final = [
    "neighborhood",
    "building_type",
    "overall_condition",
    "heating_quality",
    "sale_condition",
]


def load_housing() -> pd.DataFrame:
    """Return the sales, one row each, numbered from 0."""
    import pandas as pd

    # Counts and years are floats too: MLflow warns about integers in a signature, which cannot be missing.
    # Categories are strings: MLflow takes a pandas category for one, and refuses it when it predicts.
    dtypes = dict.fromkeys([TARGET, *NUMERIC_FEATURES], "float64") | dict.fromkeys(
        CATEGORICAL_FEATURES, "str"
    )
    return pd.read_csv(HOUSING_CSV, dtype=dtypes)


def split_housing(housing: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return about four fifths of the sales to train on, and the others to test with.

    A row's side follows from a hash of its index label alone. It stays the same when rows are appended,
    dropped or shuffled, so no model is tested with a sale that it was trained on elsewhere, or months ago.
    """
    import pandas as pd

    in_test = pd.util.hash_array(housing.index.to_numpy()) / 2**64 < 0.2
    return housing[~in_test].copy(), housing[in_test].copy()

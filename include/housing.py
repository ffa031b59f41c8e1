"""The Ames housing data: 2,930 sales, one row each; ``data/README.md`` describes the columns.

A DAG file can import this module at its top, because pandas is imported only when a function is called.
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

    # Load counts and years as floats: MLflow warns about integers in a signature, as they cannot be missing.
    # Load categories as strings: MLflow infers strings from a pandas category, then rejects it at prediction.
    dtypes = dict.fromkeys([TARGET, *NUMERIC_FEATURES], "float64") | dict.fromkeys(
        CATEGORICAL_FEATURES, "str"
    )
    return pd.read_csv(HOUSING_CSV, dtype=dtypes)


def split_housing(housing: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Split the sales into a training set of about 80 % and a test set.

    The split depends only on a hash of each row's index label. It does not change when rows are appended,
    dropped or shuffled, so a model is never tested on a sale from an earlier training set.
    """
    import pandas as pd

    in_test = pd.util.hash_array(housing.index.to_numpy()) / 2**64 < 0.2
    return housing[~in_test].copy(), housing[in_test].copy()

"""Prepare the sales for a model; add your own steps here.

A DAG file can import this module at its top, because pandas and scikit-learn are imported only when a
function is called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from include.housing import CATEGORICAL_FEATURES, NUMERIC_FEATURES, TARGET

if TYPE_CHECKING:
    import pandas as pd
    from sklearn.compose import ColumnTransformer

LARGEST_LIVING_AREA: Final = 4000  # square feet


def clean(sales: pd.DataFrame) -> pd.DataFrame:
    """Drop sales that are not typical of the market.

    These are sales without a price, and houses of more than 4,000 square feet: De Cock (2011), who collected
    the data, recommends removing these five houses, three of which were sold far below their value.

    :param sales: sales with the columns of :func:`include.housing.load_housing`.
    :return: the other sales, with index and order unchanged.
    """
    return sales[sales[TARGET].notna() & (sales["living_area"] <= LARGEST_LIVING_AREA)]


def make_transformer() -> ColumnTransformer:
    """Return an unfitted transformer that scales the numbers and encodes the categories.

    Categories that it was not fitted to are encoded as zeros.
    """
    from sklearn.compose import make_column_transformer
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    return make_column_transformer(
        (StandardScaler(), NUMERIC_FEATURES),
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), CATEGORICAL_FEATURES),
        verbose_feature_names_out=False,
    )

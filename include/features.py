"""From the sales as they were recorded to what a model is fitted on: put your own steps here.

A DAG file may import this module at its top: pandas and scikit-learn are imported when a function is called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from include.housing import CATEGORICAL_FEATURES, NUMERIC_FEATURES, TARGET

if TYPE_CHECKING:
    import pandas as pd
    from sklearn.compose import ColumnTransformer

LARGEST_LIVING_AREA: Final = 4000  # square feet


def clean(sales: pd.DataFrame) -> pd.DataFrame:
    """Leave out the sales that say nothing about the market.

    These are the ones without a price, and the five houses of more than 4,000 square feet, which De Cock
    (2011), who collected the data, advises to remove: three of them were sold far below their value.

    :param sales: sales with the columns of :func:`include.housing.load_housing`.
    :return: the others, index and order as they were.
    """
    return sales[sales[TARGET].notna() & (sales["living_area"] <= LARGEST_LIVING_AREA)]


def make_transformer() -> ColumnTransformer:
    """Return the transformer, not fitted yet, that scales the numbers and encodes the categories.

    A category that it has not seen when it was fitted is none of those it knows, and no error.
    """
    from sklearn.compose import make_column_transformer
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    return make_column_transformer(
        (StandardScaler(), NUMERIC_FEATURES),
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), CATEGORICAL_FEATURES),
        verbose_feature_names_out=False,
    )

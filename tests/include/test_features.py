"""How the pipeline cleans and transforms the sales."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from include.features import LARGEST_LIVING_AREA, clean, make_transformer
from include.housing import CATEGORICAL_FEATURES, NUMERIC_FEATURES, TARGET, load_housing, split_housing


@pytest.fixture(scope="module")
def sales() -> pd.DataFrame:
    return load_housing()


def test_leaves_out_the_five_houses_that_are_larger_than_all_others(sales):
    left_out = sales.drop(clean(sales).index)
    assert len(left_out) == 5
    assert left_out["living_area"].min() > LARGEST_LIVING_AREA


def test_leaves_out_sales_without_a_price_and_keeps_the_index_of_the_others(sales):
    without_price = sales.copy()
    without_price.loc[[3, 7], TARGET] = np.nan
    pd.testing.assert_frame_equal(clean(without_price), clean(sales).drop([3, 7]))


def test_cleaning_moves_no_sale_between_training_and_test(sales):
    """Candidates are evaluated on the same sales, however they were cleaned."""
    for cleaned, raw in zip(split_housing(clean(sales)), split_housing(sales), strict=True):
        assert set(cleaned.index) <= set(raw.index)


def test_scales_numbers_and_encodes_categories(sales):
    features = sales.drop(columns=TARGET)
    transformed = make_transformer().set_output(transform="pandas").fit_transform(features)

    numbers = transformed[NUMERIC_FEATURES]
    np.testing.assert_allclose(numbers.mean(), 0, atol=1e-9)
    np.testing.assert_allclose(numbers.std(ddof=0), 1)
    categories = transformed.drop(columns=NUMERIC_FEATURES)
    assert categories.shape[1] == features[CATEGORICAL_FEATURES].nunique().sum()
    assert (categories.sum(axis="columns") == len(CATEGORICAL_FEATURES)).all()


def test_an_unseen_neighborhood_is_encoded_as_none(sales):
    features = sales.drop(columns=TARGET)
    transformer = make_transformer().fit(features)
    unseen = transformer.transform(features.head(1).assign(neighborhood="Springfield"))
    seen = transformer.transform(features.head(1))
    assert unseen.sum() == pytest.approx(seen.sum() - 1)

"""The housing data are what data/README.md says, and the split is the same everywhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import mlflow.pyfunc
import mlflow.sklearn
import pandas as pd
import pytest
from mlflow.data.pandas_dataset import from_pandas
from mlflow.models import infer_signature
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from include import housing as housing_module
from include.housing import (
    CATEGORICAL_FEATURES,
    HOUSING_CSV,
    NUMERIC_FEATURES,
    TARGET,
    load_housing,
    split_housing,
)

PROJECT_ROOT = HOUSING_CSV.parents[2]
README = HOUSING_CSV.with_name("README.md").read_text(encoding="utf-8")


def figure(name: str) -> str:
    """Return a value of the table of figures in data/README.md."""
    match = re.search(rf"^\| {re.escape(name)} \| `?([^`|]+?)`? \|$", README, flags=re.MULTILINE)
    assert match, f"data/README.md has no figure {name!r}"
    return match[1]


@pytest.fixture(scope="module")
def housing() -> pd.DataFrame:
    return load_housing()


class TestLoadHousing:
    def test_figures_are_those_of_the_readme(self, housing: pd.DataFrame) -> None:
        assert len(housing) == int(figure("rows"))
        assert housing[TARGET].sum() == int(figure("sum of `sale_price`"))
        assert round(housing[TARGET].mean(), 2) == float(figure("mean of `sale_price`"))
        assert round(housing["living_area"].mean(), 2) == float(figure("mean of `living_area`"))
        assert housing["neighborhood"].nunique() == int(figure("neighborhoods"))

    def test_columns_are_the_constants_and_documented_in_order(self, housing: pd.DataFrame) -> None:
        columns = [TARGET, *NUMERIC_FEATURES, *CATEGORICAL_FEATURES]
        assert list(housing.columns) == columns
        assert re.findall(r"^\| `(\w+)` \| `\w+` \|", README, flags=re.MULTILINE) == columns

    def test_rows_are_numbered_and_in_the_order_of_the_source(self, housing: pd.DataFrame) -> None:
        assert list(housing.index) == list(range(2930))
        assert housing[TARGET].iloc[[0, 1, -1]].tolist() == [215_000, 105_000, 188_000]

    def test_numbers_are_float64_and_categories_strings(self, housing: pd.DataFrame) -> None:
        assert (housing[[TARGET, *NUMERIC_FEATURES]].dtypes == "float64").all()
        for column in CATEGORICAL_FEATURES:
            assert not isinstance(housing[column].dtype, pd.CategoricalDtype)
            assert {type(value) for value in housing[column]} == {str}

    def test_no_value_is_missing(self, housing: pd.DataFrame) -> None:
        assert not housing.isna().any(axis=None)
        assert not (housing[CATEGORICAL_FEATURES] == "").any(axis=None)

    def test_works_from_any_working_directory(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        assert len(load_housing()) == 2930

    def test_the_data_may_be_others(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Fewer columns, one more, a value missing, and line ends as Git on Windows makes them."""
        csv = tmp_path / "sales.csv"
        csv.write_bytes(
            b"sale_price,lot_area,street,sale_condition\r\n200000,,Pave,Normal\r\n1,2,Grvl,007\r\n"
        )
        monkeypatch.setattr(housing_module, "HOUSING_CSV", csv)
        expected = pd.DataFrame(
            {
                "sale_price": [200_000.0, 1.0],
                "lot_area": [float("nan"), 2.0],
                "street": ["Pave", "Grvl"],
                "sale_condition": ["Normal", "007"],
            }
        )
        pd.testing.assert_frame_equal(load_housing(), expected, check_dtype=False)


class TestSplitHousing:
    def test_sides_are_those_of_every_machine(self, housing: pd.DataFrame) -> None:
        train, test = split_housing(housing)
        assert (len(train), len(test)) == (2311, 619)
        assert test.index[:8].tolist() == [0, 3, 7, 10, 14, 15, 17, 20]
        assert test[TARGET].sum() == 112_177_853

    def test_sides_are_disjoint_complete_and_in_order(self, housing: pd.DataFrame) -> None:
        train, test = split_housing(housing)
        assert not set(train.index) & set(test.index)
        assert train.index.is_monotonic_increasing
        assert test.index.is_monotonic_increasing
        pd.testing.assert_frame_equal(pd.concat([train, test]).sort_index(), housing, check_index_type=False)

    def test_sides_do_not_depend_on_row_order_or_on_other_rows(self, housing: pd.DataFrame) -> None:
        _, test = split_housing(housing)
        _, of_shuffled = split_housing(housing.sample(frac=1.0, random_state=1))
        _, of_filtered = split_housing(housing[housing["year_sold"] == 2010])
        pd.testing.assert_frame_equal(of_shuffled.sort_index(), test, check_index_type=False)
        pd.testing.assert_frame_equal(of_filtered, test[test["year_sold"] == 2010], check_index_type=False)

    def test_every_category_of_the_test_set_is_trained_on(self, housing: pd.DataFrame) -> None:
        train, test = split_housing(housing)
        for column in CATEGORICAL_FEATURES:
            assert set(test[column]) <= set(train[column]), column

    def test_sides_are_copies(self, housing: pd.DataFrame) -> None:
        before = housing.copy()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for side in split_housing(housing):
                side[TARGET] = 0.0
        pd.testing.assert_frame_equal(housing, before)

    def test_no_rows_split_into_no_rows(self, housing: pd.DataFrame) -> None:
        train, test = split_housing(housing.iloc[:0])
        assert train.empty
        assert test.empty
        assert list(train.columns) == list(test.columns) == list(housing.columns)


class TestWithMLflowAndSklearn:
    def test_signature_needs_no_integer_hint(self, housing: pd.DataFrame) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            signature = infer_signature(housing.drop(columns=TARGET), housing[TARGET])
        types = {column.name: column.type.name for column in signature.inputs}
        assert types == dict.fromkeys(NUMERIC_FEATURES, "double") | dict.fromkeys(
            CATEGORICAL_FEATURES, "string"
        )

    def test_dataset_digest_is_the_same_for_every_pandas(self, housing: pd.DataFrame) -> None:
        dataset = from_pandas(housing, targets=TARGET, name="ames_housing")
        assert dataset.digest == "48595fdc"

    def test_model_learns_the_price_and_predicts_alike_behind_its_signature(
        self, housing: pd.DataFrame, tmp_path: Path
    ) -> None:
        train, test = split_housing(housing)
        features = [*NUMERIC_FEATURES, *CATEGORICAL_FEATURES]
        encoder = make_column_transformer(
            (StandardScaler(), NUMERIC_FEATURES), (OneHotEncoder(), CATEGORICAL_FEATURES)
        )
        model = make_pipeline(encoder, LinearRegression()).fit(train[features], train[TARGET])
        assert model.score(test[features], test[TARGET]) > 0.7

        signature = infer_signature(train[features], train[TARGET])
        mlflow.sklearn.save_model(
            model, tmp_path / "model", signature=signature, pip_requirements=["scikit-learn", "skops"]
        )
        predicted = mlflow.pyfunc.load_model(str(tmp_path / "model")).predict(test[features])
        assert predicted == pytest.approx(model.predict(test[features]))


def test_importing_the_loader_imports_nothing_heavy() -> None:
    code = (
        "import sys, include.housing;"
        "print([name for name in ('pandas', 'numpy', 'sklearn', 'mlflow') if name in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": str(PROJECT_ROOT)}
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"

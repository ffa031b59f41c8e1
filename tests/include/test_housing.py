"""The housing data is what data/README.md says, and is split the same way everywhere."""

from __future__ import annotations

import re
import subprocess
import sys
import warnings

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

HEAVY = {"pandas", "numpy", "sklearn", "matplotlib", "mlflow"}
README = HOUSING_CSV.with_name("README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def housing() -> pd.DataFrame:
    return load_housing()


class TestLoadHousing:
    def test_its_figures_are_those_of_the_readme(self, housing):
        figures = {
            "rows": len(housing),
            "sum of `sale_price`": int(housing[TARGET].sum()),
            "mean of `sale_price`": round(housing[TARGET].mean(), 2),
            "mean of `living_area`": round(housing["living_area"].mean(), 2),
            "neighborhoods": housing["neighborhood"].nunique(),
        }
        for name, value in figures.items():
            row = rf"^\| {re.escape(name)} \| `?{re.escape(str(value))}`? \|$"
            assert re.search(row, README, re.MULTILINE), (name, value)

    def test_its_columns_are_the_constants_and_documented_in_order(self, housing):
        columns = [TARGET, *NUMERIC_FEATURES, *CATEGORICAL_FEATURES]
        assert list(housing.columns) == columns
        assert re.findall(r"^\| `(\w+)` \| `\w+` \|", README, flags=re.MULTILINE) == columns

    def test_rows_are_numbered_in_the_order_of_the_source(self, housing):
        assert list(housing.index) == list(range(2930))
        assert housing[TARGET].iloc[[0, 1, -1]].tolist() == [215_000, 105_000, 188_000]

    def test_numbers_are_float64_categories_are_strings_and_no_value_is_missing(self, housing):
        assert (housing[[TARGET, *NUMERIC_FEATURES]].dtypes == "float64").all()
        assert {type(value) for value in housing[CATEGORICAL_FEATURES].to_numpy().flat} == {str}
        assert not housing.isna().any(axis=None)
        assert not (housing[CATEGORICAL_FEATURES] == "").any(axis=None)

    def test_the_data_may_be_others(self, tmp_path, monkeypatch):
        """Other columns, a missing value, line ends of Windows, another working directory."""
        csv = tmp_path / "sales.csv"
        csv.write_bytes(
            b"sale_price,lot_area,street,sale_condition\r\n200000,,Pave,Normal\r\n1,2,Grvl,007\r\n"
        )
        monkeypatch.setattr(housing_module, "HOUSING_CSV", csv)
        monkeypatch.chdir(tmp_path)
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
    def test_every_machine_gets_the_same_sides(self, housing):
        train, test = split_housing(housing)
        assert (len(train), len(test)) == (2311, 619)
        assert test.index[:8].tolist() == [0, 3, 7, 10, 14, 15, 17, 20]
        assert test[TARGET].sum() == 112_177_853

    def test_sides_are_disjoint_complete_and_in_order(self, housing):
        train, test = split_housing(housing)
        assert not set(train.index) & set(test.index)
        assert train.index.is_monotonic_increasing
        assert test.index.is_monotonic_increasing
        pd.testing.assert_frame_equal(pd.concat([train, test]).sort_index(), housing, check_index_type=False)

    def test_sides_do_not_depend_on_row_order_or_on_other_rows(self, housing):
        _, test = split_housing(housing)
        _, of_shuffled = split_housing(housing.sample(frac=1.0, random_state=1))
        _, of_filtered = split_housing(housing[housing["year_sold"] == 2010])
        pd.testing.assert_frame_equal(of_shuffled.sort_index(), test, check_index_type=False)
        pd.testing.assert_frame_equal(of_filtered, test[test["year_sold"] == 2010], check_index_type=False)

    def test_every_category_of_the_test_set_is_trained_on(self, housing):
        train, test = split_housing(housing)
        for column in CATEGORICAL_FEATURES:
            assert set(test[column]) <= set(train[column]), column

    def test_sides_are_copies(self, housing):
        original = housing.copy()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for side in split_housing(housing):
                side[TARGET] = 0.0
        pd.testing.assert_frame_equal(housing, original)

    def test_no_rows_split_into_no_rows(self, housing):
        for side in split_housing(housing.iloc[:0]):
            assert side.empty
            assert list(side.columns) == list(housing.columns)


class TestWithMLflowAndSklearn:
    def test_dataset_digest_is_the_same_for_every_pandas(self, housing):
        assert from_pandas(housing, targets=TARGET, name="ames_housing").digest == "48595fdc"

    def test_a_model_learns_the_price_and_its_signature_needs_no_integer_hint(self, housing, tmp_path):
        train, test = split_housing(housing)
        features = [*NUMERIC_FEATURES, *CATEGORICAL_FEATURES]
        encoder = make_column_transformer(
            (StandardScaler(), NUMERIC_FEATURES), (OneHotEncoder(), CATEGORICAL_FEATURES)
        )
        model = make_pipeline(encoder, LinearRegression()).fit(train[features], train[TARGET])
        assert model.score(test[features], test[TARGET]) > 0.7

        with warnings.catch_warnings():
            warnings.simplefilter("error")
            signature = infer_signature(train[features], train[TARGET])
        types = {column.name: column.type.name for column in signature.inputs}
        assert {types[name] for name in NUMERIC_FEATURES} == {"double"}
        assert {types[name] for name in CATEGORICAL_FEATURES} == {"string"}
        mlflow.sklearn.save_model(
            model, tmp_path / "model", signature=signature, pip_requirements=["scikit-learn", "skops"]
        )
        predicted = mlflow.pyfunc.load_model(str(tmp_path / "model")).predict(test[features])
        assert predicted == pytest.approx(model.predict(test[features]))


@pytest.mark.parametrize("module", ["include.housing", "include.figures"])
def test_importing_a_module_imports_nothing_heavy(module):
    code = f"import sys, {module}; assert not {HEAVY} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=HOUSING_CSV.parents[2], check=True)

"""Any scikit-learn model can be logged and predicts the same after loading."""

from __future__ import annotations

import mlflow
import pytest
from sklearn import ensemble
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsRegressor
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR

from include.features import make_transformer
from include.housing import NUMERIC_FEATURES, TARGET, load_housing
from include.models import log_model
from mlflow_provider.hooks.client import MLflowClientHook

REGRESSORS = [
    Ridge(),
    SVR(),
    KNeighborsRegressor(),
    ensemble.RandomForestRegressor(n_estimators=10),
    ensemble.GradientBoostingRegressor(n_estimators=10),
    ensemble.HistGradientBoostingRegressor(max_iter=10),
    ensemble.AdaBoostRegressor(n_estimators=10),
    MLPRegressor(max_iter=5),
    GaussianProcessRegressor(),
]


@pytest.fixture(autouse=True)
def _run(mlflow_server, airflow_connection):
    airflow_connection(**mlflow_server.connection)
    with MLflowClientHook().tracking(), mlflow.start_run():
        yield


@pytest.fixture(scope="module")
def sales():
    return load_housing().head(200)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("regressor", REGRESSORS, ids=lambda regressor: type(regressor).__name__)
def test_a_loaded_regressor_predicts_the_same(regressor, sales):
    features = sales.drop(columns=TARGET)
    model = make_pipeline(make_transformer(), regressor).fit(features, sales[TARGET])

    logged = log_model(model, features)

    loaded = mlflow.pyfunc.load_model(logged.model_uri)
    assert loaded.predict(features) == pytest.approx(model.predict(features))
    assert set(loaded.metadata.get_input_schema().input_names()) == set(features.columns)


def test_a_loaded_transformer_transforms_the_same(sales):
    features = sales[NUMERIC_FEATURES]
    scaler = StandardScaler().fit(features)

    logged = log_model(scaler, features, name="scaler")

    assert logged.signature.outputs
    loaded = mlflow.sklearn.load_model(logged.model_uri)
    assert loaded.transform(features) == pytest.approx(scaler.transform(features))

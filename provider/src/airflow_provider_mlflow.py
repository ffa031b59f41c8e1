"""The name by which Airflow 3.3 finds the provider's example DAGs: it derives a module from the distribution.

.. seealso:: https://github.com/apache/airflow/issues/66305
"""

from mlflow_provider import __path__ as __path__

"""The page about the doctor has the doctor's own table."""

from pathlib import Path

from mlflow_provider.doctor.table import table

PAGE = Path(__file__).resolve().parents[4] / "docs" / "troubleshooting" / "doctor.md"


def test_the_table_is_the_one_that_the_doctor_prints():
    """To update it: python -m mlflow_provider.doctor.table."""
    header = table().partition("\n")[0]
    _, _, rest = PAGE.read_text().partition(header)

    assert f"{header}{rest}".strip() == table()

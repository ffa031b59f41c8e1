"""The page about the doctor has the doctor's own words."""

from pathlib import Path

from mlflow_provider.doctor.table import table

PAGE = Path(__file__).resolve().parents[4] / "docs" / "doctor.md"


def test_the_table_is_the_one_that_the_doctor_prints():
    """To renew it: python -m mlflow_provider.doctor.table."""
    _, _, found = PAGE.read_text().partition("| check | what it says | what to do |\n")

    assert f"| check | what it says | what to do |\n{found}".strip() == table()

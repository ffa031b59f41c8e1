"""The Ames housing data the lessons work on: 2,930 sales, one row each (see ``data/README.md``).

A DAG file may import this module at its top: pandas is imported when a function is called.
"""

from __future__ import annotations

import errno
import hashlib
import io
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

_SHA256 = "b0845e3b6bbf1c597189460e6ee95f74f4ad4b33d9a94a0d24bfafbcbe47f213"


def load_housing() -> pd.DataFrame:
    """Load the Ames housing data, the same rows in the same order every time.

    Areas are in square feet:

    ===================== ======= ==========================================================
    column                dtype   meaning
    ===================== ======= ==========================================================
    ``sale_price``        float64 price paid, USD: the target
    ``lot_area``          float64 the lot
    ``living_area``       float64 living area above ground
    ``basement_area``     float64 the whole basement, 0 without one
    ``garage_area``       float64 the garage, 0 without one
    ``full_baths``        float64 full bathrooms above ground, count
    ``bedrooms``          float64 bedrooms above ground, count
    ``fireplaces``        float64 count
    ``year_built``        float64 calendar year
    ``year_remodeled``    float64 calendar year; never before 1950
    ``year_sold``         float64 calendar year, 2006 to 2010
    ``neighborhood``      string  28 within the city limits of Ames, ``North_Ames``, ...
    ``building_type``     string  ``OneFam``, ``TwoFmCon``, ``Duplex``, ``Twnhs``, ``TwnhsE``
    ``overall_condition`` string  ``Very_Poor`` to ``Excellent``
    ``heating_quality``   string  ``Poor`` to ``Excellent``
    ``sale_condition``    string  ``Normal``, ``Abnorml``, ``AdjLand``, ``Alloca``, ...
    ===================== ======= ==========================================================

    :return: 2,930 rows and 16 columns without missing values, indexed 0 to 2929.
    :raises FileNotFoundError: the CSV is not there.
    :raises ValueError: the CSV is not, line ends aside, the one the project ships.
    """
    import pandas as pd

    # Counts and years are floats too: MLflow warns about integer columns in a signature, because
    # they cannot hold a missing value at inference. Categories are strings, not pandas categories:
    # MLflow infers "string" for both and then rejects the pandas category when it predicts.
    dtypes = dict.fromkeys([TARGET, *NUMERIC_FEATURES], "float64") | dict.fromkeys(
        CATEGORICAL_FEATURES, "str"
    )
    return pd.read_csv(io.BytesIO(_read_intact(HOUSING_CSV)), dtype=dtypes)


def split_housing(housing: pd.DataFrame, test_fraction: float = 0.2) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Split the sales into a training and a test set, alike on every machine and library version.

    A row's side follows from the SHA-256 of its index label and nothing else. A seeded shuffle
    would depend on the row order and on the random generator of one library version; here a model
    trained today may be evaluated next year, or on a shuffled or filtered frame, and still never
    meets a row it was trained on. A larger ``test_fraction`` keeps the rows of a smaller one.

    :param housing: what :func:`load_housing` returned, or rows of it with the index left as it was:
        after ``reset_index`` the rows are split differently.
    :param test_fraction: share of the rows for the test set, above 0 and below 1. The sizes come
        close to it: the default puts 2,334 sales in the training and 596 (20.3 %) in the test set,
        and every neighborhood of the test set is in the training set.
    :return: ``(train, test)``, copies with the rows in their order and the index kept.
    :raises ValueError: ``test_fraction`` is not between 0 and 1.
    """
    import numpy as np

    if not 0 < test_fraction < 1:
        raise ValueError(
            f"test_fraction is {test_fraction!r}; give a number above 0 and below 1, such as 0.2."
        )
    in_test = np.array([_position(label) < test_fraction for label in housing.index], dtype=bool)
    return housing[~in_test].copy(), housing[in_test].copy()


def _position(label: object) -> float:
    """Place an index label evenly between 0 and 1 by its hash."""
    digest = hashlib.sha256(str(label).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _read_intact(path: Path) -> bytes:
    """Read the CSV, refusing one that is not the project's own.

    Counting rows would let a number cut short pass, and every figure of a lesson would be off.
    """
    try:
        # Git on Windows may have checked the file out with CRLF.
        content = path.read_bytes().replace(b"\r\n", b"\n")
    except FileNotFoundError:
        msg = "The Ames housing data are missing; restore the file with git"
        raise FileNotFoundError(errno.ENOENT, msg, str(path)) from None
    if hashlib.sha256(content).hexdigest() != _SHA256:
        raise ValueError(
            f"{path} is damaged or was edited: its SHA-256 is not {_SHA256}. Restore the file with git."
        )
    return content

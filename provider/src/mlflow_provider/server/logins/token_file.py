"""A token in a file that another program renews: a mounted service account, a SPIFFE helper."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mlflow_provider.server import findings
from mlflow_provider.server.logins.method import failed
from mlflow_provider.server.logins.renewable import RenewableLogin


@dataclass(frozen=True)
class TokenFile(RenewableLogin):
    """A bearer token, read again for each request.

    :param path: path of the file where tasks run.
    """

    path: str

    def __str__(self) -> str:
        return f"the token in {self.path}"

    def fetch(self, timeout: float) -> tuple[str, float]:
        try:
            token = Path(self.path).read_text(encoding="ascii").strip()
            problem = "empty" if not token else "more than one word" if len(token.split()) > 1 else ""
        except UnicodeError:
            problem = "not a token, which is ASCII text"
        except OSError as error:
            problem = error.strerror or "not readable"
        if problem:
            raise failed(findings.TOKEN_FILE_INVALID.format(path=self.path, problem=problem))
        return token, 0.0

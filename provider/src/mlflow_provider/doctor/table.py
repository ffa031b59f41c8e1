"""``python -m mlflow_provider.doctor.table`` prints what the doctor can find, as a table in Markdown."""

from __future__ import annotations

from mlflow_provider.doctor.checks import CHECKS


class _Placeholder(str):
    def __repr__(self) -> str:
        return str(self)


class _Placeholders(dict[str, _Placeholder]):
    def __missing__(self, name: str) -> _Placeholder:
        return _Placeholder(f"`<{name}>`")


def table() -> str:
    """Return a row for each cause that a check can name, in the order of the checks."""
    rows = ["| check | what it says | what to do |", "|---|---|---|"]
    for check in CHECKS:
        for cause in check.causes:
            says, _, do = cause.format_map(_Placeholders()).rpartition("; ")
            rows.append(f"| {check.title} | {says or do} | {do if says else 'what it says last'} |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(table())

"""``python -m mlflow_provider.doctor.table`` prints all findings of the doctor as a table in Markdown."""

from __future__ import annotations

from mlflow_provider.doctor.checks import CHECKS


class _Placeholder(str):
    def __repr__(self) -> str:
        return str(self)


class _Placeholders(dict[str, _Placeholder]):
    def __missing__(self, name: str) -> _Placeholder:
        return _Placeholder(f"`<{name}>`")


def table() -> str:
    """Return a row for each finding of each check, in the order of the checks."""
    rows = ["| check | code | finding | fix |", "|---|---|---|---|"]
    for check in CHECKS:
        for each in check.findings:
            finding, fix = (text.format_map(_Placeholders()) for text in (each.finding, each.fix))
            rows.append(f"| {check.title} | `{each.code}` | {finding} | {fix} |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(table())

"""Errors of the stack."""

from local_stack import settings
from local_stack.stack import _failure


def test_a_component_that_fails_is_reported_with_its_log_if_it_has_one(monkeypatch, tmp_path):
    monkeypatch.setattr(settings, "LOGS", tmp_path)
    assert "scheduler does not start, and has not logged" in str(_failure("scheduler", "does not start"))

    (tmp_path / "scheduler.log").write_text("no space left")
    assert str(_failure("scheduler", "does not start")).endswith("no space left")

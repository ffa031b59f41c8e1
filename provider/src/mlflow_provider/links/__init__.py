"""Buttons on a task instance."""

"""The README says what the commands say."""

from __future__ import annotations

from tools.command_help import README, updated


def test_commands_in_the_readme_are_the_present_ones() -> None:
    text = README.read_text(encoding="utf-8")
    assert updated(text) == text, "run `make docs`"

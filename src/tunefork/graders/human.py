"""The `human` grader: a person marks the answer later."""

from __future__ import annotations

from typing import Literal

from tunefork.graders.grade import Grade, Grader, shown
from tunefork.graders.text import Text


class Human(Grader):
    """Leaves the mark to a person: the grade is pending, and counts for nothing until then."""

    type: Literal["human"] = "human"
    instructions: Text = "Is this answer good enough?"
    reference_setting = None

    def grade(self, answer: str) -> Grade:
        """Return a pending grade."""
        return Grade(0.0, False, f"waits for a person: {self.instructions}", is_pending=True)

    def describe(self) -> str:
        """Name what the person is asked."""
        return f"a person says yes to {shown(self.instructions)}"

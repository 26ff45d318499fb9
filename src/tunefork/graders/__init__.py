"""Graders: does an answer do what was asked? Shared by evaluation and by rewards. No torch.

Entry point: `parse_grader`, which turns a name or an object into a `Grader`.
"""

from tunefork.graders.grade import Grade, Grader
from tunefork.graders.parse import parse_grader

__all__ = ["Grade", "Grader", "parse_grader"]

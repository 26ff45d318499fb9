"""Graders: does an answer do what was asked? Shared by evaluation and by rewards. No torch.

Entry points: `parse_grader` turns a name or an object into a `Grader`, `grade_many` marks many
answers, `validate_grader` checks an object of which no question is known yet.
"""

from tunefork.graders.batch import grade_many, require_graded
from tunefork.graders.grade import Failure, Grade, Grader
from tunefork.graders.needs import named_models, runs_programs
from tunefork.graders.parse import known_graders, parse_grader, validate_grader
from tunefork.graders.queries import Ask, AskModel

__all__ = [
    "Ask",
    "AskModel",
    "Failure",
    "Grade",
    "Grader",
    "grade_many",
    "known_graders",
    "named_models",
    "parse_grader",
    "require_graded",
    "runs_programs",
    "validate_grader",
]

"""What a job may be told beyond OpenAI's words: settings as `tunefork.yaml` has them.

Their meaning is the spec's, and the worker checks them as a spec. Here only what names a file is
turned away: no name in a request is opened as a path.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Any

from pydantic import Field

from tunefork.serving.bodies import Part
from tunefork.serving.errors import invalid
from tunefork.serving.graded import Programs

_Choice = str | dict[str, Any]  # a name, or a mapping with settings
# Settings that name a file or run one, by the part that they stand in.
_OF_FILES = {"objective": ("function", "reward_model"), "gate": ("canaries",)}


class JobSettings(Part):
    """Parts of a spec; what is left out is derived."""

    goal: Annotated[str, Field(max_length=2000)] | None = None
    strategy: _Choice | None = None
    objective: _Choice | None = None
    training: dict[str, Any] | None = None
    gate: dict[str, Any] | None = None
    prices: dict[str, Any] | None = None
    replay: Annotated[float, Field(ge=0, lt=1)] | None = None
    date: Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")] | None = None

    def checked(self, programs: Programs, bases: Collection[str]) -> dict[str, Any]:
        """Return what is given.

        Raises:
            ApiError: Something in it names a file, or is no grader that a job here may have.
        """
        given = self.model_dump(exclude_none=True)
        for part, names in _OF_FILES.items():
            settings = given.get(part)
            if not isinstance(settings, Mapping):
                continue
            for name in names:
                if settings.get(name) is not None:
                    raise invalid(
                        "Files of this server cannot be named.", f"settings.{part}.{name}"
                    )
        objective = given.get("objective")
        if isinstance(objective, Mapping) and isinstance(objective.get("grader"), dict):
            param = "settings.objective.grader"
            programs.checked_for_job(objective["grader"], bases, param)
        return given

"""`tunefork init DIR`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from tunefork.cli.check import Mapping, parse_map
from tunefork.cli.options import Json
from tunefork.core.errors import SpecError, UsageError


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The new project's folder.")],
    example: Annotated[
        str | None, typer.Option("--example", help="Copy a complete example, such as `catgpt`.")
    ] = None,
    goal: Annotated[
        str | None, typer.Option("--goal", help="What the tuned model should do, in words.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Rows; some are held out as golden questions."),
    ] = None,
    gain: Annotated[
        float,
        typer.Option("--gain", min=0.01, max=1, help="The gain that you want to see, 0 to 1."),
    ] = 0.1,
    facts: Annotated[
        int | None,
        typer.Option("--facts", min=1, help="Hold out this many. [default: what the gain takes]"),
    ] = None,
    base: Annotated[str, typer.Option("--base", help="The base, with --data.")] = "tiny",
    map_: Mapping = None,
    json: Json = False,
) -> None:
    """Start a project: from a goal and rows, as a spec to fill in, or from a complete example."""
    if example is not None and (goal is not None or data is not None):
        raise UsageError("an example has its own goal and rows", hint="leave `--example` away")
    mapping = parse_map(map_)
    if data is not None and goal is None and not sys.stdin.isatty():
        raise UsageError("rows alone do not say what good is", hint='add `--goal "…"`')
    if example is None and not json and sys.stdin.isatty():
        goal, data = _ask(goal, data)
    result = _start(folder, example, goal, data, (gain, facts, base, mapping))
    _tell(result, json)


def _ask(goal: str | None, data: Path | None) -> tuple[str | None, Path | None]:
    """Ask what was not given; an empty answer leaves it open."""
    from tunefork.cli import show
    from tunefork.workflow.goal import require_testable

    while goal is None:
        said = typer.prompt("What should the tuned model do?", default="", err=True)
        if not said.strip():
            return None, data
        try:
            goal = require_testable(said).text
        except SpecError as error:
            show.talk.print(str(error), markup=False)
    if data is None:
        said = typer.prompt("File with examples (empty: later)", default="", err=True)
        data = Path(said) if said.strip() else None
    return goal, data


def _start(
    folder: Path,
    example: str | None,
    goal: str | None,
    data: Path | None,
    settings: tuple[float, int | None, str, dict[str, str] | None],
) -> dict[str, Any]:
    from tunefork.cli import show
    from tunefork.workflow.goal import require_testable
    from tunefork.workflow.start import require_empty, start_project, start_with_rows

    if goal is not None:
        require_testable(goal)
    if data is None or goal is None:
        return start_project(folder, example, goal)
    from tunefork.workflow.golden_offer import offer_golden

    gain, most, base, mapping = settings
    require_empty(folder)
    with show.TalkSink() as sink:
        offer = offer_golden(data, mapping=mapping, gain=gain, most=most, sink=sink)
    return {**start_with_rows(folder, goal, base, offer), "golden": offer.as_dict()}


def _tell(result: dict[str, Any], json: bool) -> None:
    from tunefork.cli import show

    if json:
        show.print_json(result)
        return
    for name in result["files"]:
        typer.echo(name)
    if "golden" in result:
        show.talk.print(_golden_text(result["golden"]), soft_wrap=True, markup=False)
    show.talk.print(f"Next: {result['next']}", soft_wrap=True, markup=False)


def _golden_text(golden: dict[str, Any]) -> str:
    forms = ", ".join(f"{count} {form}" for form, count in golden["forms"].items())
    left = golden["rows_left_out"]
    lines = [
        f"{golden['questions']} golden questions about {golden['groups']} facts ({forms}); "
        f"{golden['training_rows']:,} rows to train on."
    ]
    if left:
        lines.append(
            f"{left:,} rows are in neither: they are too like a question that is held out."
        )
    wanted, needed = f"{100 * golden['gain']:.0f} points", golden["groups_needed"]
    if golden["is_enough"]:
        lines.append(f"That is enough to see a gain of {wanted} in four cases of five.")
    elif golden["smallest_visible_gain"] is not None:
        lines.append(
            f"A gain of {wanted} takes about {needed or 'more than a million'}; these show one of "
            f"{100 * golden['smallest_visible_gain']:.0f} points or more. Add rows, or questions "
            "about other facts."
        )
    else:
        lines.append(f"A gain of {wanted} takes about {needed}; so few show none at all.")
    return "\n".join(lines)

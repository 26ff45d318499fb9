"""`tunefork label`: say which of two answers is better; `--agreement` compares raters."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tunefork.cli.options import Json
from tunefork.core.errors import UsageError

_WHICH_IS_BETTER = "Which is better?"
_WHICH_IS_YOURS = "Which did you write? l left, r right, t cannot tell, s skip, p go back, q quit"


def label(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FILE]...", help="With --agreement: the data set of each rater."),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option("--model", help="Who answers: name two, or one that samples twice."),
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option("--prompts", help="What the models are asked.")
    ] = None,
    answers: Annotated[
        Path | None, typer.Option("--answers", help="Pairs of answers that exist; no model runs.")
    ] = None,
    mine: Annotated[
        Path | None,
        typer.Option("--mine", help="Your own answers: which did you write, and which a --model?"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="The preference data set, as .jsonl.")
    ] = None,
    rater: Annotated[str, typer.Option("--rater", help="Your name, kept with decisions.")] = "me",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Decides sides and samples.")] = 0,
    temperature: Annotated[
        float | None,
        typer.Option(
            "--temperature", min=0.0, max=2.0, help="Of sampling. [default: as each model is set]"
        ),
    ] = None,
    agreement: Annotated[
        bool, typer.Option("--agreement", help="Compare what raters chose, and leave.")
    ] = False,
    json: Json = False,
) -> None:
    """Choose the better of two answers, or find your own; every choice is saved at once."""
    if agreement:
        if model or prompts or answers or mine or out:
            raise UsageError("`--agreement` takes nothing but files", hint="leave the rest away")
        _tell_agreement(files or [], json)
        return
    if files:
        raise UsageError(
            f"`{files[0]}` stands alone",
            hint="say `--prompts FILE`, `--answers FILE`, `--mine FILE` or `--agreement`",
        )
    if out is None:
        raise UsageError("it is not said what to write", hint="name a file with `--out FILE`")
    from tunefork.cli import show

    if model:
        show.prepare_process()
    if mine is not None:
        source, model = _blind(mine, model, prompts or answers, out), None
    else:
        source = _source(model, prompts, answers)
    from tunefork.cli.label_terminal import work
    from tunefork.workflow import label as labelling

    terms = labelling.make_terms(rater, seed, model or [], temperature)
    with show.TalkSink() as sink:
        session = labelling.open_session(source, out, terms, sink)
    try:
        work(session, _WHICH_IS_YOURS if mine is not None else _WHICH_IS_BETTER)
        with show.TalkSink() as sink:
            summary = labelling.export(session, sink)
    finally:
        session.close()
    if json:
        show.print_json(summary)
    else:
        _tell_summary(summary)


def _blind(mine: Path, model: list[str] | None, other: Path | None, out: Path) -> Path:
    """Return the pairs of own answers and a model's; those of an earlier call are kept."""
    if other is not None or model is None or len(model) != 1:
        hint = "name the one model: `--mine FILE --model M --out FILE`"
        raise UsageError("`--mine` is for your own answers beside one model's", hint=hint)
    from tunefork.cli import show
    from tunefork.workflow.blind import write_blind

    path = out.with_suffix(".blind.jsonl")
    if not path.is_file():
        with show.TalkSink() as sink:
            write_blind(mine, model[0], path, sink=sink)
    return path


def _source(model: list[str] | None, prompts: Path | None, answers: Path | None) -> Path:
    if (prompts is None) == (answers is None):
        hint = "`--prompts` for models to answer, `--answers` for pairs that exist"
        raise UsageError("give either `--prompts FILE` or `--answers FILE`", hint=hint)
    if prompts is not None:
        if not model:
            hint = "name two models with `--model A --model B`"
            raise UsageError("nobody is named to answer the prompts", hint=hint)
        return prompts
    if model:
        hint = "leave `--model` away, or give `--prompts FILE`"
        raise UsageError("`--answers` holds the answers already, so no model is asked", hint=hint)
    assert answers is not None, "one of the two is given"
    return answers


def _tell_summary(summary: dict[str, Any]) -> None:
    counts = ", ".join(f"{n} {choice}" for choice, n in summary["counts"].items() if n)
    goes_on = ": the same command goes on with them" if summary["open"] else ""
    typer.echo(f"decided: {counts or 'nothing'}; {summary['open']} still open{goes_on}")
    for name, wins in summary["wins"].items():
        typer.echo(f"{name}: chosen {wins} times")
    if (found := summary["told_apart"]) is not None:
        sure = "it is told apart" if found["is_recognised"] else "which may be chance"
        typer.echo(
            f"you found your own answer {found['right']} of {found['of']} times "
            f"({found['low']:.0%} to {found['high']:.0%}; a coin finds half): {sure}"
        )
    if summary["out"]:
        pairs = "1 pair" if summary["pairs"] == 1 else f"{summary['pairs']} pairs"
        typer.echo(f"{pairs} in {summary['out']}")
    if "pairs" in summary["versions"]:
        typer.echo(f"kept as the data set {summary['versions']['pairs']}")


def _tell_agreement(files: list[Path], json: bool) -> None:
    from tunefork.cli import show
    from tunefork.workflow.label_agreement import agreement

    found = agreement(files)
    if json:
        show.print_json(found)
        return
    typer.echo(f"{', '.join(found['raters'])}: {found['pairs']} pairs rated by at least two")
    typer.echo(f"agreement            {_interval(found['agreement'], '.1%')}")
    if len(files) == 2:
        typer.echo(f"Cohen's kappa        {_interval(found['kappa'], '.2f')}")
    typer.echo(f"Krippendorff's alpha {_interval(found['alpha'], '.2f')}")
    for each in found["disagreements"]:
        typer.echo(f"- {' '.join(each['prompt'].split())}")
        for name, choice in each["choices"].items():
            shown = choice["choice"] if choice["answer"] is None else repr(choice["answer"])
            typer.echo(f"    {name}: {shown}")


def _interval(found: dict[str, float] | None, form: str) -> str:
    if found is None:
        return "cannot be told: all said the same"
    mean, low, high = (format(found[key], form) for key in ("mean", "low", "high"))
    return f"{mean} ({low} to {high})"

"""`tunefork jobs list|show|cancel|pause|resume|logs`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunefork.cli.options import Json, KeyVariable, ServerUrl

if TYPE_CHECKING:
    from tunefork.serving.job_states import Wish
    from tunefork.serving.local_jobs import LocalJobs
    from tunefork.workflow.remote_jobs import RemoteJobs

app = typer.Typer(
    help="Fine-tuning jobs of the server of this home, or of another one.", no_args_is_help=True
)
_KEY = "OPENAI_API_KEY"
_Job = Annotated[str, typer.Argument(metavar="JOB", help="A job's id.")]
_TIMES = ("created_at", "finished_at", "estimated_finish")
_LONGEST = 60  # characters of a reason in a list


@app.command("list")
def list_all(server: ServerUrl = None, key_env: KeyVariable = _KEY, json: Json = False) -> None:
    """List all jobs, the newest first."""
    from tunefork.cli import listing, show

    with _open(server, key_env) as jobs:
        found = jobs.jobs()
    if json:
        show.print_json({"jobs": found})
        return
    rows = [
        {
            **job,
            "created": _time(job["created_at"]),
            "outcome": _shortened(_why(job) or job["fine_tuned_model"] or ""),
        }
        for job in found
    ]
    columns = ("id", "status", *(["project"] if server is None else []), "model", "created")
    listing.print_list("jobs", rows, (*columns, "outcome"), json=False)


@app.command()
def show(
    job: _Job, server: ServerUrl = None, key_env: KeyVariable = _KEY, json: Json = False
) -> None:
    """Show a job: how it does, and why it failed."""
    with _open(server, key_env) as jobs:
        _print(jobs.job(job), json)


@app.command()
def cancel(
    job: _Job, server: ServerUrl = None, key_env: KeyVariable = _KEY, json: Json = False
) -> None:
    """Stop a job for good."""
    _ask(job, "cancel", _open(server, key_env), json)


@app.command()
def pause(
    job: _Job, server: ServerUrl = None, key_env: KeyVariable = _KEY, json: Json = False
) -> None:
    """Stop a job between two steps, saved."""
    _ask(job, "pause", _open(server, key_env), json)


@app.command()
def resume(
    job: _Job, server: ServerUrl = None, key_env: KeyVariable = _KEY, json: Json = False
) -> None:
    """Let a paused job go on, to the same result as without the pause."""
    _ask(job, "resume", _open(server, key_env), json)


@app.command()
def logs(
    job: _Job,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the job is over.")
    ] = False,
    worker: Annotated[
        bool, typer.Option("--worker", help="Show what the job's process printed instead.")
    ] = False,
    server: ServerUrl = None,
    key_env: KeyVariable = _KEY,
    json: Json = False,
) -> None:
    """Show what happened in a job, the oldest first; with `--json` one object for each event."""
    from tunefork.cli import show as shown

    if worker:
        _print_worker(job, is_alone=server is None and not follow and not json)
        return
    with _open(server, key_env) as jobs:
        for event in _events(jobs, job, follow):
            if json:
                shown.print_json(event)
            else:
                level = "" if event["level"] == "info" else f"{event['level']}: "
                typer.echo(f"{_time(event['created_at'])}  {level}{event['message']}")


def _open(server: str | None, key_variable: str) -> AbstractContextManager[LocalJobs | RemoteJobs]:
    from tunefork.serving.local_jobs import local_jobs

    if server is None:
        return local_jobs()
    from tunefork.core.events import no_sink
    from tunefork.workflow.remote_jobs import remote_jobs
    from tunefork.workflow.service import address_of

    return remote_jobs(address_of(server, key_variable), no_sink)


def _print_worker(job: str, *, is_alone: bool) -> None:
    from tunefork.core.errors import UsageError
    from tunefork.serving.local_jobs import local_jobs

    if not is_alone:
        hint = "leave `-f`, `--json` and `--server` out"
        raise UsageError("`--worker` shows text of this machine as it is now", hint=hint)
    with local_jobs() as jobs:
        typer.echo(jobs.printed(job), nl=False)


def _events(jobs: LocalJobs | RemoteJobs, job: str, follows: bool) -> Iterator[dict[str, Any]]:
    import sys

    for event in jobs.events(job, follows=follows):
        yield event
        sys.stdout.flush()  # a reader behind a pipe follows too


def _ask(
    job: str, wish: Wish, opening: AbstractContextManager[LocalJobs | RemoteJobs], json: bool
) -> None:
    from tunefork.cli import show as shown

    with opening as jobs:
        found = jobs.ask(job, wish)
    if json:
        shown.print_json(found)
        return
    typer.echo(f"{found['id']} is {found['status']}")
    if found["status"] == "queued" and not found["is_served"]:
        shown.talk.print("It goes on as soon as a server runs: `tunefork serve`.", markup=False)
    elif wish != "resume" and found["status"] in ("validating_files", "running"):
        shown.talk.print("It was told, and has not come to it yet; look again.", markup=False)


def _print(job: dict[str, Any], json: bool) -> None:
    from tunefork.cli import listing, show

    if json:
        show.print_json(job | {"why": _why(job)})
        return
    last_words = job.pop("last_words", [])
    entry = {"id": job["id"], "status": job["status"], "why": _why(job), **job}
    entry |= {name: _time(job[name]) for name in _TIMES} | {"method": job["method"]["type"]}
    for name in ("object", "error", "integrations"):
        entry.pop(name)
    listing.print_entry({name: value for name, value in entry.items() if _says(value)}, json=False)
    if last_words:
        typer.echo("what its process said last:")
        for line in last_words:
            typer.echo(f"  {line}")


def _why(job: dict[str, Any]) -> str | None:
    """Return why a job is where it is, in one sentence; None where nothing is wrong."""
    if job["status"] == "failed":
        error = job["error"]
        param = f" (`{error['param']}`)" if error.get("param") else ""
        return f"{error['message']}{param}"
    if job["status"] == "paused":
        return f"it was paused; `tunefork jobs resume {job['id']}` lets it go on"
    return None


def _says(value: Any) -> bool:
    return value is not None and value != [] and value != {}


def _time(seconds: int | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds).isoformat(" ", "seconds")


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"

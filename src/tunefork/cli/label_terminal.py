"""The terminal of `tunefork label`: two answers side by side, a letter for each choice."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.table import Table
from rich.text import Text

from tunefork.cli.show import talk
from tunefork.core.errors import InputError, RunError
from tunefork.workflow.label import Choice, Decision, Proposal, Session, propose, record

_CHOICES: dict[str, Choice] = {
    "l": "left",
    "r": "right",
    "t": "tie",
    "b": "bad",
    "s": "skip",
}
_EDITS: dict[str, Choice] = {"el": "left", "er": "right"}
_HELP = (
    "l left is better, r right, t tie, b both are bad, el or er edit the better one, "
    "s skip, p go back, q quit"
)
_END = "."
_UNPRINTABLE = "\N{REPLACEMENT CHARACTER}"


class _Left(Exception):
    """The person has left."""


def work(session: Session, question: str) -> None:
    """Ask for choices until nothing is left, or the person leaves with `q` or end of file."""
    talk.print(_HELP, soft_wrap=True)
    talk.print(question, soft_wrap=True, style="bold")
    back = 0  # how many decisions ago the pair on the screen was decided; 0: not yet
    try:
        while True:
            decided = session.history[-back] if back else None
            proposal = decided.proposal if decided else propose(session)
            if proposal is None:
                talk.print("Nothing is left to decide on: q ends, p goes back.")
            else:
                _show(session, proposal, decided)
            back = _ask(session, proposal, back)
    except _Left:
        return


def _ask(session: Session, proposal: Proposal | None, back: int) -> int:
    """Take commands until one of them calls for another pair; return how far back that lies."""
    while True:
        command = _read("> ").strip().lower()
        if command == "q":
            raise _Left
        if command == "p":
            if back < len(session.history):
                return back + 1
            talk.print("There is nothing before this.")
        elif proposal is not None and command in (*_CHOICES, *_EDITS):
            try:
                _decide(session, proposal, command)
            except RunError:  # nothing can be saved any more
                raise
            except InputError as error:
                talk.print(str(error), soft_wrap=True, markup=False)
            else:
                return 0
        else:
            talk.print(_HELP, soft_wrap=True)


def _decide(session: Session, proposal: Proposal, command: str) -> None:
    if command in _CHOICES:
        record(session, proposal, _CHOICES[command])
        return
    choice = _EDITS[command]
    answer = proposal.left if choice == "left" else proposal.right
    record(session, proposal, choice, _edit(answer.text))


def _show(session: Session, proposal: Proposal, decided: Decision | None) -> None:
    n_open = session.n_open
    talk.rule(f"{len(session.items) - n_open} done, {n_open} to go")
    for turn in proposal.prompt:
        talk.print(Text(f"{turn.role}: {_plain(turn.content)}", style="bold"))
    table = Table("left", "right", expand=True)
    table.add_row(Text(_plain(proposal.left.text)), Text(_plain(proposal.right.text)))
    talk.print(table)
    if decided is not None:
        edited = ", edited" if decided.edited else ""
        talk.print(f"You said: {decided.choice}{edited}. Say it again, or change it.")


def _plain(text: str) -> str:
    """Return text that cannot command the terminal."""
    return "".join(char if char.isprintable() or char in "\n\t" else _UNPRINTABLE for char in text)


def _edit(text: str) -> str:
    """Let the person rewrite an answer, in their editor where one is set."""
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR")
    if editor:
        return _edit_in(editor, text)
    talk.print(f"Write the better answer; a line with only `{_END}` ends it.")
    lines: list[str] = []
    while (line := _read("| ")).rstrip("\r\n") != _END:
        lines.append(line)
    return "".join(lines).rstrip("\r\n")


def _edit_in(editor: str, text: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "answer.txt"
        path.write_text(text, encoding="utf-8")
        try:
            subprocess.run([*shlex.split(editor), str(path)], check=True)
            return path.read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, ValueError, subprocess.CalledProcessError) as error:
            raise InputError(
                f"the editor `{editor}` failed: {error}",
                hint="set EDITOR to one that works, or to nothing to write here",
            ) from error


def _read(mark: str) -> str:
    if sys.stdin.isatty():
        print(mark, end="", file=sys.stderr, flush=True)
    line = sys.stdin.readline()
    if not line:
        raise _Left
    return line

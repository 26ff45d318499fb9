"""Who judges the answers that a model draws while it learns from rewards.

A grader, a reward model, or a function of the user's, which runs as a `python` grader does: in the
sandbox, in a process of its own.
"""

from __future__ import annotations

import ast
import contextlib
import math
import symtable
from collections.abc import Iterator, Sequence
from pathlib import Path

from tunefork.core.errors import ModelError, SpecError, Where, did_you_mean
from tunefork.data import Message, Prompt, known_of
from tunefork.graders import Ask, AskModel, Failure, Grade, Grader, grade_many, parse_grader
from tunefork.graders.sandbox import Sandbox
from tunefork.inference import ChatModel, Decoding, RewardModel, score_conversations
from tunefork.objectives import Mark
from tunefork.objectives.answers import Judge
from tunefork.workflow.objective_specs import GrpoSpec, PpoSpec
from tunefork.workflow.opened import open_model
from tunefork.workflow.spec import Project

_GRADER_TOKENS = 256  # of a model's judgement, where its grader does not say


class Judges:
    """Makes a judge for each set of prompts; what they need is loaded and started once."""

    def __init__(self, project: Project, sandbox: Sandbox) -> None:
        """Load what the spec names.

        Raises:
            InputError: It cannot be used.
        """
        objective = project.spec.objective
        assert isinstance(objective, GrpoSpec | PpoSpec), "it learns from rewards"
        self._sandbox, self._folder = sandbox, project.folder
        self._base = project.spec.base
        self._opened: dict[str, ChatModel] = {}
        self._grader = objective.grader
        self._rewards: RewardModel | None = None
        if objective.function is not None:
            source = _source(project, objective.function)
            self._grader = {"type": "python", "source": source, "pass_threshold": 1.0}
        if objective.reward_model is not None:
            self._rewards = _reward_model(project, objective.reward_model)

    @property
    def sandboxed(self) -> str | None:
        """How the program that gives the rewards is kept from doing harm; None without one."""
        is_program = isinstance(self._grader, dict) and self._grader.get("type") == "python"
        return self._sandbox.describe() if is_program else None

    def of(self, prompts: Sequence[Prompt]) -> Judge:
        """Return who judges answers to these prompts.

        Raises:
            DataError: The grader does not fit one of them; it is named with its line.
            SpecError: It is no grader.
        """
        if self._rewards is not None:
            return self._by_model(self._rewards, prompts)
        return self._by_graders([self._grader_of(row) for row in prompts])

    def _grader_of(self, row: Prompt) -> Grader:
        assert self._grader is not None, "the spec names one source of rewards"
        item = known_of(row)
        reference = item.get("reference")
        return parse_grader(
            self._grader,
            reference=None if reference is None else str(reference),
            where=row.where,
            item=item,
        )

    def _by_graders(self, graders: list[Grader]) -> Judge:
        def judge(numbers: Sequence[int], answers: Sequence[str]) -> list[Mark]:
            chosen = [graders[number] for number in numbers]
            found = grade_many(chosen, answers, ask=self._ask, sandbox=self._sandbox)
            return [_mark(grade) for grade in found]

        return judge

    def _by_model(self, rewards: RewardModel, prompts: Sequence[Prompt]) -> Judge:
        def judge(numbers: Sequence[int], answers: Sequence[str]) -> list[Mark]:
            conversations = [
                (*prompts[number].messages, Message("assistant", answer))
                for number, answer in zip(numbers, answers, strict=True)
            ]
            found = score_conversations(rewards, conversations)
            return [_of_number(value, value > 0) for value in found]

        return judge

    @property
    def _ask(self) -> Ask:
        """Asks the models that graders name, or the base where one names none."""

        def ask(asked: Sequence[AskModel]) -> list[str | Failure]:
            replies: list[str | Failure] = [Failure("other_error", "not asked")] * len(asked)
            for name in dict.fromkeys(query.model for query in asked):
                places = [at for at, query in enumerate(asked) if query.model == name]
                said = self._replies(name, [asked[at] for at in places])
                for at, reply in zip(places, said, strict=True):
                    replies[at] = reply
            return replies

        return ask

    def _replies(self, name: str | None, asked: Sequence[AskModel]) -> list[str]:
        place = name or self._base
        if place not in self._opened:
            self._opened[place] = open_model(_place(self._folder, place)).chat
        sampling = asked[0].sampling
        decoding = Decoding(
            max_new_tokens=int(sampling.get("max_completions_tokens") or _GRADER_TOKENS)
        )
        conversations = [
            [Message(turn["role"], turn["content"]) for turn in query.messages] for query in asked
        ]
        return [answer.text for answer in self._opened[place].answer(conversations, decoding)]


@contextlib.contextmanager
def opened_judges(project: Project) -> Iterator[Judges]:
    """Give the judges of a project; the processes that they start end with this.

    Raises:
        InputError: What the spec names cannot be used.
    """
    with Sandbox() as sandbox:
        yield Judges(project, sandbox)


def _mark(grade: Grade) -> Mark:
    if grade.error is not None or grade.is_pending:
        return Mark(None, problem=grade.detail.removeprefix("not graded: "))
    return _of_number(grade.reward, grade.passed)


def _of_number(value: float, passed: bool) -> Mark:
    if not math.isfinite(value):
        return Mark(None, problem=f"the reward is {value}, which is no number to learn from")
    return Mark(value, passed)


def _source(project: Project, named: str) -> str:
    """Return the program that `FILE.py:NAME` names, as a `python` grader has it.

    Raises:
        SpecError: There is no such file or function.
    """
    where = "objective.function"
    file, _, function = named.rpartition(":")
    if not file or not function.isidentifier():
        raise SpecError(
            f"`{named}` names no function", where=where, hint="write FILE.py:NAME, in one word"
        )
    path = project.path(file)
    try:
        source = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(
            f"cannot read `{file}`: {error}", where=where, hint="name a file"
        ) from error
    _check_defines(source, function, path)
    if function == "grade":
        return source
    return f"{source}\n\ndef grade(sample, item):\n    return {function}(sample, item)\n"


def _check_defines(source: str, function: str, path: Path) -> None:
    """Check that a program can be read, and may define a function.

    Raises:
        SpecError: It cannot, or does not.
    """
    try:
        program = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = error.lineno if isinstance(error, SyntaxError) else None
        message = error.msg if isinstance(error, SyntaxError) else str(error)
        hint = f"`python {path.name}` shows the place"
        raise SpecError(
            f"not a Python program: {message}", where=Where(str(path), line), hint=hint
        ) from error
    names = symtable.symtable(source, path.name, "exec").get_identifiers()
    has_star = any(
        isinstance(node, ast.ImportFrom) and node.names[0].name == "*" for node in program.body
    )
    if function not in names and not has_star:
        defined = [node.name for node in program.body if isinstance(node, ast.FunctionDef)]
        hint = did_you_mean(function, defined) or f"write `def {function}(sample, item):` into it"
        raise SpecError(f"it defines no `{function}`", where=path, hint=hint)


def _reward_model(project: Project, name: str) -> RewardModel:
    chat = open_model(_place(project.folder, name)).chat
    if not isinstance(chat, RewardModel):
        raise ModelError(
            f"`{name}` is no reward model, and gives no rewards",
            where="objective.reward_model",
            hint="train one with `objective: reward`, or use a grader",
        )
    return chat


def _place(folder: Path, name: str) -> str:
    """Return a model's name, or its folder where it is one beside the spec."""
    beside = folder / name
    return str(beside) if beside.is_dir() else name

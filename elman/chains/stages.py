"""Models in a row: each reads what the one before has written."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, final

from pydantic import Field

from elman.config import Options, parse
from elman.data.inputs import InputFile, InputTable
from elman.data.records import column
from elman.data.tables import is_table
from elman.errors import ElmanError
from elman.tasks.abilities import Compares, Predicts
from elman.tasks.answers import Answer, Attention
from elman.training.model import Model

#: Rows that are answered at a time in an evaluation.
_BATCH = 1024


class ChainOptions(Options):
    """Options of ``elman chain`` and keywords of `Chain.predict`.

    Args:
        n_best (int, optional): The number of answers that each stage passes on to the next. Default: 1, or what the
            options of a stage say.
    """

    n_best: int | None = Field(
        None, ge=1, le=1000, description="Number of answers that each stage passes on; the next stage answers all of "
        "them, and the sum of the log probabilities decides. Default: 1.",
    )  # fmt: skip


@final
@dataclass(frozen=True)
class Stage:
    """A model in a chain.

    Args:
        model (Predicts): The model.
        run (str): Where it was loaded from, for messages. Default: ``""``, from memory.
        options (Mapping[str, Any]): Options of ``model.predict``. Default: none.
        scale (float): The factor of its log probabilities, where several answers of a stage compete, at least 0.
            Default: 1.0.
        reference (str, optional): The column with the right answers in tables that the chain is evaluated on.
    """

    model: Predicts
    run: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    scale: float = 1.0
    reference: str | None = None

    @property
    def task(self) -> str:
        """The name of the model's task."""
        return self.model.name if isinstance(self.model, Model) else type(self.model).__name__

    @property
    def name(self) -> str:
        """The task and the run, for messages."""
        return f"{self.task}, {self.run}" if self.run else self.task


@dataclass(frozen=True)
class ChainAnswer(Answer):
    """What a chain answers.

    Attributes:
        answers (tuple[Answer, ...]): the answer of each stage to that of the one before; fewer than stages if one of
            them is empty.
        tasks (tuple[str, ...]): the task of each.
        score (float): the score of the last answer; where it competed with answers to other answers of the stage
            before, the log probability.
        log_probability (float, optional): the sum of the log probabilities of the answers, in nats, each times the
            scale of its stage; those that are not known count 0. None where none is known.
    """

    answers: tuple[Answer, ...]
    tasks: tuple[str, ...]
    score: float
    log_probability: float | None

    @property
    def last(self) -> Answer:
        """The answer at the end."""
        return self.answers[-1]

    def at(self, k: int) -> Answer:
        """Return the answer of a stage, from 0; an empty one where the chain has ended before it."""
        return self.answers[min(k, len(self.answers) - 1)]

    @property
    def text(self) -> str:  # type: ignore[override]
        return self.last.text

    @property
    def empty_means(self) -> str:  # type: ignore[override]
        return self.last.empty_means

    @property
    def blank(self) -> int:  # type: ignore[override]
        return self.last.blank

    @property
    def output(self) -> Any:
        return self.last.output

    @property
    def cell(self) -> str | list[str]:
        return self.last.cell

    @property
    def attention(self) -> Attention | None:
        return self.last.attention

    def record(self) -> dict[str, Any]:
        stages = [{"task": task, **one.record()} for task, one in zip(self.tasks, self.answers, strict=True)]
        return {"text": self.text, "score": self.score, "log_probability": self.log_probability, "stages": stages}


@final
class Chain(Predicts):
    """Models in a row: each reads what the one before has written.

    Args:
        stages (Sequence[Stage | Model]): The models, in order, at least one.
        column (str, optional): The column of the inputs in tables. Default: the one that the first model was trained
            on.

    Raises:
        ElmanError: A model answers no inputs, does not read what the one before writes, or has no such option.

    Example::

        >>> chain = elman.Chain([elman.load("runs/captions"), elman.load("runs/en-de")])  # doctest: +SKIP
        >>> chain.predict(["photo.jpg"])[0][0].text  # doctest: +SKIP
    """

    name = "chain"
    Options = ChainOptions

    def __init__(self, stages: Sequence[Stage | Model], column: str | None = None) -> None:
        if not stages:
            raise ElmanError("a chain needs a model")
        self.stages = tuple(_stage(one, k) for k, one in enumerate(stages, 1))
        self.column = column
        for k, stage in enumerate(self.stages):
            if k and (last := self.stages[k - 1]).model.writes != stage.model.reads:
                raise ElmanError(
                    f"stage {k + 1} ({stage.name}) reads {stage.model.reads}, "
                    f"stage {k} ({last.name}) writes {last.model.writes}"
                )
            parse(stage.model.Options, dict(stage.options), f"stage {k + 1} ({stage.name})")
        first = self.stages[0].model
        self.reads_paths, self.reads_pictures = first.reads_paths, first.reads_pictures
        self.takes_questions = first.takes_questions

    @property
    def reads(self) -> str:
        return self.stages[0].model.reads

    @property
    def writes(self) -> str:
        return self.stages[-1].model.writes

    def in_file(self, argument: str, column: str | None) -> InputFile | None:
        known = self.column if column is None and is_table(argument) else column
        return self.stages[0].model.in_file(argument, known)

    def in_line(self, line: str) -> str:
        return self.stages[0].model.in_line(line)

    def read_with(self, **options: Any) -> None:
        """Change how the first model reads inputs; see `elman.training.model.Model.read_with`."""
        first = self.stages[0].model
        assert isinstance(first, Model)
        first.read_with(**options)

    def predict(self, inputs: Any, **options: Any) -> list[list[ChainAnswer]]:
        """Return the answers to each input, the best first.

        A stage with several answers (its option ``n_best``) passes all of them on. The next one answers each, and the
        answers with the largest sum of scaled log probabilities remain, as many as that stage gives to one input.
        Where its log probabilities are not known, it answers the best one only. A stage with an empty answer ends the
        chain for that input.

        Args:
            inputs: what the first model takes.
            options: those of `ChainOptions`.

        Raises:
            ElmanError: an input cannot be used, or an option is wrong; from the second stage on, it names the stage.
        """
        stages = self._with_options(parse(ChainOptions, options).n_best)
        first = stages[0]
        return follow(stages, first.model.predict(inputs, **first.options))

    def _with_options(self, n_best: int | None) -> list[Stage]:
        """The stages, those before the last with that number of answers."""
        stages = list(self.stages)
        if n_best is None:
            return stages
        able = [k for k, stage in enumerate(stages[:-1]) if "n_best" in stage.model.Options.model_fields]
        if not able:
            raise ElmanError("n_best: no stage before the last one gives several answers")
        for k in able:
            stages[k] = replace(stages[k], options={**stages[k].options, "n_best": n_best})
        return stages

    def evaluate(self, data: Sequence[str]) -> dict[str, Any]:
        """Compute the metrics of every stage that names the column of the right answers.

        Args:
            data (Sequence[str]): tables with a column of inputs and columns of right answers. A row without the right
                answer of a stage does not count for that stage.

        Returns:
            dict: ``examples``; ``unanswered``, how many inputs have no answer at the end; and ``stages``, with for
            each one ``stage`` (from 1), ``task``, ``run``, ``reference``, and the metrics ``in_chain``. From the second
            stage on ``alone`` has the metrics of its answers to the right answers of the stage before, where the table
            has them.

        Raises:
            ElmanError: a file is not a table or a column is missing, an input cannot be used, or no stage names its
                right answers.
        """
        columns = {k: stage.reference for k, stage in enumerate(self.stages) if stage.reference is not None}
        if not columns:
            raise ElmanError('no stage names the column of its right answers; add one, such as reference = "target"')
        for k in columns:
            if not isinstance(self.stages[k].model, Compares):
                raise ElmanError(
                    f"stage {k + 1} ({self.stages[k].name}): its answers cannot be compared with texts; "
                    "leave out reference"
                )
        tables = [self._table(path) for path in data]
        names = [name for table in tables for name in table.names]
        references = {
            k: [cell.strip() for path, table in zip(data, tables, strict=True) for cell in _cells(table, name, path)]
            for k, name in columns.items()
        }
        answers = [
            found[0] for path, table in zip(data, tables, strict=True) for found in self._answers_to(table, path)
        ]
        if not answers:
            raise ElmanError(f"{', '.join(data)}: no rows to evaluate on")
        return {
            "examples": len(answers),
            "unanswered": sum(not len(one.output) for one in answers),
            "stages": [self._scores(k, names, answers, references) for k in columns],
        }

    def _table(self, path: str) -> InputTable:
        """The inputs in a table."""
        file = self.in_file(path, None)
        if not isinstance(file, InputTable):
            raise ElmanError(f"{path}: a table is required, with a column of inputs and columns of right answers")
        return file

    def _answers_to(self, table: InputTable, path: str) -> Iterator[list[ChainAnswer]]:
        """Answer the rows, in parts; messages name the row."""
        for first in range(0, len(table.inputs), _BATCH):
            places = table.places[first : first + _BATCH]
            try:
                yield from self.predict(table.inputs[first : first + _BATCH])
            except ElmanError as error:
                number = re.match(r"input (\d+) of \d+:? *", str(error))
                place = places[int(number[1]) - 1] if number else path
                raise ElmanError(f"{place}: {str(error)[number.end() if number else 0 :]}") from None

    def _scores(
        self, k: int, names: Sequence[str], answers: Sequence[ChainAnswer], references: Mapping[int, Sequence[str]]
    ) -> dict[str, Any]:
        """The metrics of a stage in the chain, and alone."""
        stage, right = self.stages[k], references[k]
        assert isinstance(stage.model, Compares)
        rows = [j for j, text in enumerate(right) if text]
        if not rows:
            raise ElmanError(f"the column {stage.reference!r} of right answers is empty")
        given, wanted = [names[j] for j in rows], [right[j] for j in rows]
        scores: dict[str, Any] = {
            "stage": k + 1, "task": stage.task, "run": stage.run, "reference": stage.reference,
            "in_chain": stage.model.compare(given, [answers[j].at(k) for j in rows], wanted),
        }  # fmt: skip
        before = self.stages[k - 1].model
        written = {}
        if k - 1 in references and isinstance(before, Compares) and before.writes == "text":
            written = {j: text for j in rows if (text := before.as_written(references[k - 1][j]))}
        if both := list(written):
            said = stage.model.predict(list(written.values()), **stage.options)
            own = [names[j] for j in both], [found[0] for found in said], [right[j] for j in both]
            scores["alone"] = stage.model.compare(*own)
        return scores


def follow(stages: Sequence[Stage], answered: Sequence[Sequence[Answer]]) -> list[list[ChainAnswer]]:
    """Return the answers of a chain, given those of its first stage to each input."""
    found = [[_extended(stages[0], answer) for answer in answers] for answers in answered]
    for number, stage in enumerate(stages[1:], 2):
        found = _continued(found, stage, number)
    return found


def _continued(found: list[list[ChainAnswer]], stage: Stage, number: int) -> list[list[ChainAnswer]]:
    """The answers of a stage to those of the one before, for each input."""
    going = [k for k, answers in enumerate(found) if len(answers[0].output)]
    # The best of each input first: without probabilities of what follows, nothing can outrank it.
    answered = {
        k: [answers] for k, answers in zip(going, _answers(stage, number, [found[k][0] for k in going]), strict=True)
    }
    rivals = [
        (k, one)
        for k in going
        if found[k][0].last.log_probability is not None and answered[k][0][0].last.log_probability is not None
        for one in found[k][1:]
        if len(one.output)
    ]
    for (k, _), answers in zip(rivals, _answers(stage, number, [one for _, one in rivals]), strict=True):
        answered[k].append(answers)
    return [_best(answered[k]) if k in answered else answers[:1] for k, answers in enumerate(found)]


def _answers(stage: Stage, number: int, given: Sequence[ChainAnswer]) -> list[list[ChainAnswer]]:
    """The answers of a stage to each of these."""
    try:
        found = stage.model.predict([one.output for one in given], **stage.options) if given else []
    except ElmanError as error:
        reason = str(error)
        if len(given) == 1:
            reason = re.sub(r"^input 1 of 1:?\s*", "", reason)
        raise ElmanError(f"stage {number} ({stage.name}): {reason}") from None
    return [
        [_extended(stage, answer, before) for answer in answers] for before, answers in zip(given, found, strict=True)
    ]


def _stage(one: Stage | Model, number: int) -> Stage:
    """The stage of a model that answers inputs."""
    model = one.model if isinstance(one, Stage) else one
    if not isinstance(model, Predicts):
        name = model.name if isinstance(model, Model) else type(model).__name__
        where = f", {one.run}" if isinstance(one, Stage) and one.run else ""
        raise ElmanError(f"stage {number} ({name}{where}): the model answers no inputs, as the stages of a chain do")
    return one if isinstance(one, Stage) else Stage(model)


def _cells(table: InputTable, name: str, path: str) -> list[str]:
    """The cells of a column of right answers."""
    if name not in table.table.columns:
        raise ElmanError(f"{path}: no column {name!r}; there are {', '.join(table.table.columns)}")
    return column(table.table, name, path)


def _extended(stage: Stage, answer: Answer, before: ChainAnswer | None = None) -> ChainAnswer:
    """The answer of a stage to the one before."""
    answers, tasks, total = ((), (), None) if before is None else (before.answers, before.tasks, before.log_probability)
    if answer.log_probability is not None:
        total = (total or 0.0) + stage.scale * answer.log_probability
    return ChainAnswer((*answers, answer), (*tasks, stage.task), answer.score, total)


def _best(rivals: Sequence[Sequence[ChainAnswer]]) -> list[ChainAnswer]:
    """The best of the answers to several answers of one stage: different texts, as many as there are to one."""
    if len(rivals) == 1:
        return list(rivals[0])
    different: dict[str, ChainAnswer] = {}
    every = [replace(one, score=one.log_probability or 0.0) for answers in rivals for one in answers]
    for one in sorted(every, key=lambda one: -one.score):
        different.setdefault(one.text, one)
    return list(different.values())[: max(map(len, rivals))]

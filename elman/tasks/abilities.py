"""What a model can do: small abstract classes, and all that the command line, estimators and servers ask for.

::

    if isinstance(model, Predicts):
        answers = model.predict(["..."])
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
from torch import Tensor

from elman.config import Options, parse
from elman.data.inputs import InputFile
from elman.data.tokenizer import Tokenizer
from elman.decoding import Sampling
from elman.errors import ElmanError
from elman.tasks.answers import Answer, Sounding


class Answered(NamedTuple):
    """An example with the answer of a model.

    Attributes:
        input (str): What the example is, or where it comes from.
        target (str): The text that is right.
        predicted (str): The text of the answer.
    """

    input: str
    target: str
    predicted: str


class Generates(ABC):
    """A model that continues a text."""

    #: The options of `generate` and `stream`, and of ``elman generate``.
    Sampling: ClassVar[type[Options]] = Sampling

    @abstractmethod
    def generate(self, prompt: str | Sequence[str] = "", **options: Any) -> str | list[str]:
        """Return the prompt and its continuation; a list for a list of prompts."""

    @abstractmethod
    def stream(self, prompt: str = "", **options: Any) -> Iterator[str]:
        """Yield the continuation of the prompt piece by piece, as it is made."""


class Scores(ABC):
    """A model that gives the probability of a text, token by token."""

    tokenizer: Tokenizer

    @property
    @abstractmethod
    def border(self) -> int | None:
        """The token between two texts; None if the model has never seen a text end."""

    @abstractmethod
    def log_probs(self, ids: Tensor, state: Any = None, lengths: Tensor | None = None) -> tuple[Tensor, Any]:
        """Return the log probabilities (B, T, V) of the next token after each of ids (B, T), and the state.

        Args:
            ids (Tensor): tokens; the first ones of a text follow an end token.
            state: the state that an earlier call returned: nested tuples of tensors (B, ...). Default: nothing read.
            lengths (Tensor, optional): the number of tokens in each row, (B,). Default: T.
        """


class Predicts(ABC):
    """A model that answers inputs."""

    #: The options of `predict`, and of ``elman predict``.
    Options: ClassVar[type[Options]]
    #: Whether a text that is given as an input is the path of a file.
    reads_paths: bool
    #: Whether these files are pictures.
    reads_pictures: bool = False
    #: Whether an input is a file with a question about it, separated by a tab: "photo.jpg\twhat animal is it?".
    takes_questions: bool = False

    @property
    @abstractmethod
    def reads(self) -> str:
        """The kind of an input: "text", "text with blanks", "sound", "series", "pictures", "pictures with questions".

        In a chain, it is the kind that the model before writes.
        """

    @property
    @abstractmethod
    def writes(self) -> str:
        """The kind of an answer's `Answer.output`: "text", "sound", "labels", "words", "words with tags"."""

    @abstractmethod
    def predict(self, inputs: Any, **options: Any) -> Sequence[Sequence[Answer]]:
        """Return the answers to each input, the best first."""

    @abstractmethod
    def in_file(self, argument: str, column: str | None) -> InputFile | None:
        """Return the inputs in a file; None where the argument is an input by itself.

        Args:
            argument (str): an argument of the command line.
            column (str, optional): the column of a table to read.
        """

    def in_line(self, line: str) -> str:
        """Return the input on a line of standard input. Default: the line."""
        return line


class Answers(Predicts, ABC):
    """A model whose answers to examples are compared with known texts.

    Attributes:
        search (Options): how `evaluate` and `answered` search for answers, an instance of ``Options``.
    """

    search: Any

    def search_with(self, **options: Any) -> None:
        """Change how `evaluate` and `answered` search for answers.

        Args:
            options: those of ``Options``.

        Raises:
            ElmanError: an option is unknown or out of range, or has no effect on the best answer.
        """
        if options.get("n_best", 1) > 1:
            raise ElmanError("n_best: has no effect here; an evaluation compares the best answer")
        self.search = parse(self.Options, {**self.search.model_dump(exclude_unset=True), **options})

    @abstractmethod
    def answered(self, examples: Any) -> list[Answered]:
        """Return each example with the answer of the model."""


class Attends(Predicts, ABC):
    """A model whose answers have `Answer.attention`."""


class Compares(ABC):
    """A model whose answers can be compared with texts that people have written."""

    def as_written(self, reference: str) -> str:
        """Return a right answer in the form in which the model writes it, such as in lower case. Default: as it is."""
        return reference

    @abstractmethod
    def compare(
        self, inputs: Sequence[Hashable], answers: Sequence[Answer], references: Sequence[str]
    ) -> dict[str, Any]:
        """Return the metrics of answers.

        Args:
            inputs (Sequence[Hashable]): what each answer is about; equal ones are one input with several references.
            answers (Sequence[Answer]): the best answer to each.
            references (Sequence[str]): the right answer to each, as the data of a training have it.
        """


class Listens(ABC):
    """A model that recognises speech while it is spoken."""

    #: The options of `listen`, and of ``elman listen``.
    ListenOptions: ClassVar[type[Options]]

    @property
    @abstractmethod
    def channel(self) -> int | None:
        """The channel of sounds that is read, numbered from 1; None for the mean of all."""

    @abstractmethod
    def listen(self, rate: int, **options: Any) -> Any:
        """Return what takes blocks of samples (N,) at this rate; see `elman.tasks.transcribe.listening.Listening`."""


class Speaks(Attends, ABC):
    """A model whose answers are sounds."""

    @abstractmethod
    def predict(self, inputs: Any, **options: Any) -> Sequence[Sequence[Sounding]]:
        """Return a sound for each input."""


class Explains(ABC):
    """A model that says how much each piece of an input contributes to its answer."""

    @abstractmethod
    def explain(self, text: str) -> tuple[list[str], Tensor]:
        """Return the pieces of the text, and the gradient of the answer's score times the input, for each."""


class Describes(ABC):
    """A model that says what it reads of an input."""

    @abstractmethod
    def describe(self, given: Any) -> str:
        """Return the form of an input, in one line; "" where there is nothing to say beside the input itself."""


class Embeds(ABC):
    """A model that gives contextual embeddings of words."""

    @abstractmethod
    def vectors(self, inputs: Any) -> Iterator[list[tuple[str, np.ndarray]]]:
        """Yield, for each text, its words, each with its embedding (E,) in this context."""


class HasBaselines(ABC):
    """A model whose metrics can be compared with those of simple methods."""

    @abstractmethod
    def baselines(self, examples: Any) -> dict[str, float]:
        """Return metrics of methods without a neural network on the same examples, by name."""

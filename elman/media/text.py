"""Text as a medium: strings to token ids to embeddings."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Self, final

import numpy as np
import torch
from pydantic import BaseModel, Field
from torch import Tensor, nn

from elman.config import Needs, Options
from elman.data.inputs import InputFile, is_file_argument, read_column_inputs
from elman.data.padding import pad
from elman.data.text import read_text
from elman.data.tokenizer import SPECIAL, Tokenizer, TokenKind
from elman.data.vectors import first_words
from elman.errors import ElmanError
from elman.layers.dropout import drop_words
from elman.layers.naming import Named, named_rows
from elman.layers.words import WordVectors
from elman.media.columns import Columns
from elman.media.medium import Content, Files, Medium, Source
from elman.media.pretrained import KnownVectors, fill_embedding, size_of_vectors

TOKENIZER = "tokenizer.json"

#: The end of a sentence: the next token begins another one.
_SENTENCE_END = re.compile(r"[.!?\u2026\u3002\uff01\uff1f]['\"\u201d\u2019)\]]*\s*$|\n")
#: Longer sentences are cut after this many tokens.
_MAX_SENTENCE = 200

_VECTORS = Needs("vectors", lambda c: c["vectors"] is not None)
_VOCABULARY = Needs("tokens word or bpe", lambda c: c["tokens"] in ("word", "bpe", None))


class TextOptions(Options):
    """Options for inputs that are texts."""

    heading = "Text"
    needs = (Needs("texts", lambda c: c["medium"] == "text"),)

    tokens: TokenKind | None = Field(
        None, description="Tokens of a text. Default: word, or char where texts have one or two words."
    )
    lowercase: bool | None = Field(
        None, description="Convert texts to lower case. Default: yes, unless tokens is char."
    )
    vocab_size: Annotated[int, _VOCABULARY] = Field(
        20_000, ge=2, description="Maximum size of the vocabulary of word and bpe tokens."
    )
    vectors: str | None = Field(
        None, description="File with pretrained embeddings: GloVe, word2vec (text or .bin) or fastText (.vec)."
    )
    extra_words: Annotated[int, _VECTORS] = Field(
        60_000, ge=0, description="Words of the vectors file, the first ones, that are added to the vocabulary."
    )
    rare: Annotated[int, _VECTORS] = Field(
        3, ge=1, description="Words with fewer occurrences keep their pretrained embedding."
    )
    embedding_size: int = Field(128, ge=1, description="Size of an embedding. Default with vectors: theirs.")
    word_dropout: float = Field(0.1, ge=0, lt=1, description="Probability that a token is replaced by 'unknown'.")


class TextState(BaseModel):
    """The part of labels.json that is about text."""

    tuned: int | None = Field(None, ge=0, le=2**53)


@final
class Text(Medium):
    """Texts: tokenized, padded, embedded.

    Args:
        options (TextOptions): tokens, lowercase and embedding_size have their values.
        tokenizer (Tokenizer): learnt from the training texts.
        tuned (int, optional): how many embeddings are trained, the first ones; None: all.
    """

    name, plural, kind = "text", "texts", "text"
    positions: ClassVar = "words"
    State = TextState

    def __init__(self, options: Any, tokenizer: Tokenizer, tuned: int | None = None) -> None:
        super().__init__(options)
        self.tokenizer, self.tuned = tokenizer, tuned

    @classmethod
    def reads(cls, path: str) -> bool:
        return True

    @classmethod
    def read_files(cls, paths: Sequence[str], places: Sequence[str], columns: Columns) -> Content:
        return Content([read_text(path) for path in paths])

    @classmethod
    def join(cls, parts: Sequence[Content], places: Sequence[Sequence[str]]) -> Content:
        return Content([x for part in parts for x in part.inputs])

    @classmethod
    def check(cls, content: Content, places: Sequence[str], columns: Columns) -> None:
        for text, place in zip(content.inputs, places, strict=True):
            if not text.strip():
                raise ElmanError(f"{place}: the text is empty")

    @classmethod
    def digest(cls, x: str) -> str:
        return x

    @classmethod
    def same_columns(cls, columns: Columns, content: Content) -> Columns:
        return columns

    @classmethod
    def facts(cls, content: Content) -> Mapping[str, Any]:
        return {}

    @classmethod
    def learn(cls, options: Any, content: Content) -> Self:
        texts = content.inputs
        words = sum(len(text.split()) for text in texts)
        tokens: TokenKind = options.tokens or ("word" if words > 3 * len(texts) else "char")
        lowercase = tokens != "char" if options.lowercase is None else options.lowercase
        values: dict[str, Any] = {"tokens": tokens, "lowercase": lowercase}
        values |= size_of_vectors(options, options.vectors)
        options = options.model_copy(update=values)
        texts = spaced(tokens, texts)
        tokenizer = Tokenizer.train(tokens, texts, options.vocab_size, lowercase, spaces=False)
        if options.vectors is None or tokens != "word":
            return cls(options, tokenizer)
        counts = np.bincount(np.concatenate(encode_all(tokenizer, texts)), minlength=tokenizer.vocab_size)
        frequent = len(SPECIAL) + int((counts[len(SPECIAL) :] >= options.rare).sum())  # they come first
        return cls(options, tokenizer.with_words(first_words(options.vectors, options.extra_words)), frequent)

    @classmethod
    def load(cls, options: Any, state: TextState, files: Files) -> Self:
        return cls(options, Tokenizer.from_json(files.read(TOKENIZER), str(files.path / TOKENIZER)), state.tuned)

    def state(self) -> TextState:
        return TextState(tuned=self.tuned)

    def files(self) -> dict[str, str | bytes]:
        return {TOKENIZER: self.tokenizer.to_json()}

    def columns(self, columns: Columns) -> Columns:
        return columns

    def encode(self, content: Content, places: Sequence[str], training: bool = False) -> list[np.ndarray]:
        return encode_all(self.tokenizer, spaced(self.options.tokens, content.inputs))

    def read(self, given: Sequence[Any]) -> list[np.ndarray]:
        return self.encode(Content(list(given)), [])

    def in_file(self, argument: str, column: str | None, columns: Columns, whole: bool) -> InputFile | None:
        return read_column_inputs(argument, column or columns.text, whole) if is_file_argument(argument) else None

    def batch(self, rows: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
        return pad(rows)

    def vary(self, rows: list[np.ndarray], source: nn.Module, draw: np.random.Generator) -> list[np.ndarray]:
        return rows

    def hide(self, inputs: Tensor) -> Tensor:
        p = self.options.word_dropout
        return drop_words(inputs, p, Tokenizer.unknown_id) if p else inputs

    def source(self) -> Source:
        E = self.options.embedding_size
        return Source(WordVectors(self.tokenizer.vocab_size, E, self.tuned), E)

    @property
    def feature_names(self) -> None:
        """None: embeddings are learnt."""

    def named(self, source: nn.Module) -> list[Named]:
        assert isinstance(source, WordVectors)
        names = self.tokenizer.names
        return named_rows(names[: source.tuned], source.weight) + named_rows(names[source.tuned :], source.fixed)

    def begin(self, source: nn.Module, rows: Sequence[np.ndarray]) -> list[KnownVectors]:
        assert isinstance(source, WordVectors)
        path = self.options.vectors
        return [] if path is None else [fill_embedding(source, self.tokenizer, path)]

    def boundaries(self, inputs: Tensor) -> Tensor | None:
        if not self.options.hierarchical:
            return None
        ends = self._ends.to(inputs.device)[inputs]
        begins = torch.cat((torch.ones_like(ends[:, :1]), ends[:, :-1] & ~ends[:, 1:]), 1)
        positions = torch.arange(inputs.shape[1], device=inputs.device).expand_as(inputs)
        since = positions - torch.where(begins, positions, 0).cummax(1).values
        return begins | (since % _MAX_SENTENCE == 0)

    @functools.cached_property
    def _ends(self) -> Tensor:
        """Whether a token ends a sentence, (V,)."""
        words = (self.tokenizer.decode([i]) for i in range(self.tokenizer.vocab_size))
        return torch.tensor([_SENTENCE_END.search(word) is not None for word in words])

    def pieces(self, given: Any) -> list[str]:
        return self.tokenizer.token_texts(*spaced(self.options.tokens, [given]))

    def amount(self, content: Content) -> float:
        return sum(map(len, content.inputs)) // (5 if self.options.tokens == "word" else 1)

    def describe(self) -> str:
        return f"texts ({self.options.tokens})"


def spaced(kind: TokenKind, texts: Sequence[str]) -> list[str]:
    """Put a space before the first word of each text, so that it is the same token as elsewhere; not for characters."""
    return list(texts) if kind == "char" else [f" {text}" for text in texts]


def encode_all(tokenizer: Tokenizer, texts: Sequence[str]) -> list[np.ndarray]:
    """Return the ids of each text, (T,)."""
    encodings = tokenizer.inner.encode_batch_fast(list(texts), add_special_tokens=False)
    return [np.asarray(encoding.ids, dtype=np.int64) for encoding in encodings]

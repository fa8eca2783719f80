"""Embeddings that begin with vectors which others have trained."""

from __future__ import annotations

import os
from typing import TypeVar

import numpy as np
import torch
from torch import nn

from elman.data.tokenizer import SPECIAL, Tokenizer
from elman.data.vectors import vector_size, vectors_for
from elman.errors import ElmanError
from elman.layers.words import WordVectors
from elman.training.config import TrainConfig
from elman.training.run import LAST, KnownVectors, Run
from elman.training.task import Task

Config = TypeVar("Config", bound=TrainConfig)


def sized(config: Config, *paths: str | None) -> Config:
    """The config with the size of the vectors in these files as ``embedding_size``, where none was given."""
    given = [path for path in paths if path is not None]
    if not given or "embedding_size" in config.model_fields_set:
        return config
    return config.model_copy(update={"embedding_size": vector_size(given[0])})


def begin_with_vectors(
    task: Task, run: Run | None, *sides: tuple[str | None, nn.Embedding | WordVectors, Tokenizer]
) -> None:
    """Gives embeddings the vectors of the files named, if the training begins; ``task.sources`` says what they knew.

    Raises:
        ElmanError: a file cannot be read, its vectors are of another size, or it knows none of the tokens.
    """
    if run is not None and (run.path / LAST).exists():  # what has been learnt since stays
        task.sources.vectors = run.config().sources.vectors
        return
    task.sources.vectors = [_fill(embedding, tokenizer, path) for path, embedding, tokenizer in sides if path]


@torch.no_grad()
def _fill(embedding: nn.Embedding | WordVectors, tokenizer: Tokenizer, path: str) -> KnownVectors:
    """Puts the vectors of the file in their places, brought to the embedding's spread; says how many it knows."""
    found = vectors_for(tokenizer, path, embedding.embedding_dim)
    words = tokenizer.num_learned - len(SPECIAL)
    known = sum(i < tokenizer.num_learned for i in found)
    if not known:
        raise ElmanError(f"{path}: knows none of the {words:,} tokens; are they words of the same language?")
    ids, matrix = torch.tensor(list(found)), torch.from_numpy(np.stack(list(found.values())))
    if not matrix.std() > 0:
        raise ElmanError(f"{path}: all numbers of the {known:,} vectors that are known are alike")
    matrix *= embedding.weight.std() / matrix.std()
    if isinstance(embedding, WordVectors):
        embedding.put(ids, matrix)
    else:
        embedding.weight[ids] = matrix
    return KnownVectors(file=os.path.basename(path), known=known, tokens=words)

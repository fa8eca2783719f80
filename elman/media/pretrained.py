"""Pretrained embeddings."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, Field
from torch import nn

from elman.data.tokenizer import SPECIAL, Tokenizer
from elman.data.vectors import vector_size, vectors_for
from elman.errors import ElmanError
from elman.layers.words import WordVectors


class KnownVectors(BaseModel):
    """How many tokens of a vocabulary a file of pretrained embeddings has."""

    file: str
    known: int = Field(ge=0, le=2**53)
    tokens: int = Field(ge=0, le=2**53)


def size_of_vectors(config: Any, *paths: str | None) -> dict[str, int]:
    """Return the option ``embedding_size`` that follows from files of pretrained embeddings.

    Args:
        config (Options): the options; an ``embedding_size`` that the user has set is kept.
        paths (str, optional): the files; None where there is none.

    Returns:
        dict: {"embedding_size": the size of the vectors in the first file}, or nothing.
    """
    files = [path for path in paths if path is not None]
    if not files or "embedding_size" in config.model_fields_set:
        return {}
    return {"embedding_size": vector_size(files[0])}


@torch.no_grad()
def fill_embedding(embedding: nn.Embedding | WordVectors, tokenizer: Tokenizer, path: str) -> KnownVectors:
    """Copy pretrained embeddings into an embedding, scaled to its standard deviation.

    Args:
        embedding: the embedding; its size must be that of the vectors in the file.
        tokenizer (Tokenizer): the vocabulary of the embedding.
        path (str): a GloVe, word2vec (text or .bin) or fastText (.vec) file.

    Returns:
        KnownVectors: how many tokens the file has.

    Raises:
        ElmanError: the file cannot be read, its vectors have another size, or it has none of the tokens.
    """
    found = vectors_for(tokenizer, path, embedding.embedding_dim)
    words = tokenizer.num_learned - len(SPECIAL)
    known = sum(i < tokenizer.num_learned for i in found)
    if not known:
        raise ElmanError(f"{path}: has none of the {words:,} tokens; are they words of the same language?")
    ids, matrix = torch.tensor(list(found)), torch.from_numpy(np.stack(list(found.values())))
    if not matrix.std() > 0:
        raise ElmanError(f"{path}: all values of the {known:,} vectors that are used are equal")
    matrix *= embedding.weight.std() / matrix.std()
    if isinstance(embedding, WordVectors):
        embedding.put(ids, matrix)
    else:
        embedding.weight[ids] = matrix
    return KnownVectors(file=os.path.basename(path), known=known, tokens=words)

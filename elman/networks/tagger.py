"""The networks of taggers and of models that fill in words."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from elman.layers.bidirectional import reverse
from elman.layers.crf import CRF
from elman.layers.dropout import SequenceDropout
from elman.layers.heads import VocabularyHead
from elman.layers.lengths import real_steps
from elman.layers.pooling import LastPooling
from elman.layers.recurrent import features_only
from elman.layers.stack import stack
from elman.networks.classifier import backward_size


class Tagger(nn.Module):
    """Score the tags of each word, from the word and its characters.

    ::

        x_t = [word vector; ends of a BiRNN over the characters]     Lample et al. 2016, arXiv:1603.01360
        with pauses, the vector of the pause after the word is added to the word vector
        scores = W BiRNN(x) + b                                       (B, T, K)

    followed by a softmax for each word, or a `CRF` over the sentence.

    Args:
        words (int): Size of the vocabulary of words.
        characters (int): Size of the vocabulary of characters.
        tags (int): K, the number of tags.
        cell (str): The cell of the layers over words. Default: "lstm".
        embedding_size (int): Size of a word's embedding. Default: 100.
        hidden_size (int): Units of a layer over words, in each direction. Default: 200.
        num_layers (int): Number of layers over words. Default: 1.
        character_size (int): Units of the layer over characters, in each direction; 0 disables it. Default: 64.
        crf (bool): Whether a conditional random field scores neighbouring tags. Default: False.
        pauses (int): The number of intervals of pauses, the unknown one included; 0: no pauses are read. Default: 0.
        dropout (float): Dropout of embeddings, between layers, and of the input of the linear layer. Default: 0.
    """

    def __init__(
        self,
        words: int,
        characters: int,
        tags: int,
        *,
        cell: str = "lstm",
        embedding_size: int = 100,
        hidden_size: int = 200,
        num_layers: int = 1,
        character_size: int = 64,
        crf: bool = False,
        pauses: int = 0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.words = nn.Embedding(words, embedding_size)
        nn.init.normal_(self.words.weight, std=0.5)
        size = embedding_size
        if character_size:
            self.characters = nn.Embedding(characters, 32)
            self.spelling = stack(cell, 32, character_size, bidirectional=True)
            self.ends = LastPooling(self.spelling.output_size, backward_size(self.spelling))
            size += self.spelling.output_size
        self.character_size = character_size
        self.pauses = nn.Embedding(pauses, embedding_size, padding_idx=0) if pauses else None
        if self.pauses is not None:
            nn.init.normal_(self.pauses.weight[1:], std=0.5)
        self.encoder = stack(cell, size, hidden_size, num_layers, bidirectional=True, dropout=dropout)
        features_only(self.encoder)
        self.dropout = SequenceDropout(dropout)
        self.head = nn.Linear(self.encoder.output_size, tags)
        self.crf = CRF(tags) if crf else None

    def forward(
        self, words: Tensor, lengths: Tensor, spelt: Tensor, sizes: Tensor, which: Tensor, pauses: Tensor
    ) -> Tensor:
        """Return scores (B, T, K).

        Args:
            words (Tensor): numbers of words (B, T).
            lengths (Tensor): the number of words of each row, (B,).
            spelt (Tensor): the characters of the different words, (U, W).
            sizes (Tensor): the number of characters of each, (U,).
            which (Tensor): which of them each word is, (B, T).
            pauses (Tensor): the interval of the pause after each word, (B, T); 0 for an unknown one.
        """
        return self.head(self.features(words, lengths, spelt, sizes, which, pauses)).float()

    def features(
        self, words: Tensor, lengths: Tensor, spelt: Tensor, sizes: Tensor, which: Tensor, pauses: Tensor
    ) -> Tensor:
        """Return what scores are computed from, (B, T, 2 H); see `forward`."""
        x = self.words(words)
        if self.pauses is not None:
            x = x + self.pauses(pauses)
        if self.character_size:
            y, _ = self.spelling(self.characters(spelt), None, sizes)
            spelling, _ = self.ends(y, sizes)
            x = torch.cat((x, spelling[which].to(x.dtype)), -1)
        y, _ = self.encoder(self.dropout(x), None, lengths)
        return self.dropout(y)

    def loss(self, scores: Tensor, tags: Tensor, lengths: Tensor) -> Tensor:
        """Return the mean of -log p per word, in nats."""
        real = real_steps(lengths, scores.shape[1])
        if self.crf is not None:
            return -self.crf.log_probability(scores, tags, lengths).sum() / real.sum()
        return cross_entropy(scores[real], tags[real])

    def nats(self, scores: Tensor, tags: Tensor, lengths: Tensor) -> tuple[Tensor, int]:
        """Return the sum of -log p of the known tags, and their number; tags below 0 are unknown.

        The random field is marginalised over unknown tags.
        """
        known = real_steps(lengths, scores.shape[1]) & (tags >= 0)
        if self.crf is None:
            return cross_entropy(scores[known], tags[known], reduction="sum"), int(known.sum())
        others = torch.ones_like(scores, dtype=torch.bool).scatter_(2, tags.clamp(min=0)[..., None], False)
        true = scores.masked_fill(others & known[..., None], -torch.inf)
        return (self.crf.log_norm(scores, lengths) - self.crf.log_norm(true, lengths)).sum(), int(known.sum())

    def decode(self, scores: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return the best tags (B, T), and the probabilities of all tags (B, T, K)."""
        if self.crf is not None:
            return self.crf.decode(scores, lengths), self.crf.marginals(scores, lengths)
        return scores.argmax(-1), scores.softmax(-1)


class SentenceTagger(Tagger):
    """A tagger that also learns something about the whole sentence of each word.

    The tag of a word may depend on words far away, as a question mark does on the beginning of the question. That is
    learnt sooner if every word of the sentence has to tell.

    Args:
        words, characters, tags (int): See `Tagger`.
        kinds (int): The number of kinds of sentences.
        **options: Those of `Tagger`.
    """

    def __init__(self, words: int, characters: int, tags: int, kinds: int, **options: Any) -> None:
        super().__init__(words, characters, tags, **options)
        self.kinds = nn.Linear(self.encoder.output_size, kinds)

    def kinds_loss(self, features: Tensor, kinds: Tensor) -> Tensor:
        """Return the mean of -log p(kind) over the words of known kind, given `features`; kinds (B, T), -1: unknown."""
        nats = cross_entropy(
            self.kinds(features).float().flatten(0, 1), kinds.flatten(), ignore_index=-1, reduction="sum"
        )
        return nats / (kinds >= 0).sum().clamp(min=1)


class Filler(nn.Module):
    """Model p(word | the words before and after it) for all words of a sentence at once.

    ::

        f_t = RNN(w_1 .. w_{t-1})       b_t = RNN(w_T .. w_{t+1})
        p(w_t) = softmax(E tanh(W [f_t; b_t]) + c),  E: the word vectors

    The prediction of a word does not depend on the word itself.

    Source: Melamud et al. 2016 (context2vec), https://aclanthology.org/K16-1006; Peters et al. 2018.

    Args:
        words (int): Size of the vocabulary.
        cell (str): The cell of the layers. Default: "lstm".
        embedding_size (int): Size of a word's embedding. Default: 256.
        hidden_size (int): Units of a layer, in each direction. Default: 512.
        num_layers (int): Number of layers in each direction. Default: 1.
        dropout (float): Dropout of embeddings, between layers and of the output. Default: 0.
    """

    #: The submodule that reads its input in reverse order.
    reads_backward = "after"

    def __init__(
        self,
        words: int,
        *,
        cell: str = "lstm",
        embedding_size: int = 256,
        hidden_size: int = 512,
        num_layers: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        E = embedding_size
        self.words = nn.Embedding(words, E)
        nn.init.normal_(self.words.weight, std=E**-0.5)
        self.scale = math.sqrt(E)
        self.before = stack(cell, E, hidden_size, num_layers, dropout=dropout)
        self.after = stack(cell, E, hidden_size, num_layers, dropout=dropout)
        features_only(self.before)
        self.join = nn.Linear(2 * hidden_size, E)
        self.dropout = SequenceDropout(dropout)
        self.head = VocabularyHead(E, words, self.words)

    def forward(self, ids: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return features of each word from all others (B, T, E), and contextual embeddings (B, T, 2 H).

        ids (B, T) are END, the words, END, and lengths (B,) count both ENDs. The features at the ENDs are undefined.
        """
        x = self.dropout(self.words(ids) * self.scale)
        f, _ = self.before(x, None, lengths)
        b, _ = self.after(reverse(x, lengths), None, lengths)
        b = reverse(b, lengths)
        around = torch.cat((f[:, :-2], b[:, 2:]), -1)
        inner = torch.tanh(self.join(self.dropout(around)))
        y = self.dropout(nn.functional.pad(inner, (0, 0, 1, 1)))
        return y, torch.cat((f, b), -1)

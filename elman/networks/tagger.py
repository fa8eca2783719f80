"""Networks that give a label to each word, or a word for each blank."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from elman.layers.bidirectional import reverse
from elman.layers.crf import CRF
from elman.layers.dropout import SequenceDropout
from elman.layers.heads import VocabularyHead
from elman.layers.pooling import LastPooling
from elman.layers.recurrent import features_only, real_steps
from elman.layers.stack import stack
from elman.networks.classifier import backward_size


class Tagger(nn.Module):
    """Scores of tags for each word, from the word and from its characters.

    ::

        x_t = [word vector; ends of a BiRNN over the characters]     Lample et al. 2016, arXiv:1603.01360
        scores = W BiRNN(x) + b                                       (B, T, K)

    and over them a softmax a word, or a `CRF` over the sentence.

    Arguments:
        words, characters: sizes of the vocabularies.
        tags: K.
        cell, embedding_size, hidden_size, num_layers: of the recurrence over words, each direction.
        character_size: units of that over characters, each direction; 0: words alone.
        crf: whether neighbouring tags know each other.
        dropout: of vectors, between layers, and of what the linear layer sees.
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
        self.encoder = stack(cell, size, hidden_size, num_layers, bidirectional=True, dropout=dropout)
        features_only(self.encoder)
        self.dropout = SequenceDropout(dropout)
        self.head = nn.Linear(self.encoder.output_size, tags)
        self.crf = CRF(tags) if crf else None

    def forward(self, words: Tensor, lengths: Tensor, spelt: Tensor, sizes: Tensor, which: Tensor) -> Tensor:
        """scores (B, T, K) from words (B, T); their spellings (U, W), sizes (U,), and which one each has (B, T)."""
        x = self.words(words)
        if self.character_size:
            y, _ = self.spelling(self.characters(spelt), None, sizes)
            spelling, _ = self.ends(y, sizes)
            x = torch.cat((x, spelling[which].to(x.dtype)), -1)
        y, _ = self.encoder(self.dropout(x), None, lengths)
        return self.head(self.dropout(y)).float()

    def loss(self, scores: Tensor, tags: Tensor, lengths: Tensor) -> Tensor:
        """The mean of -log p a word, in nats."""
        real = real_steps(lengths, scores.shape[1])
        if self.crf is not None:
            return -self.crf.log_probability(scores, tags, lengths).sum() / real.sum()
        return cross_entropy(scores[real], tags[real])

    def nats(self, scores: Tensor, tags: Tensor, lengths: Tensor) -> tuple[Tensor, int]:
        """-log p of the tags that the model knows, and how many these are; a tag below 0 is one that it does not.

        The field sums over all that an unknown tag could be, so that its neighbours count as they are.
        """
        known = real_steps(lengths, scores.shape[1]) & (tags >= 0)
        if self.crf is None:
            return cross_entropy(scores[known], tags[known], reduction="sum"), int(known.sum())
        others = torch.ones_like(scores, dtype=torch.bool).scatter_(2, tags.clamp(min=0)[..., None], False)
        true = scores.masked_fill(others & known[..., None], -torch.inf)
        return (self.crf.log_norm(scores, lengths) - self.crf.log_norm(true, lengths)).sum(), int(known.sum())

    def decode(self, scores: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """The best tags (B, T), and the probabilities of all (B, T, K)."""
        if self.crf is not None:
            return self.crf.decode(scores, lengths), self.crf.marginals(scores, lengths)
        return scores.argmax(-1), scores.softmax(-1)


class Filler(nn.Module):
    """p(word | the words before and after it), all words of a sentence at once.

    ::

        f_t = RNN(w_1 .. w_{t-1})       b_t = RNN(w_T .. w_{t+1})
        p(w_t) = softmax(E tanh(W [f_t; b_t]) + c),  E: the word vectors

    No word sees itself. Melamud et al. 2016 (context2vec), https://aclanthology.org/K16-1006; Peters et al. 2018.

    Arguments: as for `Tagger`; ``words``: size of the vocabulary.
    """

    #: The part that is given its input in reverse order.
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
        """ids (B, T) to features of words from all others (B, T, E), and vectors of each in its context (B, T, 2 H).

        ids: END, the words, END; lengths (B,) with both. At the ENDs the features mean nothing.
        """
        x = self.dropout(self.words(ids) * self.scale)
        f, _ = self.before(x, None, lengths)
        b, _ = self.after(reverse(x, lengths), None, lengths)
        b = reverse(b, lengths)
        around = torch.cat((f[:, :-2], b[:, 2:]), -1)
        inner = torch.tanh(self.join(self.dropout(around)))
        y = self.dropout(nn.functional.pad(inner, (0, 0, 1, 1)))
        return y, torch.cat((f, b), -1)

"""Tokenizers: convert text to ids and back, with characters, words or BPE tokens, stored in tokenizer.json."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, get_args

import numpy as np
import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers

from elman.data.strict import parse_json
from elman.errors import ElmanError, unknown_name

TokenKind = Literal["char", "word", "bpe"]

#: Id 0 separates texts and comes before the first one. Id 1 is anything outside the vocabulary.
END, UNKNOWN = "<|end|>", "<|unknown|>"
SPECIAL = [END, UNKNOWN]

#: Spaces outside ASCII, which word tokenizers replace by a plain space, and invisible characters, which they remove.
_OTHER_SPACES = r"[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]"
_INVISIBLE = r"[\x00-\x08\x0e-\x1b\x7f\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]"

#: The number of characters that are encoded at a time, to bound memory.
_PIECE = 1 << 14

#: A word with the space before it, a run of punctuation, or white space. Together they cover the whole text.
_WORDS = r" ?\w+| ?[^\w\s]+|\s+"
#: Tokens without spaces, for texts that are only read: a word is the same after a space and after a quotation mark.
_BARE_WORDS, _SPACES = r"\w+|[^\w\s]+|\n", r"[^\S\n]+"


class Tokenizer:
    """A tokenizer that converts text to ids and back. Create one with `Tokenizer.train` or `Tokenizer.from_json`.

    Decoding restores the encoded text, except for tokens outside the vocabulary, for capitals if the tokenizer
    converts to lower case, and for spaces if its words do not include them. Word tokenizers, and all tokenizers
    without spaces, normalise text: they compose it to Unicode NFC, replace other spaces by plain ones, and remove
    control and zero-width characters.

    Args:
        inner (tokenizers.Tokenizer): The tokenizer of the ``tokenizers`` package.
        num_learned (int, optional): How many of the tokens, the first ones, were learned from texts. Default: all.

    Raises:
        ElmanError: Tokens 0 and 1 are not ``<|end|>`` and ``<|unknown|>``.

    Example::

        >>> tokenizer = Tokenizer.train("word", ["the cat sat on the mat"], vocab_size=100)
        >>> tokenizer.decode(tokenizer.encode("the cat"))
        'the cat'
    """

    end_id, unknown_id = 0, 1

    def __init__(self, inner: tokenizers.Tokenizer, num_learned: int | None = None) -> None:
        self.inner, self.num_learned = inner, inner.get_vocab_size() if num_learned is None else num_learned
        if [inner.token_to_id(token) for token in SPECIAL] != [self.end_id, self.unknown_id]:
            raise ElmanError(f"the tokenizer lacks {END} and {UNKNOWN} as its tokens 0 and 1")

    @classmethod
    def train(
        cls, kind: TokenKind, texts: Sequence[str], vocab_size: int, lowercase: bool = False, spaces: bool = True
    ) -> Tokenizer:
        """Train a tokenizer on texts.

        Args:
            kind (str): ``"char"``: all characters of the texts. ``"word"``: the most frequent words and punctuation
                marks; a word includes the space before it. ``"bpe"``: byte pair encoding, which can encode any text
                (Sennrich et al. 2016, https://arxiv.org/abs/1508.07909).
            texts (Sequence[str]): The texts.
            vocab_size (int): The maximum number of tokens, special tokens included; at least 258 for ``"bpe"``.
                Ignored for ``"char"``.
            lowercase (bool): Whether to convert text to lower case. Default: ``False``.
            spaces (bool): Whether words include the space before them. If not, the tokenizer is for reading only,
                since decoding loses the spaces. Default: ``True``.

        Returns:
            Tokenizer: The tokenizer.

        Raises:
            ElmanError: The kind is unknown, or ``vocab_size`` is too small.
        """
        if kind not in get_args(TokenKind):
            raise unknown_name("kind of tokens", kind, get_args(TokenKind))
        steps = [*(_normalizers() if kind == "word" or not spaces else ()), *([normalizers.Lowercase()] * lowercase)]
        normalizer = normalizers.Sequence(steps) if steps else None
        if kind == "bpe":
            inner = tokenizers.Tokenizer(models.BPE())
            inner.normalizer = normalizer
            inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
            inner.decoder = decoders.ByteLevel()
            alphabet = pre_tokenizers.ByteLevel.alphabet()
            if vocab_size < len(alphabet) + len(SPECIAL):
                raise ElmanError(
                    f"vocab_size must be at least {len(alphabet) + len(SPECIAL)} for bpe, not {vocab_size}"
                )
            inner.train_from_iterator(
                _all_pieces(texts),
                trainers.BpeTrainer(
                    vocab_size=vocab_size, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
                ),
            )
            return cls(_without_added_tokens(inner))
        if kind == "char":
            normalized = (normalizer.normalize_str(text) if normalizer else text for text in texts)
            names = SPECIAL + sorted(set().union(*(set(text) for text in normalized)))
            inner = tokenizers.Tokenizer(models.WordLevel({n: i for i, n in enumerate(names)}, unk_token=UNKNOWN))
            pattern = r"(?m:.)"
        else:
            inner = tokenizers.Tokenizer(models.WordLevel(unk_token=UNKNOWN))
            pattern = _WORDS if spaces else _BARE_WORDS
        inner.normalizer = normalizer
        split = pre_tokenizers.Split(Regex(pattern), "isolated")
        remove_spaces = pre_tokenizers.Split(Regex(_SPACES), "removed")
        inner.pre_tokenizer = pre_tokenizers.Sequence([remove_spaces, split]) if pattern == _BARE_WORDS else split
        inner.decoder = decoders.Fuse()
        if kind == "word":
            trainer = trainers.WordLevelTrainer(vocab_size=vocab_size, special_tokens=SPECIAL, show_progress=False)
            inner.train_from_iterator(_all_pieces(texts), trainer)
        return cls(_without_added_tokens(inner))

    @classmethod
    def from_words(cls, words: Iterable[str], vocab_size: int) -> Tokenizer:
        """Create a tokenizer for texts that are already split into words; encode them with `encode_words`.

        Args:
            words (Iterable[str]): All words of the texts.
            vocab_size (int): The maximum number of words; the most frequent ones are kept.
        """
        counts = Counter(words)
        for token in SPECIAL:
            counts.pop(token, None)
        names = SPECIAL + [word for word, _ in counts.most_common(vocab_size)]
        return cls(tokenizers.Tokenizer(models.WordLevel({n: i for i, n in enumerate(names)}, unk_token=UNKNOWN)))

    def with_words(self, words: Iterable[str]) -> Tokenizer:
        """Return a word tokenizer with more words after its own.

        Words that it would split, and words in its vocabulary, are skipped.
        """
        inner = json.loads(self.inner.to_str())
        vocabulary, normalizer, splitter = inner["model"]["vocab"], self.inner.normalizer, self.inner.pre_tokenizer
        for word in words:
            form = normalizer.normalize_str(word) if normalizer else word
            if form.strip() and form not in vocabulary and len(parts := splitter.pre_tokenize_str(f" {form}")) == 1:
                vocabulary.setdefault(parts[0][0], len(vocabulary))
        return Tokenizer(tokenizers.Tokenizer.from_str(json.dumps(inner)), self.vocab_size)

    def encode_words(self, words: Sequence[str]) -> np.ndarray:
        """Return the ids of words, (N,), int64; a word is never split."""
        ids = (self.inner.token_to_id(word) for word in words)
        return np.array([self.unknown_id if i is None else i for i in ids], dtype=np.int64)

    @property
    def vocab_size(self) -> int:
        """The number of tokens, special tokens included."""
        return self.inner.get_vocab_size()

    @property
    def names(self) -> list[tuple[str, str]]:
        """The kind of the vocabulary and the token, of each id.

        A byte of a BPE token can look like a character, so tokens of both kinds are different names.
        """
        kind = type(self.inner.model).__name__
        return [(kind, token) for token, _ in sorted(self.inner.get_vocab().items(), key=lambda pair: pair[1])]

    def encode(self, text: str) -> np.ndarray:
        """Return the ids of a text, (N,), int32."""
        parts = []
        pieces = list(_pieces(text))
        for start in range(0, len(pieces), 64):
            for encoding in self.inner.encode_batch_fast(pieces[start : start + 64], add_special_tokens=False):
                parts.append(np.asarray(encoding.ids, dtype=np.int32))
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int32)

    def token_texts(self, text: str) -> list[str]:
        """Return the text of each token, including a space before it that is not part of a token.

        If several tokens encode one character, the first has its text and the others are empty.
        """
        pieces, position = [], 0
        for _, end in self.inner.encode(text, add_special_tokens=False).offsets:
            pieces.append(text[position : max(position, end)])
            position = max(position, end)
        return pieces

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of ids, without end tokens; unknown tokens become ``<|unknown|>``."""
        return self.inner.decode([int(i) for i in ids if i != self.end_id], skip_special_tokens=False)

    def unknown_pieces(self, text: str) -> list[str]:
        """Return the distinct pieces of a text that are not in the vocabulary, in order of appearance."""
        encoding = self.inner.encode(text, add_special_tokens=False)
        spans = (span for i, span in zip(encoding.ids, encoding.offsets, strict=True) if i == self.unknown_id)
        return list(dict.fromkeys(text[start:end] for start, end in spans))

    def stream_decoder(self) -> Callable[[int], str]:
        """Return a function that maps each next id to the text it completes; ``""`` within a character."""
        stream = decoders.DecodeStream(skip_special_tokens=False)
        return lambda i: "" if i == self.end_id else stream.step(self.inner, int(i)) or ""

    def to_json(self) -> str:
        """Return the content of tokenizer.json."""
        return self.inner.to_str(pretty=True)

    @classmethod
    def from_json(cls, text: str, source: str) -> Tokenizer:
        """Create a tokenizer from the content of tokenizer.json.

        Args:
            text (str): The content.
            source (str): The name of the file, for error messages.

        Raises:
            ElmanError: The text is not a tokenizer that `to_json` can write.
        """
        content = parse_json(text, source)
        try:
            inner = tokenizers.Tokenizer.from_str(text)
        except Exception as error:  # tokenizers raises no narrower class
            raise ElmanError(f"{source}: not a tokenizer: {error}") from None
        _check(content, source)
        try:
            return cls(inner)
        except ElmanError as error:
            raise ElmanError(f"{source}: {error}") from None


def _check(content: Any, source: str) -> None:
    """Raise an error if a tokenizer is not one that `Tokenizer` writes."""
    model = content["model"]
    if unsupported := [key for key in ("truncation", "padding", "post_processor", "added_tokens") if content.get(key)]:
        raise ElmanError(f"{source}: not an elman tokenizer: it has {unsupported[0]}")
    if model.get("type") not in ("WordLevel", "BPE") or model.get("dropout"):
        raise ElmanError(f"{source}: not an elman tokenizer: WordLevel or BPE without dropout is required")
    if model["type"] == "WordLevel" and model.get("unk_token") != UNKNOWN:
        raise ElmanError(f"{source}: its unk_token must be {UNKNOWN!r}, not {model.get('unk_token')!r}")
    if sorted(model["vocab"].values()) != list(range(len(model["vocab"]))):
        raise ElmanError(f"{source}: the ids of its tokens must be 0, 1, 2, ... without gaps")


def _normalizers() -> list[normalizers.Normalizer]:
    """Return normalizers that give equal-looking text a single spelling."""
    replacements = [(_INVISIBLE, ""), (_OTHER_SPACES, " ")]
    return [normalizers.NFC(), *(normalizers.Replace(Regex(pattern), by) for pattern, by in replacements)]


def _without_added_tokens(inner: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """Remove added tokens, so that "<|end|>" in a text is encoded as plain text."""
    return tokenizers.Tokenizer.from_str(json.dumps({**json.loads(inner.to_str()), "added_tokens": []}))


def _pieces(text: str) -> Iterator[str]:
    """Cut a text into pieces of about ``_PIECE`` characters, at line ends where possible."""
    start = 0
    while start < len(text):
        end = text.rfind("\n", start, start + _PIECE) + 1
        if end <= start:
            end = start + _PIECE
        yield text[start:end]
        start = end


def _all_pieces(texts: Sequence[str]) -> Iterator[str]:
    for text in texts:
        yield from _pieces(text)

"""Text to ids and back: characters, words or byte pairs, always in one tokenizer.json."""

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

#: Id 0: between texts, and before the first of them. Id 1: what the vocabulary does not hold.
END, UNKNOWN = "<|end|>", "<|unknown|>"
SPECIAL = [END, UNKNOWN]

#: White space that is no space of ASCII: to words it is one. Characters that show nothing: to words they are none.
_OTHER_SPACES = r"[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]"
_INVISIBLE = r"[\x00-\x08\x0e-\x1b\x7f\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]"

#: A text is encoded in pieces of about this many characters, to bound memory.
_PIECE = 1 << 14

#: A word with the space before it, a run of punctuation, or white space: nothing is lost.
_WORDS = r" ?\w+| ?[^\w\s]+|\s+"
#: For reading alone, where a word is the same behind a space and behind a quotation mark: a line end is one too.
_BARE_WORDS, _SPACES = r"\w+|[^\w\s]+|\n", r"[^\S\n]+"


class Tokenizer:
    """A `tokenizers.Tokenizer` that loses nothing: decoding what was encoded gives the same text,
    except for what the vocabulary does not hold, for capitals where it reads small letters alone, and for
    spaces where words come without them. Words, and texts that are only read, are in Unicode's composed form, with
    plain spaces (a no-break space is one) and without control and zero-width characters.

    own: how many of the tokens come from texts, the first ones; by default all.
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
        """The tokenizer of that kind for these texts.

        char: all characters of the texts. word: the ``vocab_size`` most frequent words and marks, the
        space before a word its part. bpe: byte pair encoding into ``vocab_size`` tokens (Sennrich et
        al. 2016, https://arxiv.org/abs/1508.07909), which knows every text. ``lowercase``: texts are
        read in small letters. Without ``spaces``, words are tokens without the space before them: texts
        can be read with them, not written.
        """
        if kind not in get_args(TokenKind):
            raise unknown_name("kind of tokens", kind, get_args(TokenKind))
        steps = [*(_plainly() if kind == "word" or not spaces else ()), *([normalizers.Lowercase()] * lowercase)]
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
            return cls(_plain(inner))
        if kind == "char":
            read = (normalizer.normalize_str(text) if normalizer else text for text in texts)
            names = SPECIAL + sorted(set().union(*(set(text) for text in read)))
            inner = tokenizers.Tokenizer(models.WordLevel({n: i for i, n in enumerate(names)}, unk_token=UNKNOWN))
            pattern = r"(?m:.)"
        else:
            inner = tokenizers.Tokenizer(models.WordLevel(unk_token=UNKNOWN))
            pattern = _WORDS if spaces else _BARE_WORDS
        inner.normalizer = normalizer
        split = pre_tokenizers.Split(Regex(pattern), "isolated")
        none = pre_tokenizers.Split(Regex(_SPACES), "removed")
        inner.pre_tokenizer = pre_tokenizers.Sequence([none, split]) if pattern == _BARE_WORDS else split
        inner.decoder = decoders.Fuse()
        if kind == "word":
            trainer = trainers.WordLevelTrainer(vocab_size=vocab_size, special_tokens=SPECIAL, show_progress=False)
            inner.train_from_iterator(_all_pieces(texts), trainer)
        return cls(_plain(inner))

    @classmethod
    def from_words(cls, words: Iterable[str], vocab_size: int) -> Tokenizer:
        """The tokenizer of text that is cut into words already: the most frequent ones; see `encode_words`."""
        counts = Counter(words)
        for token in SPECIAL:
            counts.pop(token, None)
        names = SPECIAL + [word for word, _ in counts.most_common(vocab_size)]
        return cls(tokenizers.Tokenizer(models.WordLevel({n: i for i, n in enumerate(names)}, unk_token=UNKNOWN)))

    def with_words(self, words: Iterable[str]) -> Tokenizer:
        """A tokenizer of words that knows these too, behind its own; those that it would cut it leaves out."""
        inner = json.loads(self.inner.to_str())
        vocabulary, fold, cut = inner["model"]["vocab"], self.inner.normalizer, self.inner.pre_tokenizer
        for word in words:
            form = fold.normalize_str(word) if fold else word
            if form.strip() and form not in vocabulary and len(parts := cut.pre_tokenize_str(f" {form}")) == 1:
                vocabulary.setdefault(parts[0][0], len(vocabulary))
        return Tokenizer(tokenizers.Tokenizer.from_str(json.dumps(inner)), self.vocab_size)

    def encode_words(self, words: Sequence[str]) -> np.ndarray:
        """ids (N,) of words, each as a whole."""
        found = (self.inner.token_to_id(word) for word in words)
        return np.array([self.unknown_id if i is None else i for i in found], dtype=np.int64)

    @property
    def vocab_size(self) -> int:
        return self.inner.get_vocab_size()

    def encode(self, text: str) -> np.ndarray:
        """ids (N,) int32."""
        parts = []
        pieces = list(_pieces(text))
        for start in range(0, len(pieces), 64):
            for encoding in self.inner.encode_batch_fast(pieces[start : start + 64], add_special_tokens=False):
                parts.append(np.asarray(encoding.ids, dtype=np.int32))
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int32)

    def token_texts(self, text: str) -> list[str]:
        """The text of each token, with the space before it that is no token; parts of a character have one place in
        the text, the first one's."""
        pieces, done = [], 0
        for _, end in self.inner.encode(text, add_special_tokens=False).offsets:
            pieces.append(text[done : max(done, end)])
            done = max(done, end)
        return pieces

    def decode(self, ids: Iterable[int]) -> str:
        """The text; END is left out, what was unknown reads as ``<|unknown|>``."""
        return self.inner.decode([int(i) for i in ids if i != self.end_id], skip_special_tokens=False)

    def unknown_pieces(self, text: str) -> list[str]:
        """The different pieces of the text that the vocabulary does not hold, in order."""
        encoding = self.inner.encode(text, add_special_tokens=False)
        spans = (span for i, span in zip(encoding.ids, encoding.offsets, strict=True) if i == self.unknown_id)
        return list(dict.fromkeys(text[start:end] for start, end in spans))

    def stream_decoder(self) -> Callable[[int], str]:
        """A function of the next id that gives the text it completes, "" inside a character."""
        stream = decoders.DecodeStream(skip_special_tokens=False)
        return lambda i: "" if i == self.end_id else stream.step(self.inner, int(i)) or ""

    def to_json(self) -> str:
        return self.inner.to_str(pretty=True)

    @classmethod
    def from_json(cls, text: str, source: str) -> Tokenizer:
        """The tokenizer that `to_json` wrote; ElmanError names ``source`` if it is not one."""
        form = parse_json(text, source)
        try:
            inner = tokenizers.Tokenizer.from_str(text)
        except Exception as error:  # tokenizers raises no narrower class
            raise ElmanError(f"{source}: not a tokenizer: {error}") from None
        _check(form, source)
        try:
            return cls(inner)
        except ElmanError as error:
            raise ElmanError(f"{source}: {error}") from None


def _check(form: Any, source: str) -> None:
    """ElmanError if a tokenizer is none that `Tokenizer` makes: it has gaps in its ids, or adds or drops tokens."""
    model = form["model"]
    if strange := [key for key in ("truncation", "padding", "post_processor", "added_tokens") if form.get(key)]:
        raise ElmanError(f"{source}: not a tokenizer of elman's: it has {strange[0]}")
    if model.get("type") not in ("WordLevel", "BPE") or model.get("dropout"):
        raise ElmanError(f"{source}: not a tokenizer of elman's: WordLevel or BPE without dropout is needed")
    if model["type"] == "WordLevel" and model.get("unk_token") != UNKNOWN:
        raise ElmanError(f"{source}: its unk_token is {model.get('unk_token')!r}, not {UNKNOWN!r}")
    if sorted(model["vocab"].values()) != list(range(len(model["vocab"]))):
        raise ElmanError(f"{source}: the ids of its tokens are not 0, 1, 2, ... without a gap")


def _plainly() -> list[normalizers.Normalizer]:
    """One spelling for what looks the same."""
    replaced = [(_INVISIBLE, ""), (_OTHER_SPACES, " ")]
    return [normalizers.NFC(), *(normalizers.Replace(Regex(pattern), by) for pattern, by in replaced)]


def _plain(inner: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """The tokenizer without tokens that are found in the text as they are: "<|end|>" there is just text."""
    return tokenizers.Tokenizer.from_str(json.dumps({**json.loads(inner.to_str()), "added_tokens": []}))


def _pieces(text: str) -> Iterator[str]:
    """The text cut after line ends, into pieces of about _PIECE characters."""
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

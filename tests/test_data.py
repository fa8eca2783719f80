"""Text files, tokenizers and windows."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elman.data import Tokenizer, TokenKind, Windows, read_text
from elman.errors import ElmanError
from tests.conftest import some_text

WILD = "Grüße, Zoë! 😀\n\n\tTabs  and   spaces.\nC'est l'été… 漢字かな\x0b\u2028end<|end|>"


def test_read_text(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\ntwo\rthree\n")
    assert read_text(str(path)) == "one\ntwo\nthree\n"
    packed = tmp_path / "b.txt.gz"
    packed.write_bytes(gzip.compress("größer".encode()))
    assert read_text(str(packed)) == "größer"
    assert read_text(f"file://{path}") == "one\ntwo\nthree\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"", "the file is empty"),
        (b" \n\n", "only white space"),
        (b"abc\xe9def", r"not UTF-8 at byte 3 \(0xe9\).*Latin-1"),
        (b"abc\0def", "not text: byte 3 is zero"),
        ("hej".encode("utf-16"), "UTF-16LE; try iconv"),
    ],
)
def test_unreadable_files(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "a.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ElmanError, match=message) as caught:
        read_text(str(path))
    assert str(path) in str(caught.value)


def test_a_folder_and_a_broken_archive(tmp_path: Path) -> None:
    with pytest.raises(ElmanError, match="a folder"):
        read_text(str(tmp_path))
    broken = tmp_path / "a.txt.gz"
    broken.write_bytes(gzip.compress(b"hello world" * 100)[:-20])
    with pytest.raises(ElmanError, match="cannot be read"):
        read_text(str(broken))


@pytest.mark.parametrize("kind", ["char", "word", "bpe"])
def test_decoding_restores_the_text(kind: str) -> None:
    text = WILD + some_text(3000)
    tokenizer = Tokenizer.train(kind, [text], 400)  # type: ignore[arg-type]
    again = Tokenizer.from_json(tokenizer.to_json(), "here")
    for t in (text, some_text(40_000, seed=3)):
        ids = tokenizer.encode(t)
        assert ids.dtype == np.int32
        assert tokenizer.decode(ids) == t
        assert (again.encode(t) == ids).all()
    write = tokenizer.stream_decoder()
    assert "".join(write(i) for i in tokenizer.encode(text).tolist()) == text


@settings(max_examples=60, deadline=None)
@given(st.text())
def test_bpe_encodes_any_text(text: str) -> None:
    tokenizer = BPE
    assert tokenizer.decode(tokenizer.encode(text)) == text


BPE = Tokenizer.train("bpe", [some_text()], 300)


def test_unknown_tokens() -> None:
    chars = Tokenizer.train("char", ["abc"], 0)
    assert chars.vocab_size == 5
    assert chars.encode("abxcy").tolist() == [2, 3, 1, 4, 1]
    assert chars.unknown_pieces("abxcyx") == ["x", "y"]
    assert chars.decode([0, 2, 1]) == "a<|unknown|>"
    words = Tokenizer.train("word", [" the cat the cat the dog"], 4)
    assert words.vocab_size == 4
    assert words.unknown_pieces(" the dog") == [" dog"]


def test_wrong_tokenizers() -> None:
    with pytest.raises(ElmanError, match="unknown kind of tokens 'words': did you mean word"):
        Tokenizer.train("words", ["a"], 10)  # type: ignore[arg-type]
    with pytest.raises(ElmanError, match="at least 258 for bpe, not 100"):
        Tokenizer.train("bpe", ["a"], 100)
    for broken in ("", "{}", '{"version": 2}', "\x80\x04pickle"):
        with pytest.raises(ElmanError, match="tokenizer.json: not (a tokenizer|valid JSON)"):
            Tokenizer.from_json(broken, "tokenizer.json")


def test_with_words() -> None:
    """Words that the tokenizer would split, or that are in its vocabulary, are skipped."""
    own = Tokenizer.train("word", [" the cat , the"], 10, lowercase=True)
    more = own.with_words(["Dog", "dog", "cat", "don't", ",", "a b", "...", "the"])
    assert (own.vocab_size, more.vocab_size, more.num_learned) == (5, 7, 5)
    assert more.encode(" the DOG ...").tolist() == [2, 5, 6]
    assert own.encode(" the dog").tolist() == [2, 1]


def test_words_without_spaces() -> None:
    """A word is the same token after a quotation mark, in brackets and at the start of a line; offsets are kept."""
    text = ' "Great" film,\n(great)  GREAT\tfun \n'
    words = Tokenizer.train("word", [text], 10, lowercase=True, spaces=False)
    great, film, line = (int(i) for w in ("great", "film", "\n") for i in words.encode(w))
    ids = words.encode(text).tolist()
    assert [k for k, i in enumerate(ids) if i == great] == [1, 7, 9]
    assert [k for k, i in enumerate(ids) if i == line] == [5, 11]
    assert ids == Tokenizer.from_json(words.to_json(), "here").encode(text).tolist()
    assert words.token_texts(text) == [
        ' "',
        "Great",
        '"',
        " film",
        ",",
        "\n",
        "(",
        "great",
        ")",
        "  GREAT",
        "\tfun",
        " \n",
    ]
    more = words.with_words(["Bad", "great", "a b", " ", "film"])
    assert more.encode("bad").tolist() == [words.vocab_size]
    assert more.vocab_size == words.vocab_size + 1
    assert film == words.encode("(film)").tolist()[1]


@pytest.mark.parametrize("kind", get_args(TokenKind))
def test_lowercase(kind: TokenKind) -> None:
    tokenizer = Tokenizer.train(kind, ["The ABC, \u0130"], 300, lowercase=True)
    for text in ("The ABC, \u0130", "the abc"):
        assert tokenizer.encode(text).tolist() == tokenizer.encode(text.lower()).tolist()
        assert "".join(tokenizer.token_texts(text)) == text
        assert not tokenizer.unknown_pieces(text)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 200), st.integers(1, 9), st.integers(1, 20))
def test_windows_cover_every_stream_once(n: int, streams: int, length: int) -> None:
    ids = np.arange(1, n + 1, dtype=np.int32)
    windows = Windows(ids, streams, length, start=0, seed=1)
    seen = []
    for epoch in range(2):
        batches = [windows.batch(epoch * windows.per_epoch + k) for k in range(windows.per_epoch)]
        assert [batch.fresh for batch in batches] == [True] + [False] * (len(batches) - 1)
        inputs = np.concatenate([batch.ids.numpy() for batch in batches], 1)
        targets = np.concatenate([batch.targets.numpy() for batch in batches], 1)
        assert (inputs[:, 0] == 0).all()
        assert (inputs[:, 1:] == targets[:, :-1]).all()
        assert ((targets[:, 1:] - targets[:, :-1]) % n == 1 % n).all()  # each follows the one before it
        assert len(set(targets.flatten().tolist())) == targets.size >= n - n % windows.streams
        seen.append(targets[0, 0])
    assert all(batch.ids.shape[1] <= length for batch in batches)


def test_windows_of_several_processes_equal_those_of_one() -> None:
    ids = np.arange(1, 101, dtype=np.int32)
    whole = Windows(ids, 8, 5, 0, 3)
    parts = [Windows(ids, 8, 5, 0, 3, rank, 2) for rank in range(2)]
    for k in (0, 1, 7):
        both = np.concatenate([part.batch(k).targets.numpy() for part in parts])
        assert (both == whole.batch(k).targets.numpy()).all()


def test_rotations_differ_between_epochs_and_depend_on_the_seed() -> None:
    ids = np.arange(1000, dtype=np.int32)
    first, second, other = (Windows(ids, 4, 50, 0, seed) for seed in (1, 1, 2))
    assert (first.batch(7).targets == second.batch(7).targets).all()
    assert not (first.batch(0).targets == first.batch(first.per_epoch).targets).all()
    assert not (first.batch(0).targets == other.batch(0).targets).all()

"""Fusion: language models and hotwords in the search of a recogniser."""

from __future__ import annotations

import logging
import math
import random
import re
from pathlib import Path
from typing import Any

import pytest
import torch

import elman
from elman.config import parse
from elman.data.tokenizer import Tokenizer
from elman.decoding.ctc import PrefixBeam
from elman.decoding.fusion import Fusion, LanguageModelFusion, Spelling, Sum, WordBonus
from elman.decoding.heard import CTCSearch
from elman.decoding.hotwords import Hotwords, read_hotwords
from elman.errors import ElmanError
from elman.tasks.fusing import fusion_of
from elman.tasks.language.model import LanguageModel

TEXT = "the cat sat on the mat\na dog ran\nthe café is near\n" * 60
#: Tokenizers of recognisers.
CHARACTERS = Tokenizer.train("char", ["abcdefghijklmnopqrstuvwxyz é'"], 100)
PAIRS = Tokenizer.train("bpe", [TEXT.replace("\n", " ")], 275)
WORDS = Tokenizer.train("word", [TEXT.replace("\n", " "), "a"], 100)


def language_model(text: str = TEXT, **options: Any) -> LanguageModel:
    """A language model whose weights are large, so that texts differ."""
    sizes = {"hidden_size": 12, "embedding_size": 8, "batch_size": 4, "window": 16} | options
    model = elman.train("language", {"text": [text]}, steps=1, progress=False, **sizes)
    generator = torch.Generator().manual_seed(3)
    for parameter in model.network.parameters():
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)
    return model


@pytest.fixture(scope="module")
def models() -> dict[str, LanguageModel]:
    return {
        "char": language_model(),
        "two layers": language_model(num_layers=2, cell=["lstm", "gru"]),
        "word": language_model(tokens="word"),
        "bpe": language_model(tokens="bpe", vocab_size=280),
        "transformer": language_model(model="transformer", num_layers=1, heads=2, embedding_size=8, window=40),
    }


def total(fusion: Fusion, ids: list[int], prepared: bool = False) -> float:
    """What a text adds to the score."""
    gain, state = 0.0, fusion.start()
    for i in ids:
        if prepared:
            fusion.prepare([state, fusion.start()], [i, 2])
        increment, state = fusion.extend(state, i)
        assert increment <= fusion.bound + 1e-9
        gain += increment
    return gain + fusion.end(state)


def log_probability(model: LanguageModel, text: str) -> float:
    """The log probability of a line, by one plain pass."""
    ids = torch.tensor([[0, *(i for part in ("\n", text, "\n") for i in model.tokenizer.encode(part).tolist())]])
    with torch.inference_mode():
        log_probs = model.network(ids)[0].log_softmax(-1)[0]
    return sum(float(log_probs[t, i]) for t, i in enumerate(ids[0, 1:].tolist()) if t)


@pytest.mark.parametrize("name", ["char", "two layers", "word", "bpe", "transformer"])
@pytest.mark.parametrize("tokenizer", [CHARACTERS, PAIRS, WORDS], ids=["characters", "pairs", "words"])
def test_a_text_costs_what_the_language_model_says(
    models: dict[str, LanguageModel], name: str, tokenizer: Tokenizer
) -> None:
    fusion = LanguageModelFusion(models[name], 0.7, tokenizer)
    for text in ("the cat ran", "a", "the café sat on the dog", ""):
        ids = tokenizer.encode(text).tolist()
        assert Tokenizer.unknown_id not in ids
        wanted = 0.7 * log_probability(models[name], text)
        assert total(fusion, ids) == pytest.approx(wanted, abs=1e-4)
        assert total(fusion, ids, prepared=True) == pytest.approx(wanted, abs=1e-4)


def test_states_are_read_together(models: dict[str, LanguageModel], monkeypatch: pytest.MonkeyPatch) -> None:
    """All states of a frame need one call of the language model, whatever their words."""
    calls, inner = [], LanguageModel.log_probs
    monkeypatch.setattr(LanguageModel, "log_probs", lambda self, *a: calls.append(a[0].shape) or inner(self, *a))
    for name, count in (("char", 1), ("word", 1), ("bpe", 2)):
        fusion = LanguageModelFusion(models[name], 1.0, CHARACTERS)
        states = []
        for text in ("the", "a dog", "mat"):
            state = fusion.start()
            for i in CHARACTERS.encode(text).tolist():
                _, state = fusion.extend(state, i)
            states.append(state)
        space = int(CHARACTERS.encode(" ")[0])
        if name == "bpe":
            fusion.prepare(states, [5])  # ends no word
        calls.clear()
        fusion.prepare(states, [5, space])
        assert 1 <= len(calls) <= count + (name == "char") + 1
        calls.clear()
        for state in states:
            fusion.extend(state, space)
        assert not calls


def test_unknown_characters_and_words(caplog: pytest.LogCaptureFixture) -> None:
    model = language_model(text="the cat sat\n" * 60)
    tokenizer = Tokenizer.train("char", ["thecas xyz"], 100)
    with caplog.at_level(logging.WARNING):
        fusion = LanguageModelFusion(model, 1.0, tokenizer)
        LanguageModelFusion(model, 1.0, tokenizer)
    messages = [record.message for record in caplog.records if "does not know" in record.message]
    assert messages == ["the language model does not know 'x', 'y', 'z'; texts with them are less likely"]
    known, unknown = (total(fusion, tokenizer.encode(text).tolist()) for text in ("the cat", "the xcyat"))
    assert unknown == pytest.approx(known - 2 * math.log(tokenizer.vocab_size - 2), abs=1e-4)
    words = LanguageModelFusion(language_model(tokens="word"), 1.0, CHARACTERS)
    short, long = (total(words, CHARACTERS.encode(f"the {text}").tolist()) for text in ("zz", "zzzzz"))
    assert short - long == pytest.approx(3 * math.log(28 + 1), abs=1e-4)  # 26 letters, é, ' and the space


def test_texts_without_lines_end_with_the_end_token_if_several_were_seen() -> None:
    model = language_model(text="the cat sat " * 60)
    assert model.border is None
    assert total(LanguageModelFusion(model, 1.0, CHARACTERS), []) == 0.0
    model.sources.examples = 2
    assert model.border == Tokenizer.end_id
    assert total(LanguageModelFusion(model, 1.0, CHARACTERS), []) < 0.0


def test_spelling_waits_for_whole_characters() -> None:
    spelling, waiting, texts = Spelling(PAIRS), (), []
    ids = PAIRS.encode("é€ a").tolist()
    assert len(ids) > 4
    for i in ids:
        text, waiting = spelling.extend(waiting, i)
        texts.append(text)
    assert "".join(texts) == "é€ a" and waiting == ()
    broken = [PAIRS.encode("€").tolist()[0]] * 4
    for i in broken:
        text, waiting = spelling.extend(waiting, i)
    assert text and waiting == ()  # bytes that are no character do not wait for ever


def test_word_bonus() -> None:
    for tokenizer in (CHARACTERS, PAIRS, WORDS):
        bonus = WordBonus(tokenizer, 1.5)
        for text, count in (("", 0), ("the", 1), ("the cat sat", 3), (" the", 1)):
            assert total(bonus, tokenizer.encode(text).tolist()) == 1.5 * count


PHRASES = ["ab", "b a", "ab ba ab", "abba", "a"]


def covered(text: str, phrases: list[str]) -> int:
    """The letters of a text that belong to whole phrases, by trying all places."""
    padded, marked = f" {' '.join(text.split())} ", set()
    for phrase in phrases:
        for match in re.finditer(f"(?= {phrase} )", padded):
            marked |= {match.start() + 1 + k for k, c in enumerate(phrase) if c != " "}
    return len(marked)


def test_hotwords_count_the_letters_of_whole_phrases() -> None:
    """Against a plain search, for random texts: whatever was given for beginnings has been taken back."""
    tokenizer = Tokenizer.train("char", ["abc "], 100)
    rng = random.Random(0)
    for _ in range(300):
        phrases = rng.sample(PHRASES, rng.randint(1, len(PHRASES)))
        hotwords = Hotwords(phrases, 0.5, tokenizer)
        text = "".join(rng.choices("ab c ", [4, 4, 4, 1, 2], k=rng.randint(0, 14)))
        gained = total(hotwords, tokenizer.encode(text).tolist())
        assert gained == pytest.approx(0.5 * covered(text, phrases)), (text, phrases)


def test_hotwords_are_given_at_once_and_taken_back() -> None:
    hotwords = Hotwords(["Jean-Luc Café"], 2.0, CHARACTERS)
    state, gains = hotwords.start(), []
    for i in CHARACTERS.encode("jean luc cat jean luc café").tolist():
        gain, state = hotwords.extend(state, i)
        gains.append(gain)
    assert (
        gains
        == [2.0] * 4
        + [0.0]
        + [2.0] * 3
        + [0.0, 2.0, 2.0, -18.0, 0.0]
        + [2.0] * 4
        + [0.0]
        + [2.0] * 3
        + [0.0]
        + [2.0] * 4
    )
    assert hotwords.end(state) == 0.0
    for tokenizer in (PAIRS, WORDS):
        cat = Hotwords(["the cat", "café"], 1.0, tokenizer)
        assert total(cat, tokenizer.encode("the cat is near the café").tolist()) == 10.0


def test_hotwords_without_spaces() -> None:
    tokenizer = Tokenizer.train("char", ["北京在哪里。"], 100)
    assert total(Hotwords(["北京"], 1.0, tokenizer), tokenizer.encode("在北京。").tolist()) == 2.0


def spoken(text: str, wrong: dict[int, str]) -> torch.Tensor:
    """Frames of a text in which some characters sound a little more like others."""
    rows = []
    for place, character in enumerate(text):
        row = torch.full((CHARACTERS.vocab_size,), 0.001)
        row[int(CHARACTERS.encode(character)[0])] = 0.4
        if place in wrong:
            row[int(CHARACTERS.encode(wrong[place])[0])] = 0.6
        blank = torch.full_like(row, 0.001)
        blank[0] = 1.0
        rows += [row, blank]
    return torch.stack(rows).log().log_softmax(-1)


def heard(log_probs: torch.Tensor, fusion: Fusion | None, piece: int = 1000) -> list[str]:
    beam = PrefixBeam(CTCSearch(beam=8, n_best=3), fusion)
    for part in log_probs.split(piece):
        beam.push(part)
    return [CHARACTERS.decode(one.ids) for one in beam.finish()]


def test_fusion_corrects_what_was_heard(tmp_path: Path) -> None:
    elman.train("language", {"text": [TEXT]}, steps=60, hidden_size=24, embedding_size=8, batch_size=8,
                        window=32, learning_rate=0.02, progress=False, out=tmp_path / "run")  # fmt: skip
    log_probs = spoken("the cat sat on the mat", {4: "k", 19: "n"})
    assert heard(log_probs, None)[0] == "the kat sat on the nat"
    fusion = fusion_of(CTCSearch(language_model=str(tmp_path / "run")), CHARACTERS, "cpu")
    assert isinstance(fusion, Sum) and len(fusion.parts) == 2
    found = heard(log_probs, fusion)
    assert found[0] == "the cat sat on the mat"
    assert heard(log_probs, fusion, 3) == heard(log_probs, fusion, 1) == found
    (tmp_path / "hot.txt").write_text("\n  Kat \nNat\n")
    fusion = fusion_of(CTCSearch(hotwords=str(tmp_path / "hot.txt"), hotword_weight=1.0), CHARACTERS, "cpu")
    assert [heard(spoken("the kat", {4: "c"}), one)[0] for one in (None, fusion)] == ["the cat", "the kat"]
    assert heard(spoken("the cat", {}), fusion)[0] == "the cat"
    assert fusion_of(CTCSearch(), CHARACTERS, "cpu") is None


def test_what_cannot_be_fused_is_refused(tmp_path: Path) -> None:
    rows = [("good fine", "yes"), ("bad awful", "no")] * 10
    elman.train("classify", rows, steps=1, hidden_size=4, embedding_size=4, out=tmp_path / "labels", progress=False)
    for path, message in (
        (tmp_path / "labels", "is a run of the task classify; a language model is needed"),
        (tmp_path / "none", "no such folder; a run directory"),
    ):
        with pytest.raises(ElmanError, match=message):
            fusion_of(CTCSearch(language_model=str(path)), CHARACTERS, "cpu")
    for content, message in (
        (None, "none.txt: "),
        ("", "empty"),
        (" \n", "only white space"),
        ("a\n--\n", "line 2: '--'"),
    ):
        path = tmp_path / "none.txt"
        if content is not None:
            path.write_text(content)
        with pytest.raises(ElmanError, match=message):
            read_hotwords(str(path))
    with pytest.raises(ElmanError, match="hotword_weight: has no effect here, it needs hotwords"):
        fusion_of(parse(CTCSearch, {"hotword_weight": 2.0}), CHARACTERS, "cpu")

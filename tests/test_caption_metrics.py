"""Metrics of captions, and the pointing game."""

from __future__ import annotations

import logging
import sys

import numpy as np
import pytest

from elman.errors import ElmanError
from elman.metrics import texts
from elman.metrics.captions import caption_scores, normalize, split_words
from elman.metrics.cider import cider_d
from elman.metrics.pointing import Box, Pointed, pointing_scores, read_boxes

#: A caption, its score by coco-caption (pycocoevalcap 1.2, its Cider scorer) among all of these, and its references.
COCO_CAPTION: list[tuple[str, float, list[str]]] = [
    (
        "a dog runs on the grass",
        4.6290295702741355,
        ["a brown dog runs on the grass", "the dog is running over a lawn", "a dog runs on grass"],
    ),
    (
        "two men play chess in a park",
        2.904793463349267,
        ["two old men play chess", "men play a game of chess in the park"],
    ),
    ("a red red red circle", 1.4571939126139037, ["a red circle above a blue star"]),
    (
        "the girl eats an ice cream",
        4.358020852410926,
        ["a girl eats ice cream", "the girl has an ice cream", "the girl eats an ice cream", "a child with a cone"],
    ),
    ("", 0.0, ["a cat sleeps on the sofa", "a cat on a sofa"]),
    ("a boat", 3.0598936620681054, ["a boat", "a small boat on the lake"]),
    (
        "a dog runs on the grass with a ball and another ball near a tree by the river in the sun",
        0.16927283079678562,
        ["a dog with a ball", "the dog plays with a ball near the river"],
    ),
]
MEAN = 2.3683148987875886
#: BLEU-1 and BLEU-4 of all of these by coco-caption (its Bleu scorer).
BLEU_1, BLEU_4 = 0.7021276595595293, 0.3786198401599205


def words(captions: list[str]) -> list[list[str]]:
    return [caption.split() for caption in captions]


def test_cider_d_equals_coco_caption() -> None:
    answers = words([answer for answer, _, _ in COCO_CAPTION])
    mean, scores = cider_d(answers, [words(references) for _, _, references in COCO_CAPTION])
    assert scores == pytest.approx([score for _, score, _ in COCO_CAPTION], abs=1e-6)
    assert mean == pytest.approx(MEAN, abs=1e-6)
    two = [COCO_CAPTION[0], COCO_CAPTION[3]]
    _, scores = cider_d(words([two[0][0], two[1][0]]), [words(two[0][2]), words(two[1][2])])
    assert scores == pytest.approx([4.727975823916176, 4.35820980735005], abs=1e-6)


def test_cider_d_of_one_picture_and_of_none() -> None:
    assert cider_d([["a", "dog"]], [[["a", "dog"]]]) == (0.0, [0.0])
    assert cider_d([], []) == (0.0, [])


def test_cider_d_is_10_for_the_only_reference_of_a_picture() -> None:
    captions = words(["a red circle above a star", "two green rings here"])
    assert cider_d(captions, [[c] for c in captions])[1] == pytest.approx([10, 10])


def test_references_are_required() -> None:
    for metric in (cider_d, caption_scores):
        with pytest.raises(ValueError, match="at least one"):
            metric(["a"], [[]])
        with pytest.raises(ValueError, match="argument 2"):
            metric(["a", "b"], [["a"]])


def test_caption_scores() -> None:
    references = [references for _, _, references in COCO_CAPTION]
    scores = caption_scores([answer and f"{answer.title()}." for answer, _, _ in COCO_CAPTION], references)
    assert scores["cider"] == pytest.approx(MEAN, abs=1e-6)
    assert scores["exact"] == pytest.approx(2 / 7)
    assert scores["distinct"] == 7
    assert scores["words"] == pytest.approx(np.mean([len(answer.split()) for answer, _, _ in COCO_CAPTION]))


def test_bleu_equals_coco_caption() -> None:
    pytest.importorskip("sacrebleu")
    scores = caption_scores([answer for answer, _, _ in COCO_CAPTION], [refs for _, _, refs in COCO_CAPTION])
    assert scores["bleu"] == pytest.approx(100 * BLEU_4, abs=1e-6)
    assert scores["bleu_1"] == pytest.approx(100 * BLEU_1, abs=1e-6)


def test_bleu_of_unequal_numbers_of_references() -> None:
    """A picture with fewer references has no empty reference instead, which would change the brevity penalty."""
    pytest.importorskip("sacrebleu")
    scores = caption_scores(["a b c d e", "f g h i"], [["a b c d e", "x", "a b c d e f g"], ["f g h i j k"]])
    assert str(scores["signature"]).startswith("nrefs:var|case:mixed|eff:no|tok:none")
    assert scores["bleu_1"] == pytest.approx(100 * np.exp(1 - 11 / 9))  # 5 + 6 words wanted, 9 found, all are right
    assert scores["bleu"] == pytest.approx(scores["bleu_1"])
    same = caption_scores(["a b c d"] * 2, [["a b c d"], ["z", "y", "a b c d"]])
    assert (same["bleu"], same["chrf"], same["exact"]) == (pytest.approx(100), pytest.approx(100), 1)


def test_bleu_by_hand() -> None:
    """3 of 4 words, 2 of 3 pairs, 1 of 2 triples, and none of 1 of four words, which counts half (exponential)."""
    pytest.importorskip("sacrebleu")
    scores = caption_scores(["the red circle falls"], [["The red circle, here!"]])
    assert scores["bleu_1"] == pytest.approx(75)
    assert scores["bleu"] == pytest.approx(100 * (3 / 4 * 2 / 3 * 1 / 2 * 1 / 2) ** 0.25)


def test_empty_answers() -> None:
    pytest.importorskip("sacrebleu")
    scores = caption_scores(["", " "], [["a dog"], ["a cat", "cats"]])
    assert [scores[key] for key in ("bleu", "bleu_1", "chrf", "cider", "exact", "distinct", "words")] == [
        0, 0, 0, 0, 0, 1, 0,
    ]  # fmt: skip
    assert caption_scores([""], [["..."]])["exact"] == 0


def test_no_pictures() -> None:
    scores = caption_scores([], [])
    assert [scores[key] for key in ("bleu", "bleu_1", "chrf", "cider", "exact", "words")] == [None] * 6
    assert scores["distinct"] == 0


def test_scripts_without_spaces() -> None:
    pytest.importorskip("sacrebleu")
    scores = caption_scores(["赤い円。", "青い星"], [["赤い円"], ["青い星形"]])
    assert scores["exact"] == 0.5
    assert scores["words"] == 3
    assert scores["bleu_1"] == pytest.approx(100 * np.exp(1 - 7 / 6))
    assert 0 < scores["cider"] < 10
    assert split_words("สุนัข a狗b") == ["ส", "ุ", "น", "ั", "ข", "a", "狗", "b"]


@pytest.mark.parametrize(
    ("text", "normalized"),
    [
        ("A dog, running -- fast!", "a dog running fast"),
        ("Don\u2019t: rock-'n'-roll 't-shirts'", "don't rock n roll t-shirts"),
        ("3,000 boats at 7.5 km; no. 5", "3,000 boats at 7.5 km no 5"),
        ("ÉTÉ E\u0301te\u0301 soft\u00adhyphen\u200b", "été été softhyphen"),
        ("«Большой дом» ¿Qué? — नमस्ते।", "большой дом qué नमस्ते"),
        ("C++ & 50 %", "c++ 50"),
        ("?", "?"),
        ("\ufeff \n", ""),
    ],
)
def test_normalize(text: str, normalized: str) -> None:
    assert normalize(text) == normalized
    assert normalize(normalized) == normalized


def test_scores_without_sacrebleu(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics", None)
    texts.warn_of_missing_sacrebleu.cache_clear()
    with caplog.at_level(logging.WARNING, "elman"):
        scores = [caption_scores(["a dog"], [["a dog"]]) for _ in range(2)]
    assert set(scores[0]) == {"cider", "exact", "distinct", "words"}
    assert caplog.text.count("sacrebleu is missing") == 1
    texts.warn_of_missing_sacrebleu.cache_clear()


# The pointing game

CIRCLE, STAR = Box("red circle", 0.0, 0.0, 0.25, 0.25), Box("blue star", 0.75, 0.5, 1.0, 1.0)
CAPTION = ["a", "red", "circle", "above", "a", "blue", "star"]


def looking_at(cells: list[int], count: int = 16) -> np.ndarray:
    return np.eye(count)[cells]


def test_words_of_labels_are_compared_with_their_boxes() -> None:
    """The grown circle covers cell 0 and its neighbours, 4 cells; the grown star rows 1 to 3 of columns 2 and 3."""
    weights = looking_at([9, 0, 5, 9, 9, 11, 4])
    scores = pointing_scores([Pointed(CAPTION, weights, (4, 4), [CIRCLE, STAR])])
    assert scores["pointing"] == scores["attention_inside"] == 3 / 4
    assert scores["pointing_chance"] == pytest.approx((2 * 4 + 2 * 6) / 16 / 4)


def test_equal_weights_score_chance() -> None:
    weights = np.full((8, 16), 1 / 16, np.float32)
    scores = pointing_scores([Pointed(CAPTION, weights, (4, 4), [CIRCLE, STAR])])
    assert scores["pointing"] == pytest.approx(scores["pointing_chance"])
    assert scores["attention_inside"] == pytest.approx(scores["pointing_chance"])


def test_phrases() -> None:
    """A label counts where it occurs as a whole, in any case and with punctuation; longer labels come first."""
    circle = Box("circle", 0.75, 0.75, 1.0, 1.0)

    def score(caption: str, cells: list[int], boxes: list[Box]) -> float | None:
        return pointing_scores([Pointed(caption.split(), looking_at(cells), (4, 4), boxes)])["pointing"]

    assert score("Red circle. circle", [0, 0, 15], [circle, CIRCLE]) == 1
    assert score("red star", [0, 0], [CIRCLE, STAR]) is None
    assert score("dog and dog", [0, 0, 15], [CIRCLE._replace(label="dog"), circle._replace(label="Dog")]) == 1
    assert score("赤い円", [0], [CIRCLE._replace(label="円")]) == 1
    assert score("a", [0], [CIRCLE._replace(label="")]) is None


def test_questions_use_the_first_row() -> None:
    found = [Pointed([], looking_at([cell, 15]), (4, 4), [CIRCLE, STAR]) for cell in (0, 15, 3)]
    assert pointing_scores(found)["pointing"] == pytest.approx(2 / 3)
    assert pointing_scores([Pointed([], looking_at([0]), (4, 4), [])])["pointing"] is None
    assert pointing_scores([]) == {"pointing": None, "attention_inside": None, "pointing_chance": None}


def test_grids_need_not_be_square() -> None:
    left = Box("left", 0.0, 0.0, 0.4, 1.0)
    scores = pointing_scores([Pointed([], looking_at([1], 6), (2, 3), [left])])
    assert scores["pointing"] == 1
    assert scores["pointing_chance"] == pytest.approx(4 / 6)


def test_weights_of_the_wrong_shape() -> None:
    with pytest.raises(ValueError, match=r"\(2, 15\) is not the shape"):
        pointing_scores([Pointed([], np.ones((2, 15)), (4, 4), [CIRCLE])])
    with pytest.raises(ValueError, match=r"shape \(2 or more, 16\)"):
        pointing_scores([Pointed(["red", "circle"], np.ones((1, 16)), (4, 4), [CIRCLE])])


def test_boxes() -> None:
    cell = '[{"label": "red circle", "box": [0, 0, 0.25, 0.25]}, {"box": [0.75, 0.5, 1, 1], "label": "blue star"}]'
    assert read_boxes(cell, "") == [CIRCLE, STAR]
    assert read_boxes("", "") == read_boxes(" [] ", "") == []


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("red circle", "t.tsv, row 3: boxes: red circle is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ('{"label": "a", "box": [0, 0, 1, 1]}', "is not a list"),
        ("[1]", "1 has no label and box"),
        ('[{"box": [0, 0, 1, 1]}]', "has no label and box"),
        ('[{"label": 3, "box": [0, 0, 1, 1]}]', "is not a text"),
        ('[{"label": "a", "box": [0, 0, 1]}]', "is not four numbers"),
        ('[{"label": "a", "box": "0 0 1 1"}]', "is not four numbers"),
        ('[{"label": "a", "box": [0, 0, true, 1]}]', "is not four numbers"),
        ('[{"label": "a", "box": [0, 0, 64, 32]}]', "divide pixels by the picture's size"),
        ('[{"label": "a", "box": [0, 0, NaN, 1]}]', "not within 0 and 1"),
        ('[{"label": "a", "box": [0.5, 0, 0.5, 1]}]', "left, top, right and bottom"),
    ],
)
def test_broken_boxes(cell: str, message: str) -> None:
    with pytest.raises(ElmanError, match="t.tsv, row 3: boxes: ") as caught:
        read_boxes(cell, "t.tsv, row 3")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)

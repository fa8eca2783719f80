"""Questions about scenes of coloured shapes, with answers that the question alone does not tell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from elman.data.drawing import COLOURS, SHAPES, Draw
from elman.data.scenes import SceneObject, article, relation

_REVERSE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}


class SceneQuestion(NamedTuple):
    """A question about a scene.

    Attributes:
        question (str): The question.
        answer (str): The answer.
        objects (list[SceneObject]): The objects that the answer is about; none where the answer is that there are none.
        kind (str): A name in `KINDS`. Default: ``""``.
    """

    question: str
    answer: str
    objects: list[SceneObject]
    kind: str = ""


#: Questions of one kind that can be asked about a scene, by form. Each form has its own balance of answers.
_Forms = Sequence[list[SceneQuestion]]


def _alone(objects: Sequence[SceneObject], part: str) -> list[SceneObject]:
    """Return the objects whose colour, or shape, no other object has."""
    parts = Counter(getattr(one, part) for one in objects)
    return [one for one in objects if parts[getattr(one, part)] == 1]


def _colour(objects: Sequence[SceneObject]) -> _Forms:
    """Ask for the colour of the only object of a shape."""
    return [[SceneQuestion(f"what colour is the {o.shape}?", o.colour, [o]) for o in _alone(objects, "shape")]]


def _shape(objects: Sequence[SceneObject]) -> _Forms:
    """Ask for the shape of the only object of a colour."""
    return [[SceneQuestion(f"what shape is the {o.colour} object?", o.shape, [o]) for o in _alone(objects, "colour")]]


def _exist(objects: Sequence[SceneObject]) -> _Forms:
    """Ask whether there is an object of a colour, of a shape, or of both, where an object has at least one of them."""
    colours = [(f"{c} object", [o for o in objects if o.colour == c]) for c in COLOURS]
    shapes = [(s, [o for o in objects if o.shape == s]) for s in SHAPES]
    near = [(c, s) for c in COLOURS for s in SHAPES if any(o.colour == c or o.shape == s for o in objects)]
    both = [(f"{c} {s}", [o for o in objects if (o.colour, o.shape) == (c, s)]) for c, s in near]
    return [
        [SceneQuestion(f"is there {article(name)}?", "yes" if found else "no", found) for name, found in form]
        for form in (colours, shapes, both)
    ]


def _count(objects: Sequence[SceneObject]) -> _Forms:
    """Ask for the number of objects: of a colour, of a shape, or of all."""
    colours = [(f"{c} objects", [o for o in objects if o.colour == c]) for c in COLOURS]
    shapes = [(f"{s}es" if s.endswith("s") else f"{s}s", [o for o in objects if o.shape == s]) for s in SHAPES]
    return [
        [SceneQuestion(f"how many {name} are there?", str(len(found)), found) for name, found in form]
        for form in (colours, shapes, [("objects", list(objects))])
    ]


def _relation(objects: Sequence[SceneObject]) -> _Forms:
    """Ask for the object on one side of another, where no third object lies on this side at all."""
    pairs = [(a, b, [c for c in objects if c is not a and c is not b]) for a in objects for b in objects if a is not b]
    return [
        [
            SceneQuestion(f"what is {relation(a, b)} the {b.name}?", a.name, [a])
            for a, b, others in pairs
            if not any(_beyond(other, b, relation(a, b)) for other in others)
        ]
    ]


def _beyond(a: SceneObject, b: SceneObject, side: str) -> bool:
    """Return whether the centre of ``a`` lies beyond the edge of ``b`` on a side, at any distance along the edge."""
    left, top, right, bottom = b.box
    return {"left of": a.x < left, "right of": a.x > right, "above": a.y < top, "below": a.y > bottom}[side]


def _verify(objects: Sequence[SceneObject]) -> _Forms:
    """Ask whether an object has a colour, has a shape, or stands in a relation to another one."""
    colours = [
        (f"is the {o.shape} {colour}?", colour == o.colour, [o]) for o in _alone(objects, "shape") for colour in COLOURS
    ]
    shapes = [
        (f"is the {o.colour} object {article(shape)}?", shape == o.shape, [o])
        for o in _alone(objects, "colour")
        for shape in SHAPES
    ]
    relations = []
    for a in objects:
        for b in objects:
            if a is not b:
                side = relation(a, b)
                relations.append((f"is the {a.name} {side} the {b.name}?", True, [a, b]))
                relations.append((f"is the {a.name} {_REVERSE[side]} the {b.name}?", False, [a, b]))
    return [
        [SceneQuestion(question, "yes" if true else "no", about) for question, true, about in form]
        for form in (colours, shapes, relations)
    ]


#: What is asked, by kind, in the terms of CLEVR and GQA. The answers are a colour, a shape, yes or no, a number from 0
#: to 3, an object such as ``red circle``, and yes or no.
KINDS: dict[str, Callable[[Sequence[SceneObject]], _Forms]] = {
    "colour": _colour,
    "shape": _shape,
    "exist": _exist,
    "count": _count,
    "relation": _relation,
    "verify": _verify,
}


class Questioner:
    """Ask about one scene after the other, so that a question alone tells little about its answer.

    For each kind, a form is drawn; then an answer is chosen that was rare so far for this form, and a question that
    rarely had this answer.

    Args:
        seed (int): The seed, 0 or greater.
    """

    def __init__(self, seed: int) -> None:
        self._draw = Draw((seed, 1))
        self._answers: Counter[tuple[str, int, str]] = Counter()
        self._pairs: Counter[tuple[str, str]] = Counter()
        self._questions: Counter[str] = Counter()

    def ask(self, objects: Sequence[SceneObject]) -> list[SceneQuestion]:
        """Return one question of each kind that can be asked about the objects of a scene."""
        asked = []
        for kind, make in KINDS.items():
            forms = [(number, form) for number, form in enumerate(make(objects)) if form]
            if forms:
                number, form = self._draw.choice(forms)
                asked.append(self._choose(kind, number, form)._replace(kind=kind))
        return asked

    def _choose(self, kind: str, number: int, form: Sequence[SceneQuestion]) -> SceneQuestion:
        """Choose a question of a form, and count it."""
        least = min(self._answers[kind, number, one.answer] for one in form)
        answers = sorted({one.answer for one in form if self._answers[kind, number, one.answer] == least})
        answer = self._draw.choice(answers)
        questions = [one for one in form if one.answer == answer]
        shares = [self._pairs[one.question, answer] / (1 + self._questions[one.question]) for one in questions]
        rarest = [one for one, share in zip(questions, shares, strict=True) if share == min(shares)]
        chosen = self._draw.choice(rarest)
        self._answers[kind, number, answer] += 1
        self._pairs[chosen.question, answer] += 1
        self._questions[chosen.question] += 1
        return chosen

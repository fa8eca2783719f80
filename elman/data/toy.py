"""Small worlds, told in a few sentences, with a question: where people are, what they carry.

    python -m elman.data.toy FOLDER --stories 1000 --seed 0

writes FOLDER/one_fact.txt and one file for each other kind, in the format of bAbI (Weston et al. 2015,
https://arxiv.org/abs/1502.05698), for ``elman train answer FOLDER/*.txt``.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Sequence
from pathlib import Path

from elman.data.stories import Story

PEOPLE = ("Mary", "John", "Sandra", "Daniel", "Ada", "Omar")
PLACES = ("kitchen", "garden", "office", "bathroom", "hallway", "bedroom")
THINGS = ("football", "milk", "apple", "book", "lamp", "key")
NUMBERS = ("none", "one", "two", "three", "four", "five", "six")
_MOVES = ("{who} went to the {place}.", "{who} moved to the {place}.", "{who} walked to the {place}.")
_TAKES = ("{who} took the {thing}.", "{who} picked up the {thing}.")
_DROPS = ("{who} dropped the {thing}.", "{who} put down the {thing}.")


class World:
    """People, each in a place; things, each carried by somebody or lying somewhere."""

    def __init__(self, draw: random.Random, people: int, things: int) -> None:
        self.draw = draw
        self.people, self.things = draw.sample(PEOPLE, people), draw.sample(THINGS, things)
        self.place: dict[str, str] = {}
        self.holder: dict[str, str] = {}
        self.lying: dict[str, str] = {}

    def move(self) -> str:
        who = self.draw.choice(self.people)
        self.place[who] = self.draw.choice([p for p in PLACES if p != self.place.get(who)])
        return self.draw.choice(_MOVES).format(who=who, place=self.place[who])

    def take_or_drop(self) -> str:
        """Somebody takes a thing that nobody has, or drops one; moves, where there is nothing to take."""
        free = [t for t in self.things if t not in self.holder]
        if self.holder and (not free or self.draw.random() < 0.35):
            thing = self.draw.choice(sorted(self.holder))
            who = self.holder.pop(thing)
            self.lying[thing] = self.place[who]
            return self.draw.choice(_DROPS).format(who=who, thing=thing)
        there = [who for who in self.people if who in self.place]
        near = [(w, t) for w in there for t in free if self.lying.get(t, self.place[w]) == self.place[w]]
        if not near:
            return self.move()
        who, thing = self.draw.choice(near)
        self.holder[thing] = who
        return self.draw.choice(_TAKES).format(who=who, thing=thing)

    def where(self, thing: str) -> str | None:
        return self.place[self.holder[thing]] if thing in self.holder else self.lying.get(thing)


def one_fact(draw: random.Random) -> Story:
    """Where somebody is."""
    world = World(draw, 4, 0)
    story = [world.move() for _ in range(draw.randint(3, 8))]
    who = draw.choice(sorted(world.place))
    return Story(story, f"Where is {who}?", world.place[who], "one_fact")


def two_facts(draw: random.Random) -> Story:
    """Where a thing is: who has it, or dropped it, and where that was."""
    while True:
        world = World(draw, 3, 2)
        story = [world.move() if draw.random() < 0.6 else world.take_or_drop() for _ in range(draw.randint(5, 9))]
        known = [t for t in world.things if world.where(t)]
        if known:
            thing = draw.choice(known)
            return Story(story, f"Where is the {thing}?", world.where(thing) or "", "two_facts")


def yes_no(draw: random.Random) -> Story:
    """Whether somebody is in a place."""
    world = World(draw, 4, 0)
    story = [world.move() for _ in range(draw.randint(3, 8))]
    who = draw.choice(sorted(world.place))
    yes = draw.random() < 0.5
    place = world.place[who] if yes else draw.choice([p for p in PLACES if p != world.place[who]])
    return Story(story, f"Is {who} in the {place}?", "yes" if yes else "no", "yes_no")


def _carried(draw: random.Random) -> tuple[list[str], str, list[str]]:
    world = World(draw, 2, 4)
    story = [world.move() for _ in range(2)]
    story += [world.take_or_drop() if draw.random() < 0.75 else world.move() for _ in range(draw.randint(3, 7))]
    who = draw.choice(world.people)
    return story, who, [t for t, holder in world.holder.items() if holder == who]  # in the order of taking


def counting(draw: random.Random) -> Story:
    """How many things somebody carries."""
    story, who, things = _carried(draw)
    return Story(story, f"How many objects is {who} carrying?", NUMBERS[len(things)], "counting")


def carrying(draw: random.Random) -> Story:
    """What somebody carries, in the order in which it was taken."""
    story, who, things = _carried(draw)
    return Story(story, f"What is {who} carrying?", " ".join(things) or "nothing", "carrying")


KINDS: dict[str, Callable[[random.Random], Story]] = {
    make.__name__: make for make in (one_fact, two_facts, yes_no, counting, carrying)
}


def stories(kind: str, count: int, seed: int = 0) -> list[Story]:
    """So many different stories of a kind."""
    draw = random.Random(f"{kind} {seed}")
    found: dict[tuple, Story] = {}
    while len(found) < count:
        story = KINDS[kind](draw)
        found[(*story.sentences, story.question)] = story
    return list(found.values())


def write(path: Path, told: Sequence[Story]) -> None:
    """The stories in bAbI's format."""
    lines = []
    for story in told:
        lines += [f"{number} {sentence}" for number, sentence in enumerate(story.sentences, 1)]
        lines.append(f"{len(story.sentences) + 1} {story.question}\t{story.answer}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m elman.data.toy", description="Write stories with questions.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--stories", type=int, default=1000, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    given.folder.mkdir(parents=True, exist_ok=True)
    for kind in KINDS:
        write(given.folder / f"{kind}.txt", stories(kind, given.stories, given.seed))


if __name__ == "__main__":
    main()

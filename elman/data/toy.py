"""Generate short stories with a question: where people are, and what they carry.

    python -m elman.data.toy FOLDER --stories 1000 --seed 0

writes one file for each kind of question, FOLDER/one_fact.txt and so on, in the format of bAbI (Weston et al. 2015,
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
    """A world of people, each in a place, and things, each carried by somebody or lying somewhere.

    Args:
        generator (random.Random): The source of random numbers.
        people (int): The number of people.
        things (int): The number of things.
    """

    def __init__(self, generator: random.Random, people: int, things: int) -> None:
        self.generator = generator
        self.people, self.things = generator.sample(PEOPLE, people), generator.sample(THINGS, things)
        self.place: dict[str, str] = {}
        self.holder: dict[str, str] = {}
        self.lying: dict[str, str] = {}

    def move(self) -> str:
        """Move somebody to another place, and return the sentence."""
        who = self.generator.choice(self.people)
        self.place[who] = self.generator.choice([p for p in PLACES if p != self.place.get(who)])
        return self.generator.choice(_MOVES).format(who=who, place=self.place[who])

    def take_or_drop(self) -> str:
        """Let somebody take or drop a thing, or move if there is nothing to take, and return the sentence."""
        free = [t for t in self.things if t not in self.holder]
        if self.holder and (not free or self.generator.random() < 0.35):
            thing = self.generator.choice(sorted(self.holder))
            who = self.holder.pop(thing)
            self.lying[thing] = self.place[who]
            return self.generator.choice(_DROPS).format(who=who, thing=thing)
        placed = [who for who in self.people if who in self.place]
        near = [(w, t) for w in placed for t in free if self.lying.get(t, self.place[w]) == self.place[w]]
        if not near:
            return self.move()
        who, thing = self.generator.choice(near)
        self.holder[thing] = who
        return self.generator.choice(_TAKES).format(who=who, thing=thing)

    def where(self, thing: str) -> str | None:
        """Return the place of a thing, or None if it is unknown."""
        return self.place[self.holder[thing]] if thing in self.holder else self.lying.get(thing)


def one_fact(generator: random.Random) -> Story:
    """Ask where somebody is."""
    world = World(generator, 4, 0)
    story = [world.move() for _ in range(generator.randint(3, 8))]
    who = generator.choice(sorted(world.place))
    return Story(story, f"Where is {who}?", world.place[who], "one_fact")


def two_facts(generator: random.Random) -> Story:
    """Ask where a thing is, which takes two facts: who has or dropped it, and where that person is or was."""
    while True:
        world = World(generator, 3, 2)
        story = [
            world.move() if generator.random() < 0.6 else world.take_or_drop() for _ in range(generator.randint(5, 9))
        ]
        located = [t for t in world.things if world.where(t)]
        if located:
            thing = generator.choice(located)
            return Story(story, f"Where is the {thing}?", world.where(thing) or "", "two_facts")


def yes_no(generator: random.Random) -> Story:
    """Ask whether somebody is in a place."""
    world = World(generator, 4, 0)
    story = [world.move() for _ in range(generator.randint(3, 8))]
    who = generator.choice(sorted(world.place))
    yes = generator.random() < 0.5
    place = world.place[who] if yes else generator.choice([p for p in PLACES if p != world.place[who]])
    return Story(story, f"Is {who} in the {place}?", "yes" if yes else "no", "yes_no")


def _carried(generator: random.Random) -> tuple[list[str], str, list[str]]:
    """Return a story, a person and the things that the person carries, in the order in which they were taken."""
    world = World(generator, 2, 4)
    story = [world.move() for _ in range(2)]
    story += [
        world.take_or_drop() if generator.random() < 0.75 else world.move() for _ in range(generator.randint(3, 7))
    ]
    who = generator.choice(world.people)
    return story, who, [t for t, holder in world.holder.items() if holder == who]


def counting(generator: random.Random) -> Story:
    """Ask how many things somebody carries."""
    story, who, things = _carried(generator)
    return Story(story, f"How many objects is {who} carrying?", NUMBERS[len(things)], "counting")


def carrying(generator: random.Random) -> Story:
    """Ask what somebody carries, in the order in which it was taken."""
    story, who, things = _carried(generator)
    return Story(story, f"What is {who} carrying?", " ".join(things) or "nothing", "carrying")


KINDS: dict[str, Callable[[random.Random], Story]] = {
    make.__name__: make for make in (one_fact, two_facts, yes_no, counting, carrying)
}


def stories(kind: str, count: int, seed: int = 0) -> list[Story]:
    """Generate distinct stories of one kind.

    Args:
        kind (str): A key of `KINDS`.
        count (int): The number of stories.
        seed (int): The seed. Default: 0.

    Returns:
        list[Story]: The stories.

    Example::

        >>> [story] = stories("one_fact", 1)
        >>> story.question, story.answer
        ('Where is Ada?', 'hallway')
    """
    generator = random.Random(f"{kind} {seed}")
    result: dict[tuple, Story] = {}
    while len(result) < count:
        story = KINDS[kind](generator)
        result[(*story.sentences, story.question)] = story
    return list(result.values())


def write(path: Path, data: Sequence[Story]) -> None:
    """Write stories to a file in the format of bAbI."""
    lines = []
    for story in data:
        lines += [f"{number} {sentence}" for number, sentence in enumerate(story.sentences, 1)]
        lines.append(f"{len(story.sentences) + 1} {story.question}\t{story.answer}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command ``python -m elman.data.toy``."""
    parser = argparse.ArgumentParser(prog="python -m elman.data.toy", description="Write stories with questions.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--stories", type=int, default=1000, help="number of stories of each kind")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    for kind in KINDS:
        write(options.folder / f"{kind}.txt", stories(kind, options.stories, options.seed))


if __name__ == "__main__":
    main()

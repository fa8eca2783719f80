"""Run every command and every example of the README and the docs, and check their links."""

from __future__ import annotations

import glob
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from elman import cells, cli, layers
from elman.data import toy, world
from tests.conftest import elman_cli, some_text

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

#: The number of training steps in these tests, which replaces the minutes or steps of an example.
STEPS = 1


def blocks(page: Path, language: str) -> list[str]:
    """Return the code blocks of a page. They train for `STEPS` steps, at any speed of the machine."""
    code = re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    return [re.sub(r"\b(?:minutes|steps)([= ])[\d.]+", rf"steps\g<1>{STEPS}", block) for block in code]


def test_examples_train_by_steps() -> None:
    """An example without minutes or steps would train for a time that depends on its data."""
    for page in PAGES:
        calls = re.findall(r"(?:elman\.train|SequenceClassifier)\(.*\)", "".join(blocks(page, "python")))
        lines = [line for line in "".join(blocks(page, "bash")).splitlines() if line.startswith("elman train")]
        for example in calls + [line for line in lines if "--resume" not in line and "--help" not in line]:
            assert re.search(rf"\bsteps[= ]{STEPS}\b", example), f"{page.name}: {example}"
            assert "minutes" not in example


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the examples read."""
    tmp_path = tmp_path_factory.mktemp("files")
    (tmp_path / "shakespeare.txt").write_text("ROMEO:\nTo be JULIET\nOr not.\n" + some_text(20_000))
    lines = some_text(20_000).splitlines()[:300]
    for name in ("train", "val", "test"):
        (tmp_path / f"{name}.de").write_text("\n".join(lines) + "\n")
        (tmp_path / f"{name}.en").write_text("\n".join(line[::-1] for line in lines) + "\n")
    sides = "".join(f"{line},{line[::-1]}\n" for line in lines[:5])
    (tmp_path / "test.csv").write_text("german,english\n" + sides)
    stages = (
        ('run = "runs/de-en"', "n_best = 5", 'reference = "english"'),
        ('run = "runs/en-de"', 'reference = "german"'),
    )
    chain = "".join("[[stage]]\n" + "\n".join(stage) + "\n" for stage in stages)
    (tmp_path / "back.toml").write_text('input = "german"\n' + chain)
    spelt = "".join(f"{' '.join(w)}\t{' '.join(w.upper())}\n" for w in sorted(set(" ".join(lines).split())))
    (tmp_path / "words.tsv").write_text("letters\tphonemes\n" + spelt)
    dates = "".join(f"{d:02} {m} {y}\t{y}-{m}-{d:02}\n" for d in range(1, 29) for m in (10, 12) for y in (1969, 1989))
    (tmp_path / "dates.tsv").write_text("source\ttarget\n" + dates)
    toy.main([str(tmp_path / "stories"), "--stories", "40"])
    words = " ".join(lines).split()
    (tmp_path / "reviews.csv").write_text("review,stars\n" + "".join(f"{x},{1 + k % 2}\n" for k, x in enumerate(lines)))
    (tmp_path / "names").mkdir()
    for name, ending in (("Irish", "y"), ("Greek", "as")):
        (tmp_path / "names" / f"{name}.txt").write_text("".join(f"M{w}{ending}\n" for w in words[:40]))
    rows = [f"{k},{t},{k % 2 * t},{k % 2}" for k in range(20) for t in range(5)]
    (tmp_path / "gestures.csv").write_text("id,t,x,kind\n" + "\n".join(rows) + "\n")
    (tmp_path / "new.csv").write_text("id,t,x\n" + "\n".join(row.rpartition(",")[0] for row in rows) + "\n")
    wide = [f"{','.join(str(k % 2 * t) for t in range(5))},{k % 2}" for k in range(20)]
    (tmp_path / "wide.csv").write_text("t0,t1,t2,t3,t4,label\n" + "\n".join(wide) + "\n")
    comma = [f'{k},"{t},5","0,{t}",{k % 2}' for k in range(20) for t in range(5)]
    (tmp_path / "export.csv").write_text("id,x,y,label\n" + "\n".join(comma) + "\n")
    ts = [f"{k % 2},1,2:{'ab'[k % 2]}" for k in range(20)]
    (tmp_path / "runs.ts").write_text("@classLabel true a b\n@data\n" + "\n".join(ts) + "\n")
    tagged = "".join(f"{w}\t{'B-X' if k % 3 else 'O'}\n" + "\n" * (k % 9 == 8) for k, w in enumerate(words[:300]))
    (tmp_path / "names.txt").write_text(tagged)
    conllu = "".join(f"1\t{w}\t_\tX\t_\t_\t_\t_\t_\t_\n\n" for w in words[:100])
    (tmp_path / "train.conllu").write_text(conllu)
    (tmp_path / "text.txt").write_text("\n".join(lines) + "\n")
    (tmp_path / "book.txt").write_text(some_text(20_000))
    (tmp_path / "lines.txt").write_text("the cat sees a dog\nshe likes the old man\n")
    for k in range(24):
        one = tmp_path / "photos" / ("cat", "dog")[k % 2] / f"{k // 2}.png"
        one.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(k).integers(0, 256, (40, 50, 3)).astype(np.uint8)).save(one)
    for k in range(12):
        one = tmp_path / "digits" / ("one", "two")[k % 2] / f"{k // 2}.wav"
        one.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(one, np.random.default_rng(k).uniform(-0.5, 0.5, 2000), 8000)
        soundfile.write(tmp_path / ("new.wav", "call.flac")[k % 2], np.zeros(2000), 8000)
    draw = np.random.default_rng(0)
    for k in range(24):
        soundfile.write(tmp_path / f"{k}.wav", draw.uniform(-0.5, 0.5, 8000), 8000)
    spoken = "".join(f"{k}.wav\t{lines[k]}\n" for k in range(24))
    (tmp_path / "recordings.tsv").write_text("audio\ttext\n" + spoken)
    world.write_world(tmp_path / "world", 40)
    return tmp_path


@pytest.fixture
def folder(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Enter a folder with a copy of the files."""
    shutil.copytree(files, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)


def _with_blocks(language: str) -> Any:
    """Parametrize a test by the pages with code of that language."""
    pages = [page for page in PAGES if blocks(page, language)]
    assert PAGES[0] in pages
    return pytest.mark.parametrize("page", pages, ids=lambda page: page.name)


@_with_blocks("python")
def test_examples(page: Path, folder: None) -> None:
    registries: list[dict[str, Any]] = [cells.CELLS, layers.POOLINGS]
    before = [set(registry) for registry in registries]
    try:
        for block in blocks(page, "python"):
            exec(compile(block, str(page), "exec"), {"__name__": "example"})
    finally:
        for registry, names in zip(registries, before, strict=True):
            for name in set(registry) - names:
                del registry[name]


def _paths(word: str) -> list[str]:
    """Expand a pattern of file names as a shell does."""
    return sorted(glob.glob(word)) if "*" in word else [word]


def _commands(page: Path) -> list[list[str]]:
    """Return the command lines of a page in the current folder, split into words."""
    lines = [shlex.split(line, comments=True) for line in "".join(blocks(page, "bash")).splitlines()]
    return [[name for word in words for name in _paths(word)] for words in lines if words]


@_with_blocks("bash")
def test_commands(page: Path, folder: None, capfd: pytest.CaptureFixture[str]) -> None:
    for words in _commands(page):
        assert words[0] == "elman"
        status = cli.main(words[1:])
        shown = capfd.readouterr()
        assert status == 0, f"{shlex.join(words)}\n{shown.err}"
        assert shown.out or shown.err
        assert "Traceback" not in shown.err


def test_commands_as_processes(folder: None) -> None:
    """The first model of the README, trained and used in a Python of its own."""
    commands = {words[1]: words for words in _commands(PAGES[0])[::-1] if "runs/shakespeare" in words}
    assert set(commands) == {"train", "generate", "evaluate"}
    for words in (commands["train"], commands["generate"]):
        done = elman_cli(*words[1:])
        assert done.returncode == 0, f"{shlex.join(words)}\n{done.stderr}"
        assert done.stdout or done.stderr
        assert "Traceback" not in done.stderr


def test_paths_and_targets_in_the_readme_exist() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for path in re.findall(r"elman/\w+(?:/|\.py)", text):
        assert (ROOT / path).exists(), path
    for target in re.findall(r"make (\w+)", text):
        assert f"\n{target}:" in (ROOT / "Makefile").read_text(encoding="utf-8")


def _anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links(page: Path) -> None:
    for path, anchor in re.findall(r"\]\(([^)#:]*)#?([^):]*)\)", page.read_text(encoding="utf-8")):
        target = page.parent / path if path else page
        assert target.exists(), path
        assert not anchor or anchor in _anchors(target), f"{path}#{anchor}"


def test_the_table_of_cells_is_true() -> None:
    """A row of the table has the name, the class, the state and the gates of a cell."""
    text = (ROOT / "docs" / "cells.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \| ([\w, ]+) \| ([\w ]+) \|", text, re.MULTILINE)
    assert "lstm" in {name for name, *_ in rows}
    for name, cls, state, gates in rows:
        cell = cells.CELLS[name]
        assert (cls, state, gates) == (str(cell), ", ".join(cell.state), " ".join(cell.input_gates))


def test_no_file_is_too_long() -> None:
    for path in [*ROOT.glob("elman/**/*.py"), *ROOT.glob("tests/**/*.py"), *ROOT.glob("benchmarks/*.py")]:
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 400, path

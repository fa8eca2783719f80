"""Fuzzer cases with damaged data files, invalid command lines and invalid TOML files; see `benchmarks.fuzz`."""

from __future__ import annotations

import gzip
import random
import shutil
import zipfile
from pathlib import Path
from typing import Any

from benchmarks.fuzz_runs import QUERIES, SAMPLES, SIZES, damage_bytes, odd_value

#: Each data file to the task that reads it, its options, and a sample run for such files.
FILES: dict[str, tuple[str, list[str], str]] = {
    "text.txt": ("language", ["--window=8", "--batch-size=4"], "language"),
    "reviews.csv": ("classify", [], "reviews"),
    "reviews.jsonl": ("classify", [], "reviews"),
    "series.csv": ("classify", ["--series=id"], "series"),
    "series.ts": ("classify", [], "series"),
    "tags.conllu": ("tag", [], "tags"),
    "tags.conll": ("tag", [], "tags"),
    "pairs.tsv": ("translate", ["--source-tokens=char", "--target-tokens=char", "--heads=2"], "pairs"),
    "lines.txt": ("fill", [], "fill"),
    "stories.txt": ("answer", ["--heads=2"], "answer"),
}

_NUMBERS = "0 -1 1 2 3 1e20 1e30 -1e30 1e-320 nan inf -inf 1,2 1e400 0.5 0.999999999 1e-12"
_NAMES = "none None [] {} true yes , a,b \u00e9 ' \" [b] \\ meta cpu cuda:99 cpu:7 gru LSTM char word bpe \udcff - --"
_PATHS = ".. / // . ~ /dev/null /proc/self/mem file:///x http:// zip://a :: a::b *.txt"
_WORDS = [*_NUMBERS.split(), *_NAMES.split(), *_PATHS.split(), "", " ", "\0", "9" * 30, "9" * 5000, "x" * 300]


def data_case(draw: random.Random, folder: Path, samples: Path) -> list[list[str]]:
    """Damage a data file and train or evaluate on it, or predict from it.

    Args:
        draw: random generator of the case.
        folder: folder of the case.
        samples: folder of the sample runs.

    Returns:
        The command lines.
    """
    name = draw.choice(list(FILES))
    task, options, run = FILES[name]
    data = (samples / name).read_bytes()
    for _ in range(draw.choice([1, 1, 2])):
        data = damage_data(draw, data)
    name = name if draw.random() < 0.85 else Path(name).stem + draw.choice(
        [".csv", ".tsv", ".json", ".jsonl", ".txt", ".ts", ".conllu", ".parquet", ".npy", ".wav", ".xlsx", ".CSV", ""]
    )  # fmt: skip
    if draw.random() < 0.08:
        name, data = name + ".gz", damage_bytes(draw, gzip.compress(data))
    path = folder / name
    path.write_bytes(data)
    if draw.random() < 0.03:
        path = folder / (name + ".zip")
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, data)
    sizes = [f"--{key.replace('_', '-')}={value}" for key, value in SIZES.items()]
    kind = draw.random()
    if kind < 0.75:
        return [["train", task, str(path), "--out", str(folder / "run"), *sizes, *options]]
    if kind < 0.9:
        return [["evaluate", str(samples / "runs" / run), str(path), "--json"]]
    return [["predict", str(samples / "runs" / run), str(path), "--json"]]


def damage_data(draw: random.Random, data: bytes) -> bytes:
    """Change bytes, lines, cells or the encoding of a text file."""
    lines, kind = data.split(b"\n"), draw.randrange(12)
    at = draw.randrange(len(lines))
    if kind < 3:
        return damage_bytes(draw, data)
    if kind == 3:
        encoding = draw.choice(["utf-16", "utf-16-le", "utf-32", "cp037", "utf-8-sig"])
        return data.decode(errors="replace").encode(encoding)
    if kind == 4:
        del lines[at]
    elif kind == 5:
        lines.insert(at, draw.choice([b"", b" ", b"#", b"\t", b",,,", lines[draw.randrange(len(lines))] * 5, b"@data"]))
    elif kind == 6:
        lines = lines[: draw.choice([0, 1, 2, 3, 5])]
    elif kind == 7:
        return data.replace(
            *draw.choice([(b",", b";"), (b"\t", b","), (b"\n", b"\r\n"), (b"\n", b"\r"), (b" ", b"\xa0")])
        )
    elif kind == 8:
        lines[0] = draw.choice([b"", lines[-1], lines[0].upper(), lines[0] + lines[0], b'"' + lines[0], b"text,text"])
    elif kind == 9:
        lines = lines[:at] + lines[at : at + 1] * 300 + lines[at:]
    else:
        cells = lines[at].split(draw.choice([b",", b"\t", b" "]))
        cells[draw.randrange(len(cells))] = draw.choice(
            [
                b"",
                b"NaN",
                b"inf",
                b"-inf",
                b"1e400",
                b"?",
                b"true",
                b"1,5",
                b'"',
                b"x" * 10_000,
                b"9" * 400,
                b"\0",
                b"1e39",
            ]
        )
        lines[at] = draw.choice([b",", b"\t"]).join(cells)
    return b"\n".join(lines)


def options_of(task: str) -> dict[str, Any]:
    """Return the options of a task by name."""
    from elman import tasks

    return dict(tasks.get(task).Config.model_fields)


def cli_case(draw: random.Random, folder: Path, samples: Path) -> list[list[str]]:
    """Return a command with invalid options and arguments.

    Args:
        draw: random generator of the case.
        folder: folder of the case.
        samples: folder of the sample runs.

    Returns:
        The command line.
    """
    name = draw.choice(list(SAMPLES))
    task, file, options = SAMPLES[name]
    run, path = str(samples / "runs" / name), str(samples / file)
    kind = draw.random()
    if kind < 0.6:
        values = {key: str(value) for key, value in (SIZES | options).items()}
        values |= {key: odd_word(draw) for key in draw.sample(list(options_of(task)), draw.choice([1, 1, 2, 3]))}
        if values.get("steps") in ("none", "None"):
            values["minutes"] = "0.001"
        words = [
            f"--{key.replace('_', '-')}={value}" for key, value in values.items() if value not in ("True", "False")
        ]
        command = ["train", task, path, "--out", str(folder / "run"), *words]
    elif kind < 0.8:
        names = ["--temperature", "--top-k", "--top-p", "--repetition-penalty", "--seed", "--stop", "--max-new-tokens"]
        if task != "language":
            names = ["--top", "--beam", "--n-best", "--length-penalty", "--coverage-penalty", "--max-length", "--show"]
        query = [word.format(run=run, samples=samples) for word in draw.choice(QUERIES.get(name, QUERIES[task]))]
        more = [f"{draw.choice([*names, '--device', '--plot', '--json'])}={odd_word(draw)}" for _ in range(2)]
        command = [word for word in query if draw.random() < 0.95] + more[: draw.choice([0, 1, 2])]
        if draw.random() < 0.4:
            command.insert(
                draw.randrange(1, len(command) + 1), draw.choice([odd_word(draw), "x" * 5000, "a\0b", "//" * 2000])
            )
    else:
        copy = str(shutil.copytree(run, folder / "copy"))
        command = draw.choice(
            [["evaluate", run, path, "--json"], ["evaluate", run, "--int8"], ["info", run], ["inspect", run, "the"],
             ["train", task, path, "--out", odd_word(draw), "--steps=1"], ["predict", odd_word(draw), odd_word(draw)],
             ["train", task, odd_word(draw), odd_word(draw), "--out", str(folder / "run"), "--steps=1"],
             ["evaluate", run, odd_word(draw)], ["train", odd_word(draw), path], ["info", odd_word(draw)],
             ["inspect", run, odd_word(draw), "--out", odd_word(draw)], ["--import", odd_word(draw), "info", run],
             ["generate", run, odd_word(draw), "--max-new-tokens=3"], ["evaluate", run, f"--device={odd_word(draw)}"],
             ["train", task, "--out", copy, "--resume", f"--minutes={odd_word(draw)}"], [odd_word(draw)],
             ["train", task, path, "--valid", odd_word(draw), "--steps=1", "--out", str(folder / "run")]]
        )  # fmt: skip
        command = [word for word in command if draw.random() < 0.97]
        if "inspect" in command[:1] and "--out" not in command:
            command += ["--out", str(folder / "inside.png")]
    return [command] if command else [["--help"]]


def odd_word(draw: random.Random) -> str:
    """Return a word that is probably an invalid value."""
    word = draw.choice(_WORDS)
    return word if draw.random() < 0.9 else word + draw.choice(_WORDS)


def toml_case(draw: random.Random, folder: Path, samples: Path) -> list[list[str]]:
    """Write a TOML file with invalid values or invalid syntax and train with it.

    Args:
        draw: random generator of the case.
        folder: folder of the case.
        samples: folder of the sample runs.

    Returns:
        The command line.
    """
    name = draw.choice(list(SAMPLES))
    task, file, options = SAMPLES[name]
    values: dict[str, Any] = SIZES | options
    fields = options_of(task)
    for key in draw.sample(list(fields), draw.choice([1, 2, 3])):
        values[key] = odd_value(draw, fields[key].default) if draw.random() < 0.8 else odd_word(draw)
    text = "".join(f"{key} = {_toml(value)}\n" for key, value in values.items())
    data = text.encode(errors="surrogatepass")
    if draw.random() < 0.3:
        data = damage_bytes(draw, data)
    if draw.random() < 0.1:
        data += draw.choice(
            [
                b"[options]\nsteps = 1\n",
                b"steps = 1\nsteps = 2\n",
                b"x = " + b"[" * 2000,
                b"a.b = 1\n",
                b"1 = 1979-05-27\n",
            ]
        )
    (folder / "options.toml").write_bytes(data)
    steps = [] if draw.random() < 0.1 else ["--steps=1"]
    return [["train", task, str(samples / file), "--config", str(folder / "options.toml"), "--out", str(folder / "run"),
             "--minutes=0.01", *steps]]  # fmt: skip


def _toml(value: Any) -> str:
    """Format a value as TOML."""
    if value is None:
        return '"none"'
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, str):
        escapes = {"\\": "\\\\", '"': '\\"', "\0": "\\u0000", "\n": "\\n"}
        return '"' + "".join(escapes.get(c, c) for c in value) + '"'
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + "}"
    return "[" + ", ".join(_toml(item) for item in value) + "]"

"""Small runs of every task, and damage to their files; see `benchmarks.fuzz`."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

SIZES = {"hidden_size": 6, "embedding_size": 4, "steps": 2}

#: Name of a sample to its task, its file and its options.
SAMPLES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "language": ("language", "text.txt", {"window": 8, "batch_size": 4}),
    "words": ("language", "text.txt", {"window": 8, "batch_size": 4, "tokens": "word", "cell": "gru", "tie": True}),
    "transformer": ("language", "text.txt", {"model": "transformer", "num_layers": 1, "heads": 2, "window": 8}),
    "reviews": ("classify", "reviews.csv", {"average": 0.5}),
    "series": ("classify", "series.csv", {"series": "id"}),
    "tags": ("tag", "tags.conllu", {"crf": True, "character_size": 4}),
    "pairs": ("translate", "pairs.tsv", {"source_tokens": "char", "target_tokens": "word", "heads": 2}),
    "fill": ("fill", "lines.txt", {}),
    "answer": ("answer", "stories.txt", {"heads": 2}),
}

#: What each task's models are asked.
ASKED = {
    "language": [["generate", "{run}", "the", "--max-new-tokens=5", "--seed=1"]],
    "classify": [["predict", "{run}", "a good film", "--json"], ["predict", "{run}", "a film", "--top=2"]],
    "series": [["predict", "{run}", "{samples}/one.csv", "--json"]],
    "tag": [["predict", "{run}", "the cat sees a dog", "--json"]],
    "translate": [["predict", "{run}", "ein haus", "--json"], ["predict", "{run}", "ein", "--n-best=3", "--beam=4"]],
    "fill": [["predict", "{run}", "the ___ sees", "--json"]],
    "answer": [["predict", "{run}", "Mary went to the garden.\tWhere is Mary?", "--json"]],
}


def make_samples(folder: Path) -> None:
    """Writes small data of every kind, and a small run of each task."""
    import elman

    folder.mkdir()
    draw = random.Random(0)
    subjects, verbs = ["the cat", "a dog", "the old man", "she"], ["sees", "hears", "likes"]
    lines = [f"{draw.choice(subjects)} {draw.choice(verbs)} {draw.choice(subjects)}" for _ in range(60)]
    (folder / "text.txt").write_text(".\n".join(lines))
    (folder / "lines.txt").write_text("\n".join(lines))
    reviews = [(f"a {word} film {k}", label) for k in range(10) for word, label in (("good", "yes"), ("bad", "no"))]
    (folder / "reviews.csv").write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in reviews))
    rows = [json.dumps({"text": text, "label": label}) for text, label in reviews]
    (folder / "reviews.jsonl").write_text("\n".join(rows) + "\n")
    steps = [
        f"{k},{'ab'[k % 2]},{t * (k % 2) + draw.random():.3f},{draw.random():.3f}" for k in range(16) for t in range(4)
    ]
    (folder / "series.csv").write_text("id,label,x,y\n" + "\n".join(steps) + "\n")
    (folder / "one.csv").write_text("x,y\n1,2\n3,4\n")
    tagged = [[(w, "DET" if w in ("the", "a") else "X") for w in line.split()] for line in lines[:20]]
    conllu = ["".join(f"{n}\t{w}\t_\t{t}\t_\t_\t_\t_\t_\t_\n" for n, (w, t) in enumerate(s, 1)) for s in tagged]
    (folder / "tags.conllu").write_text("\n".join(conllu) + "\n")
    (folder / "tags.conll").write_text("\n".join("".join(f"{w} {t}\n" for w, t in s) for s in tagged) + "\n")
    words = {"ein": "a", "haus": "house", "hund": "dog", "alt": "old"}
    pairs = [draw.sample(list(words), 2) for _ in range(30)]
    made = [f"{' '.join(p)} {k}\t{' '.join(words[w] for w in p)} {k}\n" for k, p in enumerate(pairs)]
    (folder / "pairs.tsv").write_text("source\ttarget\n" + "".join(made))
    stories = []
    for _ in range(12):
        name, place = draw.choice(["Mary", "John"]), draw.choice(["garden", "hall"])
        stories.append(f"1 {name} went to the {place}.\n2 Where is {name}?\t{place}\t1\n")
    (folder / "stories.txt").write_text("".join(stories))
    ts = ["@problemName x", "@timeStamps false", "@univariate true", "@classLabel true a b", "@data"]
    ts += [f"{draw.random():.2f},{draw.random():.2f},{draw.random():.2f}:{'ab'[k % 2]}" for k in range(12)]
    (folder / "series.ts").write_text("\n".join(ts) + "\n")
    for name, (task, file, options) in SAMPLES.items():
        elman.train(task, folder / file, out=folder / "runs" / name, progress=False, **(SIZES | options))


def run_case(draw: random.Random, folder: Path, samples: Path) -> list[list[str]]:
    """A run with one or two of its files damaged, and what is done with it."""
    name = draw.choice(list(SAMPLES))
    task, file, _ = SAMPLES[name]
    run = folder / "run"
    shutil.copytree(samples / "runs" / name, run)
    for _ in range(draw.choice([1, 1, 1, 2])):
        damage(draw, draw.choice(sorted(path for path in run.iterdir() if path.name != "README.md")))
    asked = ASKED["series" if name == "series" else task]
    commands = [
        ["evaluate", "{run}", "{samples}/" + file, "--json"], ["evaluate", "{run}"], ["info", "{run}"],
        ["train", task, "--out", "{run}", "--resume", "--steps=3"], *asked,
    ]  # fmt: skip
    chosen = draw.sample(commands, min(len(commands), 3))
    return [[word.format(run=run, samples=samples) for word in command] for command in chosen]


def damage(draw: random.Random, path: Path) -> None:
    """Changes a file in one of many ways."""
    if not path.is_file():
        return
    whole = draw.random()
    if whole < 0.03:
        path.unlink()
    elif whole < 0.06:
        path.write_bytes(
            draw.choice([b"", b"\0", b"{}", b"[]", b"null", b"1", b'"x"', draw.randbytes(50), b"[" * 10**5])
        )
    elif path.suffix == ".safetensors" and whole < 0.8:
        damage_tensors(draw, path)
    elif path.suffix == ".json" and whole < 0.85:
        value = json.loads(path.read_text())
        for _ in range(draw.choice([1, 1, 2])):
            value = damage_value(draw, value)
        text = json.dumps(value)
        if draw.random() < 0.1:  # a key twice
            text = text.replace("{", '{"labels": ["x"], "format": 1, ', 1)
        path.write_text(text)
    elif path.suffix == ".jsonl" and whole < 0.6:
        lines = path.read_text().splitlines() or ["{}"]
        at = draw.randrange(len(lines))
        lines[at] = json.dumps(damage_value(draw, json.loads(lines[at])))
        path.write_text("\n".join(lines))
    else:
        path.write_bytes(damage_bytes(draw, path.read_bytes()))


def damage_bytes(draw: random.Random, data: bytes) -> bytes:
    """Bytes changed, removed, repeated or put in."""
    for _ in range(draw.choice([1, 1, 2, 5])):
        at = draw.randrange(len(data) + 1)
        end = min(len(data), at + draw.choice([1, 1, 2, 10, 100]))
        bad = draw.choice(
            [b"\xff", b"\0", b"\xc3", b"\xed\xa0\x80", b"\n", b"\r\n", b'"', b"'", b",", b";", b"\t", b"{", b"]", b"-",
             b"NaN", b"Infinity", b"1e999", b"9" * 400, b"\xef\xbb\xbf", "\u2028".encode(), draw.randbytes(8)]
        )  # fmt: skip
        data = draw.choice(
            [data[:at] + bad + data[at:], data[:at] + bad + data[end:], data[:at] + data[end:], data[:at],
             data[:at] + data[at:end] * 3 + data[end:]]
        )  # fmt: skip
    return data


def odd_value(draw: random.Random, value: Any) -> Any:
    """A value that should not stand in the place of this one, or hardly."""
    number = value if isinstance(value, (int, float)) and not isinstance(value, bool) else 1
    text = value if isinstance(value, str) else "x"
    deep: Any = []
    for _ in range(draw.choice([3, 300])):
        deep = [deep]
    return draw.choice(
        [None, True, False, 0, -1, 1, 2, 10**9, 10**20, 2**63, -(2**63), 1e308, -1e308, 1e-320, 0.5, float("nan"),
         float("inf"), -float("inf"), "", " ", "none", "nan", "1", text + "x", text.upper(), text * 50, "\ud800", "\0",
         "[/red]", [], {}, [value], [value, value], {"a": value}, deep, number + 1, number * 2, number * 10**6, -number,
         str(value), "../../etc/passwd", "é" * 300]
    )  # fmt: skip


def damage_value(draw: random.Random, value: Any) -> Any:
    """A JSON value with something in it replaced, removed, renamed or put in."""
    if isinstance(value, dict) and value and draw.random() < 0.9:
        key, value = draw.choice(list(value)), dict(value)
        what = draw.random()
        if what < 0.12:
            del value[key]
        elif what < 0.2:
            value[key + draw.choice(["x", "", " "]) or "x"] = odd_value(draw, value[key])
        elif what < 0.26:
            other = draw.choice(list(value))
            value[key], value[other] = value[other], value[key]
        else:
            value[key] = damage_value(draw, value[key])
        return value
    if isinstance(value, list) and value and draw.random() < 0.8:
        value, at = list(value), draw.randrange(len(value))
        what = draw.random()
        if what < 0.2:
            del value[at]
        elif what < 0.35:
            value.insert(at, value[draw.randrange(len(value))])
        elif what < 0.45:
            draw.shuffle(value)
        else:
            value[at] = damage_value(draw, value[at])
        return value
    return odd_value(draw, value)


def damage_tensors(draw: random.Random, path: Path) -> None:
    """A safetensors file with tensors or metadata changed."""
    with safetensors.safe_open(path, framework="pt") as file:
        about = dict(file.metadata() or {})
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    if about.get("elman") not in (None, "{}") and draw.random() < 0.4:
        value = damage_value(draw, json.loads(about["elman"]))
        about["elman"] = json.dumps(value) if draw.random() < 0.9 else draw.choice(["", "{", "[]", "1"])
        if draw.random() < 0.1:
            about = {}
    else:
        for _ in range(draw.choice([1, 1, 2])):
            if tensors:
                damage_tensor(draw, tensors, draw.choice(list(tensors)))
    path.write_bytes(safetensors.torch.save({k: v.contiguous() for k, v in tensors.items()}, about))


def damage_tensor(draw: random.Random, tensors: dict[str, torch.Tensor], key: str) -> None:
    """Changes, removes, renames or adds one tensor."""
    one = tensors[key].clone()
    what = draw.randrange(13)
    flat = one.flatten()
    if what == 0:
        del tensors[key]
    elif what == 1:
        tensors[draw.choice([key + "x", "x", "optimizer.99.exp_avg", "carry.7", key + ".0"])] = tensors.pop(key)
    elif what == 2:
        tensors["optimizer." + draw.choice(["x.y", "0.x", "-1.step"])] = one
    elif what == 3:
        tensors[key] = one.t() if one.dim() == 2 else one[None]
    elif what == 4:
        tensors[key] = flat[: max(0, len(flat) - 1)]
    elif what == 5:
        tensors[key] = torch.cat((flat, flat))
    elif what == 6:
        tensors[key] = one.to(draw.choice([torch.float64, torch.float16, torch.int64, torch.bool, torch.uint8]))
    elif what == 7 and one.is_floating_point() and len(flat):
        flat[draw.randrange(len(flat))] = draw.choice([float("nan"), float("inf"), -float("inf")])
        tensors[key] = flat.view(one.shape)
    elif what == 8 and one.is_floating_point():
        tensors[key] = one * draw.choice([0.0, -1.0, 1e10, 1e20, 1e37, 1e-30])
    elif what == 9:
        tensors[key] = torch.zeros(0)
    elif what == 10:
        tensors[key] = torch.randint(0, 255, one.shape, generator=torch.Generator().manual_seed(1)).to(one.dtype)
    elif what == 11:
        other = draw.choice(list(tensors))
        tensors[key], tensors[other] = tensors[other], one
    else:
        tensors[key] = one + 1 if one.is_floating_point() else one

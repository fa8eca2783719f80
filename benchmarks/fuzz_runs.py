"""Fuzzer cases with damaged run directories; see `benchmarks.fuzz`."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

#: Options of all sample runs.
SIZES = {"hidden_size": 6, "steps": 2}

#: Options of the sample runs about pictures.
_PICTURES = {"encoder": "small", "image_size": 16, "picture_size": 6, "embedding_size": 6}

#: Name of each sample run to its task, data file and options.
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
    "caption": ("caption", "pictures/captions.tsv", _PICTURES),
    "frozen": ("caption", "pictures/captions.tsv", {**_PICTURES, "encoder": "lite0", "image_size": 32}),
    "vqa": ("vqa", "pictures/questions.tsv", _PICTURES),
}

#: Commands that use the models of each task.
QUERIES = {
    "language": [["generate", "{run}", "the", "--max-new-tokens=5", "--seed=1"]],
    "classify": [["predict", "{run}", "a good film", "--json"], ["predict", "{run}", "a film", "--top=2"]],
    "series": [["predict", "{run}", "{samples}/one.csv", "--json"]],
    "tag": [["predict", "{run}", "the cat sees a dog", "--json"]],
    "translate": [["predict", "{run}", "ein haus", "--json"], ["predict", "{run}", "ein", "--n-best=3", "--beam=4"]],
    "fill": [["predict", "{run}", "the ___ sees", "--json"]],
    "answer": [["predict", "{run}", "Mary went to the garden.\tWhere is Mary?", "--json"]],
    "caption": [["predict", "{run}", "{samples}/pictures/1.png", "--json"], ["predict", "{run}", "{samples}/pictures"]],
    "vqa": [["predict", "{run}", "{samples}/pictures/1.png", "how many are in 0?", "--json"]],
}


def make_samples(folder: Path) -> None:
    """Write small data files of every kind, and train a small run of each task.

    Args:
        folder: folder to create.
    """
    import elman
    from benchmarks.fuzz_pictures import make_pictures

    folder.mkdir()
    make_pictures(folder)
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
    """Damage one or two files of a run and return commands that use it.

    Args:
        draw: random generator of the case.
        folder: folder of the case.
        samples: folder of the sample runs.

    Returns:
        The command lines.
    """
    name = draw.choice(list(SAMPLES))
    task, file, _ = SAMPLES[name]
    run = folder / "run"
    shutil.copytree(samples / "runs" / name, run)
    for _ in range(draw.choice([1, 1, 1, 2])):
        damage(draw, draw.choice(sorted(path for path in run.iterdir() if path.name != "README.md")))
    queries = QUERIES["series" if name == "series" else task]
    commands = [
        ["evaluate", "{run}", "{samples}/" + file, "--json"], ["evaluate", "{run}"], ["info", "{run}"],
        ["train", task, "--out", "{run}", "--resume", "--steps=3"], *queries,
    ]  # fmt: skip
    chosen = draw.sample(commands, min(len(commands), 3))
    return [[word.format(run=run, samples=samples) for word in command] for command in chosen]


def damage(draw: random.Random, path: Path) -> None:
    """Change a file at random, according to its type."""
    if not path.is_file():
        return
    choice = draw.random()
    if choice < 0.03:
        path.unlink()
    elif choice < 0.06:
        path.write_bytes(
            draw.choice([b"", b"\0", b"{}", b"[]", b"null", b"1", b'"x"', draw.randbytes(50), b"[" * 10**5])
        )
    elif path.suffix == ".safetensors" and choice < 0.8:
        damage_tensors(draw, path)
    elif path.suffix == ".json" and choice < 0.85:
        value = json.loads(path.read_text())
        for _ in range(draw.choice([1, 1, 2])):
            value = damage_value(draw, value)
        text = json.dumps(value)
        if draw.random() < 0.1:  # a duplicate key
            text = text.replace("{", '{"labels": ["x"], "format": 1, ', 1)
        path.write_text(text)
    elif path.suffix == ".jsonl" and choice < 0.6:
        lines = path.read_text().splitlines() or ["{}"]
        at = draw.randrange(len(lines))
        lines[at] = json.dumps(damage_value(draw, json.loads(lines[at])))
        path.write_text("\n".join(lines))
    else:
        path.write_bytes(damage_bytes(draw, path.read_bytes()))


def damage_bytes(draw: random.Random, data: bytes) -> bytes:
    """Change, remove, repeat or insert bytes at random."""
    for _ in range(draw.choice([1, 1, 2, 5])):
        at = draw.randrange(len(data) + 1)
        end = min(len(data), at + draw.choice([1, 1, 2, 10, 100]))
        inserted = draw.choice(
            [b"\xff", b"\0", b"\xc3", b"\xed\xa0\x80", b"\n", b"\r\n", b'"', b"'", b",", b";", b"\t", b"{", b"]", b"-",
             b"NaN", b"Infinity", b"1e999", b"9" * 400, b"\xef\xbb\xbf", "\u2028".encode(), draw.randbytes(8)]
        )  # fmt: skip
        data = draw.choice(
            [data[:at] + inserted + data[at:], data[:at] + inserted + data[end:], data[:at] + data[end:], data[:at],
             data[:at] + data[at:end] * 3 + data[end:]]
        )  # fmt: skip
    return data


def odd_value(draw: random.Random, value: Any) -> Any:
    """Return a value that is probably invalid in place of another one."""
    number = value if isinstance(value, (int, float)) and not isinstance(value, bool) else 1
    text = value if isinstance(value, str) else "x"
    nested: Any = []
    for _ in range(draw.choice([3, 300])):
        nested = [nested]
    return draw.choice(
        [None, True, False, 0, -1, 1, 2, 10**9, 10**20, 2**63, -(2**63), 1e308, -1e308, 1e-320, 0.5, float("nan"),
         float("inf"), -float("inf"), "", " ", "none", "nan", "1", text + "x", text.upper(), text * 50, "\ud800", "\0",
         "[/red]", [], {}, [value], [value, value], {"a": value}, nested, number + 1, number * 2, number * 10**6,
         -number, str(value), "../../etc/passwd", "é" * 300]
    )  # fmt: skip


def damage_value(draw: random.Random, value: Any) -> Any:
    """Replace, remove, rename or insert something in a JSON value."""
    if isinstance(value, dict) and value and draw.random() < 0.9:
        key, value = draw.choice(list(value)), dict(value)
        kind = draw.random()
        if kind < 0.12:
            del value[key]
        elif kind < 0.2:
            value[key + draw.choice(["x", "", " "]) or "x"] = odd_value(draw, value[key])
        elif kind < 0.26:
            other = draw.choice(list(value))
            value[key], value[other] = value[other], value[key]
        else:
            value[key] = damage_value(draw, value[key])
        return value
    if isinstance(value, list) and value and draw.random() < 0.8:
        value, at = list(value), draw.randrange(len(value))
        kind = draw.random()
        if kind < 0.2:
            del value[at]
        elif kind < 0.35:
            value.insert(at, value[draw.randrange(len(value))])
        elif kind < 0.45:
            draw.shuffle(value)
        else:
            value[at] = damage_value(draw, value[at])
        return value
    return odd_value(draw, value)


def damage_tensors(draw: random.Random, path: Path) -> None:
    """Change tensors or metadata of a safetensors file."""
    with safetensors.safe_open(path, framework="pt") as file:
        metadata = dict(file.metadata() or {})
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    if metadata.get("elman") not in (None, "{}") and draw.random() < 0.4:
        value = damage_value(draw, json.loads(metadata["elman"]))
        metadata["elman"] = json.dumps(value) if draw.random() < 0.9 else draw.choice(["", "{", "[]", "1"])
        if draw.random() < 0.1:
            metadata = {}
    else:
        for _ in range(draw.choice([1, 1, 2])):
            if tensors:
                damage_tensor(draw, tensors, draw.choice(list(tensors)))
    path.write_bytes(safetensors.torch.save({k: v.contiguous() for k, v in tensors.items()}, metadata))


def damage_tensor(draw: random.Random, tensors: dict[str, torch.Tensor], key: str) -> None:
    """Change, remove, rename or add one tensor."""
    tensor = tensors[key].clone()
    kind = draw.randrange(13)
    flat = tensor.flatten()
    if kind == 0:
        del tensors[key]
    elif kind == 1:
        tensors[draw.choice([key + "x", "x", "optimizer.99.exp_avg", "carry.7", key + ".0"])] = tensors.pop(key)
    elif kind == 2:
        tensors["optimizer." + draw.choice(["x.y", "0.x", "-1.step"])] = tensor
    elif kind == 3:
        tensors[key] = tensor.t() if tensor.dim() == 2 else tensor[None]
    elif kind == 4:
        tensors[key] = flat[: max(0, len(flat) - 1)]
    elif kind == 5:
        tensors[key] = torch.cat((flat, flat))
    elif kind == 6:
        tensors[key] = tensor.to(draw.choice([torch.float64, torch.float16, torch.int64, torch.bool, torch.uint8]))
    elif kind == 7 and tensor.is_floating_point() and len(flat):
        flat[draw.randrange(len(flat))] = draw.choice([float("nan"), float("inf"), -float("inf")])
        tensors[key] = flat.view(tensor.shape)
    elif kind == 8 and tensor.is_floating_point():
        tensors[key] = tensor * draw.choice([0.0, -1.0, 1e10, 1e20, 1e37, 1e-30])
    elif kind == 9:
        tensors[key] = torch.zeros(0)
    elif kind == 10:
        tensors[key] = torch.randint(0, 255, tensor.shape, generator=torch.Generator().manual_seed(1)).to(tensor.dtype)
    elif kind == 11:
        other = draw.choice(list(tensors))
        tensors[key], tensors[other] = tensors[other], tensor
    else:
        tensors[key] = tensor + 1 if tensor.is_floating_point() else tensor

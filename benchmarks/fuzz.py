"""Random damage to run directories, data files, command lines and TOML files: elman answers or refuses in one line.

    python -m benchmarks.fuzz --cases 5000 --seed 1
    python -m benchmarks.fuzz --seed 1 --case 1234        # that case again; its files are kept

A case is a function of seed and number alone. It runs in a process of its own, with bounded memory and time. What is
found: a traceback, an error of more than one line, a number that is NaN or infinite in an answer, a crash, a hang.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import importlib
import os
import random
import re
import resource
import shlex
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

os.environ |= {"TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1", "COLUMNS": "200"}

import torch

from benchmarks import fuzz_data, fuzz_runs
from elman import cli

#: Seconds and bytes of memory (beside what is in use already) that a case may take.
_SECONDS, _MEMORY = 120, 4 << 30

Case = Callable[[random.Random, Path, Path], list[list[str]]]

#: Kind of case to the function that writes its files and gives its command lines.
KINDS: dict[str, Case] = {
    "run": fuzz_runs.run_case,
    "data": fuzz_data.data_case,
    "cli": fuzz_data.cli_case,
    "toml": fuzz_data.toml_case,
}

#: Packages that cases need, and whose import starts no threads.
_MODULES = {"elman", "torch", "numpy", "rich", "cyclopts", "pydantic", "polars", "tokenizers", "safetensors", "fsspec"}

_NUMBER = re.compile(r"(?<![\w./'\"-])[-+]?(?:nan|inf|infinity)(?![\w.'\"-])", re.IGNORECASE)


class Finding(NamedTuple):
    """What is wrong with a case; place: where, for counting those that are alike."""

    number: int
    kind: str
    place: str
    text: str


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--cases", type=int, default=5000)
    parser.add_argument("--case", type=int, help="this one alone")
    parser.add_argument("--only", choices=KINDS)
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    chosen = range(options.cases) if options.case is None else [options.case]
    began, kinds = time.monotonic(), [options.only] if options.only else list(KINDS)
    print(f"seed {options.seed}, {len(chosen)} cases of {', '.join(kinds)}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        found = fuzz(options.seed, chosen, kinds, Path(folder), options.jobs, show=True)
        if options.case is not None:
            kept = Path(tempfile.mkdtemp(prefix="fuzz-"))
            shutil.copytree(Path(folder), kept, dirs_exist_ok=True)
            print(f"files in {kept}")
    places = collections.Counter(one.place for one in found)
    print(f"seed {options.seed}: {len(chosen)} cases in {time.monotonic() - began:.0f} s, {len(found)} findings")
    for place, count in places.most_common():
        print(f"{count:6}  {place}")
    return 1 if found else 0


def fuzz(
    seed: int, cases: range | list[int], kinds: list[str], folder: Path, jobs: int = 1, show: bool = False
) -> list[Finding]:
    """The findings of these cases.

    Arguments:
        folder: for their files.
        jobs: cases that run at a time.
    """
    samples = folder / "samples"
    error = in_process(lambda: _make(samples, folder / "modules.txt"), folder / "making.txt", 600)
    if error:
        raise RuntimeError(f"the samples could not be made: {error}")
    for name in (folder / "modules.txt").read_text().split():  # once, not in every case; nothing is run here
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    waiting, found = list(reversed(cases)), list[Finding]()
    running: dict[int, _Running] = {}
    while waiting or running:
        while waiting and len(running) < jobs:
            one = _Running(seed, waiting.pop(), kinds, samples, folder)
            running[one.process] = one
        for process, one in list(running.items()):
            if (finding := one.done()) is not None:
                del running[process]
                found += finding
                if show:
                    for f in finding:
                        print(f"case {f.number} ({f.kind}): {f.place}\n    {f.text}", flush=True)
        if running:
            time.sleep(0.002)
    return found


def _make(samples: Path, modules: Path) -> None:
    """Makes the samples, and notes the modules that it took."""
    fuzz_runs.make_samples(samples)
    for words in (["--help"], ["info", str(samples / "runs" / "tags")], ["evaluate", str(samples / "runs" / "pairs")]):
        cli.main(words)
    modules.write_text(" ".join(name for name in sys.modules if name.partition(".")[0] in _MODULES))


class _Running:
    """A case at work, in a process of its own."""

    def __init__(self, seed: int, number: int, kinds: list[str], samples: Path, folder: Path) -> None:
        self.number, self.kind = number, kinds[number % len(kinds)]
        self.folder, self.said = folder / str(number), folder / f"{number}.txt"
        self.folder.mkdir()
        self.deadline = time.monotonic() + _SECONDS
        draw = random.Random(f"{seed} {number}")
        self.process = start(lambda: _case(KINDS[self.kind], draw, self.folder, samples, self.said), self.said)

    def done(self) -> list[Finding] | None:
        """What was found, if the case is over."""
        process, status = os.waitpid(self.process, os.WNOHANG)
        hangs = not process and time.monotonic() > self.deadline
        if not process and not hangs:
            return None
        if hangs:
            os.kill(self.process, signal.SIGKILL)
            os.waitpid(self.process, 0)
        said = self.said.read_text(errors="replace")
        found = []
        if hangs or os.WIFSIGNALED(status):
            how = f"more than {_SECONDS} s" if hangs else signal.Signals(os.WTERMSIG(status)).name
            last = [line for line in said.splitlines() if line.startswith("$ ")][-1:]
            found = [Finding(self.number, self.kind, how, " ".join(last))]
        for line in said.splitlines():
            if line.startswith("FOUND "):
                place, _, text = line.removeprefix("FOUND ").partition(" | ")
                found.append(Finding(self.number, self.kind, place, text))
        shutil.rmtree(self.folder, ignore_errors=True) if not found else None
        return found


def _case(kind: Case, draw: random.Random, folder: Path, samples: Path, said: Path) -> None:
    """Runs the commands of a case, and notes what is wrong."""
    for command in kind(draw, folder, samples):
        os.chdir(folder)
        os.environ["HOME"] = str(folder)
        print("$ elman " + " ".join(shlex.quote(one) for one in command), flush=True)
        begin = said.stat().st_size
        try:
            status = cli.main(command)
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else 1
        except BaseException as error:
            traceback.print_exc()
            frames = [f for f in traceback.extract_tb(error.__traceback__) if "/elman/" in f.filename]
            where = f"{frames[-1].filename.rpartition('/elman/')[2]}:{frames[-1].name}" if frames else "?"
            _found(f"{type(error).__name__} in {where}", str(error), command)
            continue
        sys.stdout.flush()
        sys.stderr.flush()
        output = said.read_bytes()[begin:].decode(errors="replace")
        if status not in (0, 2):
            _found(f"status {status}", output, command)
        if "Traceback (most" in output:
            _found("a traceback is printed", output, command)
        if status == 2 and not output.rstrip("\n").rpartition("\n")[2].startswith("elman: "):
            _found("the last line is no error", output, command)
        if status == 0 and command[0] != "generate" and (wrong := _NUMBER.search(_without_texts(output))):
            _found(f"{wrong[0]} in the output of {command[0]}", output, command)


def _without_texts(output: str) -> str:
    """What elman itself says: without the lines of options and inputs of users."""
    return "\n".join(line for line in output.splitlines() if not line.startswith(("$ ", "elman: ")))


def _found(place: str, text: str, command: list[str]) -> None:
    words = " ".join(shlex.quote(one)[:200] for one in command)
    line = f"{' '.join(text.split())[-300:]}  $ elman {words}".encode(errors="replace").decode(errors="replace")
    print(f"\nFOUND {' '.join(place.split())} | {line}", flush=True)


def start(work: Callable[[], None], said: Path) -> int:
    """A forked process that works, with bounded memory, and writes what it says to a file."""
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        out = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o666)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(out, 1)
        os.dup2(out, 2)
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
        sys.stdout = open(1, "w", encoding="utf-8", errors="surrogateescape", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
        pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else 0
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + _MEMORY,) * 2)
        torch.set_num_threads(1)
        work()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def in_process(work: Callable[[], None], said: Path, seconds: float) -> str:
    """Works in a process of its own; what went wrong, or nothing."""
    process, deadline = start(work, said), time.monotonic() + seconds
    while time.monotonic() < deadline:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return "" if status == 0 else said.read_text(errors="replace")[-2000:]
        time.sleep(0.01)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return "it takes too long"


if __name__ == "__main__":
    sys.exit(main())

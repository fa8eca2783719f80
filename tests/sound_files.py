"""Sound files for tests."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np


def wav(path: Path, seconds: float = 0.1, rate: int = 8000) -> str:
    """Write a tone as a WAV file, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = (8000 * np.sin(np.arange(int(seconds * rate)) / 5)).astype("<i2").tobytes()
    form = struct.pack("<IHHIIHH", 16, 1, 1, rate, 2 * rate, 2, 16)
    path.write_bytes(b"RIFF" + struct.pack("<I", 36 + len(samples)) + b"WAVEfmt " + form + b"data"
                     + struct.pack("<I", len(samples)) + samples)  # fmt: skip
    return str(path)


def write(path: Path, text: str) -> str:
    """Write a text, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return str(path)

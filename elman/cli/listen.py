"""Print what is said while it is said."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from rich.console import Console

from elman.api import load
from elman.cli.console import console
from elman.data.inputs import check_output
from elman.data.output import json_line
from elman.data.sound_pipes import Blocks, read_microphone, read_pipe
from elman.data.sounds import RATES, open_sound
from elman.decoding.subtitles import FORMATS, Subtitles
from elman.errors import ElmanError, unknown_name
from elman.tasks.abilities import Listens


def listen(
    run: str,
    source: str | None = None,
    device: str = "cpu",
    *,
    microphone: bool = False,
    raw: int | None = None,
    channel: int | None = None,
    json: bool = False,
    out: str | None = None,
    options: dict[str, Any] | None = None,
) -> None:
    """Print the lines that are heard, each as soon as it has ended; on a terminal also the line that is being said.

    Args:
        run: the run directory.
        source: a sound file; "-" or None is standard input.
        device: cpu, cuda, ...
        microphone: listen to the microphone.
        raw: the rate of samples without a header on standard input.
        channel: the channel to read, from 1. Default: as in the training.
        json: print a line of JSON for each line that is heard.
        out: the file to write the lines to (.txt, .srt, .vtt, .json).
        options: the options of ``model.listen``.

    Raises:
        ElmanError: the model is not streaming, or the sound cannot be read.
    """
    check_source(source, microphone, raw, channel)
    ending = None
    if out is not None:
        ending = os.path.splitext(out)[1].removeprefix(".").lower()
        if ending not in FORMATS:
            raise unknown_name("format of --out", f".{ending}", [f".{name}" for name in FORMATS])
        check_output(out)
    model = load(run, device)
    if not isinstance(model, Listens):
        raise ElmanError(f"{run}: a {model.name} model does not listen")
    with ExitStack() as stack:
        sound = open_source(stack, source, microphone, raw, model.channel if channel is None else channel)
        listening = stack.enter_context(model.listen(sound.rate, **(options or {})))
        written = None
        if out is not None and ending is not None:
            file = stack.enter_context(open(out, "w", encoding="utf-8"))
            written = stack.enter_context(Subtitles(file, ending))
        shown = console(stderr=True)
        live = shown.is_terminal and not json
        for line in lines_of(listening, sound.blocks):
            text = " ".join(line.segment.text.split())
            if live:
                show_growing(shown, "" if line.final else text)
            if not line.final:
                continue
            print(json_line(line.record(), "a line") if json else text, flush=True)
            if written is not None:
                written.write(line.segment)


def check_source(source: str | None, microphone: bool, raw: int | None, channel: int | None = None) -> None:
    """Refuse words that do not go together."""
    if microphone and source is not None:
        raise ElmanError(f"--microphone: listens to the microphone, not to {source}; give one of them")
    if raw is not None and (microphone or source not in (None, "-")):
        raise ElmanError("--raw: is about samples on standard input")
    if raw is not None and raw not in RATES:
        raise ElmanError(f"--raw: should be a sampling rate from {RATES[0]:,} to {RATES[-1]:,} Hz, got {raw:,}")
    if channel is not None and (microphone or raw is not None):
        raise ElmanError("--channel: is about files and WAV on standard input; --microphone and --raw have one channel")
    if channel is not None and channel < 1:
        raise ElmanError(f"--channel: should be the number of a channel, from 1, got {channel}")


def show_growing(shown: Console, text: str) -> None:
    """Show the end of the line that is being said on the terminal, instead of what was shown before."""
    print(f"\r\x1b[K{text[-(shown.width - 1) :]}", end="", file=sys.stderr, flush=True)


def open_source(
    stack: ExitStack, source: str | None, microphone: bool, raw: int | None, channel: int | None = None
) -> Blocks:
    """Open a sound file, standard input ("-" or None), or the microphone."""
    if microphone:
        return read_microphone()
    if source in (None, "-"):
        return read_pipe(sys.stdin.buffer, "standard input", channel, raw)
    sound = stack.enter_context(open_sound(source, channel))
    return Blocks(sound.rate, sound.blocks(1 << 14))


def lines_of(listening: Any, blocks: Iterator[Any]) -> Iterator[Any]:
    """Yield the lines of a sound, also of one that Ctrl-C or SIGTERM ends."""
    with _terminated_as_interrupted():
        with suppress(KeyboardInterrupt):
            for block in blocks:
                yield from listening.push(block)
        yield from listening.finish()


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Raise KeyboardInterrupt for SIGTERM, by which services end a process, so that files are written to their end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

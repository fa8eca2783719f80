"""Sound files of every format, broken ones, and what is said of them."""

from __future__ import annotations

import gzip
import io
import logging
import os
import struct
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import elman
from elman.data.sound_formats import cut_short, describe
from elman.data.sound_stream import SoundStream
from elman.data.sounds import SoundReader, Wave, open_sound, read_sound

soundfile = pytest.importorskip("soundfile")

#: By name: the format, the encoding, and the largest error of a sample.
FORMATS: dict[str, tuple[str, str, float]] = {
    "8-bit WAV": ("WAV", "PCM_U8", 0.01),
    "16-bit WAV": ("WAV", "PCM_16", 1e-4),
    "24-bit WAV": ("WAV", "PCM_24", 1e-6),
    "32-bit WAV": ("WAV", "PCM_32", 1e-6),
    "float WAV": ("WAV", "FLOAT", 0),
    "double WAV": ("WAV", "DOUBLE", 0),
    "mu-law WAV": ("WAV", "ULAW", 0.02),
    "A-law WAV": ("WAV", "ALAW", 0.02),
    "IMA ADPCM WAV": ("WAV", "IMA_ADPCM", 0.05),
    "MS ADPCM WAV": ("WAV", "MS_ADPCM", 0.05),
    "extensible WAV": ("WAVEX", "PCM_24", 1e-6),
    "RF64": ("RF64", "PCM_16", 1e-4),
    "W64": ("W64", "PCM_16", 1e-4),
    "AIFF": ("AIFF", "PCM_16", 1e-4),
    "float AIFF": ("AIFF", "FLOAT", 0),
    "AU": ("AU", "ULAW", 0.02),
    "CAF": ("CAF", "PCM_16", 1e-4),
    "ALAC": ("CAF", "ALAC_16", 1e-4),
    "FLAC": ("FLAC", "PCM_16", 1e-4),
    "24-bit FLAC": ("FLAC", "PCM_24", 1e-6),
    "SPHERE": ("NIST", "PCM_16", 1e-4),
    "Vorbis": ("OGG", "VORBIS", 0.1),
    "Opus": ("OGG", "OPUS", 0.1),
    "MP3": ("MP3", "MPEG_LAYER_III", 0.1),
}
RATE = 16000


def tone(seconds: float = 0.5, channels: int = 1) -> np.ndarray:
    """Tones of 300, 600, ... Hz, (N,) or (N, channels)."""
    t = np.arange(int(seconds * RATE))[:, None] / RATE
    x = (0.3 * np.sin(2 * np.pi * 300 * np.arange(1, channels + 1) * t)).astype(np.float32)
    return x if channels > 1 else x[:, 0]


def noise(seconds: float = 0.5) -> np.ndarray:
    return (0.2 * np.random.default_rng(0).standard_normal(int(seconds * RATE))).astype(np.float32)


def encoded(x: np.ndarray, form: str = "WAV", encoding: str | None = None, rate: int = RATE) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, x, rate, format=form, subtype=encoding)
    return file.getvalue()


def with_length(data: bytes, length: int, name: bytes = b"data", order: str = "<I") -> bytes:
    at = data.index(name) + 4
    return data[:at] + struct.pack(order, length) + data[at + 4 :]


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("channels", [1, 2])
def test_formats(name: str, channels: int, caplog: pytest.LogCaptureFixture) -> None:
    form, encoding, error = FORMATS[name]
    if encoding not in soundfile.available_subtypes(form):
        pytest.skip(f"libsndfile does not write {encoding}")
    x = tone(channels=channels)
    data = encoded(x, form, encoding)
    found = read_sound(data)
    with open_sound(data) as sound:
        assert np.array_equal(np.concatenate(list(sound.blocks(999))), found.samples)
    assert (found.rate, found.channels, found.samples.dtype) == (RATE, channels, np.float32)
    expected = x if channels == 1 else x.mean(1)
    assert 0 <= len(found) - len(expected) < 1100, "an ADPCM block or an MP3 frame at most"
    middle = slice(500, -500)
    assert np.abs(found.samples[: len(expected)] - expected)[middle].max() <= error
    assert not caplog.messages


def test_blocks_are_the_whole(tmp_path: Path) -> None:
    x = tone(1.0, 3)
    (tmp_path / "a.wav").write_bytes(encoded(x, encoding="FLOAT"))
    whole = read_sound(tmp_path / "a.wav").samples
    assert np.array_equal(whole, x.mean(1))
    for size in (1, 777, 1 << 20):
        with open_sound(tmp_path / "a.wav") as sound:
            assert (sound.rate, sound.channels, sound.frames) == (RATE, 3, len(x))
            blocks = list(sound.blocks(size))
        assert np.array_equal(np.concatenate(blocks), whole) and max(map(len, blocks)) == min(size, len(x))


def test_channels() -> None:
    data, x = encoded(tone(channels=2), encoding="FLOAT"), tone(channels=2)
    assert np.array_equal(read_sound(data, 1).samples, x[:, 0])
    assert np.array_equal(read_sound(data, 2).samples, x[:, 1])
    with pytest.raises(elman.ElmanError, match=r"<sound in memory>: has 2 channels; channel 3 is asked for \(--chann"):
        read_sound(data, 3)
    with pytest.raises(elman.ElmanError, match="has one channel; channel 2 is asked for"):
        read_sound(encoded(tone()), 2)


def test_sources(tmp_path: Path) -> None:
    data, x = encoded(tone(), encoding="FLOAT"), tone()
    (tmp_path / "a.wav.gz").write_bytes(gzip.compress(data))
    (tmp_path / "a.wav").write_bytes(data)
    for source in (tmp_path / "a.wav.gz", str(tmp_path / "a.wav"), data, io.BytesIO(data)):
        assert np.array_equal(read_sound(source).samples, x)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_pipe(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pipe = tmp_path / "pipe.wav"
    os.mkfifo(pipe)
    data = with_length(encoded(tone(), encoding="FLOAT"), 0xFFFFFFFF)
    writer = threading.Thread(target=pipe.write_bytes, args=(data,))
    writer.start()
    found = read_sound(pipe)
    writer.join()
    assert np.array_equal(found.samples, tone()) and not caplog.messages


@pytest.mark.parametrize("length", [0, 0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000, 0x80000000])
def test_lengths_of_pipes(length: int, caplog: pytest.LogCaptureFixture) -> None:
    found = read_sound(with_length(encoded(tone(), encoding="PCM_16"), length))
    assert np.abs(found.samples - tone()).max() < 1e-4 and not caplog.messages


def test_padding_is_not_missed(caplog: pytest.LogCaptureFixture) -> None:
    data = encoded(tone()[:7999], encoding="PCM_U8")
    assert len(read_sound(data[: data.index(b"data") + 8 + 7999])) == 7999
    notes = b"LIST" + struct.pack("<I", 5) + b"INFO!\0"  # an odd chunk and its padding
    at = data.index(b"data")
    assert len(read_sound(data[:at] + notes + data[at:])) == 7999
    assert not caplog.messages
    assert cut_short(io.BytesIO(data[:at] + notes + data[at:-1000])) == "7,000 of 7,999 bytes of audio are there"


@pytest.mark.parametrize("name", ["16-bit WAV", "IMA ADPCM WAV", "extensible WAV", "RF64", "W64", "AIFF", "AU", "CAF"])
def test_cut_short(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    form, encoding, _ = FORMATS[name]
    data = encoded(tone(), form, encoding)
    (tmp_path / "cut").write_bytes(data[: len(data) * 3 // 4])
    found = read_sound(tmp_path / "cut")
    assert 0.6 < len(found) / len(tone()) < 0.8
    (message,) = caplog.messages
    assert "cut: is cut short, " in message and " bytes of audio are there; read up to 0.3" in message
    assert message.endswith(f"{len(found) / RATE:.3f} s")


@pytest.mark.parametrize("name", ["Vorbis", "Opus", "MP3", "FLAC", "24-bit FLAC"])
def test_compressed_and_cut_short(name: str, caplog: pytest.LogCaptureFixture) -> None:
    form, encoding, _ = FORMATS[name]
    data = encoded(noise(8.0), form, encoding)
    found = read_sound(data[: len(data) * 3 // 4])
    assert 0 < len(found) < len(noise(8.0))
    (message,) = caplog.messages
    assert "is cut short, " in message and ("page is" in message or "samples can be decoded" in message)


@pytest.mark.parametrize("seconds", [1.0, 40.0])
def test_a_flac_file_is_cut_short_or_damaged(seconds: float, caplog: pytest.LogCaptureFixture) -> None:
    x = noise(seconds)
    data = encoded(x, "FLAC", "PCM_16")
    for part in (0.3, 0.7, 0.99):
        caplog.clear()
        found = read_sound(data[: int(len(data) * part)])
        assert len(found) % 4096 == 0 and part * len(x) - 4096 < len(found) < part * len(x) + 300
        assert np.abs(found.samples - x[: len(found)]).max() < 1e-4 and "samples can be decoded; read" in caplog.text
        at = int(len(data) * min(part, 0.7))
        with pytest.raises(
            elman.ElmanError, match=r"<sound in memory>: damaged at sample [\d,]+ \(\d+\.\d+ s\): "
        ) as error:
            read_sound(data[:at] + bytes(300) + data[at + 300 :])
        assert (
            abs(int(str(error.value).split("sample ")[1].split()[0].replace(",", "")) - at / len(data) * len(x)) < 5000
        )


def test_an_ogg_file_that_ends_within_its_last_page() -> None:
    data = encoded(tone(), "OGG", "VORBIS")
    assert not cut_short(io.BytesIO(data))
    assert cut_short(io.BytesIO(data[:-1])) == "the last page is incomplete"


def wav(rate: int = RATE, channels: int = 1, code: int = 1) -> bytes:
    data = encoded(tone(), encoding="PCM_16")
    at = data.index(b"fmt ") + 8
    return data[:at] + struct.pack("<HHI", code, channels, rate) + data[at + 8 :]


def spoilt(value: float, at: int, channels: int = 1) -> bytes:
    x = tone(channels=channels).reshape(-1, channels).astype(np.float64)
    x[at, -1] = value
    return encoded(x, encoding="DOUBLE" if abs(value) > 1e30 else "FLOAT")


FLAC = encoded(noise(), "FLAC", "PCM_16")
BROKEN: dict[str, tuple[bytes, str]] = {
    "no bytes": (b"", "the file is empty"),
    "zero bytes": (bytes(5000), "the file begins with zero bytes only"),
    "no samples": (encoded(tone()[:0]), r"x\.wav: the file contains no audio"),
    "header only": (encoded(tone())[:44], r"x\.wav: the file contains no audio"),
    "half a header": (encoded(tone())[:30], "a broken WAV file"),
    "rate 0": (wav(rate=0), "the sampling rate is 0"),
    "a low rate": (wav(rate=8), "the sampling rate is 8 Hz; 200 to 1,000,000 Hz are read"),
    "a high rate": (wav(rate=2_000_000), "the sampling rate is 2,000,000 Hz"),
    "no channels": (wav(channels=0), "the file has 0 channels"),
    "an unknown encoding": (wav(code=0x161), r"a broken WAV file, or one whose encoding is not supported \("),
    "NaN": (spoilt(np.nan, 4000), r"x\.wav: sample 4,001 \(0\.250 s\): nan is not a sample"),
    "infinity": (spoilt(-np.inf, 0, 2), r"x\.wav: sample 1 \(0\.000 s\), channel 2: -inf is not a sample"),
    "beyond float32": (spoilt(1e300, 7999), r"x\.wav: sample 8,000 \(0\.500 s\): inf is not a sample"),
    "enormous": (spoilt(1e20, 5), r"sample 6 \(0\.000 s\): 1e\+20 is not a sample of a sound"),
    "a damaged FLAC": (FLAC[:6000] + bytes(300) + FLAC[6300:], r"x\.wav: damaged at sample [\d,]+ \(0\.\d+ s\): "),
    "an Ogg header": (encoded(tone(), "OGG")[:40], r"a file \(OGG\) that is cut short, the last page is incomplete"),
    "text": (b"The quick brown fox jumps over the lazy dog. " * 5, "a text file"),
    "a page": (b"<!DOCTYPE html><html>404</html>", "an HTML or XML page"),
    "a pointer": (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
    "M4A": (b"\0\0\0\x20ftypM4A \0\0\0\0" + bytes(80), "an M4A, MP4 or MOV file; convert it: ffmpeg"),
    "WMA": (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11" + bytes(80), "a WMA file; convert it"),
    "AAC": (b"\xff\xf1\x50\x80" + bytes(80), "an AAC file"),
    "AMR": (b"#!AMR\n" + bytes(80), "an AMR file"),
    "WebM": (b"\x1a\x45\xdf\xa3" + bytes(80), "a WebM or Matroska file"),
    "Speex": (b"OggS\0\2" + bytes(22) + b"Speex   1.2" + bytes(80), "a Speex file"),
    "a zip": (b"PK\x03\x04" + bytes(80), "a zip archive"),
    "noise": (bytes(range(1, 200)) * 20, "not in a known format"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_broken(name: str, tmp_path: Path) -> None:
    data, message = BROKEN[name]
    (tmp_path / "x.wav").write_bytes(data)
    with pytest.raises(elman.ElmanError, match=message) as caught:
        read_sound(tmp_path / "x.wav")
    assert str(caught.value).startswith(f"{tmp_path / 'x.wav'}: ") and "\n" not in str(caught.value)


def test_every_beginning_of_a_file_is_read_or_refused(caplog: pytest.LogCaptureFixture) -> None:
    for data in (encoded(tone(0.02)), encoded(tone(0.02), "AIFF"), encoded(tone(0.02), "W64")):
        for end in range(0, len(data), 7):
            caplog.clear()
            try:
                found = read_sound(data[:end])
            except elman.ElmanError:
                continue
            assert isinstance(found, Wave) and len(found) < len(tone(0.02))
            assert "is cut short" in caplog.text


class Failing(io.BytesIO):
    """A file on a disk that fails after 10,000 bytes."""

    def read(self, length: int | None = -1, /) -> bytes:
        if self.tell() >= 10_000:
            raise OSError("the disk failed")
        return super().read(length)


def test_a_disk_that_fails() -> None:
    stream = SoundStream(Failing(encoded(noise(4.0))))
    sound = SoundReader(soundfile.SoundFile(stream), stream, "x.wav")
    with pytest.raises(elman.ElmanError, match=r"x\.wav: cannot be read at sample [\d,]+ .* the disk failed"):
        list(sound.blocks(1000))


def test_missing_codecs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soundfile, "available_formats", lambda: {"WAV": ""})
    monkeypatch.setattr(soundfile, "available_subtypes", lambda form: {"VORBIS": ""})
    with pytest.raises(elman.ElmanError, match=r"libsndfile [\d.]+ cannot decode MP3: pip install -U soundfile"):
        read_sound(b"\xff\xfb\x90\x64" + bytes(50))
    with pytest.raises(elman.ElmanError, match=r"libsndfile [\d.]+ cannot decode OPUS"):
        read_sound(encoded(tone(), "OGG")[:28] + b"OpusHead" + bytes(50))


def test_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(elman.ElmanError, match=r"sound needs the soundfile package: pip install 'elman\[audio\]'"):
        read_sound(b"RIFF")


def test_a_flac_file_of_unknown_length(caplog: pytest.LogCaptureFixture) -> None:
    total = bytearray(FLAC)
    total[21] &= 0xF0  # STREAMINFO: the number of samples, 36 bits
    total[22:26] = bytes(4)
    assert len(read_sound(bytes(total))) == len(tone())
    assert not caplog.messages


def test_what_is_short() -> None:
    assert describe(b"") == "the file is empty" and cut_short(io.BytesIO(b"")) == ""
    for start in (b"RIFF", b"riff", b"caff", b"FORM", b".snd", b"OggS", b"RF64"):
        for more in (b"", bytes(3), bytes(100), b"\xff" * 100):
            assert isinstance(cut_short(io.BytesIO(start + more)), str) and describe(start + more)


def options(**more: Any) -> dict[str, Any]:
    return {"hidden_size": 8, "steps": 2, "progress": False, "device": "cpu", "precision": "float32", **more}


@pytest.fixture(scope="module")
def stereo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of sounds whose first channel is low or high, and whose second channel is noise."""
    folder, draw = tmp_path_factory.mktemp("stereo"), np.random.default_rng(0)
    for label, pitch in (("low", 300), ("high", 2000)):
        (folder / label).mkdir()
        for k in range(6):
            x = np.stack([np.sin(np.arange(4000) * 2 * np.pi * (pitch + 20 * k) / RATE), draw.standard_normal(4000)], 1)
            soundfile.write(folder / label / f"{k}.wav", 0.2 * x, RATE, "FLOAT")
    return folder


def test_the_channel_of_a_model(stereo: Path, tmp_path: Path) -> None:
    model = elman.train("classify", stereo, out=tmp_path / "run", **options(channel="1"))
    assert elman.load(tmp_path / "run").config.channel == "1"
    path = stereo / "low/0.wav"
    (row,) = model.medium.read([path])
    (same,) = model.medium.read([soundfile.read(path, dtype="float32")[0][:, 0]])
    assert np.array_equal(row, same)
    (mixed,) = elman.train("classify", stereo, **options()).medium.read([path])
    assert not np.array_equal(row, mixed)
    for wrong in ("0", "left", "-1", 0, True):
        with pytest.raises(elman.ElmanError, match="channel: should be"):
            elman.train("classify", stereo, **options(channel=wrong))
    (tmp_path / "mono.wav").write_bytes(encoded(tone()))
    second = elman.train("classify", stereo, **options(channel=2))
    with pytest.raises(elman.ElmanError, match=r"mono\.wav: has one channel; channel 2 is asked for"):
        second.predict([tmp_path / "mono.wav"])


def test_a_channel_of_sounds_that_have_one_is_refused(tmp_path: Path) -> None:
    for label in "ab":
        (tmp_path / label).mkdir()
        for k in range(3):
            soundfile.write(tmp_path / label / f"{k}.wav", tone(), RATE)
    with pytest.raises(elman.ElmanError, match="channel: has no effect here, it needs sounds with several channels"):
        elman.train("classify", tmp_path, **options(channel="1"))


def test_a_lower_rate_than_in_training(stereo: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("soxr")
    model = elman.train("classify", stereo, **options())
    for name, rate in (("a", 8000), ("b", 8000), ("c", 44100)):
        soundfile.write(tmp_path / f"{name}.wav", tone(), rate)
    caplog.set_level(logging.WARNING)
    caplog.clear()
    rows = model.medium.read([tmp_path / "c.wav", tmp_path / "a.wav", tmp_path / "b.wav"])
    assert [len(row) for row in rows] == [1 + round(8000 / rate * 100) for rate in (44100, 8000, 8000)]
    (message,) = caplog.messages
    assert message == (
        f"{tmp_path / 'a.wav'}: sampled at 8,000 Hz, below the model's rate of 16,000 Hz: frequencies above 4,000 Hz "
        "are missing"
    )

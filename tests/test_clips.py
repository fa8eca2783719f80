"""Sounds that are opened and decoded later: parts of files, broken ones, and the cache of their frames."""

from __future__ import annotations

import gzip
import io
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import elman
from elman.data import clips as clips_module
from elman.data.clips import Clip, read_clips
from elman.data.sounds import Wave, open_sound, read_sound
from elman.media import Content, store
from elman.media.sound import Sound, SoundOptions
from elman.media.sound_rows import SoundRows, frames_of
from tests.test_sounds import FORMATS, RATE, encoded, noise, tone

soundfile = pytest.importorskip("soundfile")

BANDS = 5


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("elman.media.sound_rows.cache_folder", lambda name: tmp_path / "cache" / name)
    return tmp_path / "cache" / "sounds"


def written(folder: Path, count: int = 20) -> list[str]:
    """Files of noise of different lengths."""
    paths = []
    for k in range(count):
        x = 0.1 * np.random.default_rng(k).standard_normal(400 + 50 * k)
        paths.append(str(folder / f"{k:02d}.wav"))
        soundfile.write(paths[-1], x, 8000, "FLOAT")
    return paths


def opened(paths: list[str], **options: Any) -> list[Clip]:
    return [one for one in read_clips(paths, paths, **options) if one is not None]


def frames(clips: list[Clip], rate: int = 8000, channel: int | None = None) -> list[np.ndarray]:
    rows = SoundRows(rate, BANDS, channel).read(clips, [clip.name for clip in clips])
    return [row for row in rows if row is not None]


def whole(clip: Clip, rate: int = 8000, channel: int | None = None) -> np.ndarray:
    wave = read_sound(clip.source, channel)
    part = wave.samples[round(clip.start * wave.rate) : None if clip.end is None else round(clip.end * wave.rate)]
    return frames_of([part], wave.rate, rate, BANDS)


def test_headers_are_read(tmp_path: Path) -> None:
    data = encoded(tone(channels=2))
    (tmp_path / "a.wav").write_bytes(data)
    (tmp_path / "b.wav.gz").write_bytes(gzip.compress(data))
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as archive:
        archive.writestr("x/c.wav", data)
        archive.writestr("y.wav", encoded(tone()))
    paths = [str(tmp_path / "a.wav"), str(tmp_path / "b.wav.gz"), f"{tmp_path / 'c.zip'}::x/c.wav"]
    found = read_clips([*paths, data, io.BytesIO(data)], [""] * 5)
    assert len({one.digest for one in found if one}) == 1
    for one in found:
        assert one is not None
        assert (one.rate, one.channels, one.seconds, one.start, one.end, one.duration) == (RATE, 2, 0.5, 0, None, 0.5)
        assert np.array_equal(read_sound(one.source).samples, read_sound(data).samples)


def test_a_header_without_the_length(tmp_path: Path) -> None:
    total = bytearray(encoded(noise(), "FLAC", "PCM_16"))
    total[21] &= 0xF0
    total[22:26] = bytes(4)
    (one,) = read_clips([bytes(total)], ["x"])
    assert one is not None and one.seconds == 0.5


def test_unreadable_files_are_reported_together(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    paths = written(tmp_path, 5)
    Path(paths[1]).write_bytes(b"RIFFnothing")
    Path(paths[3]).unlink()
    places = [f"t.tsv, row {k}" for k in range(1, 6)]
    with pytest.raises(elman.ElmanError) as caught:
        read_clips(paths, places)
    message = str(caught.value)
    assert message.startswith(f"t.tsv, row 2: {paths[1]}: not a sound file that can be decoded")
    assert message.endswith("; 2 of 5 sounds cannot be read; --skip-broken leaves them out")
    found = read_clips(paths, places, skip_broken=True)
    assert [one is None for one in found] == [False, True, False, True, False]
    assert caplog.messages[0].startswith(
        f"left out 2 of 5 sounds, which cannot be read; the first, t.tsv, row 2: {paths[1]}"
    )
    with pytest.raises(elman.ElmanError, match="none of the 2 sounds can be read$"):
        read_clips([paths[1], paths[3]], ["", ""], skip_broken=True)
    with pytest.raises(elman.ElmanError, match=rf"^{paths[3]}: no such file$"):
        read_clips([paths[3]], [paths[3]])
    with pytest.raises(elman.ElmanError, match=r"has one channel; channel 2 is asked for"):
        read_clips(paths[:1], [""], 2)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ((0.2, 0.1), "the part from 0.2 s to 0.1 s: an end after a start"),
        ((-0.1, 0.1), "the part from -0.1 s to 0.1 s: an end after a start"),
        ((float("nan"), None), "the part from nan s to its end: an end after a start"),
        ((0.1, float("inf")), "the part from 0.1 s to inf s: an end after a start"),
        ((0.5, None), r"ends at 0\.500 s; a part from 0\.5 s on is asked for"),
        ((0.3, 0.6), r"ends at 0\.500 s; a part from 0\.3 to 0\.6 s is asked for"),
        ((0.2, 0.200001), "the part from 0.2 s is shorter than a sample"),
    ],
)
def test_parts_that_are_wrong(part: tuple[float, float | None], message: str, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(encoded(tone()))
    path = str(tmp_path / "a.wav")
    with pytest.raises(elman.ElmanError, match=rf"^t.tsv, row 2: {path}: {message}.*; 1 of 2 sounds cannot be read"):
        read_clips([path, path], ["t.tsv, row 1", "t.tsv, row 2"], parts=[(0.0, None), part])


def test_each_file_is_opened_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths, count = written(tmp_path, 2), []
    monkeypatch.setattr(clips_module, "open_sound", lambda *x: count.append(x) or open_sound(*x))
    parts = [(0.0, 0.02), (0.01, None), (0.0, 0.0501)]
    found = read_clips([paths[0], paths[0], paths[1]], [""] * 3, parts=parts)
    assert len(count) == 2 and [one and (one.start, one.end) for one in found] == parts
    (rounded,) = read_clips([paths[0]], [""], parts=[(0.0, 0.055)])
    assert rounded is not None and rounded.end is None, "the file has 0.05 s"


@pytest.mark.parametrize("name", FORMATS)
def test_parts_are_those_of_the_whole(name: str) -> None:
    form, encoding, _ = FORMATS[name]
    if encoding not in soundfile.available_subtypes(form):
        pytest.skip(f"libsndfile does not write {encoding}")
    data = encoded(noise(6.0), form, encoding)
    samples = read_sound(data).samples
    with open_sound(data) as sound:
        for start, end in ((0.1, 0.7), (0.7, 0.70025), (4.5, None)):
            part = np.concatenate(list(sound.blocks(1000, start, end)))
            assert np.array_equal(part, samples[round(start * RATE) : None if end is None else round(end * RATE)])
        packed = ("ADPCM", "ALAC", "FLAC", "Vorbis", "Opus", "MP3")
        assert sound.exact != any(kind in name for kind in packed)


def test_frames_are_kept(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = opened(written(tmp_path))
    rows = frames(found)
    assert all(
        np.array_equal(row, whole(clip)) and row.dtype == np.float16 for row, clip in zip(rows, found, strict=True)
    )
    assert all(isinstance(row.base, np.ndarray) for row in rows) and len(list(cache.rglob("*.safetensors"))) == 1
    monkeypatch.setattr("elman.media.sound_rows.open_sound", None)
    again = frames([*found, found[3]])
    assert all(np.array_equal(one, two) for one, two in zip(rows, again, strict=False)) and len(again) == 21


def test_frames_depend_on_the_part_the_channel_the_rate_and_the_bands(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(encoded(np.stack([noise(2.0), tone(2.0)], 1), encoding="FLOAT"))
    path = str(tmp_path / "a.wav")
    parts = [(k / 10, (k + 3) / 10) for k in range(16)]  # they overlap
    found = [one for one in read_clips([path] * 17, [""] * 17, parts=[*parts, (0.0, None)]) if one is not None]
    for channel, rate in ((None, 16000), (1, 16000), (2, 16000), (None, 8000)):
        for _ in range(2):
            for row, clip in zip(frames(found, rate, channel), found, strict=True):
                assert np.array_equal(row, whole(clip, rate, channel))
    assert SoundRows(16000, 7).read(found[:1], [""])[0].shape[1] == 7  # type: ignore[union-attr]


@pytest.mark.parametrize("form", ["WAV", "FLAC", "MP3"])
def test_a_file_is_decoded_once_for_all_its_parts(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if form not in soundfile.available_formats():
        pytest.skip(f"libsndfile does not write {form}")
    data, count = encoded(noise(3.0), form), []
    monkeypatch.setattr("elman.media.sound_rows.open_sound", lambda *x: count.append(x) or open_sound(*x))
    parts = [(k / 10, (k + 1) / 10) for k in np.random.default_rng(0).permutation(28).tolist()]
    found = [one for one in read_clips([data] * 28, [""] * 28, parts=parts) if one is not None]
    rows = frames(found, RATE)
    assert len(count) == 1
    assert all(np.array_equal(row, whole(clip, RATE)) for row, clip in zip(rows, found, strict=True))


@pytest.mark.parametrize("damage", ["cut", "row", "lengths"])
def test_a_damaged_cache_is_filled_anew(damage: str, tmp_path: Path, cache: Path) -> None:
    found = opened(written(tmp_path))
    wanted = [row.copy() for row in frames(found)]
    (path,) = cache.rglob("*.safetensors")
    data = bytearray(path.read_bytes())
    if damage == "lengths":
        data[data.index(np.array([len(row) for row in wanted], np.uint32).tobytes())] ^= 1
    data[len(data) // 2] ^= damage == "row"
    path.unlink()
    path.write_bytes(data[: len(data) - 3 * (damage == "cut")])
    for _ in range(2):
        assert all(np.array_equal(one, two) for one, two in zip(wanted, frames(found), strict=True))


def test_long_sounds_are_kept_though_they_are_few(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = opened(written(tmp_path, 3))
    frames(found)
    assert not cache.exists()
    monkeypatch.setattr(store, "_SMALL", 100)
    frames(found)
    assert len(list(cache.rglob("*.safetensors"))) == 1
    monkeypatch.setattr(store, "_SMALL", 10)
    monkeypatch.setattr(store, "_SHARD_BYTES", 10)
    frames(opened(written(tmp_path, 6))[3:])
    assert len(list(cache.rglob("*.safetensors"))) == 4, "a file for each"


def test_several_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    found = opened(written(tmp_path))
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    monkeypatch.setattr(store, "_LOG_SECONDS", 0.0)
    rows = frames(found)
    assert torch.get_num_threads() == 3
    torch.set_num_threads(before)
    assert all(np.array_equal(row, whole(clip)) for row, clip in zip(rows, found, strict=True))
    assert caplog.messages[-1].startswith("encoded 20 of 20 sounds, ")


def damaged(folder: Path) -> list[str]:
    """Twenty sounds, of which one has a NaN and one a damaged block, which no header tells."""
    paths = written(folder)
    x = noise()
    x[100] = np.nan
    soundfile.write(paths[4], x, 8000, "FLOAT")
    data = encoded(noise(), "FLAC")
    Path(paths[7]).write_bytes(data[:6000] + bytes(300) + data[6300:])
    return paths


def test_damage_that_shows_on_decoding(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    paths = damaged(tmp_path)
    places = [f"t.tsv, row {k}" for k in range(1, 21)]
    found = [one for one in read_clips(paths, places) if one is not None]
    with pytest.raises(elman.ElmanError, match=rf"^t\.tsv, row 5: {paths[4]}: sample 101 \(0\.013 s\): nan is"):
        SoundRows(8000, BANDS).read(found, places)
    for _ in range(2):
        caplog.clear()
        rows = SoundRows(8000, BANDS).read(found, places, skip_broken=True)
        assert [k for k, row in enumerate(rows) if row is None] == [4, 7]
        (message,) = caplog.messages
        assert message.startswith(
            f"left out 2 of 20 sounds, which cannot be decoded; the first, t.tsv, row 5: {paths[4]}"
        )
    with pytest.raises(elman.ElmanError, match="none of the 2 sounds can be decoded"):
        SoundRows(8000, BANDS).read([found[4], found[7]], ["", ""], skip_broken=True)


def test_damage_in_one_part(tmp_path: Path) -> None:
    x = noise(3.0)
    x[20000] = np.nan
    soundfile.write(tmp_path / "a.wav", x, RATE, "FLOAT")
    parts = [(k / 10, (k + 1) / 10) for k in range(20)]
    found = read_clips([tmp_path / "a.wav"] * 20, [""] * 20, parts=parts)
    rows = SoundRows(RATE, BANDS).read(found, [""] * 20, skip_broken=True)  # type: ignore[arg-type]
    assert [k for k, row in enumerate(rows) if row is None] == [12]


def test_a_file_that_has_changed(tmp_path: Path) -> None:
    found = opened(written(tmp_path, 2))
    soundfile.write(found[1].source, noise(), 8000)
    with pytest.raises(elman.ElmanError, match=r"01\.wav: has changed since it was opened; start again"):
        frames(found)


def test_the_medium_takes_clips_and_waves(tmp_path: Path) -> None:
    pytest.importorskip("soxr")
    (clip,) = opened(written(tmp_path, 1))
    wave = Wave(noise(0.1), 16000)
    medium = Sound(SoundOptions(bands=BANDS), 8000)
    rows = medium.encode(Content([wave, clip]), ["", ""])
    again = medium.read(
        [wave, clip, Path(clip.source), Path(clip.source).read_bytes(), read_sound(clip.source).samples]
    )
    assert all(np.array_equal(rows[k], again[min(k, 1)]) for k in range(2))
    assert all(np.array_equal(row, rows[1]) and row.dtype == np.float16 for row in again[1:])
    assert Sound.facts(Content([clip, wave])) == {"several_channels": False}
    assert Sound.digest(clip) != Sound.digest(clip._replace(start=0.01)) != Sound.digest(wave)
    assert medium.amount(Content([clip, wave])) == pytest.approx(15)


OPTIONS: dict[str, Any] = {"hidden_size": 8, "steps": 4, "progress": False, "device": "cpu", "precision": "float32"}


def labelled(folder: Path) -> Path:
    for k, path in enumerate(damaged(folder)):
        (folder / "data" / "ab"[k % 2]).mkdir(parents=True, exist_ok=True)
        os.rename(path, folder / "data" / "ab"[k % 2] / Path(path).name)
    return folder / "data"


def test_training_leaves_broken_sounds_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = labelled(tmp_path)
    with pytest.raises(elman.ElmanError, match=r"a/04\.wav: sample 101 .* --skip-broken leaves such sounds out"):
        elman.train("classify", folder, **OPTIONS)
    (folder / "a" / "00.wav").write_bytes(b"RIFFnothing")
    model = elman.train("classify", folder, skip_broken=True, out=tmp_path / "run", **OPTIONS)
    assert "left out 1 of 20 sounds, which cannot be read" in caplog.text
    assert "sounds, which cannot be decoded" in caplog.text
    held = model.held_out()
    assert len(held.rows) == len(held.labels) == len(held.places)
    assert model.sources.examples + len(held.rows) == 17
    assert elman.load(tmp_path / "run").evaluate(held) == model.evaluate(held)


def test_compressed_sounds_of_a_class(tmp_path: Path) -> None:
    for label, pitch in (("low", 300), ("high", 3000)):
        (tmp_path / label).mkdir()
        for k in range(4):
            x = np.sin(np.arange(4000) * (pitch + k) * 2 * np.pi / RATE)
            (tmp_path / label / f"{k}.wav.gz").write_bytes(gzip.compress(encoded(x)))
    model = elman.train("classify", tmp_path, **OPTIONS)
    assert model.medium.name == "sound"
    assert len(model.predict([tmp_path / "low/0.wav.gz"])) == 1


@pytest.mark.parametrize("options", [{"mean": "running"}, {"deltas": False}, {"mean": "running", "deltas": False}])
def test_classification_with_other_features(options: dict[str, Any], tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    for label, pitch in (("low", 300), ("high", 2000)):
        (tmp_path / "data" / label).mkdir(parents=True)
        for k in range(12):
            x = np.sin(np.arange(3000) * 2 * np.pi * (pitch + 20 * k) / 8000) * (np.arange(3000) > 1500)
            soundfile.write(tmp_path / "data" / label / f"{k}.wav", x + 0.01 * draw.standard_normal(3000), 8000)
    model = elman.train("classify", tmp_path / "data", out=tmp_path / "run", **OPTIONS | options | {"steps": 60})
    assert model.evaluate(model.held_out())["accuracy"] == 1
    again = elman.load(tmp_path / "run")
    (row,) = again.medium.read([tmp_path / "data/low/0.wav"])
    features = again.medium.features(row)
    assert features.shape == (len(row), 24 * (1 + options.get("deltas", True))) and features.dtype == np.float32
    if "mean" in options:
        stream = again.medium.stream()
        parts = [stream.push(part) for part in np.split(row, [1, 2, 10])]
        assert np.array_equal(np.concatenate((*parts, stream.finish())), features)
    else:
        with pytest.raises(elman.ElmanError, match="mean: sound needs the whole sound; train with --mean"):
            again.medium.stream()

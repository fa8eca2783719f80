"""Subtitles: times, escaping and the formats."""

from __future__ import annotations

import io
import json

import pytest

from elman.decoding.subtitles import Segment, Subtitles, Word, timestamp
from elman.errors import ElmanError

SEGMENTS = [
    Segment(0.0, 1.9996, "salt & <pepper>\n\n--> more", [Word("salt", 0.0, 0.5, 0.98765)]),
    Segment(2.0, 2.0, "\u00e9t\u00e9"),
    Segment(3.0, 4.0, "  "),
    Segment(360_000.0, 360_001.5, "late"),
]


def written(format: str) -> str:
    file = io.StringIO()
    with Subtitles(file, format) as subtitles:
        for segment in SEGMENTS:
            subtitles.write(segment)
    return file.getvalue()


def test_srt() -> None:
    assert written("srt") == (
        "1\n00:00:00,000 --> 00:00:02,000\nsalt & <pepper> --> more\n\n"
        "2\n00:00:02,000 --> 00:00:02,001\n\u00e9t\u00e9\n\n"
        "3\n100:00:00,000 --> 100:00:01,500\nlate\n\n"
    )


def test_vtt() -> None:
    assert written("vtt") == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:02.000\nsalt &amp; &lt;pepper&gt; --&gt; more\n\n"
        "00:00:02.000 --> 00:00:02.001\n\u00e9t\u00e9\n\n100:00:00.000 --> 100:00:01.500\nlate\n\n"
    )


def test_json_and_txt() -> None:
    records = json.loads(written("json"))
    assert [record["text"] for record in records] == ["salt & <pepper> --> more", "\u00e9t\u00e9", "late"]
    assert records[0] == {
        "start": 0.0, "end": 2.0, "text": "salt & <pepper> --> more",
        "words": [{"text": "salt", "start": 0.0, "end": 0.5, "confidence": 0.9877}],
    }  # fmt: skip
    assert written("json").count("\n") == 1 + len(records) + 1
    assert written("txt") == "salt & <pepper> --> more\n\u00e9t\u00e9\nlate\n"


def test_each_segment_is_written_at_once_and_nothing_gives_valid_files() -> None:
    file = io.StringIO()
    with Subtitles(file, "json") as subtitles:
        pass
    assert json.loads(file.getvalue()) == []
    with Subtitles(file, "txt") as subtitles:
        subtitles.write(SEGMENTS[1])
        assert file.getvalue().endswith("\u00e9t\u00e9\n")


def test_timestamps_round_to_milliseconds_with_carry() -> None:
    assert timestamp(round(59.9996 * 1000)) == "00:01:00.000"
    assert timestamp(3_599_999, ",") == "00:59:59,999"


@pytest.mark.parametrize("times", [(2.0, 1.0), (-0.1, 1.0), (0.0, float("inf")), (float("nan"), 1.0)])
def test_wrong_times_and_formats_are_refused(times: tuple[float, float]) -> None:
    with pytest.raises(ElmanError, match="it must begin at 0"):
        Subtitles(io.StringIO(), "srt").write(Segment(*times, "text"))
    with pytest.raises(ElmanError, match="unknown format of subtitles 'str': did you mean srt"):
        Subtitles(io.StringIO(), "str")

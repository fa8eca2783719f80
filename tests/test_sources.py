"""Sources of data: archives, unusual names and other encodings."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

import elman
import elman.cli.app
from elman.data import read_text
from elman.data.source import absolute, files_below, is_system_file, printable, sources
from elman.data.tables import read_table
from elman.data.vectors import read_vectors, vector_size
from elman.media.columns import Columns
from elman.media.labelled import read_labelled
from tests.conftest import some_text

TABLE = Columns("text", "label", "file", None, None, None, None)
CSV = "text,label\na,x\nb,y\n"
JUNK = {"__MACOSX/._a.csv": b"\0\5\x16", ".DS_Store": b"\0\0\0\1", "d/Thumbs.db": b"\xd0\xcf", "desktop.ini": b"["}


def zipped(path: Path, files: dict[str, bytes]) -> str:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return str(path)


def tarred(path: Path, files: dict[str, bytes], mode: str = "w") -> str:
    with tarfile.open(path, mode) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        link = tarfile.TarInfo("link.csv")
        link.type, link.linkname = tarfile.SYMTYPE, "elsewhere"
        archive.addfile(link)
    return str(path)


def test_archives_of_one_file(tmp_path: Path) -> None:
    files = {"d/a.csv": CSV.encode(), **JUNK}
    for path in (
        zipped(tmp_path / "a.zip", files),
        zipped(tmp_path / "a.csv.zip", files),
        zipped(tmp_path / "b.csv.zip", {"a": CSV.encode()}),
        zipped(tmp_path / "c.zip", {"a.csv.gz": gzip.compress(CSV.encode())}),
        tarred(tmp_path / "a.tar", files),
        *(tarred(tmp_path / f"a.tar.{kind}", files, f"w:{kind}") for kind in ("gz", "bz2", "xz")),
        tarred(tmp_path / "a.tgz", files, "w:gz"),
    ):
        assert read_table(path)["label"].to_list() == ["x", "y"], path
        assert read_labelled(path, TABLE).inputs == ["a", "b"]
        assert read_text(path) == CSV
    for name, data in (
        ("a.csv.gz", gzip.compress(b"text,label\n") + gzip.compress(b"a,x\nb,y\n")),
        ("a.csv.bz2", bz2.compress(CSV.encode())),
        ("a.csv.xz", lzma.compress(CSV.encode())),
    ):
        (tmp_path / name).write_bytes(data)
        assert read_labelled(str(tmp_path / name), TABLE).inputs == ["a", "b"]


def test_archives_of_several_files(tmp_path: Path) -> None:
    files = {"b.csv": CSV.encode(), "a/c.csv": CSV.replace(",x", ",z").encode(), **JUNK}
    for path in (zipped(tmp_path / "a.zip", files), tarred(tmp_path / "a.tar.gz", files, "w:gz")):
        message = r"contains 2 files: b.csv, a/c.csv; name one, .*::b.csv, or unpack it"
        for read in (read_text, read_table, lambda path: read_labelled(path, TABLE)):
            with pytest.raises(elman.ElmanError, match=message):
                read(path)
        assert read_labelled(f"{path}::a/c.csv", TABLE).labels == [("z",), ("y",)]
        assert read_text(f"{path}::b.csv") == CSV
        with pytest.raises(elman.ElmanError, match=r"the archive has no 'd.csv'; it has "):
            read_text(f"{path}::d.csv")
    many = zipped(tmp_path / "many.zip", {f"pos/{k}.txt": b"a" for k in range(50)})
    with pytest.raises(elman.ElmanError, match=r"contains 50 files: pos/0.txt, .*, and 40 more; name one"):
        read_text(many)
    with pytest.raises(elman.ElmanError, match="the archive contains no file"):
        read_text(zipped(tmp_path / "none.zip", JUNK))


def test_archives_that_are_wrong(tmp_path: Path) -> None:
    path = Path(zipped(tmp_path / "a.zip", {"a.csv": CSV.encode()}))
    data = bytearray(path.read_bytes())
    for header, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.find(header) + offset] |= 1
    (tmp_path / "secret.zip").write_bytes(data)
    with pytest.raises(elman.ElmanError, match=r"secret.zip: a.csv is encrypted"):
        read_text(str(tmp_path / "secret.zip"))
    for name in ("cut.zip", "cut.tar", "cut.tar.gz", "cut.txt.xz"):
        (tmp_path / name).write_bytes(path.read_bytes()[:60])
        with pytest.raises(elman.ElmanError, match=rf"{name}: cannot be read"):
            read_text(str(tmp_path / name))
    deep: bytes = CSV.encode()
    for _ in range(6):
        deep = gzip.compress(deep)
    (tmp_path / ("a" + ".gz" * 6)).write_bytes(deep)
    with pytest.raises(elman.ElmanError, match="unpack it"):
        read_text(str(tmp_path / ("a" + ".gz" * 6)))


def test_archives_that_unpack_to_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("elman.data.archive._MAX_UNPACKED", 1 << 16)
    zeros = b" " * (1 << 20)
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(zeros))
    (tmp_path / "a.txt.bz2").write_bytes(bz2.compress(zeros))
    paths = [tmp_path / "a.txt.gz", tmp_path / "a.txt.bz2", Path(zipped(tmp_path / "a.zip", {"a": zeros}))]
    paths.append(Path(tarred(tmp_path / "a.tar.gz", {"a": zeros}, "w:gz")))
    for path in paths:
        with pytest.raises(elman.ElmanError, match=rf"{path.name}: unpacks to more than .* times its size"):
            read_text(str(path))


def test_unsupported_formats(tmp_path: Path) -> None:
    for name, message in (
        ("a.xls", "an old Excel workbook; save it as .xlsx or .csv"),
        ("a.pkl", "elman never unpickles"),
        ("a.7z", "an archive in an unsupported format; unpack it"),
        ("a.sqlite", "a database"),
        ("a.PDF", "a document"),
    ):
        (tmp_path / name).write_bytes(b"\0")
        for task in ("language", "classify", "translate", "tag", "fill", "answer"):
            with pytest.raises(elman.ElmanError, match=rf"{name}: {message}|{name}: .*{message}"):
                elman.train(task, tmp_path / name, progress=False)
    for data, kind in (
        (b"PAR1\0\0", "a Parquet table; its name must end in .parquet"),
        (gzip.compress(b"a", mtime=0), "compressed by gzip; its name must end in .gz"),
        (b"%PDF-1.4 \xff", "a PDF document"),
        (b"SQLite format 3\0", "an SQLite database"),
    ):
        (tmp_path / "a.txt").write_bytes(data)
        with pytest.raises(elman.ElmanError, match=f"a.txt: not text: this is {kind}"):
            read_text(str(tmp_path / "a.txt"))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("h\u00e9j".encode("utf-16-le"), "seems to be UTF-16LE; try iconv -f UTF-16LE -t UTF-8"),
        ("hej, hej".encode("utf-16-be"), "seems to be UTF-16BE"),
        ("hej, hej".encode("utf-32-le"), "seems to be UTF-32LE"),
        ("hej, hej".encode("utf-32-be"), "seems to be UTF-32BE"),
        ("hej".encode("utf-32"), "this is UTF-32LE; try iconv"),
        (b"\0\0\xfe\xff" + "hej".encode("utf-32-be"), "this is UTF-32BE"),
        (b"\xfe\xff" + "hej".encode("utf-16-be"), "this is UTF-16BE"),
        (
            "a \u201cfilm\u201d, it\u2019s \u20ac5".encode("cp1252"),
            r"Windows-1252 \(cp1252\): try iconv -f WINDOWS-1252",
        ),
        ("l'\u00e9t\u00e9, gar\u00e7on".encode("latin-1"), "if it is Latin-1, try iconv -f ISO-8859-1"),
        ("\u043f\u0440\u0438\u0432\u0435\u0442 \u043c\u0438\u0440".encode("cp1251"), "another encoding"),
        ("\u65e5\u672c\u8a9e\u306e\u6587".encode("shift_jis"), "another encoding"),
        ("h\u00e9 ".encode() * 5 + b"\xed\xa0\x80", "the rest is UTF-8, but 3 bytes are invalid"),
        ("\u00e9t\u00e9 \u00e0\n".encode() + b"\xff", r"at byte 9 \(0xff\), line 2; the rest is UTF-8"),
    ],
)
def test_errors_name_the_encoding(data: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(data)
    for read in (read_text, read_table):
        with pytest.raises(elman.ElmanError, match=f"a.csv: not UTF-8.*{message}"):
            read(str(tmp_path / "a.csv"))


def test_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.csv").write_text(CSV)
    (tmp_path / "v.txt").write_text("a 1 2\n")
    assert read_labelled("~/a.csv", TABLE).inputs == ["a", "b"]
    assert read_table("~/a.csv").height == 2
    assert read_text("~/a.csv") == CSV
    assert absolute("~/a.csv") == str(tmp_path / "a.csv")
    assert vector_size("~/v.txt") == 2
    (tmp_path / "list.csv").write_text("file,label\n~/a.txt,x\n")
    (tmp_path / "a.txt").write_text("hello")
    assert read_labelled("~/list.csv", TABLE).inputs == ["hello"]
    assert elman.training.run.Run("~/run").path == tmp_path / "run"


def test_unusual_file_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = some_text(3000)
    for name in ("a::b.txt", "a%20b.txt", "-", "<a>", "with space.txt", os.fsdecode(b"\xff\xfe.txt")):
        path = tmp_path / name
        path.write_text(text)
        assert read_text(str(path)) == text
        model = elman.train("language", path, out=tmp_path / "runs" / "r", steps=1, hidden_size=8, progress=False)
        json.loads((tmp_path / "runs" / "r" / "config.json").read_text(encoding="utf-8"))
        again = elman.load(tmp_path / "runs" / "r")
        assert again.evaluate(again.held_out())["tokens"] == model.evaluate(model.held_out())["tokens"]
        assert elman.cli.app.main(["info", str(tmp_path / "runs" / "r")]) == 0
        print(again.card(), model.summary())
        for file in (tmp_path / "runs" / "r").iterdir():
            file.unlink()
    with pytest.raises(elman.ElmanError, match=r"\\xff.*: no such file") as caught:
        read_text(str(tmp_path / os.fsdecode(b"no\xff.txt")))
    print(caught.value)
    with pytest.raises(elman.ElmanError, match="no such file; a text in memory is given as"):
        elman.train("language", "To be or not to be.\n" * 30, progress=False)


def test_files_below_a_folder(tmp_path: Path) -> None:
    (tmp_path / "set/inner/__MACOSX").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    for name in ("set/b.txt", "set/inner/a.txt", "set/.hidden", "set/inner/__MACOSX/a.txt", "other/c.txt"):
        (tmp_path / name).write_text("x")
    (tmp_path / "set/linked").symlink_to(tmp_path / "other")
    (tmp_path / "set/inner/round").symlink_to(tmp_path / "set")
    names = ("b.txt", os.path.join("inner", "a.txt"), os.path.join("linked", "c.txt"))
    assert files_below(str(tmp_path / "set")) == list(names)
    with pytest.raises(elman.ElmanError, match=r"missing: cannot be read: No such file"):
        files_below(str(tmp_path / "missing"))


def test_class_files_and_folders(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for label in ("pos", "neg"):
        (tmp_path / "films" / label).mkdir(parents=True)
        (tmp_path / "films" / label / "1.txt").write_text("A film.")
        for junk in ("Thumbs.db", ".DS_Store", "desktop.ini"):
            (tmp_path / "films" / label / junk).write_bytes(b"\0")
    (tmp_path / "films" / "__MACOSX").mkdir()
    (tmp_path / "films" / ".git").mkdir()
    assert read_labelled(str(tmp_path / "films"), TABLE).labels == [("neg",), ("pos",)]
    assert not caplog.text
    (tmp_path / "films" / "README.md").write_text("about")
    (tmp_path / "films" / "neutral").mkdir()
    assert len(read_labelled(str(tmp_path / "films"), TABLE).labels) == 2
    assert "README.md is not read" in caplog.text and "neutral is not read" in caplog.text
    (tmp_path / "films" / "pos" / "more").mkdir()
    with pytest.raises(elman.ElmanError, match=r"pos/more: nested folders are not read"):
        read_labelled(str(tmp_path / "films"), TABLE)
    files = [tmp_path / os.fsdecode(b"b\xff.txt"), Path(zipped(tmp_path / "good.zip", {"good.txt": b"fine\nwell\n"}))]
    files[0].write_text("bad\n")
    assert read_labelled(files, TABLE).labels == [("b\\xff",), ("good",), ("good",)]
    assert is_system_file("__MACOSX/a/._b") and not is_system_file("./a/b.c")


def test_vectors(tmp_path: Path) -> None:
    path = tmp_path / "v.txt"
    path.write_text("\n2 3\n\nthe\t1\t2\t3\ncat  4 5  6 \n\n")
    assert vector_size(str(path)) == 3
    found = read_vectors(str(path), {"the", "cat"})
    assert [found[word].tolist() for word in ("the", "cat")] == [[1, 2, 3], [4, 5, 6]]
    for number in ("nan", "inf", "1e99"):
        path.write_text(f"the 1 2 3\ncat 4 {number} 6\n")
        with pytest.raises(
            elman.ElmanError, match=r"v.txt, line 2: the embedding of 'cat' contains (nan|inf), which is no"
        ):
            read_vectors(str(path), {"cat"})
        assert read_vectors(str(path), {"the"})["the"].tolist() == [1, 2, 3]
    binary = tmp_path / "v.bin"
    binary.write_bytes(b"1 2\ncat " + np.array([1, np.nan], "<f4").tobytes())
    with pytest.raises(elman.ElmanError, match="v.bin, word 1: the embedding of 'cat' contains nan"):
        read_vectors(str(binary), {"cat"})
    for data, message in (
        (b"99999999999 99999999999\ncat ", "more than 100,000 numbers each"),
        (b"1 3\n" + b"x" * 20_000, "word 1 does not end"),
    ):
        binary.write_bytes(data)
        with pytest.raises(elman.ElmanError, match=f"v.bin.*{message}"):
            read_vectors(str(binary), {"cat"})
    for data, message in (
        (b"", "the file is empty"),
        (b"\n\n", "contains only blank lines"),
        (b"2 " + b"9" * 5000, "line 1: not embeddings: more than 100,000 numbers each"),
        ("the 1 2 3\n".encode("utf-16"), "line 1: not text: it contains a zero byte"),
    ):
        path.write_bytes(data)
        with pytest.raises(elman.ElmanError, match=f"v.txt.*{message}"):
            read_vectors(str(path), {"cat"}, vector_size(str(path)))
    several = zipped(tmp_path / "glove.zip", {"50.txt": b"the 1 2\n", "100.txt": b"the 1 2 3\n", **JUNK})
    with pytest.raises(elman.ElmanError, match=r"glove.zip: contains 2 files: 50.txt, 100.txt"):
        vector_size(several)
    assert vector_size(f"{several}::100.txt") == 3
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(elman.ElmanError, match="embeddings are read more than once"):
            vector_size(str(tmp_path / "pipe"))


def test_spaces_and_invisible_characters() -> None:
    from elman.data import Tokenizer

    plain = "the caf\u00e9 is open. the end"
    odd = "\ufeffthe\u00a0cafe\u0301\u2009is o\u00adpen.\u200b \x07the\u202fend\u2060"
    for spaces in (True, False):
        words = Tokenizer.train("word", [plain], 100, spaces=spaces)
        assert words.encode(odd).tolist() == words.encode(plain).tolist()
        assert not words.unknown_pieces(odd)
        again = Tokenizer.from_json(words.to_json(), "here")
        assert again.encode(odd).tolist() == words.encode(plain).tolist()
        assert "".join(words.token_texts(odd)).replace("\u2060", "") in odd
    characters = Tokenizer.train("char", [odd], 0)
    assert characters.decode(characters.encode(odd)) == odd  # what is written loses nothing
    reading = Tokenizer.train("char", [plain], 0, spaces=False)
    assert reading.encode(odd).tolist() == reading.encode(plain).tolist()


def test_names_are_readable() -> None:
    assert printable(os.fsdecode(b"a\xff")) == "a\\xff"
    assert sources(["a", Path("b")]) == ["a", "b"]
    with pytest.raises(elman.ElmanError, match="standard input can be read only once"):
        sources(["-", "-"])

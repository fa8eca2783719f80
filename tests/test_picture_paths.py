"""Where pictures are found: beside a table, in folders and archives, and as arguments."""

from __future__ import annotations

import io
import os
import tarfile
import unicodedata
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from elman.data.inputs import looks_like_file
from elman.data.media_paths import resolve
from elman.data.members import Members
from elman.data.picture_inputs import pictures_in
from elman.data.pictures import PICTURES, open_picture, read_pictures
from elman.errors import ElmanError
from tests.picture_files import (
    GREY,
    RGB,
    check,
    encoded,
    photo,
    refused,
)


def test_where_a_missing_picture_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    photo(Path("images/dog.jpg"))
    assert refused("dog.jpg") == "dog.jpg: no such file; images/dog.jpg exists: did you mean --images images?"
    assert "did you mean --images images?" in refused("pictures/dog.jpg")
    assert "did you mean images/dog.jpg?" in refused("images/Dog.JPG")
    assert "did you mean images/dog.jpg?" in refused("images/dog.jpeg")
    assert refused("cat.jpg") == "cat.jpg: no such file"
    assert refused("here/cat.jpg").endswith("no such file; there is no folder here; --images names another")
    assert "this is a folder; a picture is required" in refused("images")
    assert "the name of the picture is empty" in refused("")
    assert "cannot be read" in refused("a\0b.jpg")
    assert len(refused("x" * 5000)) < 200
    if os.path.exists("/dev/zero"):
        assert "not a regular file" in refused("/dev/zero")
    with tarfile.open("photos.tar", "w") as archive:
        archive.add("images/dog.jpg", "set/cat.jpg")
    assert refused("cat.jpg").endswith("photos.tar has a file of this name: did you mean --images photos.tar?")


def test_names_of_all_scripts(tmp_path: Path) -> None:
    name = "Köter ист 犬.png"
    for form in ("NFC", "NFD"):
        folder = tmp_path / form
        stored = photo(folder / unicodedata.normalize(form, name))
        for other in ("NFC", "NFD"):
            found = resolve([unicodedata.normalize(other, name)], str(folder))
            assert found == [stored] and open_picture(found[0]).size == (16, 12)


def archives(folder: Path) -> Iterator[Path]:
    """The same files in archives of all kinds."""
    files = {"./a/dog.png": encoded(RGB), "a/cat.png": encoded(GREY), "b/cat.png": encoded(RGB), "__MACOSX/x.png": b""}
    for ending, mode in (("tar", "w"), ("tar.gz", "w:gz"), ("tgz", "w:gz"), ("tar.xz", "w:xz")):
        with tarfile.open(folder / f"p.{ending}", mode) as archive:
            for name, data in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        yield folder / f"p.{ending}"
    for kind, method in (("stored", zipfile.ZIP_STORED), ("deflated", zipfile.ZIP_DEFLATED)):
        with zipfile.ZipFile(folder / f"{kind}.zip", "w", method) as zipped:
            for name, data in files.items():
                zipped.writestr(name, data)
        yield folder / f"{kind}.zip"


def test_archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in archives(tmp_path):
        assert Members(str(path)).names == ["a/cat.png", "a/dog.png", "b/cat.png"]
        names = ["a/dog.png", "dog.png", "images/dog.png", "b/cat.png"]
        found = resolve(names, "elsewhere", str(path))
        assert found == [f"{path}::{name}" for name in ("a/dog.png", "a/dog.png", "a/dog.png", "b/cat.png")]
        with monkeypatch.context() as context:  # the archive is not listed again
            context.setattr(Members, "__init__", lambda self, path: pytest.fail("opened again"))
            first, *_, last = read_pictures(found, ["place"] * 4)
            assert first is not None and last is not None and first.digest == last.digest
            check(found[0], RGB)
        [several] = resolve(["cat.png"], "", str(path))
        assert f"{path}::cat.png: no such file in the archive; it has 2 of this name, such as a/cat.png" in refused(
            several
        )
        assert refused(f"{path}::no.png") == f"{path}::no.png: no such file in the archive"
        listed = pictures_in(str(path))
        assert listed is not None and listed.inputs == [f"{path}::{n}" for n in ("a/cat.png", "a/dog.png", "b/cat.png")]


def test_broken_archives(tmp_path: Path) -> None:
    tar, *_, zipped = archives(tmp_path)
    [found] = resolve(["dog.png"], "", str(zipped))
    data = bytearray(zipped.read_bytes())
    data[60:90] = bytes(30)
    zipped.write_bytes(data[:-4] + b"\0\0\0\0")
    assert "archive" in refused(found) or "cannot be read" in refused(found)
    tar.write_bytes(b"no archive at all")
    with pytest.raises(ElmanError, match=r"p\.tar: the archive cannot be read"):
        resolve(["dog.png"], "", str(tar))
    with pytest.raises(ElmanError, match="--images nowhere: no such folder or archive"):
        resolve(["dog.png"], "", "nowhere")
    with pytest.raises(ElmanError, match=r"none\.zip: no such file"):
        resolve(["dog.png"], "", "none.zip")
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(ElmanError, match=r"a folder or an archive .* is required"):
        resolve(["dog.png"], "", str(tmp_path / "a.txt"))


def test_paths_are_relative_to_the_table_or_to_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    photo(Path("set/images/dog.png"))
    url, whole = "https://host/cat.jpg", os.path.abspath("set/x.png")
    assert resolve([url, whole, ""], "set", "set/images") == [url, whole, ""]
    assert resolve(["images/dog.png", "./images/../images/dog.png"], "set") == ["set/images/dog.png"] * 2
    assert resolve(["images\\dog.png"], "set") == ["set/images/dog.png"]
    assert resolve(["dog.png"], "", "set/images") == ["set/images/dog.png"]
    assert resolve(["images/dog.png", "/content/dog.png", "no.png"], "", "set/images") == [
        "set/images/dog.png", "set/images/dog.png", "set/images/no.png",
    ]  # fmt: skip
    assert resolve(["a/b.png"], "https://host/set") == ["https://host/set/a/b.png"]


def test_arguments_that_name_several_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("b.png", "a.JPG", "sub/c.png", "odd[1].png"):
        photo(Path("set") / name)
    for name in (".hidden.png", "readme.md", "phone.heic"):
        Path("set", name).write_bytes(b"")
    folder = pictures_in("set")
    names = ["set/a.JPG", "set/b.png", "set/odd[1].png", "set/sub/c.png"]
    assert folder is not None and folder.inputs == names == folder.places
    assert caplog.messages == ["set: left out 1 files of formats that cannot be read, such as phone.heic"]
    pattern = pictures_in("set/*.png")
    assert pattern is not None and pattern.inputs == ["set/b.png", "set/odd[1].png"]
    for single in ("set/b.png", "set/odd[1].png", "none.png", "https://host/a.png"):
        assert pictures_in(single) is None
    Path("set/t.tsv").write_text("image\tquestion\nb.png\twhat  is it?\n\twho?\n")
    table = pictures_in("set/t.tsv")
    assert table is not None and table.inputs == ["set/b.png", ""] and table.places[0] == "set/t.tsv, row 1"
    asked = pictures_in("set/t.tsv", question="question", images="set/sub")
    assert asked is not None and asked.inputs[0] == "set/sub/b.png\twhat is it?"
    Path("set/list.txt").write_text("b.png\n\na.JPG\twhat is it?\n")
    lines = pictures_in("set/list.txt")
    assert lines is not None and lines.inputs == ["set/b.png", "", "set/a.JPG\twhat is it?"]
    assert lines.places[2] == "set/list.txt, line 3"
    Path("empty").mkdir()
    for nothing in ("empty", "set/*.gif"):
        with pytest.raises(ElmanError, match="no pictures"):
            pictures_in(nothing)
    with pytest.raises(ElmanError, match="has no column 'picture'"):
        pictures_in("set/t.tsv", image="picture")


def test_names_of_pictures_look_like_files() -> None:
    assert all(looks_like_file(f"dog{ending}") for ending in PICTURES)

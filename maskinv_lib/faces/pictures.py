"""Decodes picture files to uint8 RGB: JPEG by libjpeg-turbo where simplejpeg is installed, the rest by Pillow."""

import io

import numpy as np
from PIL import Image, UnidentifiedImageError

from maskinv_lib.utils.checks import dtype_and_shape

try:
    import simplejpeg
except ImportError:  # Pillow decodes the same files, at a third of the speed
    simplejpeg = None

JPEG = b"\xff\xd8\xff"


def check_rgb(picture: object, where: str) -> None:
    """Raise ValueError naming ``where`` for anything but an array uint8 [H, W, 3]."""
    if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise ValueError(f"{where}: a picture must be uint8 [H, W, 3], not {dtype_and_shape(picture)}.")


def decode(data: bytes, where: str) -> np.ndarray:
    """Decode a picture file's bytes to uint8 [H, W, 3], RGB.

    Grey, palette and CMYK pictures are converted to RGB; transparent parts become black. Raises ValueError naming
    the picture (``where``) for bytes that are not a picture, or that end too early.
    """
    try:
        if simplejpeg is not None and data[:3] == JPEG:
            return _by_turbo(data)
        return _by_pillow(data)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        hint = "Replace the picture, or leave it out."
        raise ValueError(f"{where} does not decode as a picture ({error}; {len(data)} bytes). {hint}") from None


def _by_turbo(data: bytes) -> np.ndarray:
    colours = simplejpeg.decode_jpeg_header(data)[2]
    if colours in ("CMYK", "YCCK"):
        return _by_pillow(data)
    return simplejpeg.decode_jpeg(data, colorspace="RGB", strict=True)


def _by_pillow(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as picture:
        if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
            raise ValueError(f"its mode {picture.mode} has no 8-bit grey levels")
        if "A" in picture.getbands() or "transparency" in picture.info:
            picture = picture.convert("RGBA")
            picture = Image.alpha_composite(Image.new("RGBA", picture.size, "black"), picture)
        return np.array(picture.convert("RGB"))


def encode_jpeg(image: np.ndarray, quality: int = 95) -> bytes:
    """Encode uint8 [H, W, 3] RGB as a JPEG file's bytes, without chroma subsampling."""
    out = io.BytesIO()
    Image.fromarray(image).save(out, "JPEG", quality=quality, subsampling=0)
    return out.getvalue()

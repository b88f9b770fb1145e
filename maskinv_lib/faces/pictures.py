"""Decodes picture files to upright uint8 RGB: JPEG by libjpeg-turbo where simplejpeg is installed, the rest by Pillow.

Every picture that this library opens is decoded here, whatever it comes from: a file, a folder, a record or a set.
"""

import io
import re
import warnings

import numpy as np
from PIL import ExifTags, Image, ImageCms

from maskinv_lib.utils.checks import dtype_and_shape

try:
    import simplejpeg
except ImportError:  # Pillow decodes the same files, at a third of the speed
    simplejpeg = None

try:
    import pillow_heif
except ImportError:  # only HEIC pictures need it
    pillow_heif = None
else:
    pillow_heif.register_heif_opener()

JPEG = b"\xff\xd8\xff"

UNSAFE = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}
"""Formats that Pillow lists but hands over to other programs, or only recognises."""

UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> the transposition that makes the stored picture upright."""


def formats() -> list[str]:
    """Return the names of the picture formats that are decoded."""
    Image.init()
    return sorted(set(Image.OPEN) - UNSAFE)


def check_rgb(picture: object, where: str) -> None:
    """Raise ValueError naming ``where`` for anything but an array uint8 [H, W, 3]."""
    if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise ValueError(f"{where}: a picture must be uint8 [H, W, 3], not {dtype_and_shape(picture)}.")


def decode(data: bytes, where: str) -> np.ndarray:
    """Decode a picture file's bytes to uint8 [H, W, 3], RGB, upright by its EXIF orientation as a viewer shows it.

    Grey, palette, CMYK and 16-bit pictures are converted, colours to sRGB where another profile is embedded;
    transparent parts become black; of an animation the first frame is taken. A damaged EXIF block or profile is
    ignored. Raises ValueError naming the picture (``where``) for bytes that are not a picture, or that end too early.
    """
    try:
        if simplejpeg is not None and data[:3] == JPEG:
            return _by_turbo(data)
        return _by_pillow(data)
    except Exception as error:  # of damaged bytes, a decoder can raise any error
        reason = re.sub(r" ?<_io\.[^>]*>", "", str(error)) or type(error).__name__
        raise ValueError(f"{where} does not decode as a picture ({reason}; {len(data)} bytes). {_hint(data)}") from None


def _hint(data: bytes) -> str:
    if data[4:8] == b"ftyp" and data[8:12] in (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"):
        return "It is a HEIC picture. Save it as JPEG" + (
            "." if pillow_heif else ", or install the package that decodes it: pip install -e '.[heic]'"
        )
    return "Replace the picture, or leave it out."


def _by_turbo(data: bytes) -> np.ndarray:
    if simplejpeg.decode_jpeg_header(data)[2] in ("CMYK", "YCCK"):
        return _by_pillow(data)
    transpose = None
    if _has_metadata(data):
        with _quiet(), Image.open(io.BytesIO(data), formats=("JPEG", "MPO")) as picture:
            if _foreign_profile(picture) is not None:
                return _by_pillow(data)
            transpose = _transposition(picture)
    try:
        pixels = simplejpeg.decode_jpeg(data, colorspace="RGB", strict=True)
    except ValueError as error:
        if "before marker 0xd9" not in str(error):
            raise
        return _by_pillow(data)  # it tolerates superfluous bytes before the end
    return pixels if transpose is None else np.array(Image.fromarray(pixels).transpose(transpose))


def _quiet() -> warnings.catch_warnings:
    """Return a context without warnings: those of Pillow are about metadata that are not needed, and large pictures."""
    return warnings.catch_warnings(action="ignore")


def _has_metadata(data: bytes) -> bool:
    """Return whether a JPEG may contain EXIF (APP1) or a colour profile (APP2): few bytes are read to know it."""
    position = 2
    while data[position : position + 1] == b"\xff" and position + 4 <= len(data):
        marker = data[position + 1]
        if marker in (0xE1, 0xE2):
            return True
        if marker == 0xDA:  # the pixels begin
            return False
        # a fill byte 0xff may stand before a marker
        position += 1 if marker == 0xFF else 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return True


def _by_pillow(data: bytes) -> np.ndarray:
    with _quiet(), Image.open(io.BytesIO(data), formats=formats()) as picture:
        picture.load()
        transpose, profile = _transposition(picture), _foreign_profile(picture)
        picture = _eight_bits(picture)
        if "A" in picture.getbands() or "a" in picture.getbands() or "transparency" in picture.info:
            picture = picture.convert("RGBA")
            picture = Image.alpha_composite(Image.new("RGBA", picture.size, "black"), picture)
        picture = _rgb(picture, profile)
        return np.array(picture if transpose is None else picture.transpose(transpose))


def _transposition(picture: Image.Image) -> Image.Transpose | None:
    try:
        return UPRIGHT.get(picture.getexif().get(ExifTags.Base.Orientation))
    except Exception:  # a damaged EXIF block; the picture is as good as one without
        return None


def _eight_bits(picture: Image.Image) -> Image.Image:
    """Scale 16-bit grey levels to 8 bits; return other pictures as they are."""
    if picture.mode not in ("I", "F") and not picture.mode.startswith("I;16"):
        return picture
    levels = np.asarray(picture)
    if picture.mode == "F" or levels.min() < 0 or levels.max() > 65535:
        raise ValueError(f"its mode {picture.mode} has neither 8-bit nor 16-bit grey levels")
    return Image.fromarray((levels.astype(np.uint32) * 255 + 32767) // 65535).convert("L")


def _foreign_profile(picture: Image.Image) -> ImageCms.ImageCmsProfile | None:
    """Return the picture's embedded colour profile; None for none, for a damaged one, and for sRGB."""
    try:
        data = picture.info.get("icc_profile")
        profile = ImageCms.ImageCmsProfile(io.BytesIO(data)) if data else None
        known = profile is None or "srgb" in ImageCms.getProfileDescription(profile).lower()
    except Exception:  # a damaged profile; the picture is as good as one without
        return None
    return None if known else profile


def _rgb(picture: Image.Image, profile: ImageCms.ImageCmsProfile | None) -> Image.Image:
    if profile is not None:
        source = picture if picture.mode in ("L", "CMYK", "LAB") else picture.convert("RGB")
        try:
            return ImageCms.profileToProfile(source, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
        except ImageCms.PyCMSError:  # a profile of another kind of picture
            pass
    return picture.convert("RGB")


def encode_jpeg(image: np.ndarray, quality: int = 95) -> bytes:
    """Encode uint8 [H, W, 3] RGB as a JPEG file's bytes, without chroma subsampling."""
    out = io.BytesIO()
    Image.fromarray(image).save(out, "JPEG", quality=quality, subsampling=0)
    return out.getvalue()


def encode_png(image: np.ndarray) -> bytes:
    """Encode uint8 [H, W, 3] RGB as a PNG file's bytes, without loss and without metadata."""
    out = io.BytesIO()
    Image.fromarray(image).save(out, "PNG", compress_level=1)  # twice as fast as the default, and 5 % larger
    return out.getvalue()

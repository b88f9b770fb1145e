"""Pictures, record files and reference solutions that the tests of faces share."""

import contextlib
import io
import struct
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from maskinv_lib import faces
from maskinv_lib.faces.pictures import encode_jpeg
from maskinv_lib.faces.record_headers import MAGIC

TEMPLATE = np.array(faces.TEMPLATE)
RED, GREEN, BLUE, ORANGE = (200, 20, 20), (20, 200, 20), (20, 20, 200), (250, 120, 10)
COLOURS = (RED, GREEN, BLUE, ORANGE)
WORD = struct.pack("<I", MAGIC)


@contextlib.contextmanager
def threads(count: int):
    """Let torch use ``count`` threads in the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def least_squares(points: np.ndarray) -> np.ndarray:
    """Solve u = ax - by + tx, v = bx + ay + ty, (u, v) the template, as ten linear equations: a, b, tx, ty."""
    x, y, one, zero = *points.T, np.ones(5), np.zeros(5)
    equations = np.concatenate([np.stack([x, -y, one, zero], 1), np.stack([y, x, zero, one], 1)])
    return np.linalg.lstsq(equations, TEMPLATE.T.ravel(), rcond=None)[0]


# Pictures


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def pixels(colour: tuple, size: int = 112) -> np.ndarray:
    return np.full((size, size, 3), colour, np.uint8)


def encoded(picture: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def jpeg(colour: tuple, size: int = 112) -> bytes:
    return encode_jpeg(pixels(colour, size))


def png(colour: tuple) -> bytes:
    return encoded(Image.fromarray(pixels(colour)), "PNG")


def save(path: Path, picture: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)
    return path


def colour_of(image: torch.Tensor) -> tuple:
    """Return the one of COLOURS that the whole image shows."""
    assert image.dtype == torch.uint8 and image.shape == (3, 112, 112)
    errors = [(image.int() - torch.tensor(colour)[:, None, None]).abs().max().item() for colour in COLOURS]
    assert min(errors) <= 4
    return COLOURS[int(np.argmin(errors))]


# Record files, byte by byte


def part(data: bytes, flag: int = 0) -> bytes:
    return WORD + struct.pack("<I", flag << 29 | len(data)) + data + bytes(-len(data) % 4)


def head(label: float, key: int) -> bytes:
    return struct.pack("<IfQQ", 0, label, key, 0)


def head_of(kind: str, labels: list, key: int = 0) -> bytes:
    """Return a header with an array of labels, in one of the three layouts."""
    layout, label = {
        "packed, 4 bytes": ("<IfQQ", "f"),
        "packed, 8 bytes": ("<IfQQ", "d"),
        "aligned, 8 bytes": ("<I4xdQQ", "d"),
    }[kind]
    return struct.pack(layout, len(labels), 0, key, 0) + struct.pack(f"<{len(labels)}{label}", *labels)


KINDS = ("packed, 4 bytes", "packed, 8 bytes", "aligned, 8 bytes")


def write(folder: Path, records: list[bytes], keys: list | None = None) -> Path:
    """Write framed records and their index; return the folder."""
    offsets = np.cumsum([0, *map(len, records)])[:-1]
    (folder / "train.rec").write_bytes(b"".join(records))
    lines = [f"{key}\t{offset}\n" for key, offset in zip(keys or range(len(records)), offsets, strict=True)]
    (folder / "train.idx").write_text("".join(lines))
    return folder


def write_payloads(folder: Path, *payloads: bytes) -> Path:
    """Write each payload as a record of one part; return the folder."""
    return write(folder, [part(payload) for payload in payloads])


def four(folder: Path, labels: tuple = (7, 7, 3000, 12)) -> Path:
    """Write one picture of each of COLOURS; return the folder."""
    rows = enumerate(zip(labels, COLOURS, strict=True))
    return write_payloads(folder, *(head(label, key) + jpeg(colour) for key, (label, colour) in rows))

"""Writes aligned faces as InsightFace RecordIO: ``train.rec``, ``train.idx`` and ``property``."""

import contextlib
import struct
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from maskinv_lib.faces import SIZE
from maskinv_lib.faces.pictures import encode_jpeg
from maskinv_lib.faces.record_headers import EXACT, frame
from maskinv_lib.utils import files
from maskinv_lib.utils.checks import dtype_and_shape, whole_number


def write_records(folder: Path, pictures: Iterable[tuple[bytes | np.ndarray, int]], quality: int = 95) -> Path:
    """Write (picture, label) pairs to train.rec, train.idx and property in ``folder``; return the path of train.rec.

    A picture is a picture file's bytes, or uint8 [112, 112, 3] RGB (encoded as JPEG of ``quality``); all are kept in
    memory and grouped by label. As in InsightFace's files there are a header record and identity records. Each file is
    written atomically. Raises ValueError for no picture, another shape, or a label outside 0 .. 2^24.
    """
    groups: dict[int, list[bytes]] = {}
    for number, (picture, label) in enumerate(pictures):
        label = whole_number(f"the label of picture {number}", label)
        if label > EXACT["<f4"]:
            raise ValueError(f"The label {label} of picture {number} is beyond 2^24: number the identities from 0.")
        groups.setdefault(label, []).append(_file_bytes(picture, number, quality))
    if not groups:
        raise ValueError(f"No picture to write to {folder}.")
    rec, idx = Path(folder) / "train.rec", Path(folder) / "train.idx"
    with files.whole_file(rec) as temporary, open(temporary, "wb") as out:
        lines = []
        for key, payload in enumerate(_payloads(groups)):
            lines.append(f"{key}\t{out.tell()}\n")
            out.write(frame(payload))
        with contextlib.suppress(FileNotFoundError):
            idx.unlink()  # no index is better than an old one for new records
    files.write_text(idx, "".join(lines))
    files.write_text(Path(folder) / "property", f"{len(groups)},{SIZE},{SIZE}\n")
    return rec


def _file_bytes(picture: bytes | np.ndarray, number: int, quality: int) -> bytes:
    if isinstance(picture, bytes):
        return picture
    if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8 or picture.shape != (SIZE, SIZE, 3):
        kind = dtype_and_shape(picture)
        raise ValueError(f"Picture {number} must be a file's bytes or uint8 [{SIZE}, {SIZE}, 3], not {kind}.")
    return encode_jpeg(picture, quality)


def _payloads(groups: dict[int, list[bytes]]) -> Iterable[bytes]:
    """Yield the payloads of keys 0, 1, ...: the header record, the pictures, the identity records."""
    total = sum(map(len, groups.values()))
    yield _keys_record(0, total + 1, total + 1 + len(groups))
    key = 1
    for label, pictures in groups.items():
        for picture in pictures:
            yield struct.pack("<IfQQ", 0, label, key, 0) + picture
            key += 1
    first = 1
    for number, pictures in enumerate(groups.values()):
        yield _keys_record(total + 1 + number, first, first + len(pictures))
        first += len(pictures)


def _keys_record(key: int, first: int, end: int) -> bytes:
    if end > EXACT["<f4"]:
        raise ValueError(f"{end} records are more than float32 labels can number (2^24). Write several folders.")
    return struct.pack("<IfQQ2f", 2, 0, key, 0, first, end)

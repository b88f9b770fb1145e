"""Reads the frames and headers of an InsightFace RecordIO file (``train.rec``), of all records at once.

A record is uint32 magic, uint32 (3-bit continuation flag, 29-bit length), payload, zeros up to a multiple of 4 bytes.
The payload is a header (flag, label, two ids), as many labels as the flag says, and the picture file's bytes. Programs
write headers of different size and labels of different type (``LAYOUTS``); where the picture begins shows which.
"""

import struct

import numpy as np

MAGIC = 0xCED7230A
WHOLE, FIRST, MIDDLE, LAST = range(4)
LONGEST = 2**29 - 1
"""Largest length in bytes of one part of a record."""

LAYOUTS = ((24, "<f4"), (24, "<f8"), (32, "<f8"))
"""Size of the header in bytes and type of a label: packed ``IfQQ`` (two kinds), aligned ``I4xdQQ``."""

EXACT = {"<f4": 2**24, "<f8": 2**53}
"""Up to here every whole number has its own float; beyond it, two identities could have the same label."""

HEADER = np.dtype(
    [
        ("picture", "?"),
        ("layout", "i1"),
        ("count", "u4"),
        ("start", "i8"),
        ("label", "f8"),
        ("end", "f8"),
        ("span", "i8"),
    ]
)
"""The header of a record: whether it has a picture; its layout (-1: unknown); its flag (the number of labels); at which
byte of the payload the picture begins; its first label and, without a picture, its second; its length in the file."""

CHUNK = 1 << 16
RECOPY = "The file is damaged or belongs to another .idx: copy both again from their source."


def scan(buffer: np.ndarray, keys: np.ndarray, offsets: np.ndarray, path: object) -> np.ndarray:
    """Return the headers of the records that begin at ``offsets`` (int64 [R], bytes) of ``buffer`` (uint8, the file).

    keys: int64 [R], named in errors with ``path``. Returns HEADER [R]. Only headers are read, not pictures.
    Raises ValueError for an offset past the end, a wrong magic, a truncated record or one without a header.
    """
    steps = range(0, len(keys), CHUNK)
    chunks = [_scan_chunk(buffer, keys[at : at + CHUNK], offsets[at : at + CHUNK], path) for at in steps]
    headers = np.concatenate([np.zeros(0, HEADER), *chunks])
    layouts = headers["layout"][headers["picture"]]
    usual = int(np.bincount(layouts).argmax()) if len(layouts) else 0
    for row in np.flatnonzero(headers["layout"] < 0):  # no JPEG or PNG: assume the usual layout, decoding will tell
        payload = read_payload(buffer, int(offsets[row]), f"{path}, record {keys[row]}")[0]
        headers[row] = (*_as_layout(payload, usual), 0, headers[row]["span"])
    return headers


def _scan_chunk(buffer: np.ndarray, keys: np.ndarray, offsets: np.ndarray, path: object) -> np.ndarray:
    flags, lengths = _frames(buffer, keys, offsets, path)
    headers = classify(buffer, offsets + 8, lengths)
    headers["span"] = 8 + (lengths + 3) // 4 * 4
    several = np.flatnonzero(flags == FIRST)
    if len(several):
        payloads, spans = zip(
            *(read_payload(buffer, int(offsets[row]), f"{path}, record {keys[row]}") for row in several), strict=True
        )
        lengths[several] = [len(payload) for payload in payloads]
        starts = np.cumsum([0, *lengths[several][:-1]])
        joined = np.frombuffer(b"".join(payloads) + bytes(32), np.uint8)
        headers[several] = classify(joined, starts, lengths[several])
        headers["span"][several] = spans
    for row in np.flatnonzero(lengths < 24)[:1]:
        raise ValueError(f"{path}, record {keys[row]}: {lengths[row]} bytes are no header of 24. {RECOPY}")
    return headers


def _frames(buffer: np.ndarray, keys: np.ndarray, offsets: np.ndarray, path: object) -> tuple[np.ndarray, np.ndarray]:
    """Return the checked continuation flag and length of the (first) part of each record."""

    def refuse(wrong: np.ndarray, text: str) -> None:
        for row in np.flatnonzero(wrong)[:1]:
            raise ValueError(f"{path}, record {keys[row]} at byte {offsets[row]}: {text} {RECOPY}")

    refuse(offsets + 8 > len(buffer), f"it would begin past the end of the file ({len(buffer)} bytes).")
    magic, word = _gather(buffer, offsets, 8).view("<u4").T
    refuse(magic != MAGIC, f"no record begins there (its first four bytes are not {MAGIC:#x}).")
    flags, lengths = word >> 29, (word & LONGEST).astype(np.int64)
    refuse(offsets + 8 + lengths > len(buffer), f"the file ends within it ({len(buffer)} bytes).")
    refuse(flags > FIRST, "a later part of a record begins there, not a record.")
    return flags, lengths


def _gather(buffer: np.ndarray, starts: np.ndarray, width: int) -> np.ndarray:
    """Return ``width`` bytes from each start, uint8 [K, width]; past the buffer's end its last byte is repeated."""
    return buffer[np.minimum(starts[:, None] + np.arange(width), len(buffer) - 1)]


def _is_picture(first: np.ndarray) -> np.ndarray:
    """Whether four bytes (uint8 [K, 4]) begin a JPEG or a PNG file."""
    jpeg = (first[:, :3] == np.frombuffer(b"\xff\xd8\xff", np.uint8)).all(1)
    return jpeg | (first == np.frombuffer(b"\x89PNG", np.uint8)).all(1)


def classify(buffer: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return the headers (HEADER [K], span 0) of payloads of given starts and lengths (int64 [K]) in ``buffer``.

    A payload has a picture if a JPEG or a PNG begins after the labels of some layout. It is a header record or an
    identity record if it ends after at least two labels that can be keys (whole, first <= end).
    """
    headers = np.zeros(len(starts), HEADER)
    headers["layout"] = -1
    headers["count"] = _gather(buffer, starts, 4).view("<u4")[:, 0]
    for layout, (base, kind) in enumerate(LAYOUTS):
        rows = np.flatnonzero(headers["layout"] < 0)
        count, start, length = headers["count"][rows].astype(np.int64), starts[rows], lengths[rows]
        at = base + np.dtype(kind).itemsize * count
        picture = (at + 4 <= length) & _is_picture(_gather(buffer, start + at, 4))
        bare = (at == length) & (count >= 2)
        first, second = _labels(buffer, start, count, layout)
        keys = bare & (first >= 0) & (first <= second) & (second < 2**53) & _whole(first) & _whole(second)
        rows, fits = rows[picture | keys], picture | keys
        headers["picture"][rows], headers["layout"][rows], headers["start"][rows] = picture[fits], layout, at[fits]
        headers["label"][rows], headers["end"][rows] = first[fits], second[fits]
    return headers


def _whole(values: np.ndarray) -> np.ndarray:
    return np.floor(values) == values


def _labels(buffer: np.ndarray, start: np.ndarray, count: np.ndarray, layout: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and the second label as float64 [K]; the second is undefined where there is only one."""
    base, kind = LAYOUTS[layout]
    width = np.dtype(kind).itemsize
    alone, alone_kind = (8, "<f8") if base == 32 else (4, "<f4")
    inside = _gather(buffer, start + np.where(count > 0, base, alone), 2 * width)
    several = inside.view(kind).astype(np.float64)
    single = np.ascontiguousarray(inside[:, : np.dtype(alone_kind).itemsize]).view(alone_kind)[:, 0]
    with np.errstate(invalid="ignore"):
        return np.where(count > 0, several[:, 0], single.astype(np.float64)), several[:, 1]


def _as_layout(payload: bytes, layout: int) -> tuple[bool, int, int, int, float]:
    """Read a payload as one with a picture, of this layout: its picture, layout, count, start and label."""
    base, kind = LAYOUTS[layout]
    count = struct.unpack_from("<I", payload)[0]
    padded = payload.ljust(32, b"\0").ljust(48, b"\xff")  # 0xff: no label past the end is a whole number
    label = _labels(np.frombuffer(padded, np.uint8), np.array([0]), np.array([count]), layout)[0][0]
    return True, layout, count, min(base + np.dtype(kind).itemsize * count, len(payload)), label


def read_payload(buffer: np.ndarray, offset: int, where: str) -> tuple[bytes, int]:
    """Return the payload of the record at ``offset``, its parts joined by the magic, and its length in the file.

    ``where`` names the record in the ValueError for a part that is missing, truncated or out of order.
    """
    parts, at, expected = [], offset, (WHOLE, FIRST)
    while True:
        magic, word = struct.unpack("<II", buffer[at : at + 8].tobytes().ljust(8, b"\0"))
        flag, length = word >> 29, word & LONGEST
        if magic != MAGIC or flag not in expected or at + 8 + length > len(buffer):
            raise ValueError(f"{where}: its part {len(parts) + 1} at byte {at} is missing or cut short. {RECOPY}")
        parts.append(buffer[at + 8 : at + 8 + length].tobytes())
        at += 8 + (length + 3) // 4 * 4
        if flag in (WHOLE, LAST):
            return struct.pack("<I", MAGIC).join(parts), at - offset
        expected = (MIDDLE, LAST)


def frame(payload: bytes) -> bytes:
    """Return a payload as a record: split where the magic stands at a multiple of 4 bytes, padded with zeros.

    Raises ValueError for a part longer than 2^29 - 1 bytes.
    """
    parts = _split(payload)
    framed = []
    for number, part in enumerate(parts):
        if len(part) > LONGEST:
            raise ValueError(f"A record's part can hold {LONGEST} bytes, not {len(part)}.")
        flag = WHOLE if len(parts) == 1 else FIRST if number == 0 else LAST if number == len(parts) - 1 else MIDDLE
        framed.append(struct.pack("<II", MAGIC, flag << 29 | len(part)) + part + bytes(-len(part) % 4))
    return b"".join(framed)


def _split(payload: bytes) -> list[bytes]:
    parts, begin, at = [], 0, payload.find(struct.pack("<I", MAGIC))
    while at >= 0:
        if at % 4 == 0:
            parts.append(payload[begin:at])
            begin = at + 4
        at = payload.find(struct.pack("<I", MAGIC), at + 1 if at % 4 else at + 4)
    return [*parts, payload[begin:]]

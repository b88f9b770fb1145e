"""The frames and headers of an InsightFace RecordIO file (``train.rec``), found for all records at once.

A record is uint32 magic, uint32 (3-bit continuation flag, 29-bit length), payload, zeros up to a multiple of 4 bytes.
The payload is a header (flag, label, two ids), as many labels as the flag says, and the picture file's bytes. Its
writers differ in the header's size and the labels' type (``LAYOUTS``); which it is shows in where the picture begins.
"""

import struct

import numpy as np

MAGIC = 0xCED7230A
WHOLE, FIRST, MIDDLE, LAST = range(4)
LONGEST = 2**29 - 1
"""The most bytes that one part of a record can hold."""

LAYOUTS = ((24, "<f4"), (24, "<f8"), (32, "<f8"))
"""Size of the header in bytes and type of a label: packed ``IfQQ`` (two kinds), aligned ``I4xdQQ``."""

EXACT = {"<f4": 2**24, "<f8": 2**53}
"""Up to where every whole number has its own float: beyond it, two identities would share one label."""

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
"""What is known of a record: whether it holds a picture; its layout (-1: none fits), its flag; at which byte of the
payload the picture begins; its first label and, without a picture, its second; its bytes in the file, all parts."""

CHUNK = 1 << 16
RECOPY = "The file is damaged or belongs to another .idx: copy both again from where they came."


def scan(buffer: np.ndarray, keys: np.ndarray, offsets: np.ndarray, path: object) -> np.ndarray:
    """Return the headers of the records that begin at ``offsets`` (int64 [R], bytes) of ``buffer`` (uint8, the file).

    keys: int64 [R], named in errors with ``path``. Returns HEADER [R]. Only headers are read, not pictures.
    Raises ValueError for an offset past the end, a wrong magic, a record cut short or one without a header.
    """
    steps = range(0, len(keys), CHUNK)
    chunks = [_scan_chunk(buffer, keys[at : at + CHUNK], offsets[at : at + CHUNK], path) for at in steps]
    found = np.concatenate([np.zeros(0, HEADER), *chunks])
    unknown = np.flatnonzero(found["layout"] < 0)
    known = found["layout"][found["picture"] & (found["layout"] >= 0)]
    layout = int(np.bincount(known).argmax()) if len(known) else 0
    for row in unknown:  # no picture that we know: read it as most records of the file are, and let decoding judge it
        payload = read_payload(buffer, int(offsets[row]), f"{path}, record {keys[row]}")[0]
        found[row] = (*_as_layout(payload, layout), 0, found[row]["span"])
    return found


def _scan_chunk(buffer: np.ndarray, keys: np.ndarray, offsets: np.ndarray, path: object) -> np.ndarray:
    part, lengths = _frames(buffer, keys, offsets, path)
    found = classify(buffer, offsets + 8, lengths)
    found["span"] = 8 + (lengths + 3) // 4 * 4
    several = np.flatnonzero(part == FIRST)
    if len(several):
        read = [read_payload(buffer, int(offsets[row]), f"{path}, record {keys[row]}") for row in several]
        lengths[several] = [len(payload) for payload, _ in read]
        starts = np.cumsum([0, *lengths[several][:-1]])
        joined = np.frombuffer(b"".join(payload for payload, _ in read) + bytes(32), np.uint8)
        found[several] = classify(joined, starts, lengths[several])
        found["span"][several] = [span for _, span in read]
    for row in np.flatnonzero(lengths < 24)[:1]:
        raise ValueError(f"{path}, record {keys[row]}: {lengths[row]} bytes are no header of 24. {RECOPY}")
    return found


def _frames(buffer: np.ndarray, keys: np.ndarray, offsets: np.ndarray, path: object) -> tuple[np.ndarray, np.ndarray]:
    """Return the continuation flag and the length of the (first) part of each record, checked."""

    def refuse(wrong: np.ndarray, text: str) -> None:
        for row in np.flatnonzero(wrong)[:1]:
            raise ValueError(f"{path}, record {keys[row]} at byte {offsets[row]}: {text} {RECOPY}")

    refuse(offsets + 8 > len(buffer), f"it would begin past the end of the file ({len(buffer)} bytes).")
    magic, word = _gather(buffer, offsets, 8).view("<u4").T
    refuse(magic != MAGIC, f"no record begins there (its first four bytes are not {MAGIC:#x}).")
    part, lengths = word >> 29, (word & LONGEST).astype(np.int64)
    refuse(offsets + 8 + lengths > len(buffer), f"the file ends within it ({len(buffer)} bytes).")
    refuse(part > FIRST, "a later part of a record begins there, not a record.")
    return part, lengths


def _gather(buffer: np.ndarray, starts: np.ndarray, width: int) -> np.ndarray:
    """Return ``width`` bytes from each start: uint8 [K, width]; behind the buffer's end its last byte is repeated."""
    return buffer[np.minimum(starts[:, None] + np.arange(width), len(buffer) - 1)]


def _is_picture(first: np.ndarray) -> np.ndarray:
    """Whether four bytes (uint8 [K, 4]) begin a JPEG or a PNG file."""
    jpeg = (first[:, :3] == np.frombuffer(b"\xff\xd8\xff", np.uint8)).all(1)
    return jpeg | (first == np.frombuffer(b"\x89PNG", np.uint8)).all(1)


def classify(buffer: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return the headers (HEADER [K], span 0) of payloads that begin at ``starts`` of ``buffer``, ``lengths`` long.

    A payload holds a picture where a JPEG or a PNG begins behind the labels of some layout. It is a header or an
    identity record where it ends behind at least two labels that can be keys (whole, first <= end).
    """
    found = np.zeros(len(starts), HEADER)
    found["layout"] = -1
    found["count"] = _gather(buffer, starts, 4).view("<u4")[:, 0]
    for layout, (base, kind) in enumerate(LAYOUTS):
        rows = np.flatnonzero(found["layout"] < 0)
        count, start, length = found["count"][rows].astype(np.int64), starts[rows], lengths[rows]
        at = base + np.dtype(kind).itemsize * count
        picture = (at + 4 <= length) & _is_picture(_gather(buffer, start + at, 4))
        bare = (at == length) & (count >= 2)
        first, second = _labels(buffer, start, count, layout)
        keys = bare & (first >= 0) & (first <= second) & (second < 2**53) & _whole(first) & _whole(second)
        rows, fits = rows[picture | keys], picture | keys
        found["picture"][rows], found["layout"][rows], found["start"][rows] = picture[fits], layout, at[fits]
        found["label"][rows], found["end"][rows] = first[fits], second[fits]
    return found


def _whole(values: np.ndarray) -> np.ndarray:
    return np.floor(values) == values


def _labels(buffer: np.ndarray, start: np.ndarray, count: np.ndarray, layout: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and the second label as float64 [K]; the second means nothing where there is only one."""
    base, kind = LAYOUTS[layout]
    width = np.dtype(kind).itemsize
    alone, alone_kind = (8, "<f8") if base == 32 else (4, "<f4")
    inside = _gather(buffer, start + np.where(count > 0, base, alone), 2 * width)
    several = inside.view(kind).astype(np.float64)
    single = np.ascontiguousarray(inside[:, : np.dtype(alone_kind).itemsize]).view(alone_kind)[:, 0]
    with np.errstate(invalid="ignore"):
        return np.where(count > 0, several[:, 0], single.astype(np.float64)), several[:, 1]


def labels_of(payload: bytes, layout: int) -> np.ndarray:
    """Return all labels of one payload: float64 [L], L >= 1."""
    base, kind = LAYOUTS[layout]
    count = struct.unpack_from("<I", payload)[0]
    if count == 0:
        return np.array(struct.unpack_from("<d", payload, 8) if base == 32 else struct.unpack_from("<f", payload, 4))
    count = min(count, (len(payload) - base) // np.dtype(kind).itemsize)
    return np.frombuffer(payload, kind, count, base).astype(np.float64)


def _as_layout(payload: bytes, layout: int) -> tuple[bool, int, int, int, float]:
    base, kind = LAYOUTS[layout]
    count = struct.unpack_from("<I", payload)[0]
    labels = labels_of(payload.ljust(32, b"\0"), layout)
    start = min(base + np.dtype(kind).itemsize * count, len(payload))
    return True, layout, count, start, labels[0] if len(labels) else np.nan


def read_payload(buffer: np.ndarray, offset: int, where: str) -> tuple[bytes, int]:
    """Return the payload of the record at ``offset``, its parts joined by the magic, and its bytes in the file.

    ``where`` names the record in the ValueError for a part that is missing, cut short or out of order.
    """
    parts, at, expected = [], offset, (WHOLE, FIRST)
    while True:
        magic, word = struct.unpack("<II", buffer[at : at + 8].tobytes().ljust(8, b"\0"))
        part, length = word >> 29, word & LONGEST
        if magic != MAGIC or part not in expected or at + 8 + length > len(buffer):
            raise ValueError(f"{where}: its part {len(parts) + 1} at byte {at} is missing or cut short. {RECOPY}")
        parts.append(buffer[at + 8 : at + 8 + length].tobytes())
        at += 8 + (length + 3) // 4 * 4
        if part in (WHOLE, LAST):
            return struct.pack("<I", MAGIC).join(parts), at - offset
        expected = (MIDDLE, LAST)


def frame(payload: bytes) -> bytes:
    """Return a payload as a record: split where it holds the magic at a multiple of 4 bytes, padded with zeros.

    Raises ValueError for a part beyond 2^29 - 1 bytes.
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

"""Record files of every kind, written here byte by byte; what is damaged is named."""

import io
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from maskinv_lib.faces.pictures import decode, encode_jpeg
from maskinv_lib.faces.record_headers import MAGIC, frame, read_payload
from maskinv_lib.faces.record_writer import write_records
from maskinv_lib.faces.recordio import RecordFile, dense, faces, open_records

DATA = os.environ.get("MASKINV_DATA")
RED, GREEN, BLUE, ORANGE = (200, 20, 20), (20, 200, 20), (20, 20, 200), (250, 120, 10)
COLOURS = (RED, GREEN, BLUE, ORANGE)
WORD = struct.pack("<I", MAGIC)


def pixels(colour: tuple, size: int = 112) -> np.ndarray:
    return np.full((size, size, 3), colour, np.uint8)


def jpeg(colour: tuple, size: int = 112) -> bytes:
    return encode_jpeg(pixels(colour, size))


def png(colour: tuple) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels(colour)).save(out, "PNG")
    return out.getvalue()


def part(data: bytes, flag: int = 0) -> bytes:
    return WORD + struct.pack("<I", flag << 29 | len(data)) + data + bytes(-len(data) % 4)


def head(label: float, key: int) -> bytes:
    return struct.pack("<IfQQ", 0, label, key, 0)


def head_of(kind: str, labels: list, key: int = 0) -> bytes:
    """Return a header with a label array (or, of one label, without), as one of the three kinds of writers has it."""
    if kind == "packed, 4 bytes":
        return struct.pack("<IfQQ", len(labels), 0, key, 0) + struct.pack(f"<{len(labels)}f", *labels)
    if kind == "packed, 8 bytes":
        return struct.pack("<IfQQ", len(labels), 0, key, 0) + struct.pack(f"<{len(labels)}d", *labels)
    return struct.pack("<I4xdQQ", len(labels), 0, key, 0) + struct.pack(f"<{len(labels)}d", *labels)


KINDS = ("packed, 4 bytes", "packed, 8 bytes", "aligned, 8 bytes")


def write(folder: Path, records: list[bytes], keys: list | None = None) -> Path:
    """Write framed records and their index; return the folder."""
    offsets = np.cumsum([0, *map(len, records)])[:-1]
    (folder / "train.rec").write_bytes(b"".join(records))
    lines = [f"{key}\t{offset}\n" for key, offset in zip(keys or range(len(records)), offsets, strict=True)]
    (folder / "train.idx").write_text("".join(lines))
    return folder


def four(folder: Path, labels: tuple = (7, 7, 3000, 12)) -> Path:
    rows = enumerate(zip(labels, COLOURS, strict=True))
    return write(folder, [part(head(label, key) + jpeg(colour)) for key, (label, colour) in rows])


def colour_of(image: torch.Tensor) -> tuple:
    """Return the one of COLOURS that the whole image shows."""
    assert image.dtype == torch.uint8 and image.shape == (3, 112, 112)
    off = [(image.int() - torch.tensor(colour)[:, None, None]).abs().max().item() for colour in COLOURS]
    assert min(off) <= 4
    return COLOURS[int(np.argmin(off))]


def test_without_a_header_record_and_with_gaps_between_labels(tmp_path):
    found = open_records(four(tmp_path))
    assert [colour_of(found.image(i)) for i in range(len(found))] == list(COLOURS)
    assert found.identity.dtype == torch.int64
    assert found.identity.tolist() == [0, 0, 1, 2]
    assert found.labels.tolist() == [7, 7, 3000, 12]
    assert found.keys.tolist() == [0, 1, 2, 3]
    assert found.identities == 3
    assert found.describe() == "4 pictures, 3 identities, no header record"
    assert [found.of_identity(k).tolist() for k in range(3)] == [[0, 1], [2], [3]]
    with pytest.raises(IndexError, match="identities 0 to 2, not 3"):
        found.of_identity(3)
    with pytest.raises(IndexError):
        found[4]


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_through_a_data_loader(tmp_path, workers):
    found = open_records(four(tmp_path))
    batches = list(DataLoader(found, batch_size=3, num_workers=workers))
    assert [len(images) for images, _ in batches] == [3, 1]
    assert torch.cat([identity for _, identity in batches]).tolist() == [0, 0, 1, 2]
    assert [colour_of(image) for images, _ in batches for image in images] == list(COLOURS)


def test_it_can_be_pickled_without_its_pictures(tmp_path):
    found = open_records(four(tmp_path))
    data = pickle.dumps(found)
    assert len(data) < 10_000 and jpeg(RED) not in data
    again = pickle.loads(data)
    assert isinstance(again, RecordFile)
    assert colour_of(again.image(3)) == ORANGE


def test_pictures_come_in_the_order_of_their_keys(tmp_path):
    records = [part(head(5 - i, i) + jpeg(colour)) for i, colour in enumerate(COLOURS)]
    found = open_records(write(tmp_path, records, keys=[9, 2, 30, 4]))
    assert found.keys.tolist() == [2, 4, 9, 30]
    assert [colour_of(found.image(i)) for i in range(4)] == [GREEN, ORANGE, RED, BLUE]
    assert found.labels.tolist() == [4, 2, 5, 3]
    assert found.identity.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("kind", KINDS)
def test_header_and_identity_records_are_no_pictures(tmp_path, kind):
    labels = [7, 7, 9, 8]
    pictures = [
        head_of(kind, [label], key) + jpeg(c) for key, (label, c) in enumerate(zip(labels, COLOURS, strict=True))
    ]
    identities = [head_of(kind, keys) for keys in ([1, 3], [3, 4], [4, 5])]
    records = [part(payload) for payload in [head_of(kind, [5, 8]), *pictures, *identities]]
    found = open_records(write(tmp_path, records))
    assert found.describe() == "4 pictures, 3 identities, a header record, 3 identity records"
    assert found.keys.tolist() == [1, 2, 3, 4]
    assert found.labels.tolist() == labels
    assert [colour_of(found.image(i)) for i in range(4)] == list(COLOURS)


@pytest.mark.parametrize("encode", [jpeg, png])
@pytest.mark.parametrize("count", [1, 2, 3, 237])
@pytest.mark.parametrize("kind", KINDS)
def test_several_labels(tmp_path, kind, count, encode):
    labels = [[label, 1.0, *np.linspace(-1, 1, 300)][:count] for label in (7, 7, 3000, 12)]
    records = [part(head_of(kind, labels[i], i) + encode(colour)) for i, colour in enumerate(COLOURS)]
    found = open_records(write(tmp_path, records))
    assert found.labels.tolist() == [7, 7, 3000, 12]
    assert found.describe() == "4 pictures, 3 identities, no header record"
    assert found.all_labels(2).dtype == torch.float64
    assert np.allclose(found.all_labels(2), labels[2], atol=1e-6)
    assert colour_of(found.image(3)) == ORANGE


def test_a_single_label_of_an_aligned_header(tmp_path):
    records = [part(struct.pack("<I4xdQQ", 0, label, 0, 0) + jpeg(RED)) for label in (3, 2**40)]
    found = open_records(write(tmp_path, records))
    assert found.labels.tolist() == [3, 2**40]
    assert found.all_labels(1).tolist() == [2**40]


def test_a_single_label_of_a_packed_header(tmp_path):
    assert open_records(four(tmp_path)).all_labels(2).tolist() == [3000]


def test_kinds_may_stand_side_by_side_and_key_0_may_have_two_labels(tmp_path):
    records = [part(head_of(kind, [3, 4]) + jpeg(RED)) for kind in KINDS] + [part(head(3, 0) + jpeg(BLUE))]
    found = open_records(write(tmp_path, records))
    assert found.describe() == "4 pictures, 1 identities, no header record"
    assert found.identity.tolist() == [0, 0, 0, 0]
    assert [found.all_labels(i).tolist() for i in range(4)] == [[3, 4], [3, 4], [3, 4], [3]]


def test_more_records_than_are_scanned_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr("maskinv_lib.faces.record_headers.CHUNK", 3)
    picture = jpeg(GREEN)
    records = [part(head(label, 0) + picture) for label in (4, 4, 1, 1, 1, 8, 8, 4, 2, 2, 6)]
    found = open_records(write(tmp_path, records))
    assert found.identity.tolist() == [0, 0, 1, 1, 1, 2, 2, 0, 3, 3, 4]


def test_dense_numbers_by_first_appearance():
    assert dense(torch.tensor([5, 3, 5, 9, 3, 0])).tolist() == [0, 1, 0, 2, 1, 3]


# Parts


def test_records_in_parts_are_joined_by_the_magic(tmp_path):
    payload = head(7, 0) + jpeg(RED) + b"\0" * 100
    cut = (len(payload) // 3) & ~3
    hidden = payload[:cut] + WORD + payload[cut : 2 * cut] + WORD + payload[2 * cut :]
    parts = part(payload[:cut], 1) + part(payload[cut : 2 * cut], 2) + part(payload[2 * cut :], 3)
    found = open_records(write(tmp_path, [part(head(5, 0) + jpeg(BLUE)), parts, part(head(7, 0) + jpeg(GREEN))]))
    assert found.labels.tolist() == [5, 7, 7]
    assert found._payload(1)[0] == hidden
    assert colour_of(found.image(2)) == GREEN


def test_a_picture_cut_at_a_magic_within_it_decodes(tmp_path):
    picture = jpeg(ORANGE)
    comment = b"\xff\xfe" + struct.pack(">H", 2 + 10) + b"ab" + WORD + WORD
    whole = head(7, 0) + picture[:2] + comment + picture[2:]
    at = whole.index(WORD)
    before, behind = whole[:at], whole[at + 8 :]
    assert at % 4 == 0
    parts = part(before, 1) + part(b"", 2) + part(behind, 3)
    assert frame(whole) == parts
    found = open_records(write(tmp_path, [parts]))
    assert found._payload(0)[0] == whole
    assert colour_of(found.image(0)) == ORANGE


@pytest.mark.parametrize("where", [0, 1, 2, 3, 4, 8])
def test_framing_is_undone_wherever_the_magic_stands(where):
    payload = b"x" * where + WORD + b"yy" + WORD * 2 + b"z" * 3
    framed = frame(payload)
    assert len(framed) % 4 == 0
    assert read_payload(np.frombuffer(framed, np.uint8), 0, "here") == (payload, len(framed))
    words = [framed[at : at + 4] for at in range(0, len(framed), 4)]
    aligned = sum(payload[at : at + 4] == WORD for at in range(0, len(payload), 4))
    assert words.count(WORD) == 1 + aligned


@pytest.mark.parametrize("flag", [2, 3])
def test_an_index_into_a_later_part_is_refused(tmp_path, flag):
    write(tmp_path, [part(head(1, 0) + jpeg(RED)), part(head(1, 0) + jpeg(RED), flag)])
    with pytest.raises(ValueError, match=r"train\.rec, record 1 at byte \d+: a later part .* copy both again"):
        open_records(tmp_path)


def test_a_record_whose_last_part_is_missing(tmp_path):
    write(tmp_path, [part(head(1, 0) + jpeg(RED)), part((head(1, 0) + jpeg(RED))[:400], 1)])
    with pytest.raises(ValueError, match=r"train\.rec, record 1: its part 2 at byte \d+ is missing"):
        open_records(tmp_path)


# Damage


def damaged(folder: Path, what: str) -> None:
    four(folder)
    rec, idx = folder / "train.rec", folder / "train.idx"
    data, lines = rec.read_bytes(), idx.read_text().splitlines()
    last = int(lines[3].split()[1])
    edits = {
        "end": lambda: rec.write_bytes(data[:-20]),
        "header": lambda: rec.write_bytes(data[: last + 6]),
        "empty": lambda: rec.write_bytes(b""),
        "past": lambda: idx.write_text("\n".join([*lines[:3], f"3\t{len(data) + 8}"])),
        "inside": lambda: idx.write_text("\n".join([*lines[:3], f"3\t{last + 4}"])),
        "short": lambda: rec.write_bytes(data[:last] + part(b"x" * 20)),
        "word": lambda: idx.write_text("0\t0\n1\tabc\n"),
        "column": lambda: idx.write_text("0\t0\n1\n"),
        "columns": lambda: idx.write_text("0\t0\t0\n1\t0\t0\n"),
        "comma": lambda: idx.write_text("0\t0\n1\t1.5\n"),
        "minus": lambda: idx.write_text("0\t0\n1\t-8\n"),
        "nothing": lambda: idx.write_text(""),
        "twice": lambda: idx.write_text("4\t0\n4\t0\n"),
        "binary": lambda: idx.write_bytes(b"\xff\xfe\x00"),
    }
    edits[what]()


@pytest.mark.parametrize(
    ("what", "match"),
    [
        ("end", r"train\.rec, record 3 at byte \d+: the file ends within it"),
        ("header", r"train\.rec, record 3 at byte \d+: it would begin past the end"),
        ("empty", r"train\.rec is empty"),
        ("past", r"train\.rec, record 3 at byte \d+: it would begin past the end of the file \(\d+ bytes\)"),
        ("inside", r"train\.rec, record 3 at byte \d+: no record begins there .*0xced7230a"),
        ("short", r"train\.rec, record 3: 20 bytes are no header"),
        ("word", r"train\.idx, line 2: b'1\\tabc' is not key, tab, byte offset"),
        ("column", r"train\.idx, line 2: b'1' is not"),
        ("columns", r"train\.idx, line 1: "),
        ("comma", r"train\.idx, line 2: b'1\\t1\.5'"),
        ("minus", r"train\.idx, line 2: b'1\\t-8'"),
        ("nothing", r"train\.idx lists no record"),
        ("twice", r"train\.idx lists key 4 twice"),
        ("binary", r"train\.idx, line 1: "),
    ],
)
def test_damage_is_one_error_that_names_it(tmp_path, what, match):
    damaged(tmp_path, what)
    with pytest.raises(ValueError, match=match) as caught:
        open_records(tmp_path)
    assert "opy" in str(caught.value) or "rite" in str(caught.value)


@pytest.mark.parametrize("gone", ["train.rec", "train.idx"])
def test_a_missing_file_is_named(tmp_path, gone):
    (four(tmp_path) / gone).unlink()
    with pytest.raises(FileNotFoundError, match=gone.replace(".", r"\.") + " is missing"):
        open_records(tmp_path)


def test_a_file_of_another_name(tmp_path):
    four(tmp_path)
    for suffix in (".rec", ".idx"):
        (tmp_path / f"train{suffix}").rename(tmp_path / f"other{suffix}")
    assert len(open_records(tmp_path)) == len(open_records(tmp_path / "other.rec")) == 4


def test_records_that_the_index_lacks_are_told(tmp_path):
    four(tmp_path)
    lines = (tmp_path / "train.idx").read_text().splitlines()
    (tmp_path / "train.idx").write_text("\n".join(lines[:3]))
    lost = (tmp_path / "train.rec").stat().st_size - int(lines[3].split()[1])
    told = f"3 pictures, 2 identities, no header record, {lost:,} bytes of train.rec in no record that the .idx lists"
    assert open_records(tmp_path).describe() == told


@pytest.mark.parametrize("label", [-1, 2.5, float("nan"), float("inf"), 2**25, -float("inf")])
def test_labels_that_are_no_identities(tmp_path, label):
    four(tmp_path, labels=(7, 7, label, 12))
    with pytest.raises(ValueError, match=r"train\.rec, record 2: its label .* is no whole number from 0 to 16777216"):
        open_records(tmp_path)


def test_a_file_without_pictures(tmp_path):
    write(tmp_path, [part(head_of("packed, 4 bytes", labels)) for labels in ([1, 2], [1, 1])])
    with pytest.raises(ValueError, match="no record holds a picture"):
        open_records(tmp_path)


# Bad pictures


@pytest.mark.parametrize("bad", [b"", b"no picture at all", jpeg(GREEN)[:200], jpeg(GREEN, 96), jpeg(GREEN, 160)])
def test_a_bad_picture_is_an_error_or_is_skipped_and_told(tmp_path, bad):
    payloads = [head(7, 0) + jpeg(RED), head(5, 1) + bad, head(9, 2) + jpeg(BLUE), head(7, 3) + jpeg(ORANGE)]
    found = open_records(write(tmp_path, [part(payload) for payload in payloads]))
    assert len(found) == 4
    match = r"train\.rec, record 1 (does not decode|is (96 x 96|160 x 160) pixels, not 112 x 112).*or leave it out"
    with pytest.raises(ValueError, match=match):
        faces(found, source="four")
    with pytest.warns(UserWarning, match=r"1 of 4 pictures left out \(keys 1\)"):
        kept = faces(found, source="four", skip_bad=True)
    assert [colour_of(image) for image in kept.images] == [RED, BLUE, ORANGE]
    assert kept.identity.tolist() == [0, 1, 0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_picture_keeps_its_label(tmp_path, kind):
    records = [part(head_of(kind, [7, 1]) + data) for data in (jpeg(RED), jpeg(RED), b"no picture, but bytes")]
    found = open_records(write(tmp_path, records))
    assert found.labels.tolist() == [7, 7, 7]
    with pytest.raises(ValueError, match="record 2 does not decode"):
        found.image(2)


def test_a_picture_lost_from_its_record_is_no_identity_record(tmp_path):
    kind = "packed, 4 bytes"
    payloads = [head_of(kind, [3, 4]), head(7, 1) + jpeg(RED), head_of(kind, [7, 8]), head_of(kind, [1, 3])]
    found = open_records(write(tmp_path, [part(payload) for payload in payloads]))
    assert found.keys.tolist() == [1, 2]
    assert found.identity_records == 1
    with pytest.raises(ValueError, match=r"record 2 does not decode .*0 bytes"):
        found.image(1)


# Faces


def test_all_faces(tmp_path):
    found = faces(open_records(four(tmp_path)), source="four colours")
    assert found.publishable is False
    assert found.source == "four colours"
    assert [colour_of(image) for image in found.images] == list(COLOURS)
    assert found.identity.tolist() == [0, 0, 1, 2]


def test_labels_left_out(tmp_path):
    records = open_records(four(tmp_path))
    found = faces(records, source="x", without=[7])
    assert [colour_of(image) for image in found.images] == [BLUE, ORANGE]
    assert found.identity.tolist() == [0, 1]
    with pytest.raises(ValueError, match=r"no picture of label 8: take it out"):
        faces(records, source="x", without=[8])
    with pytest.raises(ValueError, match="whole number"):
        faces(records, source="x", without=["7"])


def test_the_cache_is_used_and_knows_its_files_and_settings(tmp_path, monkeypatch):
    records, cache = open_records(four(tmp_path)), tmp_path / "cache"
    first = faces(records, source="x", cache=cache)
    faces(records, source="x", cache=cache, without=[12])
    assert len(list(cache.iterdir())) == 2
    monkeypatch.setattr("maskinv_lib.faces.recordio.decode", None)
    again = faces(records, source="x", cache=cache)
    assert torch.equal(first.images, again.images) and torch.equal(first.identity, again.identity)
    monkeypatch.undo()
    other = faces(open_records(four(tmp_path, labels=(1, 2, 3, 4))), source="x", cache=cache)
    assert other.identity.tolist() == [0, 1, 2, 3]


def test_what_was_skipped_is_told_from_the_cache_too(tmp_path):
    payloads = [head(7, 0) + jpeg(RED), head(5, 1) + b"no picture"]
    records = open_records(write(tmp_path, [part(payload) for payload in payloads]))
    for _ in range(2):
        with pytest.warns(UserWarning, match=r"keys 1\)"):
            assert len(faces(records, source="x", skip_bad=True, cache=tmp_path / "cache")) == 1


# Writing


def test_what_is_written_is_read_again_grouped(tmp_path):
    pairs = [(pixels(RED), 7), (jpeg(GREEN), 3000), (png(BLUE), 7), (pixels(ORANGE), 0)]
    path = write_records(tmp_path / "new", pairs)
    assert sorted(file.name for file in path.parent.iterdir()) == ["property", "train.idx", "train.rec"]
    assert (path.parent / "property").read_text().strip() == "3,112,112"
    found = open_records(path.parent)
    assert found.describe() == "4 pictures, 3 identities, a header record, 3 identity records"
    assert found.labels.tolist() == [7, 7, 3000, 0]
    assert [colour_of(found.image(i)) for i in range(4)] == [RED, BLUE, GREEN, ORANGE]


def test_written_header_and_identity_records_follow_the_format(tmp_path):
    path = write_records(tmp_path, [(pixels(RED), 7), (pixels(BLUE), 5), (pixels(GREEN), 7)])
    data = path.read_bytes()
    offsets = [int(line.split("\t")[1]) for line in (tmp_path / "train.idx").read_text().splitlines()]
    heads = [struct.unpack_from("<IIIfQQ", data, offset) for offset in offsets]
    assert [row[0] for row in heads] == [MAGIC] * 6
    assert [row[2] for row in heads] == [2, 0, 0, 0, 2, 2]
    assert [row[3] for row in heads[1:4]] == [7, 7, 5]
    assert [struct.unpack_from("<2f", data, offsets[i] + 32) for i in (0, 4, 5)] == [(4, 6), (1, 3), (3, 4)]
    first = data[offsets[1] + 32 : offsets[1] + 8 + heads[1][1]]
    assert abs(decode(first, "first").astype(int) - RED).max() <= 4


@pytest.mark.parametrize(
    ("pairs", "match"),
    [
        ([], "No picture to write"),
        ([(pixels(RED), -1)], "label of picture 0 must be a whole number"),
        ([(pixels(RED), 1.0)], "label of picture 0 must be a whole number"),
        ([(pixels(RED), 2**24 + 1)], r"label 16777217 of picture 0 is beyond 2\^24"),
        ([(pixels(RED), 1), (pixels(RED, 96), 1)], r"Picture 1 must be .* not uint8 \[96, 96, 3\]"),
        ([("a.jpg", 1)], "Picture 0 must be .* not str"),
    ],
)
def test_what_cannot_be_written_leaves_the_old_files(tmp_path, pairs, match):
    four(tmp_path)
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=match):
        write_records(tmp_path, pairs)
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before


# Real records


def test_real_records():
    if not DATA or not Path(DATA, "faces/celeba_subset").exists():
        pytest.skip("MASKINV_DATA names no folder with faces/celeba_subset")
    found = open_records(Path(DATA, "faces/celeba_subset"))
    assert found.describe() == "5,858 pictures, 276 identities, a header record, 276 identity records"
    counts = found.identity.bincount()
    assert counts.min() >= 4 and counts.max() == 30
    assert found.image(5857).float().std() > 5

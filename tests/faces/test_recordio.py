"""Record files of every layout, written byte by byte; errors name the damage."""

import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from maskinv_lib.faces.record_headers import frame, read_payload
from maskinv_lib.faces.recordio import RecordFile, dense, faces, open_records
from tests.faces.samples import (
    BLUE,
    COLOURS,
    GREEN,
    KINDS,
    ORANGE,
    RED,
    WORD,
    colour_of,
    four,
    head,
    head_of,
    jpeg,
    part,
    png,
    write,
    write_payloads,
)

DATA = os.environ.get("MASKINV_DATA")


def test_without_a_header_record_and_with_gaps_between_labels(tmp_path):
    records = open_records(four(tmp_path))
    assert [colour_of(image) for image, _ in records] == list(COLOURS)
    assert records.identity.dtype == torch.int64
    assert records.identity.tolist() == [0, 0, 1, 2]
    assert records.labels.tolist() == [7, 7, 3000, 12]
    assert records.keys.tolist() == [0, 1, 2, 3]
    assert records.identities == 3
    assert records.describe() == "4 pictures, 3 identities, no header record"
    with pytest.raises(IndexError):
        records[4]


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_through_a_data_loader(tmp_path, workers):
    records = open_records(four(tmp_path))
    batches = list(DataLoader(records, batch_size=3, num_workers=workers))
    assert [len(images) for images, _ in batches] == [3, 1]
    assert torch.cat([identity for _, identity in batches]).tolist() == [0, 0, 1, 2]
    assert [colour_of(image) for images, _ in batches for image in images] == list(COLOURS)


def test_it_can_be_pickled_without_its_pictures(tmp_path):
    records = open_records(four(tmp_path))
    data = pickle.dumps(records)
    assert len(data) < 10_000 and jpeg(RED) not in data
    again = pickle.loads(data)
    assert isinstance(again, RecordFile)
    assert colour_of(again.image(3)) == ORANGE


def test_pictures_come_in_the_order_of_their_keys(tmp_path):
    parts = [part(head(5 - i, i) + jpeg(colour)) for i, colour in enumerate(COLOURS)]
    records = open_records(write(tmp_path, parts, keys=[9, 2, 30, 4]))
    assert records.keys.tolist() == [2, 4, 9, 30]
    assert [colour_of(image) for image, _ in records] == [GREEN, ORANGE, RED, BLUE]
    assert records.labels.tolist() == [4, 2, 5, 3]
    assert records.identity.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("kind", KINDS)
def test_header_and_identity_records_are_no_pictures(tmp_path, kind):
    labels = [7, 7, 9, 8]
    pictures = [
        head_of(kind, [label], key) + jpeg(c) for key, (label, c) in enumerate(zip(labels, COLOURS, strict=True))
    ]
    identities = [head_of(kind, keys) for keys in ([1, 3], [3, 4], [4, 5])]
    records = open_records(write_payloads(tmp_path, head_of(kind, [5, 8]), *pictures, *identities))
    assert records.describe() == "4 pictures, 3 identities, a header record, 3 identity records"
    assert records.keys.tolist() == [1, 2, 3, 4]
    assert records.labels.tolist() == labels
    assert [colour_of(image) for image, _ in records] == list(COLOURS)


@pytest.mark.parametrize("encode", [jpeg, png])
@pytest.mark.parametrize("count", [1, 2, 3, 237])
@pytest.mark.parametrize("kind", KINDS)
def test_several_labels(tmp_path, kind, count, encode):
    labels = [[label, 1.0, *np.linspace(-1, 1, 300)][:count] for label in (7, 7, 3000, 12)]
    payloads = [head_of(kind, labels[i], i) + encode(colour) for i, colour in enumerate(COLOURS)]
    records = open_records(write_payloads(tmp_path, *payloads))
    assert records.labels.tolist() == [7, 7, 3000, 12]
    assert records.describe() == "4 pictures, 3 identities, no header record"
    assert colour_of(records.image(3)) == ORANGE


def test_a_single_label_of_an_aligned_header(tmp_path):
    payloads = [struct.pack("<I4xdQQ", 0, label, 0, 0) + jpeg(RED) for label in (3, 2**40)]
    assert open_records(write_payloads(tmp_path, *payloads)).labels.tolist() == [3, 2**40]


def test_kinds_may_be_mixed_and_key_0_may_have_two_labels(tmp_path):
    payloads = [head_of(kind, [3, 4]) + jpeg(RED) for kind in KINDS]
    records = open_records(write_payloads(tmp_path, *payloads, head(3, 0) + jpeg(BLUE)))
    assert records.describe() == "4 pictures, 1 identities, no header record"
    assert records.labels.tolist() == [3] * 4 and records.identity.tolist() == [0] * 4


def test_more_records_than_are_scanned_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr("maskinv_lib.faces.record_headers.CHUNK", 3)
    payloads = [head(label, 0) + jpeg(GREEN) for label in (4, 4, 1, 1, 1, 8, 8, 4, 2, 2, 6)]
    records = open_records(write_payloads(tmp_path, *payloads))
    assert records.identity.tolist() == [0, 0, 1, 1, 1, 2, 2, 0, 3, 3, 4]


def test_dense_numbers_by_first_appearance():
    assert dense(torch.tensor([5, 3, 5, 9, 3, 0])).tolist() == [0, 1, 0, 2, 1, 3]


# Parts


def payload_of(records: RecordFile, number: int) -> bytes:
    return read_payload(records._buffer, int(records._offsets[number]), "here")[0]


def test_records_in_parts_are_joined_by_the_magic(tmp_path):
    payload = head(7, 0) + jpeg(RED) + b"\0" * 100
    cut = (len(payload) // 3) & ~3
    joined = payload[:cut] + WORD + payload[cut : 2 * cut] + WORD + payload[2 * cut :]
    parts = part(payload[:cut], 1) + part(payload[cut : 2 * cut], 2) + part(payload[2 * cut :], 3)
    records = open_records(write(tmp_path, [part(head(5, 0) + jpeg(BLUE)), parts, part(head(7, 0) + jpeg(GREEN))]))
    assert records.labels.tolist() == [5, 7, 7]
    assert payload_of(records, 1) == joined
    assert colour_of(records.image(2)) == GREEN


def test_a_picture_cut_at_a_magic_within_it_decodes(tmp_path):
    picture = jpeg(ORANGE)
    comment = b"\xff\xfe" + struct.pack(">H", 2 + 10) + b"ab" + WORD + WORD
    whole = head(7, 0) + picture[:2] + comment + picture[2:]
    at = whole.index(WORD)
    before, behind = whole[:at], whole[at + 8 :]
    assert at % 4 == 0
    parts = part(before, 1) + part(b"", 2) + part(behind, 3)
    assert frame(whole) == parts
    records = open_records(write(tmp_path, [parts]))
    assert payload_of(records, 0) == whole
    assert colour_of(records.image(0)) == ORANGE


@pytest.mark.parametrize("position", [0, 1, 2, 3, 4, 8])
def test_read_payload_inverts_frame_wherever_the_magic_stands(position):
    payload = b"x" * position + WORD + b"yy" + WORD * 2 + b"z" * 3
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


def refused(folder: Path, match: str) -> None:
    with pytest.raises(ValueError, match=rf"train\.{match}") as caught:
        open_records(folder)
    assert "opy" in str(caught.value) or "rite" in str(caught.value)  # the remedy


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (lambda data, last: data[:-20], r"rec, record 3 at byte \d+: the file ends within it"),
        (lambda data, last: data[: last + 6], r"rec, record 3 at byte \d+: it would begin past the end"),
        (lambda data, last: b"", "rec is empty"),
        (lambda data, last: data[:last] + part(b"x" * 20), "rec, record 3: 20 bytes are no header"),
    ],
)
def test_a_damaged_record_file_is_named(tmp_path, damage, match):
    rec = four(tmp_path) / "train.rec"
    last = int((tmp_path / "train.idx").read_text().split()[-1])
    rec.write_bytes(damage(rec.read_bytes(), last))
    refused(tmp_path, match)


@pytest.mark.parametrize(
    ("index", "match"),
    [
        (b"0\t0\n3\t99999999\n", r"rec, record 3 at byte \d+: it would begin past the end of the file \(\d+ bytes\)"),
        (b"0\t0\n3\t4\n", r"rec, record 3 at byte \d+: no record begins there .*0xced7230a"),
        (b"0\t0\n1\tabc\n", r"idx, line 2: b'1\\tabc' is not key, tab, byte offset"),
        (b"0\t0\n1\n", "idx, line 2: b'1' is not"),
        (b"0\t0\t0\n1\t0\t0\n", "idx, line 1: "),
        (b"0\t0\n1\t1.5\n", r"idx, line 2: b'1\\t1\.5'"),
        (b"0\t0\n1\t-8\n", r"idx, line 2: b'1\\t-8'"),
        (b"", "idx lists no record"),
        (b"4\t0\n4\t0\n", "idx lists key 4 twice"),
        (b"\xff\xfe\x00", "idx, line 1: "),
    ],
)
def test_a_damaged_index_is_named(tmp_path, index, match):
    (four(tmp_path) / "train.idx").write_bytes(index)
    refused(tmp_path, match)


@pytest.mark.parametrize("missing", ["train.rec", "train.idx"])
def test_a_missing_file_is_named(tmp_path, missing):
    (four(tmp_path) / missing).unlink()
    with pytest.raises(FileNotFoundError, match=missing.replace(".", r"\.") + " is missing"):
        open_records(tmp_path)


def test_a_file_of_another_name(tmp_path):
    four(tmp_path)
    for suffix in (".rec", ".idx"):
        (tmp_path / f"train{suffix}").rename(tmp_path / f"other{suffix}")
    assert len(open_records(tmp_path)) == len(open_records(tmp_path / "other.rec")) == 4


def test_records_missing_in_the_index_are_reported(tmp_path):
    four(tmp_path)
    lines = (tmp_path / "train.idx").read_text().splitlines()
    (tmp_path / "train.idx").write_text("\n".join(lines[:3]))
    missing = (tmp_path / "train.rec").stat().st_size - int(lines[3].split()[1])
    expected = f"no header record, {missing:,} bytes of train.rec in no record that the .idx lists"
    assert open_records(tmp_path).describe() == f"3 pictures, 2 identities, {expected}"


@pytest.mark.parametrize("label", [-1, 2.5, float("nan"), float("inf"), 2**25, -float("inf")])
def test_labels_that_are_no_identities(tmp_path, label):
    four(tmp_path, labels=(7, 7, label, 12))
    with pytest.raises(ValueError, match=r"train\.rec, record 2: its label .* is no whole number from 0 to 16777216"):
        open_records(tmp_path)


def test_a_file_without_pictures(tmp_path):
    write_payloads(tmp_path, *(head_of("packed, 4 bytes", labels) for labels in ([1, 2], [1, 1])))
    with pytest.raises(ValueError, match="no record holds a picture"):
        open_records(tmp_path)


# Bad pictures


@pytest.mark.parametrize("bad", [b"", b"no picture at all", jpeg(GREEN)[:200], jpeg(GREEN, 96), jpeg(GREEN, 160)])
def test_a_bad_picture_is_an_error_or_is_skipped_with_a_warning(tmp_path, bad):
    payloads = [head(7, 0) + jpeg(RED), head(5, 1) + bad, head(9, 2) + jpeg(BLUE), head(7, 3) + jpeg(ORANGE)]
    records = open_records(write_payloads(tmp_path, *payloads))
    assert len(records) == 4
    match = r"train\.rec, record 1 (does not decode|is (96 x 96|160 x 160) pixels, not 112 x 112).*or leave it out"
    with pytest.raises(ValueError, match=match):
        faces(records, source="four")
    with pytest.warns(UserWarning, match=r"1 of 4 pictures left out \(keys 1\)"):
        kept = faces(records, source="four", skip_bad=True)
    assert [colour_of(image) for image in kept.images] == [RED, BLUE, ORANGE]
    assert kept.identity.tolist() == [0, 1, 0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_picture_keeps_its_label(tmp_path, kind):
    payloads = [head_of(kind, [7, 1]) + data for data in (jpeg(RED), jpeg(RED), b"no picture, but bytes")]
    records = open_records(write_payloads(tmp_path, *payloads))
    assert records.labels.tolist() == [7, 7, 7]
    with pytest.raises(ValueError, match="record 2 does not decode"):
        records.image(2)


def test_a_picture_lost_from_its_record_is_no_identity_record(tmp_path):
    kind = "packed, 4 bytes"
    payloads = [head_of(kind, [3, 4]), head(7, 1) + jpeg(RED), head_of(kind, [7, 8]), head_of(kind, [1, 3])]
    records = open_records(write_payloads(tmp_path, *payloads))
    assert records.keys.tolist() == [1, 2]
    assert records.identity_records == 1
    with pytest.raises(ValueError, match=r"record 2 does not decode .*0 bytes"):
        records.image(1)


# Faces


def test_all_faces(tmp_path):
    result = faces(open_records(four(tmp_path)), source="four colours")
    assert result.publishable is False
    assert result.source == "four colours"
    assert [colour_of(image) for image in result.images] == list(COLOURS)
    assert result.identity.tolist() == [0, 0, 1, 2]


def test_labels_left_out(tmp_path):
    records = open_records(four(tmp_path))
    result = faces(records, source="x", without=[7])
    assert [colour_of(image) for image in result.images] == [BLUE, ORANGE]
    assert result.identity.tolist() == [0, 1]
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
    changed = faces(open_records(four(tmp_path, labels=(1, 2, 3, 4))), source="x", cache=cache)
    assert changed.identity.tolist() == [0, 1, 2, 3]


def test_skipped_pictures_are_reported_from_the_cache_too(tmp_path):
    records = open_records(write_payloads(tmp_path, head(7, 0) + jpeg(RED), head(5, 1) + b"no picture"))
    for _ in range(2):
        with pytest.warns(UserWarning, match=r"keys 1\)"):
            assert len(faces(records, source="x", skip_bad=True, cache=tmp_path / "cache")) == 1


# Real records


def test_real_records():
    if not DATA or not Path(DATA, "faces/celeba_subset").exists():
        pytest.skip("MASKINV_DATA names no folder with faces/celeba_subset")
    records = open_records(Path(DATA, "faces/celeba_subset"))
    assert records.describe() == "5,858 pictures, 276 identities, a header record, 276 identity records"
    counts = records.identity.bincount()
    assert counts.min() >= 4 and counts.max() == 30
    assert records.image(5857).float().std() > 5

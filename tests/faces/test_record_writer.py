"""Written record files are read again, follow InsightFace's format and replace old files only as a whole."""

import struct

import pytest

from maskinv_lib.faces.pictures import decode
from maskinv_lib.faces.record_headers import MAGIC
from maskinv_lib.faces.record_writer import write_records
from maskinv_lib.faces.recordio import open_records
from tests.faces.samples import BLUE, GREEN, ORANGE, RED, colour_of, four, jpeg, pixels, png


def test_written_pictures_are_read_grouped_by_label(tmp_path):
    pairs = [(pixels(RED), 7), (jpeg(GREEN), 3000), (png(BLUE), 7), (pixels(ORANGE), 0)]
    path = write_records(tmp_path / "new", pairs)
    assert sorted(file.name for file in path.parent.iterdir()) == ["property", "train.idx", "train.rec"]
    assert (path.parent / "property").read_text().strip() == "3,112,112"
    records = open_records(path.parent)
    assert records.describe() == "4 pictures, 3 identities, a header record, 3 identity records"
    assert records.labels.tolist() == [7, 7, 3000, 0]
    assert [colour_of(image) for image, _ in records] == [RED, BLUE, GREEN, ORANGE]


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
def test_pictures_that_cannot_be_written_leave_the_old_files(tmp_path, pairs, match):
    four(tmp_path)
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=match):
        write_records(tmp_path, pairs)
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before

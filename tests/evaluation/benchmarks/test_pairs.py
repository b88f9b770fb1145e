"""The text formats: both dialects of pairs.txt, mask labels, session protocols, and their errors by line."""

import pytest

from maskinv_lib.evaluation.benchmarks.pairs import read_mask_labels, read_pairs, read_sessions


def write(tmp_path, text):
    path = tmp_path / "list.txt"
    path.write_text(text, encoding="utf-8")
    return path


def test_both_dialects_are_read(tmp_path):
    mfr2 = read_pairs(write(tmp_path, "Ada 1 3\r\nAda 2 Bo 1\r\n\r\n"))
    lfw = read_pairs(write(tmp_path, "1\t1\nAda\t1\t3\nAda\t2\tBo\t1\n"))
    for pairs, lines in ((mfr2, [1, 2]), (lfw, [2, 3])):
        assert [(pair.first, pair.second) for pair in pairs] == [(("Ada", 1), ("Ada", 3)), (("Ada", 2), ("Bo", 1))]
        assert [pair.genuine for pair in pairs] == [True, False] and [pair.line for pair in pairs] == lines
    assert read_pairs(write(tmp_path, "1\nJo Z\t1\t2\nA\t1\tB\t1\n"))[0].first == ("Jo Z", 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Ada 1 2\nJo Van Z 1 2\n", "line 2: 5 columns"),
        ("Ada 1 2\nAda 1 x\n", "line 2: a picture number .* not 'x'"),
        ("Ada 1 1\n", "line 1: pairs picture 1 with itself"),
        ("Ada 1 Ada 2\n", "line 1: four columns"),
        ("10\t300\nAda\t1\t2\n", "line 1: announces 6000 pairs, 1 follow"),
        ("\n", "is empty"),
    ],
)
def test_bad_pairs_name_file_and_line(tmp_path, text, message):
    with pytest.raises(ValueError, match=rf"list\.txt.*{message}"):
        read_pairs(write(tmp_path, text))


def test_mask_labels(tmp_path):
    labels = read_mask_labels(write(tmp_path, "Ada, 1, surgical_blue\nAda, 2, no-mask\n"))
    assert labels == {("Ada", 1): "surgical_blue", ("Ada", 2): "no-mask"}
    with pytest.raises(ValueError, match="line 2: this picture has a label"):
        read_mask_labels(write(tmp_path, "Ada, 1, x\nAda, 1, y\n"))
    with pytest.raises(ValueError, match="line 1: expected three columns"):
        read_mask_labels(write(tmp_path, "Ada, 1\n"))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("b.png,Bo,1,2,probe", "masked is '2'"),
        ("b.png,Bo,1,1,prob", "'probe'"),
        ("b.png,,1,1,probe", "identity is empty"),
        ("a.png,Ada,1,0,probe", "is on line 2 too"),
    ],
)
def test_bad_sessions_name_the_line(tmp_path, row, message):
    text = f"image,identity,session,masked,role\na.png,Ada,1,0,reference\n{row}\n"
    with pytest.raises(ValueError, match=rf"line 3: .*{message}"):
        read_sessions(write(tmp_path, text))

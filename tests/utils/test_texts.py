"""Text files and tables of other programs and systems: encodings, line ends, separators, and errors by line."""

import codecs

import pytest

from maskinv_lib.utils.texts import read_rows, read_text

TEXT = "image,masked\nZoë/ü.png,1\nada/b.png,0\n"
ROWS = [(2, {"image": "Zoë/ü.png", "masked": "1"}), (3, {"image": "ada/b.png", "masked": "0"})]


def write(tmp_path, content: str | bytes, encoding: str = "utf-8"):
    path = tmp_path / "list.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_marked_encoding_and_line_end_is_read(tmp_path, encoding, end):
    path = write(tmp_path, TEXT.replace("\n", end), encoding)
    assert read_text(path) == TEXT
    assert read_rows(path, ("image", "masked")) == ROWS


def test_utf_16_of_either_byte_order_is_read_by_its_mark(tmp_path):
    for mark, encoding in ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")):
        assert read_text(write(tmp_path, mark + TEXT.encode(encoding))) == TEXT


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            TEXT.encode("cp1252"),
            r"line 2: this is not UTF-8; byte 0xeb is 'ë' in Windows-1252 \(cp1252\)\. Save.*UTF-8",
        ),
        (TEXT.encode("utf-16-le"), "zero bytes, as UTF-16 without a byte order mark"),
        (codecs.BOM_UTF16_LE + b"abc", "begins with the mark of utf-16, but is damaged"),
    ],
)
def test_another_encoding_is_named_with_the_file(tmp_path, content, message):
    with pytest.raises(ValueError, match=rf"list\.csv.*{message}"):
        read_text(write(tmp_path, content))


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_the_header_decides_the_separator(tmp_path, separator):
    text = TEXT.replace(",", separator).replace("ada/b.png", '"a, b; c\td.png"')
    rows = read_rows(write(tmp_path, text), ("image", "masked"))
    assert [row["image"] for _, row in rows] == ["Zoë/ü.png", "a, b; c\td.png"]


def test_columns_in_any_order_spaces_and_empty_lines_are_read(tmp_path):
    rows = read_rows(write(tmp_path, "\n masked , note,image\n1, x ,  a.png \n,,\n\n0,,b.png"), ("image", "masked"))
    assert [(row["image"], row["masked"], row["note"]) for _, row in rows] == [("a.png", "1", "x"), ("b.png", "0", "")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('image,masked\n"a.png,1\nb.png,0\n', "line 2: a quote is opened and not closed"),
        ('image,masked\na.png,1\n"b.png,0\n' + "c.png,0\n" * 20000, "line 3: a quote is opened and not closed"),
        ('image,masked\n"a"b.png,1\n', "line 2: "),
        ("image,masked\na.png\n", "line 2: 1 cells, the header has 2"),
        ("image\na.png\n", "line 1: no column masked. Add it; found: image"),
        ("image,masked,image\na,1,b\n", "line 1: the column image is there twice"),
        ("image,masked\n", "has a header and no rows"),
        ("", "line 1: no column image, masked. Add it; found: none"),
    ],
)
def test_bad_tables_name_file_and_line(tmp_path, text, message):
    with pytest.raises(ValueError, match=rf"list\.csv.*{message}"):
        read_rows(write(tmp_path, text), ("image", "masked"))


def test_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.txt does not exist"):
        read_text(tmp_path / "none.txt")
    with pytest.raises(ValueError, match=r"none\.csv does not exist.*columns image"):
        read_rows(tmp_path / "none.csv", ("image",))

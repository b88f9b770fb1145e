"""Reads text files and tables as people save them: with the encodings, line ends and separators of other programs."""

import codecs
import csv
import io
from collections.abc import Iterable
from pathlib import Path

MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Byte order mark -> encoding; UTF-32's first, since it begins like UTF-16's."""

SEPARATORS = ",;\t"


def read_text(path: Path) -> str:
    """Return a text file's content with line ends of "\\n": UTF-8, or UTF-16 and UTF-32 by their byte order mark.

    Raises FileNotFoundError, and ValueError naming the file, the line and what the encoding seems to be for any other
    text: nothing is guessed, because a wrong guess changes names.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist, or is a folder. Give the path of a text file.")
    data = path.read_bytes()
    encoding = next((name for mark, name in MARKS.items() if data.startswith(mark)), "utf-8")
    if encoding == "utf-8" and b"\0" in data:
        raise ValueError(
            f"{path} is no UTF-8 text: it contains zero bytes, as UTF-16 without a byte order mark does. Save it as"
            " UTF-8."
        )
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(_not_text(path, data, encoding, error)) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _not_text(path: Path, data: bytes, encoding: str, error: UnicodeDecodeError) -> str:
    if encoding != "utf-8":
        return f"{path} begins with the mark of {encoding}, but is damaged ({error.reason}). Save it as UTF-8."
    line = data[: error.start].count(b"\n") + 1
    seen = f"byte 0x{data[error.start]:02x}"
    guess = f"{seen} is {data[error.start : error.start + 1].decode('cp1252', 'replace')!r} in Windows-1252 (cp1252)"
    return f"{path} line {line}: this is not UTF-8; {guess}. Save the file as UTF-8 (in Excel: CSV UTF-8)."


def read_rows(path: Path, columns: Iterable[str]) -> list[tuple[int, dict[str, str]]]:
    """Return (line number, cells by column) of each row of a CSV file with a header; other columns are kept too.

    Commas, semicolons or tabs separate the cells: the header decides. Raises ValueError naming file and line for a
    missing file, a missing or repeated column, no rows, a row of another length, and a quote that is not closed;
    errors of the encoding are those of ``read_text``.
    """
    path, columns = Path(path), tuple(columns)
    if not path.is_file():
        raise ValueError(f"{path} does not exist. Give the path of a CSV file with columns {', '.join(columns)}.")
    text = read_text(path)
    lines = _split(path, text, _separator(text, columns))
    header = [name.strip() for name in lines[0][1]] if lines else []
    if missing := [name for name in columns if name not in header]:
        found = ", ".join(header) or "none"
        raise ValueError(f"{path} line 1: no column {', '.join(missing)}. Add it; found: {found}.")
    if repeated := [name for name in columns if header.count(name) > 1]:
        raise ValueError(f"{path} line 1: the column {repeated[0]} is there twice. Remove one of the two.")
    if len(lines) < 2:
        raise ValueError(f"{path} has a header and no rows. Add one row per picture.")
    for line, row in lines[1:]:
        if len(row) != len(header):
            raise ValueError(f"{path} line {line}: {len(row)} cells, the header has {len(header)}. Correct the line.")
    return [(line, dict(zip(header, map(str.strip, row), strict=True))) for line, row in lines[1:]]


def _separator(text: str, columns: tuple[str, ...]) -> str:
    """Return the separator by which the first line contains most of the columns."""
    header = next((line for line in text.split("\n") if line.strip()), "")

    def known(separator: str) -> int:
        return sum(cell.strip(' "') in columns for cell in header.split(separator))

    return max(SEPARATORS, key=known)


def _split(path: Path, text: str, separator: str) -> list[tuple[int, list[str]]]:
    """Return (number of the last line, cells) of each row that is not blank."""
    reader, rows, begin = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True), [], 1
    try:
        for row in reader:
            begin = reader.line_num + 1
            if any(cell.strip() for cell in row):
                rows.append((reader.line_num, row))
    except csv.Error as error:
        unclosed = any(words in str(error) for words in ("unexpected end", "field limit"))
        problem = "a quote is opened and not closed" if unclosed else str(error)
        raise ValueError(f"{path} line {begin}: {problem}. Correct the line.") from None
    return rows

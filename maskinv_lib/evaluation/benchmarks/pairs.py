"""Text formats of verification sets: pairs.txt in both dialects, MFR2's mask labels, and a session protocol as CSV."""

import re
from dataclasses import dataclass
from pathlib import Path

from maskinv_lib.utils.checks import choose
from maskinv_lib.utils.texts import read_rows, read_text

NO_MASK = "no-mask"
"""The label of a picture without a mask in MFR2's list."""


@dataclass(frozen=True, kw_only=True)
class ListedPair:
    """One line of a pairs file. first, second: (person, picture number from 1). line: in the file, from 1."""

    first: tuple[str, int]
    second: tuple[str, int]
    line: int

    @property
    def genuine(self) -> bool:
        """Whether both pictures show one person."""
        return self.first[0] == self.second[0]


@dataclass(frozen=True, kw_only=True)
class SessionPicture:
    """One row of a session protocol. image: path below the root. role: "reference" or "probe". line: from 1."""

    image: str
    identity: str
    session: str
    masked: bool
    role: str
    line: int


def read_pairs(path: Path) -> list[ListedPair]:
    """Read a pairs file: ``person number number`` is a genuine pair, ``person number person number`` an impostor pair.

    LFW's dialect has a header (folds and pairs per fold, "10\\t300", or the pairs per kind alone) and tabs, MFR2's has
    no header and spaces; in a line with a tab, tabs separate the columns. Raises ValueError naming file and line for
    another number of columns, a picture number that is not one, a pair of a picture with itself, an impostor pair of
    one person, and fewer or more pairs than the header says.
    """
    lines = _lines(path)
    header = [int(cell) for cell in lines[0][1].split()] if _is_header(lines[0][1]) else None
    pairs = [_listed_pair(text, line, path) for line, text in lines[header is not None :]]
    expected = len(pairs) if header is None else 2 * header[-1] * (header[0] if len(header) == 2 else 1)
    if len(pairs) != expected:
        raise ValueError(f"{path} line 1: announces {expected} pairs, {len(pairs)} follow. Get the whole file.")
    if not pairs:
        raise ValueError(f"{path} lists no pair. Get the whole file.")
    return pairs


def _lines(path: Path) -> list[tuple[int, str]]:
    """Return (line number, text) of a file's lines that are not blank."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path} does not exist. Give the path of the text file that came with the set.")
    texts = [line.strip() for line in read_text(path).split("\n")]
    lines = [(line, text) for line, text in enumerate(texts, 1) if text]
    if not lines:
        raise ValueError(f"{path} is empty. Get the whole file.")
    return lines


def _is_header(text: str) -> bool:
    cells = text.split()
    return len(cells) <= 2 and all(cell.isdecimal() for cell in cells)


def _listed_pair(text: str, line: int, path: Path) -> ListedPair:
    cells = [cell.strip() for cell in text.split("\t")] if "\t" in text else text.split()
    if len(cells) not in (3, 4):
        raise ValueError(
            f"{path} line {line}: {len(cells)} columns. A genuine pair has 3 (person, number, number), an impostor pair"
            " 4 (person, number, person, number); names with spaces need tabs between the columns."
        )
    where = f"{path} line {line}"
    first, second = (cells[0], _number(cells[1], where)), (cells[-2], _number(cells[-1], where))
    if len(cells) == 3:
        second = (cells[0], second[1])
    elif first[0] == second[0]:
        raise ValueError(f"{where}: four columns say two people, both names are the same. Remove the third column.")
    if first == second:
        raise ValueError(f"{where}: pairs picture {first[1]} with itself. Remove or correct the line.")
    return ListedPair(first=first, second=second, line=line)


def _number(text: str, where: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 9999:
        raise ValueError(f"{where}: a picture number must be a whole number from 1 to 9999, not {text[:20]!r}.")
    return int(text)


def read_mask_labels(path: Path) -> dict[tuple[str, int], str]:
    """Read MFR2's labels, lines ``person, number, kind``: (person, number) -> kind of mask, ``NO_MASK`` without.

    Raises ValueError naming file and line for another number of columns or a picture that is listed twice.
    """
    labels: dict[tuple[str, int], str] = {}
    for line, text in _lines(path):
        cells = [cell.strip() for cell in re.split("[,;\t]", text)]
        if len(cells) != 3 or not cells[2]:
            raise ValueError(f"{path} line {line}: expected three columns, person, number, kind of mask or {NO_MASK}.")
        picture = cells[0], _number(cells[1], f"{path} line {line}")
        if picture in labels:
            raise ValueError(f"{path} line {line}: this picture has a label already. Remove one of the two lines.")
        labels[picture] = cells[2]
    return labels


def flag(row: dict[str, str], column: str, where: str) -> bool:
    """Return a cell that must be 0 or 1 as a bool; anything else raises ValueError naming ``where``."""
    if row[column] not in ("0", "1"):
        raise ValueError(f"{where}: {column} is {row[column]!r}, must be 0 or 1. Correct the line.")
    return row[column] == "1"


def read_sessions(path: Path) -> list[SessionPicture]:
    """Read a session protocol, a CSV with the columns image, identity, session, masked (0 or 1), role.

    Raises ValueError naming file and line for an unknown role, an empty cell, and a picture that is listed twice.
    """
    pictures: dict[str, SessionPicture] = {}
    for line, row in read_rows(path, ("image", "identity", "session", "masked", "role")):
        where = f"{path} line {line}"
        empty = [name for name in ("image", "identity", "session") if not row[name]]
        if empty:
            raise ValueError(f"{where}: {empty[0]} is empty. Fill it in, or remove the line.")
        try:
            role = choose("role", row["role"], ("reference", "probe"))
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        texts = {name: row[name] for name in ("image", "identity", "session")}
        picture = SessionPicture(**texts, masked=flag(row, "masked", where), role=role, line=line)
        if row["image"] in pictures:
            earlier = pictures[row["image"]].line
            raise ValueError(f"{where}: this picture is on line {earlier} too. List every picture once.")
        pictures[row["image"]] = picture
    return list(pictures.values())

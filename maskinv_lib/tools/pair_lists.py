"""Lists of pairs of pictures to score: a CSV with the columns first and second, or a pairs.txt of LFW or MFR2."""

from pathlib import Path

from maskinv_lib.evaluation.benchmarks.pairs import read_pairs
from maskinv_lib.evaluation.benchmarks.real_sets import NumberedPictures
from maskinv_lib.faces.listing import list_folder
from maskinv_lib.faces.names import PictureNames, shown
from maskinv_lib.utils.texts import read_rows

SIDES = ("first", "second")


def read_pair_list(path: Path, folder: Path | None = None) -> tuple[list[tuple[str, str]], list[str]]:
    """Return the pairs of a list, and its pictures, each once: names below ``folder``, separated by "/".

    path: a CSV with the columns ``first`` and ``second``, or a pairs.txt if it ends in .txt. folder: that of the
    pictures; None takes the folder of the list. Raises ValueError naming file and line for a picture that is not there.
    """
    path = Path(path)
    root = path.parent if folder is None else Path(folder)
    if not root.is_dir():
        raise ValueError(f"{root} is no folder. Give the folder that contains the pictures of the pairs.")
    names = list_folder(root).pictures
    pairs = _numbered(path, names) if path.suffix.lower() == ".txt" else _named(path, root, names)
    return pairs, list(dict.fromkeys(name for pair in pairs for name in pair))


def _named(path: Path, root: Path, names: list[str]) -> list[tuple[str, str]]:
    pictures = PictureNames(names, root, [path.parent])
    pairs = []
    for line, row in read_rows(path, SIDES):
        found = [pictures.find(row[side], f"{path} line {line}") for side in SIDES]
        if None in found:
            missing = shown(row[SIDES[found.index(None)]])
            raise ValueError(f"{path} line {line}: {missing!r} is no picture below {root}. Correct the line.")
        pairs.append((found[0], found[1]))
    return pairs


def _numbered(path: Path, names: list[str]) -> list[tuple[str, str]]:
    pictures = [name for name in names if name.count("/") == 1]
    numbered = NumberedPictures(tuple(pictures))
    pairs = []
    for pair in read_pairs(path):
        found = [numbered.find(side) for side in (pair.first, pair.second)]
        if None in found:
            person, number = (pair.first, pair.second)[found.index(None)]
            raise ValueError(f"{path} line {pair.line}: picture {number} of {person} is not there. Correct the line.")
        pairs.append((pictures[found[0]], pictures[found[1]]))
    return pairs

"""Names of pictures: which picture a list means, whatever system wrote the list, and what a name may be."""

import os
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TypeVar

Value = TypeVar("Value")

LISTED = 5
"""Number of names that an error or a note lists."""


def folded(text: str) -> str:
    """Return a name without the differences that systems make: upper and lower case, and composed accents or not."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold()).strip()


def shown(name: str) -> str:
    """Return a name as text that every stream can write: bytes that are no UTF-8 are escaped."""
    return name.encode("utf-8", "backslashreplace").decode()


def is_text(name: str) -> bool:
    """Return whether a file's name is valid UTF-8, so that it can be written into a list."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def some(names: Sequence[str]) -> str:
    """Return the first of the names, and how many others there are."""
    more = f", and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(shown(name) for name in names[:LISTED]) + more


def stem(name: str) -> str:
    """Return a picture's name without its ending: letters and digits after the last dot, at least one a letter."""
    ending = PurePosixPath(name).suffix[1:]
    return name[: -len(ending) - 1] if ending.isalnum() and not ending.isdigit() else name


class PictureNames:
    """The pictures below a folder, found by the names that a list gives them.

    names: relative to ``root``, separated by "/". folders: further folders to which names of the list may be relative,
    such as the list's own. A name is also found if it is absolute, begins with "./", has backslashes, or differs in
    upper and lower case or in the encoding of accents. bare: so is the end of a picture's path, such as its file's
    name alone.
    """

    def __init__(self, names: Iterable[str], root: Path, folders: Iterable[Path] = (), bare: bool = False) -> None:
        self.root = str(root)
        self._folders = list(dict.fromkeys(os.path.abspath(folder) for folder in (root, *folders)))
        real = os.path.realpath(root)
        self._exact: dict[str, str] = {}
        self._folded: dict[str, set[str]] = {}
        self._bare: dict[str, set[str]] = {}
        for name in names:
            if bare:
                parts = name.replace(os.sep, "/").split("/")
                for start in range(len(parts)):
                    self._bare.setdefault(folded("/".join(parts[start:])), set()).add(name)
            for folder in {self._folders[0], real}:
                path = os.path.normpath(os.path.join(folder, name))
                self._exact[path] = name
                self._folded.setdefault(folded(path), set()).add(name)

    def find(self, text: str, where: str) -> str | None:
        """Return the name of the picture that ``text`` means; None if there is none.

        Raises ValueError naming ``where`` if it may mean two pictures.
        """
        for spelling in dict.fromkeys((text, text.replace("\\", "/"))):
            paths = [os.path.normpath(os.path.join(folder, spelling)) for folder in self._folders]
            exact = {self._exact[path] for path in paths if path in self._exact}
            found = exact or {name for path in paths for name in self._folded.get(folded(path), ())}
            found = found or self._bare.get(folded(spelling), set())
            if len(found) > 1:
                raise ValueError(
                    f"{where}: {shown(text)} may mean {some(sorted(found))}. Write the name as it is below {self.root}."
                )
            if found:
                return next(iter(found))
        return None

    def assign(self, rows: Mapping[str, Value], source: str) -> tuple[dict[str, Value], list[str]]:
        """Return the values of a list's rows by the names of the pictures, and the rows that no picture has.

        rows: name in the list -> value. source: the list, for errors. Raises ValueError for a name that may mean two
        pictures, and for two rows of one picture.
        """
        found: dict[str, Value] = {}
        texts: dict[str, str] = {}
        without = []
        for text, value in rows.items():
            name = self.find(text, source)
            if name is None:
                without.append(text)
            elif name in found:
                raise ValueError(f"{source}: {shown(texts[name])} and {shown(text)} are one picture. Remove one row.")
            else:
                found[name], texts[name] = value, text
        return found, without

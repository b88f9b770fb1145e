"""Lists the pictures below a folder by one rule for all commands; everything that is left out is named."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from PIL import Image

from maskinv_lib.faces.names import is_text, shown, some, stem
from maskinv_lib.faces.pictures import formats

LEFT_BEHIND = {"thumbs.db", "desktop.ini", "__macosx", "$recycle.bin", "system volume information", "lost+found"}
"""Names, in lower case, of files and folders that systems leave behind; hidden ones (.DS_Store) begin with a dot."""

HEIC = (".heic", ".heif", ".hif")

BY_CONTENT = {"AVIF", "BMP", "GIF", "HEIF", "JPEG", "JPEG2000", "MPO", "PNG", "TIFF", "WEBP"}
"""Formats that are recognised in files without an ending; others begin like some texts."""


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What lies below a folder; names are relative to it, separated by "/", and sorted.

    pictures: to be read. folders: all folders. other: "name (reason)" of what is no picture. problems: "name: reason"
    of what cannot be listed. ignored: hidden files and what systems leave behind.
    """

    pictures: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)

    @property
    def notes(self) -> list[str]:
        """Sentences on what was passed over."""
        kinds = {"ignored (hidden, or left behind by a system)": self.ignored, "left out (no picture)": self.other}
        return [f"{words}: {len(names)}, {some(names)}" for words, names in kinds.items() if names]


@lru_cache
def endings() -> frozenset[str]:
    """Return the endings of picture files, in lower case: all that Pillow knows and can read, and those of HEIC."""
    known = set(formats())
    return frozenset(end for end, name in Image.registered_extensions().items() if name in known) | set(HEIC)


def list_folder(root: Path) -> Listing:
    """List all files below ``root``. Links are followed; a link to a folder that contains it is a problem.

    A file with the ending of a picture is one; a file without an ending is one if its content is. Problems are folders
    that cannot be opened, links to nothing, and names that are not UTF-8.
    """
    listing = Listing()
    _walk(Path(root), "", (), listing)
    for names in (listing.pictures, listing.folders, listing.other, listing.problems, listing.ignored):
        names.sort()
    return listing


def is_ignored(name: str) -> bool:
    """Return whether a file or folder of this name is hidden, or left behind by a system."""
    return name.startswith(".") or name.lower() in LEFT_BEHIND


def _walk(folder: Path, prefix: str, above: tuple[tuple[int, int], ...], listing: Listing) -> None:
    try:
        status = folder.stat()
        entries = sorted(entry.name for entry in os.scandir(folder))
    except OSError as error:
        listing.problems.append(f"{shown(prefix) or folder}: cannot be opened ({error.strerror})")
        return
    here = (status.st_dev, status.st_ino)
    if here in above:
        listing.problems.append(f"{shown(prefix)}: links to a folder that contains it")
        return
    if prefix:
        listing.folders.append(prefix)
    for name, path in _visible(folder, prefix, entries, listing):
        try:
            mode = path.stat().st_mode
        except OSError as error:  # a link to nothing, a drive that is gone, no permission
            listing.problems.append(f"{name}: cannot be opened ({error.strerror})")
            continue
        if stat.S_ISDIR(mode):
            _walk(path, name, (*above, here), listing)
        else:
            _add_file(path, name, mode, listing)


def _visible(folder: Path, prefix: str, entries: list[str], listing: Listing) -> Iterator[tuple[str, Path]]:
    """Yield name below the root and path of each entry that is not ignored and whose name is text."""
    for entry in entries:
        name = f"{prefix}/{entry}".lstrip("/")
        if is_ignored(entry):
            listing.ignored.append(name)
        elif not is_text(name):
            listing.problems.append(f"{shown(name)}: its name is not valid UTF-8; rename it")
        else:
            yield name, folder / entry


def _add_file(path: Path, name: str, mode: int, listing: Listing) -> None:
    without_ending = stem(name) == name
    if not stat.S_ISREG(mode):
        listing.other.append(f"{name} (not a file)")
    elif _looks_like_picture(path) if without_ending else name[len(stem(name)) :].lower() in endings():
        listing.pictures.append(name)
    else:
        listing.other.append(f"{name} (not a picture by its {'content' if without_ending else 'ending'})")


def _looks_like_picture(path: Path) -> bool:
    try:
        with Image.open(path, formats=sorted(BY_CONTENT & set(formats()))):
            return True
    except Exception:  # of any other content, a decoder can raise any error
        return False

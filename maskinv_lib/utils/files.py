"""Atomic file writes, JSON, archives and hashes of content, and locks that end with the process that holds them."""

import contextlib
import errno
import fcntl
import hashlib
import io
import json
import os
import shutil
import uuid
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of ``path``; on success sync it, rename it to ``path``, sync the folder.

    If the block raises, ``path`` is unchanged: an old file stays, and no new one appears.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}-{uuid.uuid4().hex[:8]}{path.suffix}")
    try:
        yield temporary
        os.umask(mask := os.umask(0))
        temporary.chmod(0o666 & ~mask)  # some writers allow only their user to read
        _sync(temporary)
        os.replace(temporary, path)
        _sync(path.parent)
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)  # a full disk's own error names no file
        raise
    except Exception as error:  # safetensors has an error class of its own
        if "No space left" not in str(error):
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from None
    finally:
        temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_new_file(path: Path, what: str, suffix: str = "") -> None:
    """Raise ValueError for a path that exists or has another suffix; ``what`` names the content for the error."""
    if path.exists() or (suffix and path.suffix != suffix):
        reason = "exists already" if path.exists() else f"does not end in {suffix}"
        raise ValueError(f"{path} {reason}. Choose another name for {what}.")


def check_new_folder(path: Path) -> None:
    """Raise FileExistsError for a path that is a file or a folder with content."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise FileExistsError(f"{path} exists and is not an empty folder. Choose another, or empty it.")


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside ``path``; on success rename it to ``path``, which may be an empty folder.

    If the block raises, nothing appears. Raises FileExistsError for a path that is a file or a folder with content.
    """
    path = Path(path)
    check_new_folder(path)
    created = [parent for parent in path.parents if not parent.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}-{uuid.uuid4().hex[:8]}")
    temporary.mkdir()
    try:
        yield temporary
        os.replace(temporary, path)
        _sync(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        for parent in () if path.exists() else created:
            with contextlib.suppress(OSError):
                parent.rmdir()


@contextlib.contextmanager
def in_place_of(path: Path, new: Path) -> Iterator[None]:
    """Put the folder ``new`` in the place of ``path`` while the block runs, and for good if it ends.

    If the block raises, ``path`` is as it was before. Both must be on one disk.
    """
    before = new.with_name(f"{new.name}-before")
    if path.exists():
        path.rename(before)
    try:
        new.rename(path)
        yield
        _sync(path.parent)
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        if before.exists():
            before.rename(path)
        raise
    shutil.rmtree(before, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` (UTF-8) to ``path`` atomically."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: object) -> None:
    """Write ``value`` atomically as indented JSON with sorted keys; NaN and infinity raise ValueError."""
    write_text(path, json_text(value))


def json_text(value: object) -> str:
    """Return ``value`` as indented JSON with sorted keys; NaN and infinity raise ValueError."""
    return json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n"


def read_json(path: Path | zipfile.Path) -> dict:
    """Read a JSON object from a file; the error for a missing or damaged file names it."""
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, *DAMAGED_ARCHIVE) as error:
        raise ValueError(f"{path} is not valid JSON ({error}). Delete it and run again what wrote it.") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path} holds no JSON object, but {value!r:.60}. Delete it and run again what wrote it.")
    return value


def read_json_lines(path: Path | zipfile.Path) -> list[dict]:
    """Read the records of a file with one JSON object per line, [] for no file (``parsed_lines``)."""
    return parsed_lines(path.read_bytes()) if path.exists() else []


def parsed_lines(data: bytes) -> list[dict]:
    """Return the JSON objects of the lines of ``data``.

    A line that is no object is left out: the process that appended it may have been killed, or the disk was full.
    """
    records = []
    for line in data.splitlines():
        with contextlib.suppress(ValueError):
            records.append(json.loads(line))
    return [record for record in records if isinstance(record, dict)]


DAMAGED_ARCHIVE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError)
"""What Python raises when it reads from an archive that was cut or changed."""


def write_archive(path: Path, contents: Mapping[str, bytes]) -> None:
    """Write a zip file atomically, from name -> content; equal contents give equal bytes, whatever their order."""
    with whole_file(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(contents):
            archive.writestr(zipfile.ZipInfo(name), contents[name], zipfile.ZIP_DEFLATED)  # without a date


def read_archive(path: Path) -> dict[str, bytes]:
    """Return name -> content of a zip file, {} for no file; a damaged one raises ValueError with its name."""
    if not path.exists():
        return {}
    archive = _opened(path)
    try:
        return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}
    except DAMAGED_ARCHIVE as error:
        raise ValueError(f"{path} is damaged ({error}). Take it from the repository again.") from None


def inside(archive: Path, name: str) -> Path | zipfile.Path:
    """Return the path of a file or folder inside a zip file; where there is no zip file, a path that does not exist.

    A damaged zip file raises ValueError with its name.
    """
    return zipfile.Path(_opened(archive), name) if archive.exists() else archive / name


def _opened(path: Path) -> zipfile.ZipFile:
    status = path.stat()
    return _in_memory(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=64)
def _in_memory(path: Path, _time: int, _size: int) -> zipfile.ZipFile:
    """Return a zip file, read as a whole; it names itself by its path."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(path.read_bytes()))
    except DAMAGED_ARCHIVE as error:
        raise ValueError(f"{path} is damaged ({error}). Take it from the repository again.") from None
    archive.filename = str(path)
    return archive


def content_hash(value: object) -> str:
    """Return 16 hexadecimal digits of the SHA-256 of a JSON-serialisable value (the order of keys does not matter)."""
    text = json.dumps(value, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_hash(path: Path) -> str:
    """Return 16 hexadecimal digits of the SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


@contextlib.contextmanager
def only_process(path: Path, what: str, wait: bool = False) -> Iterator[None]:
    """Hold the lock file ``path`` while the block runs; the system frees it when the process ends, even by a crash.

    ``what`` names the locked thing in the error. Where another process holds the lock: with ``wait``, wait for it;
    otherwise raise RuntimeError naming that process.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            remedy = f"Wait for it to end, or stop it: kill {holder}"
            raise RuntimeError(f"{what} is in use by process {holder} (lock {path}). {remedy}") from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield

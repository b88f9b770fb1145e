"""Atomic file writes, JSON and hashes of content, and locks that end with the process that holds them."""

import contextlib
import fcntl
import hashlib
import json
import os
import uuid
from collections.abc import Iterator
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
        _sync(temporary)
        os.replace(temporary, path)
        _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` (UTF-8) to ``path`` atomically."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: object) -> None:
    """Write ``value`` atomically as indented JSON with sorted keys; NaN and infinity raise ValueError."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: Path) -> dict:
    """Read a JSON file; the error for a missing or damaged file names it."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON ({error}). Delete it and run again what wrote it.") from None


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

"""What a file is by its first bytes: suffixes of downloaded files say little, and some are not what they are called."""

from pathlib import Path

ZIP, PICKLE, SAFETENSORS, ONNX = "zip", "pickle", "safetensors", "onnx"
"""Kinds of files that may hold a network."""

_POINTER = b"version https://git-lfs"
_PAGE = (b"<!doctype", b"<html", b"<?xml", b"<head", b"<script")
_ONNX_FIELDS = tuple(bytes([tag]) for tag in b"\x12\x1a\x22\x28\x32\x3a\x42\x72\xa2")  # what may follow its version
_OTHERS = {
    b"\x1f\x8b": "a gzip archive. Unpack it and hand over the file inside",
    b"BZh": "a bzip2 archive. Unpack it and hand over the file inside",
    b"\xfd7zXZ": "an xz archive. Unpack it and hand over the file inside",
    b"7z\xbc\xaf": "a 7z archive. Unpack it and hand over the file inside",
    b"Rar!": "a RAR archive. Unpack it and hand over the file inside",
    b"\x89HDF": "an HDF5 file, as Keras writes them. Convert it to ONNX",
    b"\x12\x01\0\0\0\0\0\0": "a parameter file of MXNet. Convert it to safetensors or ONNX",
    b"GGUF": "a GGUF file, which holds language models",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"%PDF": "a PDF document",
}


def first_bytes(path: Path, count: int = 1024) -> bytes:
    """Return the first bytes of a file; raises FileNotFoundError, or ValueError for a folder, naming the path."""
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder, not a file. Name the file in it.")
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    with open(path, "rb") as file:
        return file.read(count)


def not_the_file(start: bytes) -> str:
    """Say what stands in place of a file by its first bytes, and the remedy; "" for what may be the file itself.

    Found are an empty file, a Git LFS pointer, a web page, any other text, archives, and files of other programs.
    """
    if not start.strip(b"\0"):
        return "is empty. Download it again" if not start else "holds zeros alone. Download it again"
    if start.startswith(_POINTER):
        return "is a Git LFS pointer, not the file itself. Fetch that with: git lfs pull"
    if start.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(_PAGE):
        return "is a web page, not the file itself. Download it again, with a browser where a login is needed"
    for signature, what in _OTHERS.items():
        if start.startswith(signature):
            return f"is {what}"
    if start[257:262] == b"ustar":
        return "is a tar archive. Unpack it and hand over the file inside"
    if _is_text(start):
        return f"is a text file ({start[:40].decode(errors='replace').splitlines()[0]!r} ...). Get the file itself"
    return ""


def _is_text(start: bytes) -> bool:
    """Say whether all is printable text; a pickle of protocol 0 is too, and starts with a bracket."""
    if start.startswith(b"("):
        return False
    try:
        text = start.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(start) - 3:  # otherwise the last character is cut
            return False
        text = start[: error.start].decode("utf-8")
    return all(character.isprintable() or character in "\t\r\n\f" for character in text)


def network_kind(path: Path) -> str:
    """Return ZIP, PICKLE, SAFETENSORS or ONNX by content.

    Raises FileNotFoundError, and ValueError naming the file, what it is, and the remedy for anything else.
    """
    path, start = Path(path), first_bytes(path)
    reason = not_the_file(start)
    if reason:
        raise ValueError(f"{path} holds no network: it {reason}.")
    if start.startswith(b"PK\x03\x04"):
        return ZIP
    if start.startswith(b"\x80") and start[1:2] in (b"\2", b"\3", b"\4", b"\5"):
        return PICKLE
    if start[8:9] == b"{":
        return SAFETENSORS
    if start.startswith(b"\x08") and b"\0" < start[1:2] < b"\x20" and start[2:3] in _ONNX_FIELDS:
        return ONNX
    raise ValueError(
        f"{path} is damaged or of an unknown kind: no file of torch.save, no safetensors, no ONNX. Download it again."
    )

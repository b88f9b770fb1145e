"""Reads aligned faces from InsightFace RecordIO: ``train.rec`` with its ``train.idx``.

Record 0 is, in most files, a header record: (first key of the identity records, end key). Identity records contain
(first key of the identity's pictures, end key). In files without these records, key 0 is a picture.
"""

import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from maskinv_lib.faces import SIZE, Faces
from maskinv_lib.faces.pictures import decode
from maskinv_lib.faces.record_headers import EXACT, LAYOUTS, read_payload, scan
from maskinv_lib.utils import files
from maskinv_lib.utils.checks import whole_number
from maskinv_lib.utils.randomness import key, permutation


class RecordFile:
    """The pictures of a record file, in the order of their keys: a map-style dataset of (image, identity).

    keys, labels: int64 [N], the records' keys and first labels in the file.
    identity: int64 [N], from 0 without a gap, in the order in which the labels first appear. identities: their number.
    Each process maps the file into memory itself, so a RecordFile can be pickled.
    """

    def __init__(self, path: Path) -> None:
        """Scan the headers of ``path`` (a .rec file with an .idx in the same folder); errors as ``open_records``."""
        self.path, self._mapped = Path(path), None
        keys, offsets = _read_index(self.path.with_suffix(".idx"))
        headers = scan(self._buffer, keys, offsets, self.path)
        bare = ~headers["picture"]
        self.header_record = bool(bare[0] and keys[0] == 0 and headers["count"][0] == 2)
        if self.header_record:  # a record below the first identity record's key has lost its picture
            headers["picture"] |= bare & (keys > 0) & (keys < headers["label"][0])
        pictures = headers["picture"]
        self.identity_records = int((~pictures).sum()) - self.header_record
        self._unlisted = len(self._buffer) - int(headers["span"].sum())
        self._offsets, self._starts = offsets[pictures], headers["start"][pictures]
        self.keys = torch.from_numpy(keys[pictures])
        self.labels = torch.from_numpy(self._checked_labels(headers[pictures]))
        self.identity = dense(self.labels)
        self.identities = int(self.identity.max()) + 1

    def _checked_labels(self, headers: np.ndarray) -> np.ndarray:
        labels = headers["label"]
        if len(labels) == 0:
            raise ValueError(f"{self.path}: no record holds a picture. Is it a record file of faces?")
        limit = np.array([EXACT[kind] for _, kind in LAYOUTS])[headers["layout"]]
        wrong = ~((labels >= 0) & (labels <= limit) & (np.floor(labels) == labels))
        for row in np.flatnonzero(wrong)[:1]:
            raise ValueError(
                f"{self.path}, record {self.keys[row]}: its label {labels[row]} is no whole number from"
                f" 0 to {limit[row]}. Write the records again with such numbers, or leave this key out of the .idx."
            )
        return labels.astype(np.int64)

    @property
    def _buffer(self) -> np.ndarray:
        if self._mapped is None:
            if self.path.stat().st_size == 0:
                raise ValueError(f"{self.path} is empty. Copy it again from its source.")
            self._mapped = np.memmap(self.path, np.uint8, "r").view(np.ndarray)
        return self._mapped

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_mapped": None}

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        return self.image(number), int(self.identity[number])

    def image(self, number: int) -> Tensor:
        """Return picture ``number`` (in key order, from 0): uint8 [3, 112, 112], RGB.

        Raises ValueError naming file and key for a picture that does not decode or has another size, and IndexError.
        """
        where = f"{self.path}, record {int(self.keys[number])}"
        payload = read_payload(self._buffer, int(self._offsets[number]), where)[0]
        picture = decode(payload[int(self._starts[number]) :], where)
        if picture.shape != (SIZE, SIZE, 3):
            height, width = picture.shape[:2]
            raise ValueError(
                f"{where} is {width} x {height} pixels, not {SIZE} x {SIZE}. Align it first, or leave it out."
            )
        return torch.from_numpy(picture).permute(2, 0, 1).contiguous()

    def describe(self) -> str:
        """Describe the content in one line, such as "4 pictures, 3 identities, no header record"."""
        text = f"{len(self):,} pictures, {self.identities:,} identities, "
        text += "a header record" if self.header_record else "no header record"
        text += f", {self.identity_records:,} identity records" if self.identity_records else ""
        unlisted = f", {self._unlisted:,} bytes of {self.path.name} in no record that the .idx lists"
        return text + (unlisted if self._unlisted > 0 else "")


def open_records(path: Path) -> RecordFile:
    """Open ``path``: a .rec file, or a folder with train.rec (or one .rec file of another name).

    Raises FileNotFoundError for a missing .rec or .idx, and ValueError naming file, record and remedy for a
    malformed .idx, an offset past the end, a wrong magic, a truncated record and a label that is no whole number.
    """
    path = Path(path)
    if path.is_dir():
        paths = list(path.glob("*.rec"))
        path = paths[0] if len(paths) == 1 else path / "train.rec"
    for file in (path, path.with_suffix(".idx")):
        if not file.is_file():
            raise FileNotFoundError(f"{file} is missing. A record set is a .rec and an .idx file of one name.")
    return RecordFile(path)


def _read_index(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return keys and byte offsets of an .idx file, int64 [R] each, sorted by key."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # loadtxt only warns of an empty file and of 1.0 for a whole number
            table = np.loadtxt(path, np.int64, comments=None, ndmin=2)
    except (ValueError, Warning):
        table = None
    if table is None or table.shape[1] != 2 or table.min() < 0:
        raise ValueError(_index_problem(path))
    keys, offsets = table[np.argsort(table[:, 0], kind="stable")].T.copy()
    for row in np.flatnonzero(np.diff(keys) == 0)[:1]:
        raise ValueError(f"{path} lists key {keys[row]} twice. Write the .idx again, each key once.")
    return keys, offsets


def _index_problem(path: Path) -> str:
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        words = line.split()
        if words and not (len(words) == 2 and all(word.isdigit() and len(word) < 19 for word in words)):
            return f"{path}, line {number}: {line[:60]!r} is not key, tab, byte offset. Copy or write the .idx again."
    return f"{path} lists no record. Copy or write the .idx again."


def dense(labels: Tensor) -> Tensor:
    """Number labels (int64 [N]) from 0 without a gap, in the order in which they first appear: int64 [N]."""
    _, first, inverse = np.unique(labels.numpy(), return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return torch.from_numpy(rank[inverse.reshape(-1)])


def faces(
    records: RecordFile,
    *,
    source: str,
    skip_bad: bool = False,
    without: Iterable[int] = (),
    cache: Path | None = None,
) -> Faces:
    """Decode all pictures of ``records`` into one Faces (never publishable), identities numbered without a gap.

    without: labels of the file to leave out. skip_bad: leave out pictures that do not decode or are not 112 x 112, with
    a warning that gives their count and keys; otherwise the first one raises ValueError. cache: a folder for the
    decoded set, under a hash of its files and these settings. Raises ValueError for a label that no picture has.
    """
    without = {whole_number("a label of without", label) for label in without}
    if missing := without - set(records.labels.tolist()):
        raise ValueError(f"{records.path} has no picture of label {min(missing)}: take it out of without.")
    chosen = torch.from_numpy(np.flatnonzero(~np.isin(records.labels.numpy(), sorted(without))))
    images, decoded = _decoded(records, chosen, skip_bad, cache)
    if len(decoded) < len(chosen):
        bad = records.keys[chosen[~torch.isin(chosen, decoded)]].tolist()
        keys = ", ".join(map(str, bad[:10])) + (", ..." if len(bad) > 10 else "")
        text = f"{records.path}: {len(bad)} of {len(chosen)} pictures left out (keys {keys}): no faces of 112 x 112."
        warnings.warn(text, stacklevel=2)
    return Faces(images=images, identity=dense(records.labels[decoded]), source=source, publishable=False)


def held_back(identity: Tensor, people: int, seed: int) -> Tensor:
    """Return the faces, bool [N], of the validation people: ``people`` of all identities, drawn by ``seed``.

    identity: int64 [N], from 0 without a gap.
    """
    order = permutation(key("validation people", seed), int(identity.max()) + 1)
    return torch.isin(identity, order[:people])


def _decoded(records: RecordFile, chosen: Tensor, skip_bad: bool, cache: Path | None) -> tuple[Tensor, Tensor]:
    """Return the images and numbers of the chosen pictures that decode, from the cache if it has them."""
    if cache is None:
        return _decode_all(records, chosen, skip_bad)
    hashes = [files.file_hash(records.path.with_suffix(suffix)) for suffix in (".rec", ".idx")]
    name = files.content_hash([*hashes, records.path.stat().st_size, skip_bad, chosen.tolist()])
    path = Path(cache) / f"records-{name}.safetensors"
    if path.exists():
        tensors = load_file(path)
        return tensors["images"], tensors["kept"]
    images, decoded = _decode_all(records, chosen, skip_bad)
    with files.whole_file(path) as temporary:
        save_file({"images": images, "kept": decoded}, temporary)
    return images, decoded


def _decode_all(records: RecordFile, chosen: Tensor, skip_bad: bool) -> tuple[Tensor, Tensor]:
    images = torch.empty(len(chosen), 3, SIZE, SIZE, dtype=torch.uint8)
    decoded = []
    for number in chosen.tolist():
        try:
            images[len(decoded)] = records.image(number)
            decoded.append(number)
        except ValueError:
            if not skip_bad:
                raise
    return images[: len(decoded)], torch.tensor(decoded, dtype=torch.int64)

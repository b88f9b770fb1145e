"""Aligned faces of InsightFace RecordIO: ``train.rec`` with its ``train.idx``, read by number.

Record 0 is, in most files, a header: (first key of the identity records, end key). Identity records carry (first key
of the identity's pictures, end key). Files without either exist, and there key 0 is a picture.
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
from maskinv_lib.faces.record_headers import EXACT, LAYOUTS, labels_of, read_payload, scan
from maskinv_lib.utils import files
from maskinv_lib.utils.checks import whole_number
from maskinv_lib.utils.randomness import key, permutation


class RecordFile:
    """The pictures of a record file, in the order of their keys: a map-style dataset of (image, identity).

    keys, labels: int64 [N], the records' keys and the first of their labels, as the file has them.
    identity: int64 [N], from 0 without a gap, in the order in which the labels first appear.
    identities: their number. The file is mapped into memory, anew in each process: a RecordFile can be pickled.
    """

    def __init__(self, path: Path) -> None:
        """Scan the headers of ``path`` (a .rec file with its .idx beside it); see ``open_records`` for the errors."""
        self.path, self._mapped = Path(path), None
        keys, offsets = _read_index(self.path.with_suffix(".idx"))
        found = scan(self._buffer, keys, offsets, self.path)
        bare = ~found["picture"]
        self.header_record = bool(bare[0] and keys[0] == 0 and found["count"][0] == 2)
        if self.header_record:  # below the first identity's key, a record without a picture is a picture lost
            found["picture"] |= bare & (keys > 0) & (keys < found["label"][0])
        self.identity_records = int((~found["picture"]).sum()) - self.header_record
        self._unlisted = len(self._buffer) - int(found["span"].sum())
        pictures = found["picture"]
        self._offsets, self._starts, self._layouts = (
            offsets[pictures],
            found["start"][pictures],
            found["layout"][pictures],
        )
        self.keys = torch.from_numpy(keys[pictures])
        self.labels = torch.from_numpy(self._checked_labels(found["label"][pictures]))
        self.identity = dense(self.labels)
        self.identities = int(self.identity.max()) + 1
        order = np.argsort(self.identity.numpy(), kind="stable")
        self._order, self._ends = torch.from_numpy(order), self.identity.bincount().cumsum(0)

    def _checked_labels(self, labels: np.ndarray) -> np.ndarray:
        if len(labels) == 0:
            raise ValueError(f"{self.path}: no record holds a picture. Is it a record file of faces?")
        limit = np.array([EXACT[kind] for _, kind in LAYOUTS])[self._layouts]
        wrong = ~((labels >= 0) & (labels <= limit) & (np.floor(labels) == labels))
        for row in np.flatnonzero(wrong)[:1]:
            raise ValueError(
                f"{self.path}, record {self.keys[row]}: its label {labels[row]} is no whole number"
                f" from 0 to {limit[row]}."
                " Write the records again with one such number per identity, or leave this key out of the .idx."
            )
        return labels.astype(np.int64)

    @property
    def _buffer(self) -> np.ndarray:
        if self._mapped is None:
            if self.path.stat().st_size == 0:
                raise ValueError(f"{self.path} is empty. Copy it again from where it came.")
            self._mapped = np.memmap(self.path, np.uint8, "r").view(np.ndarray)
        return self._mapped

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_mapped": None}

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        return self.image(number), int(self.identity[number])

    def _payload(self, number: int) -> tuple[bytes, str]:
        where = f"{self.path}, record {int(self.keys[number])}"
        return read_payload(self._buffer, int(self._offsets[number]), where)[0], where

    def image(self, number: int) -> Tensor:
        """Return picture ``number`` (in key order, from 0): uint8 [3, 112, 112], RGB.

        Raises ValueError naming file and key for a picture that does not decode or has another size, and IndexError.
        """
        payload, where = self._payload(number)
        picture = decode(payload[int(self._starts[number]) :], where)
        if picture.shape != (SIZE, SIZE, 3):
            height, width = picture.shape[:2]
            raise ValueError(
                f"{where} is {width} x {height} pixels, not {SIZE} x {SIZE}. Align it first, or leave it out."
            )
        return torch.from_numpy(picture).permute(2, 0, 1).contiguous()

    def all_labels(self, number: int) -> Tensor:
        """Return every label of picture ``number``: float64 [L]; the first is its identity's."""
        return torch.from_numpy(labels_of(self._payload(number)[0], int(self._layouts[number])))

    def of_identity(self, identity: int) -> Tensor:
        """Return the numbers of the pictures of ``identity`` (0 .. identities - 1): int64 [n], ascending."""
        if not 0 <= identity < self.identities:
            raise IndexError(f"{self.path} has identities 0 to {self.identities - 1}, not {identity}.")
        begin = int(self._ends[identity - 1]) if identity else 0
        return self._order[begin : int(self._ends[identity])]

    def describe(self) -> str:
        """Say in one line what was found, such as "4 pictures, 3 identities, no header record"."""
        said = f"{len(self):,} pictures, {self.identities:,} identities, "
        said += "a header record" if self.header_record else "no header record"
        said += f", {self.identity_records:,} identity records" if self.identity_records else ""
        lost = f", {self._unlisted:,} bytes of {self.path.name} in no record that the .idx lists"
        return said + (lost if self._unlisted > 0 else "")


def open_records(path: Path) -> RecordFile:
    """Open ``path``: a .rec file, or a folder that holds train.rec (or one .rec file of another name).

    Raises FileNotFoundError for a missing .rec or .idx, and ValueError naming file, record and remedy for a
    malformed .idx, an offset past the end, a wrong magic, a record cut short and a label that is no whole number.
    """
    path = Path(path)
    if path.is_dir():
        others = sorted(path.glob("*.rec"))
        path = others[0] if len(others) == 1 else path / "train.rec"
    for file in (path, path.with_suffix(".idx")):
        if not file.is_file():
            raise FileNotFoundError(f"{file} is missing. A record set is a .rec and an .idx file of one name.")
    return RecordFile(path)


def _read_index(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return keys and byte offsets of an .idx file, int64 [R] each, sorted by key."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # an empty file, or 1.0 for a whole number, only warns
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

    without: original labels to leave out. skip_bad: leave out pictures that do not decode or are not 112 x 112, and
    warn of their number and keys; otherwise the first one raises ValueError. cache: a folder in which the decoded
    set is kept under the hash of its files and of these settings. Raises ValueError for a label that no picture has.
    """
    without = {whole_number("a label of without", label) for label in without}
    if missing := without - set(records.labels.tolist()):
        raise ValueError(f"{records.path} has no picture of label {min(missing)}: take it out of without.")
    chosen = torch.from_numpy(np.flatnonzero(~np.isin(records.labels.numpy(), sorted(without))))
    images, kept = _decoded(records, chosen, skip_bad, cache)
    if len(kept) < len(chosen):
        bad = records.keys[chosen[~torch.isin(chosen, kept)]].tolist()
        shown = ", ".join(map(str, bad[:10])) + (", ..." if len(bad) > 10 else "")
        text = f"{records.path}: {len(bad)} of {len(chosen)} pictures left out (keys {shown}): no faces of 112 x 112."
        warnings.warn(text, stacklevel=2)
    return Faces(images=images, identity=dense(records.labels[kept]), source=source, publishable=False)


def held_back(identity: Tensor, people: int, seed: int) -> Tensor:
    """Return bool [N]: which faces show one of the ``people`` that are held back, drawn by ``seed`` from all.

    identity: int64 [N], from 0 without a gap.
    """
    order = permutation(key("validation people", seed), int(identity.max()) + 1)
    return torch.isin(identity, order[:people])


def _decoded(records: RecordFile, chosen: Tensor, skip_bad: bool, cache: Path | None) -> tuple[Tensor, Tensor]:
    """Return images and numbers of the chosen pictures that decode, from the cache if they are there."""
    if cache is None:
        return _decode_all(records, chosen, skip_bad)
    hashes = [files.file_hash(records.path.with_suffix(suffix)) for suffix in (".rec", ".idx")]
    name = files.content_hash([*hashes, records.path.stat().st_size, skip_bad, chosen.tolist()])
    path = Path(cache) / f"records-{name}.safetensors"
    if not path.exists():
        images, kept = _decode_all(records, chosen, skip_bad)
        with files.whole_file(path) as temporary:
            save_file({"images": images, "kept": kept}, temporary)
        return images, kept
    held = load_file(path)
    return held["images"], held["kept"]


def _decode_all(records: RecordFile, chosen: Tensor, skip_bad: bool) -> tuple[Tensor, Tensor]:
    images = torch.empty(len(chosen), 3, SIZE, SIZE, dtype=torch.uint8)
    kept = []
    for number in chosen.tolist():
        try:
            images[len(kept)] = records.image(number)
        except ValueError:
            if not skip_bad:
                raise
            continue
        kept.append(number)
    return images[: len(kept)], torch.tensor(kept, dtype=torch.int64)

"""Verification sets as InsightFace distributes them (``lfw.bin``): a pickle of pictures and of same-person flags.

A pickle can run code when it is read: ``bin_pickles`` reads it without that risk.
"""

import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from maskinv_lib.evaluation.benchmarks import Comparisons
from maskinv_lib.evaluation.benchmarks.bin_pickles import Reader, RefusedError, StoredArray
from maskinv_lib.faces import SIZE
from maskinv_lib.faces.pictures import decode, encode_jpeg
from maskinv_lib.study.data import FOLDS
from maskinv_lib.utils import contents, files


@dataclass(frozen=True, kw_only=True, eq=False)
class PairSet:
    """Pairs of pictures with their labels; pair p compares the pictures ``index[2p]`` and ``index[2p + 1]``.

    images: uint8 [M, 3, 112, 112], RGB, the distinct pictures. index: int64 [2P], into images.
    genuine: bool [P], whether a pair shows one person.
    components: int64 [M], the person of each picture as far as the file shows: connected components of genuine pairs,
    numbered from 0 as they first appear. source: the file's name.
    Raises ValueError for an impostor pair within one component.
    """

    images: Tensor
    index: Tensor
    genuine: Tensor
    components: Tensor
    source: str

    def __post_init__(self) -> None:
        first, second = self.components[self.pairs].T
        for pair in torch.nonzero((first == second) & ~self.genuine).flatten().tolist()[:1]:
            raise ValueError(
                f"{self.source}, pair {pair} (pictures {2 * pair} and {2 * pair + 1}) is labelled as two people, but"
                " identical pictures and genuine pairs link both to one person. Correct its label, or take it out."
            )

    def __len__(self) -> int:
        return len(self.genuine)

    @property
    def pairs(self) -> Tensor:
        """The two pictures of each pair: int64 [P, 2], into images."""
        return self.index.reshape(-1, 2)

    @property
    def fold(self) -> np.ndarray | None:
        """int8 [P], ten folds of consecutive pairs, as in LFW's protocol; None unless P is a multiple of ten."""
        if len(self) % FOLDS:
            return None
        return np.repeat(np.arange(FOLDS, dtype=np.int8), len(self) // FOLDS)

    def comparisons(self, scores: np.ndarray) -> Comparisons:
        """Return float32 scores [P] of the pairs with their labels, components as identities, and folds."""
        first, second = self.components[self.pairs].to(torch.int32).T.numpy()
        genuine = self.genuine.numpy()
        return Comparisons(scores=scores, genuine=genuine, first=first, second=second, fold=self.fold)


def read_bin(path: Path) -> PairSet:
    """Read a verification set: a pickle (protocol 0 to 5, of Python 2 or 3) of (pictures, same-person flags).

    Pictures: picture files as byte strings or uint8 arrays [n], [n, 1] or [1, n], or uint8 [112, 112, 3] RGB. Flags:
    bool, or 0 and 1, as a list, a tuple or a NumPy array.
    Raises FileNotFoundError, and ValueError naming the file, the picture or pair and the remedy for: another kind of
    file, a pickle that contains anything else (none of its code is run), one cut short, lists whose lengths do not fit,
    other flags, pairs that are all genuine or all impostor, and pictures that do not decode or are not 112 x 112.
    """
    path = Path(path)
    stored, flags = _lists(_load(path), path)
    flags = [_flag(flag, f"{path}, pair {pair}") for pair, flag in enumerate(flags)]
    _check_sides(flags, path)
    genuine = torch.tensor(flags)
    numbers: dict[tuple, int] = {}
    index, images = [], []
    for position, picture in enumerate(stored):
        number = numbers.setdefault(_content(picture), len(numbers))
        if number == len(images):
            images.append(_pixels(picture, f"{path}, picture {position}"))
        index.append(number)
    distinct = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
    return PairSet(
        images=distinct,
        index=torch.tensor(index),
        genuine=genuine,
        components=_components(torch.tensor(index), genuine, len(images)),
        source=str(path),
    )


def _components(index: Tensor, genuine: Tensor, pictures: int) -> Tensor:
    from scipy.sparse import coo_matrix  # half a second, for readers of such files alone
    from scipy.sparse.csgraph import connected_components

    first, second = index.reshape(-1, 2)[genuine].T.numpy()
    graph = coo_matrix((np.ones(len(first), np.int8), (first, second)), shape=(pictures, pictures))
    return torch.from_numpy(connected_components(graph, directed=False)[1].astype(np.int64))


def _load(path: Path) -> object:
    start = contents.first_bytes(path)
    with open(path, "rb") as file:
        try:
            return Reader(file, encoding="bytes").load()
        except RefusedError as error:
            hint = "None of its code was run. Do not use the file unless you know who wrote it."
            raise ValueError(f"{path} contains {error}, which no verification set needs. {hint}") from None
        except Exception as error:  # a damaged pickle can raise any error
            if reason := contents.not_the_file(start):
                raise ValueError(f"{path} is no verification set: it {reason}.") from None
            cause = f"{type(error).__name__}: {error}"
            raise ValueError(f"{path} is no pickle, or one cut short ({cause}). Copy it again.") from None


def _lists(content: object, path: Path) -> tuple[list, list]:
    sides = content if isinstance(content, tuple | list) else ()
    sides = tuple(_flat(side) if isinstance(side, StoredArray) else side for side in sides)
    if len(sides) != 2 or not all(isinstance(side, tuple | list) for side in sides):
        raise ValueError(f"{path} holds no pair of lists (pictures, flags). Is it a verification set?")
    pictures, flags = sides
    if len(pictures) != 2 * len(flags) or not flags:
        raise ValueError(
            f"{path} holds {len(pictures)} pictures and {len(flags)} flags, not two pictures for each of at least one"
            " flag. Copy it again from its source."
        )
    return pictures, flags


def _flat(array: StoredArray) -> object:
    """Return the elements of an array of flags [P] as a list; anything else as it is."""
    return array.value.tolist() if array.value is not None and array.value.ndim == 1 else array


def _check_sides(flags: Sequence[bool], path: Path) -> None:
    genuine, impostor = sum(flags), len(flags) - sum(flags)
    if not genuine or not impostor:
        missing = "two pictures of one person" if not genuine else "pictures of two people"
        raise ValueError(
            f"{path} has {genuine:,} genuine and {impostor:,} impostor pairs, so no error rate can be computed: both"
            f" kinds are needed. Add pairs of {missing}."
        )


def _flag(flag: object, where: str) -> bool:
    if isinstance(flag, int) and flag in (0, 1):
        return bool(flag)
    value = f"{flag!r:.40}" if isinstance(flag, int | float | str | bytes) else f"a {type(flag).__name__}"
    raise ValueError(f"{where}: its flag must be True or False, not {value}. Correct the file.")


def _content(picture: object) -> tuple:
    """Return a key that is equal for equal stored pictures: their bytes and, for arrays of pixels, the shape."""
    value = picture.value if isinstance(picture, StoredArray) else picture
    if isinstance(value, np.ndarray):
        return () if _is_file(value) else value.shape, value.tobytes()
    return (), bytes(value) if isinstance(value, bytes | bytearray) else id(picture)


def _is_file(value: object) -> bool:
    """Say whether an array holds a picture file's bytes: [n], or [n, 1] or [1, n], as OpenCV returns them."""
    if not isinstance(value, np.ndarray) or value.dtype != np.uint8:
        return False
    return value.ndim == 1 or (value.ndim == 2 and 1 in value.shape)


def _pixels(picture: object, where: str) -> np.ndarray:
    """Return a stored picture as uint8 [112, 112, 3]."""
    value = picture.value if isinstance(picture, StoredArray) else picture
    if isinstance(value, bytes | bytearray) or _is_file(value):
        value = decode(bytes(value) if isinstance(value, bytes | bytearray) else value.tobytes(), where)
    if not isinstance(value, np.ndarray) or value.dtype != np.uint8:
        kind = type(picture).__name__
        raise ValueError(f"{where} is neither bytes nor a uint8 array ({kind}). Write the set again with write_bin.")
    if value.shape != (SIZE, SIZE, 3):
        raise ValueError(f"{where} is {list(value.shape)}, not [{SIZE}, {SIZE}, 3]: align it first, or leave it out.")
    return value


def write_bin(path: Path, images: Sequence[bytes | np.ndarray], genuine: Sequence[bool], quality: int = 95) -> None:
    """Write a verification set (pickle protocol 2), whole or not at all; Python 2 and every NumPy can read it.

    images: 2P picture files' bytes or uint8 [112, 112, 3] RGB (encoded as JPEG of ``quality``). genuine: P booleans.
    Raises ValueError for lengths that do not fit, pictures of another kind or shape, other flags, and pairs that are
    all genuine or all impostor.
    """
    plain = (bool(flag) if isinstance(flag, np.bool_) else flag for flag in genuine)
    flags = [_flag(flag, f"{path}, pair {pair}") for pair, flag in enumerate(plain)]
    _lists((list(images), flags), path)
    _check_sides(flags, path)
    stored = [_encoded(image, f"{path}, picture {position}", quality) for position, image in enumerate(images)]
    with files.whole_file(Path(path)) as temporary:
        temporary.write_bytes(pickle.dumps((stored, flags), 2))


def _encoded(image: bytes | np.ndarray, where: str, quality: int) -> bytes:
    if isinstance(image, bytes):
        return image
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.shape != (SIZE, SIZE, 3):
        actual = f"{image.dtype} {list(image.shape)}" if hasattr(image, "shape") else type(image).__name__
        raise ValueError(f"{where} must be a file's bytes or uint8 [{SIZE}, {SIZE}, 3], not {actual}.")
    return encode_jpeg(image, quality)

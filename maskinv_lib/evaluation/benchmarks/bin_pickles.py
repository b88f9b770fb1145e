"""Pickles of bytes, uint8 arrays and booleans, read without running any code that they name.

A pickle can run code when it is read. The reader here knows the few names that verification sets need (written by
Python 2 or 3, NumPy 1 or 2), replaces each by a function of this module, and refuses every other name.
"""

import pickle

import numpy as np


class RefusedError(ValueError):
    """A pickle contains something that no verification set needs."""


class Reader(pickle.Unpickler):
    """An unpickler that raises RefusedError, naming module and name, for all but the names in KNOWN."""

    def find_class(self, module: str, name: str) -> "_Function":
        """Return the function of this module that replaces a name in the pickle."""
        if (module, name) not in KNOWN:
            raise RefusedError(f"{module}.{name}")
        return _Function(KNOWN[module, name])


class _Function:
    """A function that a pickle may call, created for each mention; it accepts no state, so a pickle cannot alter it."""

    __slots__ = ("_function",)

    def __init__(self, function: object) -> None:
        self._function = function

    def __call__(self, *arguments: object) -> object:
        return self._function(*arguments)

    def __setstate__(self, state: object) -> None:
        raise RefusedError("a change of a function")


class _Dtype:
    """Replaces a NumPy dtype: uint8 for pictures, bool for flags."""

    __slots__ = ("name",)

    def __init__(self, name: object, *_: object) -> None:
        self.name = name.decode("latin1") if isinstance(name, bytes) else name
        if self.name not in ("u1", "|u1", "b1", "|b1"):
            raise RefusedError(f"an array of type {str(self.name)[:40]!r} (only uint8 and bool are read)")

    def __setstate__(self, state: object) -> None:
        """Ignore byte order and field names: a single byte has none."""


class StoredArray:
    """Replaces a NumPy array; ``value`` is None until its state is read, then uint8 or bool."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: np.ndarray | None = None

    def __setstate__(self, state: tuple) -> None:
        shape, dtype, by_columns, data = state[-4:]
        self.value = _array(data, dtype, shape, "F" if by_columns else "C")


def _array(data: object, dtype: object, shape: object, order: str) -> np.ndarray:
    if not isinstance(dtype, _Dtype):
        raise RefusedError("an array that is not of uint8 or bool")
    if not isinstance(data, bytes | bytearray):
        raise RefusedError(f"an array of {type(data).__name__}")
    values = np.frombuffer(data, np.uint8).reshape([int(size) for size in shape], order=order)
    if dtype.name.endswith("u1"):
        return values
    if values.max(initial=0) > 1:
        raise RefusedError("an array of booleans with other bytes than 0 and 1")
    return values.astype(bool)


def _reconstruct(kind: object, shape: object, code: object) -> StoredArray:
    if not isinstance(kind, _Function) or kind._function is not _no_call:
        raise RefusedError("an array of another class than numpy.ndarray")
    return StoredArray()


def _no_call(*_: object) -> None:
    raise RefusedError("a call of numpy.ndarray")


def _from_buffer(data: object, dtype: object, shape: object, order: object, axes: object = None) -> StoredArray:
    order = order.decode() if isinstance(order, bytes) else order
    if order not in ("C", "F") or axes is not None:
        raise RefusedError(f"an array in the order {order!r}, {axes!r}")
    array = StoredArray()
    array.value = _array(data, dtype, shape, order)
    return array


def _scalar(dtype: object, data: object) -> bool:
    if not isinstance(dtype, _Dtype) or not dtype.name.endswith("b1") or data not in (b"\0", b"\1"):
        raise RefusedError("a NumPy number that is not a boolean")
    return data == b"\1"


def _bytes_of(text: object, encoding: object) -> bytes:
    """Undo how Python 3 writes bytes for Python 2: text of the same code points."""
    if not isinstance(text, str) or encoding not in ("latin1", b"latin1"):
        raise RefusedError(f"text in the encoding {encoding!r}")
    return text.encode("latin1")


KNOWN = {("numpy", "ndarray"): _no_call, ("numpy", "dtype"): _Dtype, ("_codecs", "encode"): _bytes_of}
for _core in ("numpy.core", "numpy._core"):  # the package's name in NumPy 1 and 2
    KNOWN |= {
        (f"{_core}.multiarray", "_reconstruct"): _reconstruct,
        (f"{_core}.multiarray", "scalar"): _scalar,
        (f"{_core}.numeric", "_frombuffer"): _from_buffer,
    }

"""Verification sets: formats, numbering of pictures and pairs, and what a pickle may not do."""

import collections
import io
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from maskinv_lib.evaluation.benchmarks import bin_pickles
from maskinv_lib.evaluation.benchmarks.bins import read_bin, write_bin
from maskinv_lib.faces.pictures import encode_jpeg

DATA = os.environ.get("MASKINV_DATA")
RED, GREEN, BLUE, ORANGE = (200, 20, 20), (20, 200, 20), (20, 20, 200), (250, 120, 10)


def pixels(colour: tuple, size: int = 112) -> np.ndarray:
    return np.full((size, size, 3), colour, np.uint8)


def jpeg(colour: tuple, size: int = 112) -> bytes:
    return encode_jpeg(pixels(colour, size))


def four() -> list[bytes]:
    return [jpeg(colour) for colour in (RED, RED, GREEN, BLUE)]


def stored(path: Path, content: object, protocol: int = 2) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content, protocol))
    return path


class PythonTwo(pickle._Pickler):
    """Writes byte strings as Python 2 did: as text strings, memoised."""

    def text(self, value: bytes) -> None:
        if self.proto == 0:
            self.write(b"S'" + value.decode("latin1").encode("unicode_escape").replace(b"'", b"\\'") + b"'\n")
        else:
            self.write(
                (b"U" + bytes([len(value)]) if len(value) < 256 else b"T" + struct.pack("<i", len(value))) + value
            )
        self.memoize(value)

    dispatch = {**pickle._Pickler.dispatch, bytes: text}  # noqa: RUF012


@pytest.mark.parametrize("protocol", [0, 1, 2])
def test_a_set_that_python_2_wrote(tmp_path, protocol):
    with open(tmp_path / "old.bin", "wb") as file:
        PythonTwo(file, protocol).dump((four(), [True, False]))
    pair_set = read_bin(tmp_path / "old.bin")
    assert pair_set.index.tolist() == [0, 0, 1, 2]
    assert pair_set.genuine.dtype == torch.bool
    assert pair_set.genuine.tolist() == [True, False]
    assert pair_set.images.shape == (3, 3, 112, 112)
    third = pair_set.images[pair_set.index[2], :, 50, 50].int()
    assert (third - torch.tensor(GREEN)).abs().max() <= 4


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "flags",
    [[True, False], (True, False), [1, 0], [np.True_, np.False_], np.array([True, False]), np.array([1, 0], np.uint8)],
    ids=str,
)
@pytest.mark.parametrize("kind", ["bytes", "bytearray", "file array", "column", "row", "pixels", "columns", "shared"])
def test_every_protocol_and_every_kind_of_picture(tmp_path, protocol, flags, kind):
    if kind == "bytearray" and protocol < 5:
        pytest.skip("before protocol 5, bytearray is a name of its own: no set holds it")
    colours = [ORANGE, RED, GREEN, BLUE]
    make = {
        "bytes": jpeg,
        "bytearray": lambda colour: bytearray(jpeg(colour)),
        "file array": lambda colour: np.frombuffer(jpeg(colour), np.uint8),
        "column": lambda colour: np.frombuffer(jpeg(colour), np.uint8)[:, None],
        "row": lambda colour: np.frombuffer(jpeg(colour), np.uint8)[None],
        "pixels": pixels,
        "columns": lambda colour: np.asfortranarray(pixels(colour)),
        "shared": jpeg,
    }[kind]
    images = [make(colour) for colour in colours]
    if kind == "shared":
        images[1] = images[0]
    pair_set = read_bin(stored(tmp_path / "x.bin", (images, flags), protocol))
    assert pair_set.genuine.tolist() == [True, False]
    assert pair_set.index.tolist() == ([0, 0, 1, 2] if kind == "shared" else [0, 1, 2, 3])
    assert (pair_set.images[0, :, 50, 50].int() - torch.tensor(ORANGE)).abs().max() <= 4
    assert pair_set.images[0].float().mean((1, 2)).argsort().tolist() == [2, 1, 0]


@pytest.mark.parametrize("protocol", [2, 5])
@pytest.mark.parametrize("order", ["C", "F"])
def test_pixels_keep_their_places(tmp_path, protocol, order):
    image = np.random.default_rng(0).integers(0, 256, (112, 112, 3), dtype=np.uint8)
    images = [np.asarray(image, order=order), pixels(RED), pixels(GREEN), pixels(BLUE)]
    pair_set = read_bin(stored(tmp_path / "x.bin", (images, [True, False]), protocol))
    assert np.array_equal(pair_set.images[0].permute(1, 2, 0).numpy(), image)


@pytest.mark.parametrize("protocol", [2, 5])
@pytest.mark.parametrize(("ours", "other"), [(b"numpy._core", b"numpy.core"), (b"numpy.core", b"numpy._core")])
@pytest.mark.parametrize("flags", [[True, False], np.array([True, False])], ids=str)
def test_arrays_of_the_other_numpy(tmp_path, protocol, ours, other, flags):
    data = pickle.dumps(([pixels(c) for c in (RED, RED, GREEN, BLUE)], flags), protocol)
    if protocol == 5:  # names there follow their length
        ours, other = (bytes([len(x) + len(b".numeric")]) + x + b".numeric" for x in (ours, other))
        if ours in data:
            at = data.index(b"\x95") + 1
            size = struct.unpack_from("<Q", data, at)[0] + len(other) - len(ours)
            data = data[:at] + struct.pack("<Q", size) + data[at + 8 :].replace(ours, other)
    else:
        data = data.replace(ours, other)
    pair_set = read_bin(stored(tmp_path / "x.bin", data))
    assert pair_set.index.tolist() == [0, 0, 1, 2] and pair_set.genuine.tolist() == [True, False]


def test_writing_and_reading_again(tmp_path):
    write_bin(tmp_path / "a.bin", [*four(), pixels(ORANGE), jpeg(ORANGE)], [True, False, np.True_])
    pair_set = read_bin(tmp_path / "a.bin")
    assert pair_set.index.tolist() == [0, 0, 1, 2, 3, 3]
    assert pair_set.genuine.tolist() == [True, False, True]
    plain = pickle.loads((tmp_path / "a.bin").read_bytes(), encoding="bytes")
    assert plain[0][:4] == four()
    assert plain[1] == [True, False, True]
    assert all(type(flag) is bool for flag in plain[1])


@pytest.mark.parametrize(
    ("images", "genuine", "match"),
    [
        ([jpeg(RED)] * 3, [True], "3 pictures and 1 flags"),
        ([jpeg(RED)] * 6, [True] * 3, "has 3 genuine and 0 impostor pairs.* Add pairs of pictures of two people"),
        ([jpeg(RED)] * 4, np.zeros(2, bool), "has 0 genuine and 2 impostor pairs.* Add pairs of two pictures of one"),
        ([jpeg(RED)] * 2, [2], "pair 0: its flag must be True or False, not 2"),
        ([pixels(RED, 96)] * 4, [True, False], r"picture 0 must be .* not uint8 \[96, 96, 3\]"),
        (["a.jpg"] * 4, [True, False], "picture 0 must be .* not str"),
    ],
)
def test_what_cannot_be_written_leaves_no_file(tmp_path, images, genuine, match):
    with pytest.raises(ValueError, match=match):
        write_bin(tmp_path / "a.bin", images, genuine)
    assert list(tmp_path.iterdir()) == []


# People


def people_by_spreading(images: list, genuine: list) -> list[int]:
    """Number all positions; equal bytes and genuine pairs take the smaller number until none changes."""
    number = list(range(len(images)))
    links = [(2 * p, 2 * p + 1) for p, same in enumerate(genuine) if same]
    links += [(a, b) for a in range(len(images)) for b in range(a) if images[a] == images[b]]
    changed = True
    while changed:
        changed = False
        for a, b in links:
            if number[a] != number[b]:
                number[a] = number[b] = min(number[a], number[b])
                changed = True
    return [sorted(set(number)).index(n) for n in number]


def test_people_are_connected_through_pictures_and_genuine_pairs(tmp_path):
    shades = [jpeg((20 * i + 10, 90, 90)) for i in range(8)]
    chosen = [0, 1, 2, 3, 1, 4, 5, 6, 7, 0, 2, 6, 3, 5]
    genuine = [True, False, True, False, False, False, False]
    write_bin(tmp_path / "a.bin", [shades[i] for i in chosen], genuine)
    pair_set = read_bin(tmp_path / "a.bin")
    assert pair_set.components.dtype == torch.int64
    assert pair_set.components[pair_set.index].tolist() == people_by_spreading([shades[i] for i in chosen], genuine)
    scores = np.linspace(0, 1, 7, dtype=np.float32)
    compared = pair_set.comparisons(scores)
    assert np.array_equal(compared.first == compared.second, genuine)
    assert compared.fold is None


def test_ten_folds_of_consecutive_pairs(tmp_path):
    images = [jpeg((10 * i + 5, 50, 50)) for i in range(40)]
    write_bin(tmp_path / "a.bin", images, [True, False] * 10)
    assert read_bin(tmp_path / "a.bin").fold.tolist() == [p // 2 for p in range(20)]


def test_an_impostor_pair_of_one_person_is_named(tmp_path):
    a, b, c = (jpeg(colour) for colour in (RED, GREEN, BLUE))
    write_bin(tmp_path / "a.bin", [a, b, b, c, c, a], [True, True, False])
    with pytest.raises(ValueError, match=r"a\.bin, pair 2 \(pictures 4 and 5\) is labelled as two people"):
        read_bin(tmp_path / "a.bin")


# Pickles that contain code


class Calls:
    """Pickles as a call of ``function``."""

    def __init__(self, function, *arguments, state=None):
        self.call = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.call

    def __repr__(self):
        return f"Calls({self.call[0].__name__})"  # an address in a test's name would differ between processes


@pytest.mark.parametrize("protocol", range(6))
def test_a_trap_is_refused_and_nothing_runs(tmp_path, monkeypatch, protocol):
    monkeypatch.chdir(tmp_path)
    path = stored(tmp_path / "trap.bin", (four(), [True, Calls(open, "EXECUTED", "w")]), protocol)
    with pytest.raises(ValueError, match=r"trap\.bin contains \w+\.open, .*None of its code was run"):
        read_bin(path)
    assert not (tmp_path / "EXECUTED").exists()


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (Calls(os.system, "touch EXECUTED"), r"(posix|nt)\.system"),
        (Calls(eval, "open('EXECUTED', 'w')"), r"\.eval"),
        (Calls(getattr, "x", "upper"), r"\.getattr"),
        (collections.OrderedDict(a=1), r"collections\.OrderedDict"),
        (np.zeros((2, 2), np.float32), "'f4'"),
        (np.array([print], dtype=object), "'O8'"),
        (np.float64(1), "'f8'"),
        (np.array(["a"]), "'U1'"),
        (np.uint8(1), "not a boolean"),
        (Calls(np.ndarray, (2,)), r"a call of numpy\.ndarray"),
        (b"cnumpy\nndarray\n}b", "change of a function"),
        (b"c_codecs\nencode\n}X\x08\x00\x00\x00__code__Nsb", "change of a function"),
        (b"cnumpy.core.multiarray\n_reconstruct\n(Nnt", None),
        (b"cnumpy.core.multiarray\n_reconstruct\n(c_codecs\nencode\nNNtR", "another class than numpy.ndarray"),
        (b"c_codecs\nencode\n(X\x01\x00\x00\x00aX\x03\x00\x00\x00hextR", "encoding 'hex'"),
        (b"cos\nsystem\n(X\x01\x00\x00\x00atR", r"os\.system"),
        (b"(X\x01\x00\x00\x00aios\nsystem\n", r"os\.system"),
        (b"\x8c\x08builtins\x8c\x04exec\x93", r"builtins\.exec"),
        (b"cnumpy\nndarray.__class__\n", r"numpy\.ndarray\.__class__"),
        (b"cnumpy\nndarray\n)\x81", "NEWOBJ"),
        (b"Pid\n", "persistent"),
        (b"\x82\x01", "extension code"),
    ],
    ids=str,
)
def test_nothing_else_is_built(tmp_path, monkeypatch, content, named):
    monkeypatch.chdir(tmp_path)
    data = b"\x80\x04" + content + b"." if isinstance(content, bytes) else pickle.dumps((four(), [True, content]), 2)
    with pytest.raises(ValueError, match=rf"trap\.bin .*{named or ''}"):
        read_bin(stored(tmp_path / "trap.bin", data))
    assert not (tmp_path / "EXECUTED").exists()


def test_the_names_a_pickle_may_use_are_few():
    assert len(bin_pickles.KNOWN) == 9
    assert {module.split(".")[0] for module, _ in bin_pickles.KNOWN} == {"numpy", "_codecs"}


# Damaged sets

ENDLESS: list = []
ENDLESS.append(ENDLESS)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "is no verification set: it is empty. Download it again"),
        (b"<html><title>Sign in</title>", "it is a web page, not the file itself"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "it is a Git LFS pointer.*git lfs pull"),
        (b"hello", "it is a text file"),
        (jpeg(RED), "it is a picture"),
        (b"\x00\x01hello", "no pickle, or one cut short"),
        (pickle.dumps((four(), [True, False]), 2)[:-900], "no pickle, or one cut short"),
        (pickle.dumps((four(), [True, False]), 4)[:2000], "no pickle, or one cut short"),
        ([1, 2, 3], "holds no pair of lists"),
        ((four(), True), "holds no pair of lists"),
        (([], []), "0 pictures and 0 flags"),
        ((four()[:3], [True, False]), "3 pictures and 2 flags"),
        ((four(), [True]), "4 pictures and 1 flags"),
        ((four(), [True, 2]), "pair 1: its flag must be True or False, not 2"),
        ((four(), [0.0, True]), r"pair 0: its flag must be True or False, not 0\.0"),
        ((four(), ["yes", True]), "pair 0: its flag must be True or False, not 'yes'"),
        ((four(), [ENDLESS, True]), "pair 0: its flag must be True or False, not a list"),
        (([*four()[:3], b"not a picture"], [True, False]), "picture 3 does not decode"),
        (([*four()[:3], jpeg(BLUE)[:300]], [True, False]), "picture 3 does not decode"),
        (([*four()[:3], jpeg(BLUE, 96)], [True, False]), r"picture 3 is \[96, 96, 3\], not \[112, 112, 3\]"),
        (([*four()[:3], pixels(BLUE).transpose(2, 0, 1)], [True, False]), r"picture 3 is \[3, 112, 112\]"),
        ((four(), [True, True]), "has 2 genuine and 0 impostor pairs"),
        ((four(), np.zeros(2, bool)), "has 0 genuine and 2 impostor pairs"),
        ((four(), np.array([[True, False]])), "holds no pair of lists"),
        (([*four()[:3], np.ones(9, bool)], [True, False]), "picture 3 is neither bytes nor a uint8 array"),
        (([jpeg(RED)] * 4, [True, False]), r"pair 1 \(pictures 2 and 3\) is labelled as two people"),
        (([jpeg(RED)] * 4, [True, True]), "has 2 genuine and 0 impostor pairs"),
        (([*four()[:3], "a.jpg"], [True, False]), "picture 3 is neither bytes nor a uint8 array"),
    ],
)
def test_damaged_sets_are_named(tmp_path, content, match):
    with pytest.raises(ValueError, match=rf"bad\.bin.*{match}"):
        read_bin(stored(tmp_path / "bad.bin", content))


@pytest.mark.parametrize("protocol", [2, 5])
def test_booleans_of_other_bytes_are_refused(tmp_path, protocol):
    odd = np.array([1, 7], np.uint8).view(bool)
    with pytest.raises(ValueError, match=r"x\.bin contains an array of booleans with other bytes"):
        read_bin(stored(tmp_path / "x.bin", (four(), odd), protocol))


def test_a_folder_in_place_of_a_set(tmp_path):
    with pytest.raises(ValueError, match="is a folder, not a file"):
        read_bin(tmp_path)


def test_a_picture_that_lies_on_its_side_is_upright(tmp_path):
    """An orientation tag is honoured as in every other reader of pictures."""
    image = np.random.default_rng(0).integers(0, 256, (112, 112, 3), dtype=np.uint8)
    exif, out = Image.Exif(), io.BytesIO()
    exif[274] = 6
    Image.fromarray(image).rotate(90).save(out, "PNG", exif=exif)
    write_bin(tmp_path / "a.bin", [out.getvalue(), *four()[1:]], [True, False])
    assert np.array_equal(read_bin(tmp_path / "a.bin").images[0].permute(1, 2, 0).numpy(), image)


def test_a_missing_set(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.bin"):
        read_bin(tmp_path / "none.bin")


# Real sets


@pytest.mark.parametrize(
    ("name", "pairs", "distinct", "people"), [("lfw", 6000, 7701, 4859), ("cfp_fp", 7000, 5890, None)]
)
def test_real_sets(name, pairs, distinct, people):
    if not DATA or not Path(DATA, "faces", f"{name}.bin").exists():
        pytest.skip(f"MASKINV_DATA names no folder with faces/{name}.bin")
    pair_set = read_bin(Path(DATA, "faces", f"{name}.bin"))
    assert (len(pair_set), len(pair_set.index), len(pair_set.images)) == (pairs, 2 * pairs, distinct)
    assert int(pair_set.genuine.sum()) == pairs // 2
    assert people is None or len(pair_set.components.unique()) == people
    for fold in range(10):
        assert pair_set.genuine[pair_set.fold == fold].sum() == pairs // 20

"""Masks and alignment of whole folders: names, points, what is left out; nothing is written where one is refused."""

import csv
import itertools
import os

import numpy as np
import pytest
import torch
from PIL import Image

from maskinv_lib.faces import TEMPLATE, landmarks
from maskinv_lib.faces.alignment import COLUMNS, read_landmarks
from maskinv_lib.faces.folders import read_folder
from maskinv_lib.faces.pictures import decode
from maskinv_lib.tools import picture_folders
from maskinv_lib.tools.picture_folders import align_folder, mask_folder, mask_keys
from maskinv_lib.utils.randomness import key
from tests.tools.samples import save, save_people


@pytest.fixture
def people(patterned, tmp_path):
    """Twelve people, four pictures each."""
    return save_people(tmp_path / "people", patterned, range(12))


def written(folder):
    return {p.relative_to(folder).as_posix(): p for p in sorted(folder.rglob("*")) if p.is_file()}


def pixels(path):
    return decode(path.read_bytes(), str(path))


def test_every_face_gets_a_mask_under_the_same_name(people, tmp_path):
    names = mask_folder(people, tmp_path / "out").names
    assert sorted(names) == list(written(tmp_path / "out")) == list(written(people))
    for name in names:
        before, after = pixels(people / name), pixels(tmp_path / "out" / name)
        assert after.shape == (112, 112, 3)
        changed = (before != after).any(2)
        assert not changed[:44].any()
        assert changed[60:].mean() > 0.3


def test_the_mask_depends_on_name_seed_and_kinds_alone(people, tmp_path):
    def masked(folder, *names, **settings):
        target = tmp_path / "out" / f"{folder.name} {settings}"
        mask_folder(folder, target, **settings)
        return [pixels(target / name).tobytes() for name in names]

    name = "p03/p03_0002.png"
    save(tmp_path / "few" / name, torch.from_numpy(pixels(people / name)).permute(2, 0, 1))
    masks = [masked(people, name), masked(people, name, seed=1), masked(people, name, kinds="unseen")]
    assert masked(tmp_path / "few", name) == masks[0]
    assert all(a != b for a, b in itertools.combinations(masks, 2))
    first, second = masked(people, name, "p03/p03_0001.png", seed=3)
    assert first != second


def test_a_flat_folder_of_any_format_becomes_png(patterned, tmp_path):
    for name in ("a.jpg", "b.bmp", "c.jfif", "d.webp", ".hidden.png"):
        save(tmp_path / "flat" / name, patterned.images[0])
    (tmp_path / "flat" / "d.webp").rename(tmp_path / "flat" / "no ending")
    (tmp_path / "flat" / "notes.txt").write_text("mine")
    done = mask_folder(tmp_path / "flat", tmp_path / "out")
    assert done.names == list(written(tmp_path / "out")) == ["a.png", "b.png", "c.png", "no ending.png"]
    assert done.notes == [
        "ignored (hidden, or left behind by a system): 1, .hidden.png",
        "left out (no picture): 1, notes.txt (not a picture by its ending)",
    ]


def test_a_picture_of_another_size_is_named_before_anything_is_written(people, tmp_path):
    Image.new("RGB", (160, 112)).save(people / "p11" / "z.png")
    with pytest.raises(ValueError, match=r"p11/z\.png.* 160 x 112 .*112 x 112 face"):
        mask_folder(people, tmp_path / "out")
    with pytest.raises(ValueError, match="--skip-bad"):
        mask_folder(people, tmp_path / "out")
    (people / "p11" / "z.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"p11/z\.png: does not decode"):
        mask_folder(people, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_targets_that_would_mix_or_overwrite_are_refused(people, tmp_path):
    before = written(people)
    for target in (people, people / "masked", people / "p00" / ".." / "masked"):
        with pytest.raises(ValueError, match="lies inside"):
            mask_folder(people, target)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    for target in (tmp_path / "full", tmp_path / "full" / "mine.txt", tmp_path):
        with pytest.raises(ValueError, match="not an empty folder"):
            mask_folder(people, target)
    (tmp_path / "inside").symlink_to(people)
    with pytest.raises(ValueError, match="lies inside"):
        mask_folder(people, tmp_path / "inside" / "masked")
    assert written(people) == before
    assert (tmp_path / "full" / "mine.txt").read_text() == "mine"


def test_all_bad_pictures_are_counted_though_the_first_ends_the_command(people, tmp_path):
    for name in ("p00/p00_0003.png", "p07/p07_0001.png"):
        (people / name).write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"2 of 48 entries .*\n  p00/p00_0003\.png: .*\n  p07/p07_0001\.png: "):
        mask_folder(people, tmp_path / "out")
    done = mask_folder(people, tmp_path / "out", skip_bad=True)
    assert len(done.names) == 46 and [entry.split(":")[0][:3] for entry in done.left_out] == ["p00", "p07"]


def test_other_bad_input_is_named(people, patterned, tmp_path):
    with pytest.raises(ValueError, match="nowhere is not a folder"):
        mask_folder(tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(ValueError, match=r"Unknown kinds of masks 'sean'.*seen"):
        mask_folder(people, tmp_path / "out", kinds="sean")
    with pytest.raises(ValueError, match="seed must be a whole number"):
        mask_folder(people, tmp_path / "out", seed=-1)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="contains no picture"):
        mask_folder(tmp_path / "empty", tmp_path / "out")
    save(people / "p00" / "p00_0001.jpg", patterned.images[0])
    with pytest.raises(ValueError, match=r"p00_0001\.jpg and p00/p00_0001\.png .* differ only in their suffix"):
        mask_folder(people, tmp_path / "out")


def test_a_mask_s_key_is_that_of_the_name_without_its_ending():
    keys = mask_keys(["a/ü.png", "b/1.jpg", "x"], "seen", 3)
    assert torch.equal(keys, torch.stack([key("own folder", 3, "seen", name) for name in ("a/ü", "b/1", "x")]))


def test_links_to_folders_and_files_are_masked_too(people, tmp_path):
    (tmp_path / "l").mkdir()
    (tmp_path / "l" / "a").symlink_to(people / "p00")
    (tmp_path / "l" / "one.png").symlink_to(people / "p01" / "p01_0001.png")
    assert len(mask_folder(tmp_path / "l", tmp_path / "out").names) == 5
    (tmp_path / "l" / "up").symlink_to(tmp_path / "l")
    with pytest.raises(ValueError, match="up: links to a folder that contains it"):
        mask_folder(tmp_path / "l", tmp_path / "out2")


# Alignment


@pytest.fixture
def photographs(patterned, tmp_path):
    """Two people's pictures in larger photographs, the second one stored sideways, and the list of their points."""
    rows, exif = [",".join(("image", *COLUMNS))], Image.Exif()
    exif[274] = 6
    for index, name in enumerate(("ann/1.jpg", "ann/2.png", "ben/1.webp")):
        photograph = Image.new("RGB", (200, 180), (90, 100, 110))
        photograph.paste(Image.fromarray(patterned.images[4 * index].permute(1, 2, 0).numpy()), (40, 30))
        path = tmp_path / "photographs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name == "ann/2.png":
            photograph.rotate(90, expand=True).save(path, exif=exif)
        else:
            photograph.save(path, quality=95)
        rows.append(f"{name}," + ",".join(f"{x + 40},{y + 30}" for x, y in TEMPLATE))
    (tmp_path / "points.csv").write_text("\n".join(rows) + "\n")
    return tmp_path / "photographs"


def test_aligned_faces_have_the_same_names_and_their_points_are_listed(photographs, patterned, tmp_path):
    done = align_folder(photographs, tmp_path / "out", landmarks=tmp_path / "points.csv")
    assert done.names == ["ann/1.png", "ann/2.png", "ben/1.png"] and not done.left_out
    assert list(written(tmp_path / "out")) == [*done.names, "landmarks.csv", "left_out.csv"]
    for index, name in enumerate(done.names):
        difference = pixels(tmp_path / "out" / name) - patterned.images[4 * index].permute(1, 2, 0).numpy().astype(int)
        assert np.abs(difference).mean() < (1 if name == "ann/2.png" else 8)  # the others were compressed
    used, given = (read_landmarks(path) for path in (tmp_path / "out" / "landmarks.csv", tmp_path / "points.csv"))
    assert list(used) == list(given) and all(np.array_equal(used[name], given[name]) for name in used)
    again = align_folder(photographs, tmp_path / "again", landmarks=tmp_path / "out" / "landmarks.csv")
    assert [pixels(tmp_path / "again" / name).tobytes() for name in again.names] == [
        pixels(tmp_path / "out" / name).tobytes() for name in done.names
    ]
    assert read_folder(tmp_path / "out").people == ("ann", "ben")


def test_detected_points_complete_the_list(photographs, tmp_path, monkeypatch):
    lines = (tmp_path / "points.csv").read_text().splitlines()
    (tmp_path / "points.csv").write_text("\n".join([*lines[:2], "ann\\2.png" + "," * 10]))
    points = np.array(TEMPLATE) + np.array([41, 30])
    monkeypatch.setattr(landmarks, "find_landmarks", lambda picture, where: points)
    align_folder(photographs, tmp_path / "out", landmarks=tmp_path / "points.csv", find_landmarks=True)
    used = read_landmarks(tmp_path / "out" / "landmarks.csv")
    assert np.array_equal(used["ann/2.png"], points) and np.array_equal(used["ben/1.webp"], points)
    np.testing.assert_allclose(used["ann/1.jpg"], np.array(TEMPLATE) + np.array([40, 30]))


def test_with_skip_bad_the_others_are_written_and_the_reasons_listed(photographs, tmp_path):
    lines = (tmp_path / "points.csv").read_text().splitlines()
    (tmp_path / "points.csv").write_text("\n".join(lines[:3]))
    (photographs / "ann" / "1.jpg").write_bytes(b"no picture, at all")
    settings = {"landmarks": tmp_path / "points.csv"}
    before = written(tmp_path)
    with pytest.raises(ValueError, match=r"1 of 3 .*\n  ben/1\.webp: no row in .*points\.csv"):
        align_folder(photographs, tmp_path / "out", **settings)
    assert written(tmp_path) == before
    done = align_folder(photographs, tmp_path / "out", **settings, skip_bad=True)
    assert done.names == ["ann/2.png"]
    with open(tmp_path / "out" / "left_out.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert [row[0] for row in rows] == ["image", "ben/1.webp", "ann/1.jpg"]
    assert rows[1][1].startswith("no row in") and rows[2][1].startswith("does not decode as a picture (")
    assert [": ".join(row) for row in rows[1:]] == done.left_out


def test_alignment_without_points_or_with_one_name_for_two_is_refused(photographs, tmp_path):
    before = written(tmp_path)
    with pytest.raises(ValueError, match="give --landmarks, or --find-landmarks"):
        align_folder(photographs, tmp_path / "out")
    (photographs / "ann" / "2.jpg").write_bytes((photographs / "ann" / "1.jpg").read_bytes())
    with pytest.raises(ValueError, match=r"ann/2\.jpg and ann/2\.png .* differ only in their suffix"):
        align_folder(photographs, tmp_path / "out", landmarks=tmp_path / "points.csv")
    with pytest.raises(ValueError, match="lies inside"):
        align_folder(photographs, photographs / "out", landmarks=tmp_path / "points.csv")
    assert list(written(tmp_path)) == sorted([*before, "photographs/ann/2.jpg"])


def test_names_that_are_no_text_are_refused_before_anything_is_written(people, tmp_path):
    (people / "p00" / os.fsdecode(b"\xff.png")).write_bytes((people / "p00" / "p00_0001.png").read_bytes())
    for command in (mask_folder, lambda *paths: align_folder(*paths, find_landmarks=True)):
        with pytest.raises(ValueError, match=r"p00/\\udcff\.png: its name is not valid UTF-8"):
            command(people, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["people"]


def test_a_full_disk_leaves_nothing_behind(people, tmp_path, monkeypatch):
    calls = iter(range(30))
    original = picture_folders.encode_png
    monkeypatch.setattr(picture_folders, "encode_png", lambda image: original(image) if next(calls) < 20 else [][0])
    with pytest.raises(IndexError):
        mask_folder(people, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["people"]


def test_unaligned_pictures_are_masked_by_their_points(photographs, tmp_path):
    with pytest.raises(ValueError, match="without landmarks is refused"):
        mask_folder(photographs, tmp_path / "out")
    points = tmp_path / "points.csv"
    align_folder(photographs, tmp_path / "aligned", landmarks=points)
    direct = mask_folder(photographs, tmp_path / "direct", landmarks=points)
    for name in ("landmarks.csv", "left_out.csv"):
        (tmp_path / "aligned" / name).unlink()
    twice = mask_folder(tmp_path / "aligned", tmp_path / "twice")
    assert direct.names == twice.names
    for name in direct.names:
        np.testing.assert_array_equal(pixels(tmp_path / "direct" / name), pixels(tmp_path / "twice" / name))

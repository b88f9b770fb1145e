import torch

from maskinv_lib.tools.speed import faces
from tests.tools.speed import small


def test_pillow_reads_the_pictures_of_a_record_file_as_the_library_does(tmp_path):
    setting = small.setting(tmp_path)
    path = faces.write_faces(setting)
    ours, plain = faces.read_faces(path), faces.plainly_read(path)
    assert ours.shape == plain.shape == (setting.sizes.records, 3, 112, 112)
    assert (ours.int() - plain.int()).abs().float().mean() < 1


def test_every_kind_is_measured_on_one_thread_and_on_all_cores(tmp_path):
    setting = small.setting(tmp_path)
    rows = [row for task in faces.tasks(setting) for row in task.run()]
    assert {row.group for row in rows} == {"rendering", "masks", "records"}
    assert all(row.unit == "faces/s" and row.value > 0 for row in rows)
    assert all("1 thread" in row.name for row in rows if not torch.cuda.is_available())


def test_without_opencv_the_row_says_that_there_is_no_baseline(tmp_path, monkeypatch):
    monkeypatch.setattr(faces.plain_masks, "installed", lambda: False)
    (row,) = faces.masks(small.setting(tmp_path), torch.device("cpu"), 1)
    assert row.baseline is None and row.ratio is None and row.against.startswith("no baseline")

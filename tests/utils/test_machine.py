"""Cores, the allocator's settings, folders for sockets and other homes, as other machines have them."""

import os
import tempfile
from pathlib import Path

import pytest

from maskinv_lib.utils import machine


def test_cores_are_those_that_the_process_may_use(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 2, 5}, raising=False)
    assert machine.usable_cores() == 3


@pytest.mark.parametrize(("newer", "count", "expected"), [(4, 8, 4), (None, 8, 8), (None, None, 1)])
def test_cores_are_counted_where_the_system_has_no_affinity(monkeypatch, newer, count, expected):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)  # macOS
    monkeypatch.delattr(os, "process_cpu_count", raising=False)
    if newer:
        monkeypatch.setattr(os, "process_cpu_count", lambda: newer, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: count)
    assert machine.usable_cores() == expected


class Library:
    """A C library that notes the calls of mallopt."""

    def __init__(self, names):
        self.calls = []
        for name in names:
            setattr(self, name, lambda *values: self.calls.append(values))


@pytest.fixture
def unset(monkeypatch):
    """An environment without the settings, restored at the end."""
    for name in machine.COMPUTING:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def test_the_settings_reach_this_process_and_its_children(unset, monkeypatch):
    library = Library(["gnu_get_libc_version", "mallopt"])
    monkeypatch.setattr(machine.ctypes, "CDLL", lambda name: library)
    monkeypatch.setattr(machine.sys, "platform", "linux")
    monkeypatch.setenv("MALLOC_ARENA_MAX", "7")
    machine.prepare_computing()
    assert os.environ["OMP_WAIT_POLICY"] == "passive" and os.environ["MALLOC_MMAP_MAX_"] == "0"
    assert os.environ["MALLOC_ARENA_MAX"] == "7", "what the user has set stays"
    assert sorted(library.calls) == [(-4, 0), (-1, 2**31 - 1)]


@pytest.mark.parametrize(("platform", "names"), [("darwin", ["mallopt"]), ("linux", ["mallopt"])])
def test_other_c_libraries_are_left_alone(unset, monkeypatch, platform, names):
    library = Library(names)
    monkeypatch.setattr(machine.ctypes, "CDLL", lambda name: library)
    monkeypatch.setattr(machine.sys, "platform", platform)
    machine.prepare_computing()
    assert library.calls == [] and os.environ["OMP_WAIT_POLICY"] == "passive"


def test_a_folder_for_sockets_lies_in_the_usual_place_if_that_is_short(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", tempfile.gettempdir()[:20])
    with machine.short_folder() as folder:
        assert Path(folder).parent == Path(tempfile.gettempdir()) and not any(Path(folder).iterdir())
    assert not Path(folder).exists()


def test_a_long_temporary_folder_is_not_used_for_sockets(tmp_path, monkeypatch):
    long = tmp_path / ("x" * 120)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with machine.short_folder() as folder:
        assert Path(folder).is_dir() and len(f"{folder}/kernel-10") <= 103
    assert not any(long.iterdir())


def test_without_any_folder_for_sockets_the_error_names_tmpdir(monkeypatch):
    def refuse(**options):
        raise PermissionError("no")

    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    monkeypatch.setattr(tempfile, "TemporaryDirectory", refuse)
    with pytest.raises(OSError, match=r"neither /nowhere, /tmp nor /var/tmp\. Set TMPDIR to a folder"):
        machine.short_folder()


def test_other_programs_keep_everything_in_one_folder(tmp_path):
    homes = machine.homes_below(tmp_path / "homes")
    assert {"XDG_CACHE_HOME", "XDG_DATA_HOME", "MPLCONFIGDIR", "IPYTHONDIR", "JUPYTER_DATA_DIR"} <= set(homes)
    assert all(Path(folder).is_relative_to(tmp_path / "homes") for folder in homes.values())
    assert len(set(homes.values())) == len(homes)

import pytest

from maskinv_lib.tools.speed import memory
from tests.tools.speed import small


def test_a_process_of_its_own_does_not_count_what_this_one_used(tmp_path):
    block = b"x" * (400 * 2**20)
    assert memory.highest() > 400
    (row,) = memory.peak(small.setting(tmp_path), memory.BARE)
    assert 20 < row.value < memory.highest() and row.unit == "MiB" and len(block)


def test_a_part_that_fails_says_why(tmp_path):
    with pytest.raises(RuntimeError, match="KeyError: 'thinking'"):
        memory.peak(small.setting(tmp_path), "thinking")


@pytest.mark.parametrize("part", memory.PARTS)
def test_every_part_runs(part, tmp_path):
    memory.PARTS[part](small.setting(tmp_path))


def test_parts_can_be_left_out(tmp_path):
    assert memory.tasks(small.setting(tmp_path)) == []

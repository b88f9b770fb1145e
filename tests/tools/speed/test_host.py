import pytest
import torch

from maskinv_lib.tools.speed import host
from tests.tools.speed import small


@pytest.mark.parametrize(
    ("flags", "expected"),
    [("sse2 avx2", {"AVX2"}), ("avx2 avx512f avx512_bf16", {"bf16", "AVX-512", "AVX2"}), ("amx_bf16", {"bf16"})],
)
def test_features_are_read_from_the_system_where_torch_does_not_tell(flags, expected, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict, raising=False)
    monkeypatch.setattr(host, "cpuinfo", lambda: f"model name\t: Abacus 3000 \nflags\t\t: {flags}\n")
    assert {name for name, has in host.features().items() if has} == expected
    assert host.processor() == "Abacus 3000"


def test_the_machine_is_described_in_rows(tmp_path):
    rows = host.rows(small.setting(tmp_path))
    facts = {row.name: row.value for row in rows}
    assert {"processor", "cores", "threads", "features", "load", "torch", "GPU"} <= facts.keys()
    assert facts["torch"] == torch.__version__
    assert all(row.group == host.GROUP and isinstance(row.value, str) and row.baseline is None for row in rows)

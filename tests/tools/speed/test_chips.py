import pytest

from maskinv_lib.tools.speed import chips


@pytest.mark.parametrize(
    ("device", "name"),
    [
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H100 PCIe", "H100 PCIe"),
        ("NVIDIA A100-SXM4-80GB", "A100"),
        ("NVIDIA A10", "A10"),
        ("NVIDIA A10G", "A10G"),
        ("NVIDIA L4", "L4"),
        ("NVIDIA L40S", "L40S"),
    ],
)
def test_a_gpu_is_recognised_by_a_word_of_its_name(device, name):
    assert chips.peak_of(device) == chips.PEAKS[name]


def test_the_share_of_the_peak_is_the_ratio_and_an_unknown_gpu_has_none():
    names = {"group": "training", "name": "iresnet50"}
    row = chips.share_of_peak(chips.PEAKS["H200"] / 4, "NVIDIA H200", **names)
    assert row.ratio == pytest.approx(0.25) and row.unit == "TFLOP/s"
    row = chips.share_of_peak(10.0, "Abacus 3000", **names)
    assert row.ratio is None and "unknown" in row.against

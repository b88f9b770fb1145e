"""Weights that others published: every layout comes back with equal tensors, all else is refused with a reason."""

import hashlib
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from maskinv_lib.evaluation.benchmarks.bins import read_bin
from maskinv_lib.evaluation.benchmarks.drawn import DrawnPairs
from maskinv_lib.evaluation.benchmarks.real_sets import read_mfr2
from maskinv_lib.evaluation.metrics import measure
from maskinv_lib.faces import Faces
from maskinv_lib.networks import InputContract, build_network
from maskinv_lib.networks.published import CONTRACTS, import_weights, mxnet_name
from maskinv_lib.networks.templates import NetworkRecogniser
from maskinv_lib.networks.weights import save_network
from tests.networks.samples import faces, same_tensors

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def iresnet18():
    return build_network("iresnet18", embedding_size=24, seed=4).eval()


@pytest.fixture(scope="module")
def mobile():
    return build_network("mobilefacenet", embedding_size=20, seed=4).eval()


def plain(network) -> dict:
    return dict(network.state_dict())


LAYOUTS = {
    "bare": lambda tensors: tensors,
    "module.": lambda tensors: {f"module.{name}": tensor for name, tensor in tensors.items()},
    "in state_dict": lambda tensors: {"epoch": 3, "state_dict": {f"module.{n}": t for n, t in tensors.items()}},
    "in backbone": lambda tensors: {"backbone": tensors, "head": {"weight": torch.zeros(9, 24)}},
    "in both": lambda tensors: {"state_dict": {"backbone": tensors}},
    "MagFace's": lambda tensors: {"state_dict": {f"features.module.{n}": t for n, t in tensors.items()}},
    "without counters": lambda tensors: {n: t for n, t in tensors.items() if "tracked" not in n},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_iresnet_comes_back_from_every_layout(tmp_path, iresnet18, layout):
    path = tmp_path / "backbone.pth"
    torch.save(LAYOUTS[layout](plain(iresnet18)), path)
    network, facts = import_weights(path)
    assert network.training and same_tensors(network, iresnet18)
    assert facts == {
        "file": "backbone.pth",
        "file_sha256": hashlib.sha256(path.read_bytes()).hexdigest()[:16],
        "network": "iresnet18",
        "embedding_size": 24,
        "input_contract": "minus one to one",
    }


def test_half_precision_becomes_float32(tmp_path, iresnet18):
    halves = {n: t.half() if t.is_floating_point() else t for n, t in plain(iresnet18).items()}
    torch.save(halves, tmp_path / "a.pt")
    network, _ = import_weights(tmp_path / "a.pt")
    assert {t.dtype for t in network.state_dict().values()} == {torch.float32, torch.int64}
    assert torch.equal(network.conv1.weight, iresnet18.conv1.weight.half().float())


def test_safetensors_of_others_and_of_this_study(tmp_path, iresnet18):
    save_file(plain(iresnet18), tmp_path / "theirs.safetensors", metadata={"format": "pt"})
    assert same_tensors(import_weights(tmp_path / "theirs.safetensors")[0], iresnet18)
    ours = build_network("compact", 16)
    ours.contract = CONTRACTS["zero to one"]
    save_network(tmp_path / "ours.safetensors", ours, {"seed": 1})
    network, facts = import_weights(tmp_path / "ours.safetensors")
    assert same_tensors(network, ours) and (facts["network"], facts["input_contract"]) == ("compact", "zero to one")
    with pytest.raises(ValueError, match="has its own input contract"):
        import_weights(tmp_path / "ours.safetensors", contract="minus one to one")


def to_mxnet(network) -> dict:
    return {mxnet_name(name): tensor for name, tensor in plain(network).items() if "tracked" not in name}


def test_mobilefacenet_comes_back_from_its_mxnet_names(tmp_path, mobile):
    tensors = to_mxnet(mobile)
    assert len(tensors) == 284
    tensors["fc1_gamma"] = torch.full((20,), 7.0)  # fixed to 1 in MXNet's graph, whatever is stored
    save_file(tensors, tmp_path / "y1.safetensors")
    network, facts = import_weights(tmp_path / "y1.safetensors")
    assert same_tensors(network, mobile)
    assert (facts["network"], facts["embedding_size"]) == ("mobilefacenet", 20)
    assert facts["input_contract"] == "mobilefacenet y1"


def test_mxnet_names_follow_the_graph(mobile):
    names = {mxnet_name(name) for name in plain(mobile) if "tracked" not in name}
    units = ["conv_1", "conv_2_dw", "conv_6sep", "conv_6dw7_7"]
    blocks = ["dconv_23", "dconv_34", "dconv_45"]
    blocks += [f"res_{stage}_block{i}" for stage, count in ((3, 4), (4, 6), (5, 2)) for i in range(count)]
    units += [f"{block}_conv_{part}" for block in blocks for part in ("sep", "dw", "proj")]
    norm = ("gamma", "beta", "moving_mean", "moving_var")
    expected = {f"{unit}_conv2d_weight" for unit in units} | {f"{u}_batchnorm_{p}" for u in units for p in norm}
    expected |= {f"{unit}_relu_gamma" for unit in units if not unit.endswith(("proj", "7_7"))}
    assert names == expected | {"fc1_weight", "pre_fc1_bias"} | {f"fc1_{part}" for part in norm}


def test_a_missing_mxnet_tensor_is_named(tmp_path, mobile):
    tensors = to_mxnet(mobile)
    del tensors["res_4_block5_conv_dw_relu_gamma"]
    save_file(tensors | {"extra_conv2d_weight": torch.zeros(1)}, tmp_path / "y1.safetensors")
    with pytest.raises(ValueError, match=r"mobilefacenet.*1 missing \(stage2\.6\.depthwise\.prelu\.weight\)") as caught:
        import_weights(tmp_path / "y1.safetensors")
    assert "1 unexpected (extra_conv2d_weight)" in str(caught.value)


def test_real_published_weights_give_the_published_embeddings():
    weights, path = real("models/mobilefacenet_y1.safetensors", "models/mobilefacenet_y1.reference.npz")
    network, facts = import_weights(weights)
    reference = np.load(path)
    with torch.no_grad():
        embeddings = network.eval()(torch.from_numpy(reference["images"]).permute(0, 3, 1, 2))
    assert facts["network"] == "mobilefacenet" and facts["embedding_size"] == 128
    assert np.abs(embeddings.numpy() - reference["embeddings"]).max() < 1e-3


def real(*names):
    """The paths of real data; skips where they are not at hand."""
    if "MASKINV_DATA" not in os.environ:
        pytest.skip(f"needs real data: set MASKINV_DATA to a folder that holds {' and '.join(names)}")
    paths = [Path(os.environ["MASKINV_DATA"]) / name for name in names]
    for path in paths:
        if not path.exists():
            pytest.skip(f"the folder MASKINV_DATA holds no {path.name}")
    return paths


def test_the_real_teacher_on_real_masks_is_as_measured_elsewhere():
    weights, folder = real("models/mobilefacenet_y1.safetensors", "faces/mfr2")
    teacher, benchmark = NetworkRecogniser(import_weights(weights)[0]), read_mfr2(folder)
    eers = {}
    for protocol in ("all-pairs", "official"):
        only = benchmark.only(protocol, protocol)
        comparisons = only.comparisons(only.templates(teacher.templates))
        eers |= {(protocol, condition): measure(compared)["eer"].value for condition, _, compared in comparisons}
    known = {"all": 0.0703, "masked-masked": 0.085, "masked-unmasked": 0.065, "unmasked-unmasked": 0.0}
    for condition, eer in known.items():
        assert eers["all-pairs", condition] == pytest.approx(eer, abs=0.003)
    assert eers["official", "all"] == pytest.approx(0.066, abs=0.003)


@pytest.mark.study
def test_the_real_teacher_s_ten_fold_accuracy_on_lfw():
    weights, path = real("models/mobilefacenet_y1.safetensors", "faces/lfw.bin")
    verification = read_bin(path)
    images = Faces(images=verification.images, identity=verification.components, source="lfw", publishable=False)
    pairs = DrawnPairs(name="lfw", faces=images, index=verification.index, kinds=())
    teacher = NetworkRecogniser(import_weights(weights)[0])
    templates = pairs.templates(lambda images: F.normalize(teacher.embeddings(images, flip=False), dim=1))
    ((_, _, compared),) = pairs.comparisons(templates)
    assert measure(compared)["accuracy"].value == pytest.approx(0.992, abs=0.002)


MAGFACE = InputContract(name="zero to one", mean=0.0, scale=255.0)


@pytest.mark.parametrize("contract", ["zero to one", MAGFACE])
def test_another_contract_is_applied(tmp_path, iresnet18, contract):
    torch.save(plain(iresnet18), tmp_path / "a.pth")
    network, facts = import_weights(tmp_path / "a.pth", contract=contract)
    assert facts["input_contract"] == "zero to one" and network.contract == MAGFACE
    with torch.no_grad():
        assert torch.allclose(network.eval()(faces(2)), iresnet18.embed(faces(2).float() / 255), atol=1e-5)
    with pytest.raises(ValueError, match="Did you mean 'zero to one'"):
        import_weights(tmp_path / "a.pth", contract="zero to on")


def test_a_misfit_names_the_nearest_network_and_every_difference(tmp_path, iresnet18):
    tensors = plain(iresnet18)
    del tensors["layer2.0.prelu.weight"]
    tensors |= {"fc.weight": torch.zeros(24, 7), "extra.weight": torch.zeros(3)}
    torch.save(tensors, tmp_path / "odd.pth")
    with pytest.raises(ValueError) as caught:
        import_weights(tmp_path / "odd.pth")
    message = str(caught.value)
    for words in (
        "odd.pth fits no registered network (iresnet18, ",
        "nearest is iresnet18 at embedding size 24",
        "1 missing (layer2.0.prelu.weight)",
        "1 unexpected (extra.weight)",
        "1 misshaped (fc.weight: torch.float32 [24, 7] instead of torch.float32 [24, 25088])",
    ):
        assert words in message


def test_a_malicious_pickle_is_not_run_and_named(tmp_path):
    class Trap:
        def __reduce__(self):
            return open, (str(tmp_path / "EXECUTED"), "w")

    torch.save({"conv1.weight": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(ValueError, match=r"trap\.pth asks for code .*open.*nothing of it was executed"):
        import_weights(tmp_path / "trap.pth")
    assert not (tmp_path / "EXECUTED").exists()


REFUSED = {
    "looks like the classifier": {"weight": torch.zeros(10, 512)},
    "no tensor: epoch, lr": {"epoch": 3, "lr": 0.1},
    "it is empty": {},
    "holds a Tensor": torch.zeros(3),
    "conv1.weight holds NaN": {"conv1.weight": torch.full((64, 3, 3, 3), float("nan"))},
    "fits no registered network": {"features.weight": torch.zeros(0), "conv.weight": torch.zeros(1, 1, 1, 1)},
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_is_no_network_is_refused_with_a_reason(tmp_path, words):
    torch.save(REFUSED[words], tmp_path / "a.pth")
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        import_weights(tmp_path / "a.pth")
    assert "a.pth" in str(caught.value)


def test_missing_damaged_and_foreign_files(tmp_path, mobile):
    with pytest.raises(FileNotFoundError, match=r"gone\.pth"):
        import_weights(tmp_path / "gone.pth")
    torch.save(plain(mobile), tmp_path / "half.pth")
    content = (tmp_path / "half.pth").read_bytes()
    for size in (0, 100, len(content) // 2, len(content) - 50):
        (tmp_path / "half.pth").write_bytes(content[:size])
        with pytest.raises(ValueError, match=r"half\.pth is half-written, damaged"):
            import_weights(tmp_path / "half.pth")
    (tmp_path / "a.onnx").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"suffix '\.onnx'.*\.safetensors"):
        import_weights(tmp_path / "a.onnx")

"""Weights that others published: every layout comes back with equal tensors, all else is refused with a reason."""

import argparse
import gzip
import hashlib
import os
import pickle
import re
import sys
import types
import zipfile
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
from maskinv_lib.networks.naming import mxnet_name
from maskinv_lib.networks.published import CONTRACTS, import_weights
from maskinv_lib.networks.templates import NetworkRecogniser
from maskinv_lib.networks.weights import save_network
from tests.networks.samples import faces, same_tensors

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def iresnet18():
    return build_network("iresnet18", embedding_size=24, seed=4).eval()


@pytest.fixture(scope="module")
def compact():
    return build_network("compact", 24, seed=4).eval()


@pytest.fixture(scope="module")
def mobile():
    return build_network("mobilefacenet", embedding_size=20, seed=4).eval()


def plain(network) -> dict:
    return dict(network.state_dict())


def behind(prefix: str, tensors: dict) -> dict:
    return {prefix + name: tensor for name, tensor in tensors.items()}


HEAD = torch.zeros(9, 24)

LAYOUTS = {  # name -> (what is in the file, what is left out)
    "bare": (lambda tensors: tensors, []),
    "in state_dict": (lambda tensors: {"epoch": 3, "state_dict": behind("module.", tensors)}, []),
    "in backbone": (lambda tensors: {"backbone": tensors, "head": {"weight": HEAD}}, ["head.weight"]),
    "in both": (lambda tensors: {"state_dict": {"backbone": tensors}}, []),
    "in any dict": (lambda tensors: {"a": {"b": {"c.d": {1: tensors}}}, "epoch": 3}, []),
    "twice the same": (lambda tensors: {"model": tensors, "net": behind("net.", tensors)}, ["net.*"]),
    "without counters": (lambda tensors: {n: t for n, t in tensors.items() if "tracked" not in n}, []),
    "with a kernel": (lambda tensors: behind("model.", tensors) | {"head.kernel": HEAD.T, "head.t": torch.zeros(1)},
                      ["head.kernel", "head.t"]),
    "with a bias": (lambda tensors: behind("0.", tensors) | {"1.weight": HEAD, "1.bias": torch.zeros(9)},
                    ["1.weight", "1.bias"]),
    "beside a weight": (lambda tensors: {"weight": HEAD, "net": tensors}, ["weight"]),
    "with an optimiser": (
        lambda tensors: {"model": tensors, "optimizer": {"state": dict(enumerate({"m": t} for t in tensors.values()))}},
        ["optimizer.*"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_network_comes_back_from_every_layout(tmp_path, compact, layout):
    path = tmp_path / "backbone.pth"
    pack, left_out = LAYOUTS[layout]
    torch.save(pack(plain(compact)), path)
    network, facts = import_weights(path)
    assert network.training and same_tensors(network, compact)
    frozen = [name for name, parameter in network.named_parameters() if not parameter.requires_grad]
    assert frozen == ["features.weight"]
    assert facts == {
        "file": "backbone.pth",
        "file_sha256": hashlib.sha256(path.read_bytes()).hexdigest()[:16],
        "network": "compact",
        "embedding_size": 24,
        "input_contract": "minus one to one",
        **({"left_out": left_out} if left_out else {}),
    }


PREFIXES = ("module.", "model.", "backbone.", "net.", "encoder.", "features.module.", "module.features.", "_orig_mod.")


@pytest.mark.parametrize("nest", ["state_dict", "state_dict_backbone", "model", "model_state_dict", "net", "backbone"])
@pytest.mark.parametrize("prefix", [*PREFIXES, "module.module.", "_orig_mod.module.model._orig_mod.", "x.y."])
def test_any_prefix_under_any_key_is_found(tmp_path, compact, nest, prefix):
    torch.save({nest: behind(prefix, plain(compact)), "lr": 0.1}, tmp_path / "a.ckpt")
    network, facts = import_weights(tmp_path / "a.ckpt")
    assert same_tensors(network, compact) and "left_out" not in facts


def test_wrappers_inside_the_names_are_removed(tmp_path, compact):
    tensors = {name.replace("layer2.0.", "layer2._orig_mod.0."): tensor for name, tensor in plain(compact).items()}
    torch.save(tensors, tmp_path / "a.pt")
    assert same_tensors(import_weights(tmp_path / "a.pt")[0], compact)


@pytest.mark.parametrize("shape", [(9, 24), (24, 9)])
def test_the_classifier_fc_is_not_the_fc_of_the_backbone(tmp_path, iresnet18, shape):
    sparse = {name: tensor.bfloat16() for name, tensor in plain(iresnet18).items() if "tracked" not in name}
    tensors = {**behind("features.module.", sparse), "fc.weight": torch.ones(shape)}
    torch.save({"state_dict": tensors, "arch": "iresnet18"}, tmp_path / "magface.ckpt")
    network, facts = import_weights(tmp_path / "magface.ckpt", contract="zero to one")
    assert (facts["network"], facts["embedding_size"], facts["left_out"]) == ("iresnet18", 24, ["fc.weight"])
    assert torch.equal(network.fc.weight, iresnet18.fc.weight.bfloat16().float())


SUFFIXES = (".pth", ".pt", ".ckpt", ".bin", ".tar", ".model", ".safetensors", ".onnx", "")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
def test_the_content_and_not_the_suffix_says_what_a_file_is(tmp_path, compact, suffix, form):
    path = tmp_path / f"weights{suffix}"
    if form == "safetensors":
        save_file(plain(compact), path)
    else:
        torch.save(plain(compact), path, _use_new_zipfile_serialization=form == "zip")
    network, facts = import_weights(path)
    assert same_tensors(network, compact) and facts["file"] == path.name


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("counters", [True, False])
def test_other_precisions_become_float32(tmp_path, compact, dtype, counters):
    torch.save(
        {n: t.to(dtype) if t.is_floating_point() or counters else t for n, t in plain(compact).items()},
        tmp_path / "a.pt",
    )
    network, _ = import_weights(tmp_path / "a.pt")
    assert {t.dtype for t in network.state_dict().values()} == {torch.float32, torch.int64}
    assert torch.equal(network.conv1.weight, compact.conv1.weight.to(dtype).float())


def test_safetensors_of_others_and_of_this_study(tmp_path, iresnet18):
    save_file(plain(iresnet18), tmp_path / "theirs.safetensors", metadata={"format": "pt"})
    assert same_tensors(import_weights(tmp_path / "theirs.safetensors")[0], iresnet18)
    ours = build_network("compact", 16)
    ours.contract = CONTRACTS["zero to one"]
    save_network(tmp_path / "ours.safetensors", ours, {"seed": 1, "file_sha256": "of the weights it was made of"})
    network, facts = import_weights(tmp_path / "ours.safetensors")
    assert facts["seed"] == 1
    assert facts["file_sha256"] == hashlib.sha256((tmp_path / "ours.safetensors").read_bytes()).hexdigest()[:16]
    assert same_tensors(network, ours) and (facts["network"], facts["input_contract"]) == ("compact", "zero to one")
    with pytest.raises(ValueError, match="has its own input contract"):
        import_weights(tmp_path / "ours.safetensors", contract="minus one to one")


def to_mxnet(network) -> dict:
    return {mxnet_name(name): tensor for name, tensor in plain(network).items() if "tracked" not in name}


def test_mobilefacenet_comes_back_from_its_mxnet_names(tmp_path, mobile):
    tensors = to_mxnet(mobile)
    assert len(tensors) == 284
    tensors["fc1_gamma"] = torch.full((20,), 7.0)  # fixed to 1 in MXNet's graph, whatever is stored
    save_file(behind("arg.", tensors), tmp_path / "y1.safetensors")
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
        "nearest is iresnet18 at 24-D",
        "1 missing (layer2.0.prelu.weight)",
        "1 unexpected (extra.weight)",
        "1 misshaped (fc.weight: torch.float32 [24, 7] instead of torch.float32 [24, 25088])",
    ):
        assert words in message


def test_a_larger_network_is_not_taken_for_the_smaller_one_in_it(tmp_path, iresnet18):
    tensors = plain(iresnet18)
    tensors |= {name.replace("layer1.1", "layer1.2"): t for name, t in tensors.items() if name.startswith("layer1.1")}
    torch.save(tensors, tmp_path / "deep.pth")
    with pytest.raises(ValueError, match=r"nearest is iresnet18 at 24-D: 18 unexpected \(layer1\.2\.bn1\.weight, "):
        import_weights(tmp_path / "deep.pth")


EXTRA = {
    "a projection": {"proj.0.weight": torch.zeros(16, 24), "proj.1.running_mean": torch.zeros(16)},
    "a square matrix": {"proj.weight": torch.eye(24)},
    "a convolution": {"stn.weight": torch.zeros(9, 24, 3, 3)},
    "a scale": {"scale": torch.ones(24)},
}


@pytest.mark.parametrize("extra", EXTRA)
def test_what_may_belong_to_the_network_is_not_left_out(tmp_path, compact, extra):
    torch.save(plain(compact) | EXTRA[extra], tmp_path / "a.pth")
    with pytest.raises(ValueError, match=rf"compact at 24-D: 1 unexpected \({list(EXTRA[extra])[-1]}\)"):
        import_weights(tmp_path / "a.pth")


@pytest.mark.parametrize("nested", [True, False])
def test_two_networks_in_one_file_are_refused(tmp_path, compact, nested):
    parts = {"student": plain(compact), "teacher": plain(build_network("compact", 16))}
    flat = {f"{key}.{name}": tensor for key, part in parts.items() for name, tensor in part.items()}
    torch.save(parts if nested else {"state_dict": flat}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"two networks: compact at 24-D under '\S*student' and compact at 16-D under"):
        import_weights(tmp_path / "a.pth")


# What is beside the tensors


def test_settings_beside_the_tensors_are_ignored(tmp_path, compact, monkeypatch):
    dots = type("EasyDict", (dict,), {"__module__": "easydict"})
    monkeypatch.setitem(sys.modules, "easydict", types.SimpleNamespace(EasyDict=dots))
    settings = {
        "hyper_parameters": argparse.Namespace(lr=0.1, inner=argparse.Namespace(x=[1])),
        "best": np.float64(0.9),
        "curve": np.arange(3),
        "folder": Path("x/y"),
        "config": dots(lr=dots(start=1)),
        "callbacks": {"a": {1, 2}, "b": (None, True, "text", b"bytes")},
    }
    torch.save({**settings, "state_dict": behind("model.", plain(compact))}, tmp_path / "lightning.ckpt")
    monkeypatch.delitem(sys.modules, "easydict")
    network, facts = import_weights(tmp_path / "lightning.ckpt")
    assert same_tensors(network, compact) and "left_out" not in facts


def test_a_class_that_torch_refuses_is_named_with_the_remedy(tmp_path, compact):
    torch.save(compact, tmp_path / "whole.pth")
    with pytest.raises(ValueError, match=r"whole\.pth asks for code beyond tensors \(maskinv_lib\.networks") as caught:
        import_weights(tmp_path / "whole.pth")
    assert "torch.save(network.state_dict(), file)" in str(caught.value) and "\n" not in str(caught.value)


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
    "no tensor (its keys: epoch, lr)": {"epoch": 3, "lr": 0.1},
    "it is empty": {},
    "holds a Tensor": torch.zeros(3),
    "fits no registered network": {"features.weight": torch.zeros(0), "conv.weight": torch.zeros(1, 1, 1, 1)},
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_is_no_network_is_refused_with_a_reason(tmp_path, words):
    torch.save(REFUSED[words], tmp_path / "a.pth")
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        import_weights(tmp_path / "a.pth")
    assert "a.pth" in str(caught.value)


def test_weights_that_are_not_finite_are_refused(tmp_path, compact):
    tensors = plain(compact) | {"layer3.0.conv1.weight": torch.full((128, 128, 3, 3), torch.inf)[:, :64]}
    torch.save(tensors, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"a\.pth is no usable network: layer3\.0\.conv1\.weight holds NaN or"):
        import_weights(tmp_path / "a.pth")


def archived(path: Path, *names: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")


FOREIGN = {
    "is empty. Download it again": b"",
    "holds zeros alone": bytes(4000),
    "is a web page": b"\n<!DOCTYPE html><html><body>Quota exceeded</body></html>",
    "Fetch that with: git lfs pull": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
    "is a text file ('404: Not Found' ...)": b"404: Not Found\n",
    "is a gzip archive. Unpack it": gzip.compress(b"weights"),
    "is an HDF5 file": b"\x89HDF\r\n\x1a\n" + bytes(99),
    "is a parameter file of MXNet": b"\x12\x01\0\0\0\0\0\0" + bytes(99),
    "is an ONNX file. Commands take it as a model": b"\x08\x07\x12\x07pytorch\x1a\x032.3",
    "is a pickle, but not of torch.save": pickle.dumps({"a": 1}),
    "is damaged or of an unknown kind": b"\x93\xff\x00\x01" * 50,
}


@pytest.mark.parametrize("words", FOREIGN)
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_what_is_no_file_of_weights_is_named_with_the_remedy(tmp_path, words):
    (tmp_path / "a.pth").write_bytes(FOREIGN[words])
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        import_weights(tmp_path / "a.pth")
    assert "a.pth" in str(caught.value) and "\n" not in str(caught.value)


def test_archives_of_another_kind_and_folders_are_named(tmp_path):
    archived(tmp_path / "a.pth", "weights.pth")
    with pytest.raises(ValueError, match=r"a\.pth is a zip archive \(weights\.pth\), but not of torch\.save"):
        import_weights(tmp_path / "a.pth")
    archived(tmp_path / "b.pth", "b/data.pkl", "b/constants.pkl")
    with pytest.raises(ValueError, match=r"b\.pth is a TorchScript program"):
        import_weights(tmp_path / "b.pth")
    with pytest.raises(ValueError, match="is a folder, not a file"):
        import_weights(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"gone\.pth"):
        import_weights(tmp_path / "gone.pth")


@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
def test_half_written_files_are_named(tmp_path, compact, form):
    path = tmp_path / "half.pth"
    if form == "safetensors":
        save_file(plain(compact), path)
    else:
        torch.save(plain(compact), path, _use_new_zipfile_serialization=form == "zip")
    content = path.read_bytes()
    for size in (100, len(content) // 2, len(content) - 50):
        path.write_bytes(content[:size])
        with pytest.raises(ValueError, match=r"half\.pth is half-written"):
            import_weights(path)


def test_a_changed_byte_in_a_file_of_torch_save_is_found(tmp_path, compact):
    torch.save(plain(compact), tmp_path / "a.pth")
    content = bytearray((tmp_path / "a.pth").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.pth is damaged: \S+/data/\d+ in it differs from its checksum"):
        import_weights(tmp_path / "a.pth")

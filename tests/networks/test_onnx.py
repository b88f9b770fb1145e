"""Exported graphs give torch's templates for every batch size, say their contract, and carry no trace of a machine."""

import json
import sys

import numpy as np
import pytest
import torch

from maskinv_lib.networks import build_network
from maskinv_lib.networks.onnx import export_onnx
from maskinv_lib.networks.templates import NetworkRecogniser
from maskinv_lib.networks.upper_face import ROW
from tests.networks.samples import faces, trained

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    """Return a function that exports a network by name, once: (network in training mode, path)."""
    exports = {}

    def exported(name):
        if name not in exports:
            network, folder = trained(name, 64), tmp_path_factory.mktemp("onnx")
            exports[name] = network, export_onnx(network, folder / "model.onnx", {"stage": "maskinv-hg", "seed": 3})
        return exports[name]

    return exported


@pytest.fixture(params=["compact", "mobilefacenet", "upper-face:compact", "two-branch:compact"])
def exported(request, export):
    return export(request.param)


def session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run(path, images):
    """Return the graph's embeddings of uint8 faces."""
    return session(path).run(None, {"pixels": images.numpy().astype(np.float32)})[0]


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_templates_are_torch_s_for_any_batch_size(exported, batch):
    network, path = exported
    images = faces(batch, seed=batch)
    embeddings = run(path, images)
    expected = NetworkRecogniser(network).embeddings(images, flip=False).numpy()
    assert embeddings.dtype == np.float32 and embeddings.shape == (batch, 64)
    assert np.allclose(embeddings, expected, atol=1e-4)
    unit = [e / np.linalg.norm(e, axis=1, keepdims=True) for e in (embeddings, expected)]
    assert np.abs(unit[0] - unit[1]).max() < 1e-5


def test_a_template_is_the_sum_of_both_views(exported):
    network, path = exported
    images = faces(3)
    views = [run(path, x) for x in (images, images.flip(-1))]
    summed = sum(views) / np.linalg.norm(sum(views), axis=1, keepdims=True)
    assert np.abs(summed - NetworkRecogniser(network).templates(images).numpy()).max() < 1e-5


def test_the_file_says_its_contract(exported):
    network, path = exported
    model = onnx.load(path)
    metadata = {prop.key: prop.value for prop in model.metadata_props}
    assert "RGB, values 0 to 255" in metadata["input"] and "no mirror image" in metadata["output"]
    assert (metadata["network"], metadata["embedding_size"]) == (network.name, "64")
    assert (metadata["stage"], json.loads(metadata["seed"])) == ("maskinv-hg", 3)
    (entry,), (out,) = session(path).get_inputs(), session(path).get_outputs()
    assert (entry.name, entry.type, entry.shape) == ("pixels", "tensor(float)", ["batch", 3, 112, 112])
    assert (out.name, out.shape[0]) == ("embedding", "batch")


def test_the_file_is_whole_and_carries_no_trace_of_a_machine(exported):
    path = exported[1]
    assert [part.name for part in path.parent.iterdir()] == [path.name]
    data = path.read_bytes()
    for trace in (b"site-packages", b"stack_trace", b'File "', b"maskinv_lib/", str(path.parent).encode()):
        assert trace not in data


def test_an_exported_upper_face_network_does_not_see_the_lower_face(export):
    below = faces(3)
    below[:, :, ROW:] = 7
    path = export("upper-face:compact")[1]
    assert np.array_equal(run(path, faces(3)), run(path, below))


def test_exporting_leaves_the_network_as_it_was(exported):
    network = exported[0]
    assert all(module.training for module in network.modules())
    assert all(p.grad is None for p in network.parameters())
    assert torch.is_grad_enabled()


def test_another_ending_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"x\.pt does not end in \.onnx"):
        export_onnx(build_network("compact", 16), tmp_path / "x.pt")


@pytest.mark.parametrize("name", ["onnx", "onnxscript"])
def test_a_missing_package_is_named_with_its_remedy(tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(RuntimeError, match=rf"needs the package {name} .*\[onnx\]"):
        export_onnx(build_network("compact", 16), tmp_path / "x.onnx")
    assert not (tmp_path / "x.onnx").exists()

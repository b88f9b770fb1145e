"""ONNX files of any origin and Python functions as recognisers: right templates, or one error that says why not."""

import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from maskinv_lib.networks import build_network
from maskinv_lib.networks.foreign import ForeignRecogniser, imported_function, opened_onnx
from maskinv_lib.networks.templates import NetworkRecogniser
from tests.networks.samples import faces

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

IMAGE = {"name": "data", "shape": ["N", 3, 112, 112]}
FLOAT = onnx.TensorProto.FLOAT


def written(path, inputs=(IMAGE,), outputs=(("fc1", ["N", 5]),), kind=FLOAT, **metadata):
    """Write a graph that averages the first input over height and width and multiplies the channels by WEIGHT.

    Further outputs are the first number of each embedding, [N, 1].
    """
    helper = onnx.helper
    shape = inputs[0]["shape"]
    axes = [1, 2] if shape[-1] == 3 else [2, 3]
    weight = onnx.numpy_helper.from_array(WEIGHT.numpy().astype(helper.tensor_dtype_to_np_dtype(kind)), "weight")
    nodes = [
        helper.make_node("ReduceMean", [inputs[0]["name"], "axes"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "weight"], [outputs[0][0]]),
        *(helper.make_node("ReduceMax", [outputs[0][0], "last"], [name], keepdims=1) for name, _ in outputs[1:]),
    ]
    constants = [weight] + [onnx.numpy_helper.from_array(np.array(a), n) for n, a in (("axes", axes), ("last", [1]))]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(part["name"], part.get("kind", kind), part["shape"]) for part in inputs],
        [helper.make_tensor_value_info(name, kind, shape) for name, shape in outputs],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    for key, value in metadata.items():
        model.metadata_props.add(key=key, value=value)
    onnx.save_model(model, path)
    return path


WEIGHT = torch.arange(15.0).reshape(3, 5).sin()


def expected(images, mean=127.5, scale=127.5):
    """Return flip-summed templates of the graph's function, by hand: a mirror image has the same mean."""
    return F.normalize(((images.double() - mean) / scale).mean((2, 3)).float() @ WEIGHT, dim=1)


@pytest.mark.parametrize("batch", ["N", None, 1, 3, 70])
@pytest.mark.parametrize("count", [1, 4])
def test_any_batch_size_gives_the_same_templates(tmp_path, batch, count):
    path = written(tmp_path / "a.onnx", [{"name": "data", "shape": [batch, 3, 112, 112]}])
    images = 255 - faces(count) // 2
    assert torch.allclose(opened_onnx(path).templates(images), expected(images), atol=1e-4)


@pytest.mark.parametrize("shape", [["N", 112, 112, 3], [1, 112, 112, 3], ["N", "H", "W", 3], ["N", 3, "H", "W"]])
@pytest.mark.parametrize("kind", [FLOAT, onnx.TensorProto.FLOAT16])
def test_layout_and_precision_are_read_from_the_file(tmp_path, shape, kind):
    path = written(tmp_path / "a.onnx", [{"name": "x", "shape": shape}], [("e", [None, 5])], kind=kind)
    images = 255 - faces(2) // 2
    assert torch.allclose(opened_onnx(path).templates(images), expected(images), atol=1e-2)


@pytest.mark.parametrize(
    ("contract", "values"),
    [(None, (127.5, 127.5)), ("zero to one", (0.0, 255.0)), ("mobilefacenet y1", (127.5, 128.0))],
)
def test_the_contract_scales_the_pixels_of_foreign_files(tmp_path, contract, values):
    images = faces(3) // 3
    recogniser = opened_onnx(written(tmp_path / "a.onnx"), contract)
    assert torch.allclose(recogniser.templates(images), expected(images, *values), atol=1e-5)
    embeddings = ((images.double() - values[0]) / values[1]).mean((2, 3)).float() @ WEIGHT
    assert torch.allclose(recogniser.embeddings(images, flip=False), embeddings, atol=1e-5)
    facts = {name: recogniser.facts[name] for name in ("file", "network", "embedding_size", "input_contract")}
    name = contract or "minus one to one"
    assert facts == {"file": "a.onnx", "network": "onnx", "embedding_size": 5, "input_contract": name}
    with pytest.raises(ValueError, match="Did you mean 'zero to one'"):
        opened_onnx(tmp_path / "a.onnx", "zero to on")


def test_a_file_of_this_library_gets_raw_pixels(tmp_path):
    pytest.importorskip("onnxscript")
    from maskinv_lib.networks.onnx import export_onnx

    network = build_network("compact", 16, seed=3)
    path = export_onnx(network, tmp_path / "a.onnx", {"stage": "kd-only", "seed": 4})
    recogniser, images = opened_onnx(path), faces(3)
    assert torch.allclose(recogniser.templates(images), NetworkRecogniser(network).templates(images), atol=1e-5)
    names = ("network", "embedding_size", "stage", "seed", "input_contract")
    assert [recogniser.facts[name] for name in names] == ["compact", 16, "kd-only", 4, "raw pixels"]
    with pytest.raises(ValueError, match=r"a\.onnx scales the pixels itself\. Leave contract='zero to one' out"):
        opened_onnx(path, "zero to one")


def test_a_norm_beside_the_embedding_is_named_and_left_out(tmp_path):
    path = written(tmp_path / "a.onnx", outputs=(("feature", ["N", 5]), ("norm", ["N", 1])))
    recogniser = opened_onnx(path)
    assert recogniser.facts["left_out"] == ["norm"]
    assert recogniser.embeddings(faces(2), flip=False).shape == (2, 5)


def declared(path, inputs, outputs=("fc1",)):
    """Write a graph whose outputs are the numbers of the first input, [N, K] each."""
    helper = onnx.helper
    made = [helper.make_tensor_value_info(part["name"], part.get("kind", FLOAT), part["shape"]) for part in inputs]
    nodes = [helper.make_node("Flatten", [inputs[0]["name"]], ["flat"])]
    nodes += [helper.make_node("Cast", ["flat"], [name], to=FLOAT) for name in outputs]
    ends = [helper.make_tensor_value_info(name, FLOAT, ["N", "K"]) for name in outputs]
    graph = helper.make_graph(nodes, "graph", made, ends)
    onnx.save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


ODD = {
    "another size": [{"name": "data", "shape": [1, 3, 160, 160]}],
    "one channel": [{"name": "data", "shape": [1, 1, 112, 112]}],
    "no known layout": [{"name": "data", "shape": ["N", "C", "H", "W"]}],
    "no picture": [{"name": "data", "shape": ["N", 512]}],
    "several": [IMAGE, {"name": "mask", "shape": ["N", 1]}],
    "whole numbers": [{**IMAGE, "kind": onnx.TensorProto.UINT8}],
}


@pytest.mark.parametrize("odd", ODD)
def test_other_inputs_are_one_error(tmp_path, odd):
    path = declared(tmp_path / "odd.onnx", ODD[odd])
    with pytest.raises(ValueError, match=r"odd\.onnx must have one input float \[N, 3, .* not: data tensor\(.+ \["):
        opened_onnx(path)


def test_several_embeddings_are_one_error(tmp_path):
    path = declared(tmp_path / "odd.onnx", [IMAGE], ["a", "b"])
    with pytest.raises(ValueError, match=r"odd\.onnx must have one output float \[N, D\].* not: a tensor.*, b tensor"):
        opened_onnx(path)


def test_a_damaged_file_and_a_missing_package_are_one_error(tmp_path, monkeypatch):
    content = written(tmp_path / "a.onnx").read_bytes()
    (tmp_path / "a.onnx").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"a\.onnx does not open with onnxruntime \(") as caught:
        opened_onnx(tmp_path / "a.onnx")
    assert "\n" not in str(caught.value)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(RuntimeError, match=r"a\.onnx needs onnxruntime .* pip install -e '\.\[onnx\]'"):
        opened_onnx(tmp_path / "a.onnx")


def test_it_runs_on_torch_s_threads(tmp_path, monkeypatch):
    import onnxruntime

    asked, real = [], onnxruntime.InferenceSession

    def opened(path, options, **rest):
        asked.append(options)
        return real(path, options, **rest)

    monkeypatch.setattr(onnxruntime, "InferenceSession", opened)
    torch.set_num_threads(2)
    opened_onnx(written(tmp_path / "a.onnx"))
    assert (asked[0].intra_op_num_threads, asked[0].inter_op_num_threads) == (2, 1)


# Python functions

MODULE = """
import numpy as np
import torch

calls = []

def means(faces):
    calls.append((faces.dtype, tuple(faces.shape), torch.is_grad_enabled()))
    return faces.double().mean((2, 3))

def array(faces):
    return means(faces).numpy().astype(np.float16)

def changes(faces):
    result = means(faces)
    faces.zero_()
    return result

def fails(faces):
    raise KeyError("no such layer")

class Model:
    @staticmethod
    def embed(faces):
        return means(faces)

def at_random(faces):
    return torch.zeros(len(faces), len(calls) + len(faces))

number = 3

class Normed(torch.nn.BatchNorm1d):
    def forward(self, faces):
        return super().forward(faces.float().mean((2, 3)))

normed = Normed(3)
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A folder with modules of one's own, which is the working directory."""
    (tmp_path / "maskinv_mine").mkdir()
    (tmp_path / "maskinv_mine" / "__init__.py").write_text("")
    (tmp_path / "maskinv_mine" / "model.py").write_text(MODULE)
    (tmp_path / "maskinv_mine" / "broken.py").write_text("raise OSError('no weights here')")
    (tmp_path / "maskinv_mine" / "ends.py").write_text("raise SystemExit(0)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path not in ("", ".")])
    yield "maskinv_mine.model"
    for name in [name for name in sys.modules if name.startswith("maskinv_mine")]:
        del sys.modules[name]


@pytest.mark.parametrize("function", ["means", "array", "changes", "Model.embed"])
def test_a_function_of_the_working_directory_gives_templates(mine, function):
    images = faces(70)
    before = images.clone()
    recogniser = imported_function(f"{mine}:{function}")
    means = images.double().mean((2, 3)).float()
    assert torch.allclose(recogniser.embeddings(images, flip=True), means, rtol=1e-3)
    templates = recogniser.templates(images)
    assert templates.dtype == torch.float32 and torch.equal(images, before)
    assert torch.allclose(templates, F.normalize(means, dim=1), atol=1e-3)
    assert recogniser.facts == {"network": f"{mine}:{function}", "input_contract": "its own"}
    seen = sys.modules[mine].calls
    assert seen[:2] == [(torch.uint8, (64, 3, 112, 112), False), (torch.uint8, (6, 3, 112, 112), False)]


def test_a_torch_module_is_put_in_evaluation_mode(mine):
    recogniser, images = imported_function(f"{mine}:normed"), faces(3)
    together = recogniser.embeddings(images, flip=False)
    assert torch.equal(together[:1], recogniser.embeddings(images[:1], flip=False))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("maskinv_nobody:f", r"There is no file maskinv_nobody:f, .*No module named 'maskinv_nobody'"),
        ("maskinv_mine.model:meens", r"maskinv_mine\.model:meens, .*has no attribute 'meens'"),
        ("maskinv_mine.broken:f", r"OSError: no weights here"),
        ("maskinv_mine.ends:f", r"SystemExit: 0"),
        ("maskinv_mine.model:number", r"model:number is a int, not a function"),
        ("maskinv_mine.model:Model", r"model:Model is a type, not a function"),
    ],
)
def test_what_cannot_be_imported_is_one_error(mine, text, message):
    with pytest.raises(ValueError, match=message):
        imported_function(text)


RESULTS = {
    r"not torch\.float32 \[2\]": torch.zeros(2),
    r"not float32 \[1, 8\]": np.zeros((1, 8), np.float32),
    r"not int64 \[2, 8\]": np.zeros((2, 8), np.int64),
    r"not torch.uint8 \[2, 8\]": torch.zeros(2, 8, dtype=torch.uint8),
    "not list": [[0.0], [1.0]],
    "not NoneType": None,
}


@pytest.mark.parametrize("message", RESULTS)
def test_a_result_of_another_kind_is_named(message):
    recogniser = ForeignRecogniser(lambda faces: RESULTS[message], "mine:embed", {})
    with pytest.raises(ValueError, match=rf"mine:embed must give embeddings float \[2, D\] for 2 faces.* {message}"):
        recogniser.templates(faces(2))


def test_errors_inside_a_function_have_its_name(mine):
    with pytest.raises(
        RuntimeError, match=r"model:fails failed on faces uint8 \[2, 3, 112, 112\] \(KeyError: 'no such"
    ):
        imported_function(f"{mine}:fails").templates(faces(2))
    with pytest.raises(ValueError, match=r"model:at_random gave embeddings of different sizes: \[6, 64\]"):
        imported_function(f"{mine}:at_random").templates(faces(70))


@pytest.mark.parametrize("images", [faces(2).float() / 255, faces(2)[:, :, :96], faces(2).permute(0, 2, 3, 1)])
def test_other_faces_are_refused_before_the_function_sees_them(images):
    with pytest.raises(ValueError, match=r"expects uint8|takes faces as uint8"):
        ForeignRecogniser(pytest.fail, "mine:embed", {}).templates(images)

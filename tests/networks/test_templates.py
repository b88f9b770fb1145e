"""Templates: flip-summed, of unit length, independent of the batch, cached."""

import pytest
import torch

from maskinv_lib.faces import Faces
from maskinv_lib.networks import InputContract
from maskinv_lib.networks.templates import NetworkRecogniser, cached_templates, similarity, teacher_templates
from tests.networks.samples import faces as noise
from tests.networks.samples import trained

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def images():
    return noise(6, seed=1)


@pytest.fixture
def network():
    return trained("compact")


def by_hand(network, images):
    """Embed one face at a time: e(x) + e(mirror of x), divided by its length."""
    modes = [m.training for m in network.modules()]
    network.eval()
    with torch.no_grad():
        total = torch.cat([network(x[None]) + network(x[None].flip(3)) for x in images])
    for module, mode in zip(network.modules(), modes, strict=True):
        module.training = mode
    return total / total.square().sum(1, keepdim=True).sqrt()


def test_templates_are_flip_summed_and_of_unit_length(network, images):
    templates = NetworkRecogniser(network).templates(images[:5])
    assert templates.shape == (5, 32) and templates.dtype == torch.float32
    assert torch.allclose(templates, by_hand(network, images[:5]), atol=1e-5)
    mirrored = NetworkRecogniser(network).templates(images[:5].flip(-1))
    assert torch.allclose(templates, mirrored, atol=1e-5)


def test_inference_changes_nothing_in_the_network(network, images):
    network.layer1.eval()  # a part that its owner froze stays frozen
    before = {key: value.clone() for key, value in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    NetworkRecogniser(network).templates(images[:3])
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


def test_inference_ignores_autocast_and_asks_for_no_gradient(network, images):
    recogniser = NetworkRecogniser(network)
    exact = recogniser.templates(images[:3])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = recogniser.templates(images[:3])
    assert torch.equal(exact, under) and not exact.requires_grad
    weight = torch.ones(32, requires_grad=True)
    (exact * weight).sum().backward()  # templates may be constants of a loss


def test_precision_settings_come_back(network, images):
    torch.set_float32_matmul_precision("medium")
    try:
        NetworkRecogniser(network).templates(images[:1])
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("mean, scale", [(127.5, 127.5), (127.5, 128.0), (0.0, 255.0)])
def test_uint8_and_float_faces_give_the_same_templates(network, images, mean, scale):
    network.contract = InputContract(name="test", mean=mean, scale=scale)
    recogniser = NetworkRecogniser(network)
    templates = recogniser.templates(images[:4]), recogniser.templates(images[:4] / 127.5 - 1)
    assert torch.allclose(*templates, atol=1e-4)


def test_teacher_templates_hold_a_target_for_each_flip(network, images):
    faces = Faces(images=images[:6], identity=torch.arange(6), source="test", publishable=True)
    recogniser = NetworkRecogniser(network)
    targets = teacher_templates(recogniser, faces)
    assert targets.shape == (2, 6, 32) and torch.allclose(targets.norm(dim=2), torch.ones(2, 6), atol=1e-5)
    raw = recogniser.embeddings(images[:6], flip=False)
    assert torch.allclose(targets[0] * raw.norm(dim=1, keepdim=True), raw, atol=1e-4)
    mirrored = Faces(images=images[:6].flip(-1), identity=torch.arange(6), source="test", publishable=True)
    assert torch.allclose(targets.flip(0), teacher_templates(recogniser, mirrored), atol=1e-5)
    assert not torch.allclose(targets[0], targets[1], atol=1e-2)


class Counted:
    """A computation that counts its calls."""

    calls = 0

    def __call__(self):
        self.calls += 1
        return torch.arange(12.0).reshape(2, 2, 3)


def test_cached_templates_are_computed_once_per_key(tmp_path):
    compute = Counted()
    first = cached_templates(tmp_path / "new folder", "abc", compute)
    again = cached_templates(tmp_path / "new folder", "abc", compute)
    assert torch.equal(first, again) and compute.calls == 1
    cached_templates(tmp_path / "new folder", "other", compute)
    assert compute.calls == 2


@pytest.mark.parametrize("damage", ["half", "byte", "nothing left"])
def test_a_damaged_cache_is_computed_again(tmp_path, damage):
    compute = Counted()
    cached_templates(tmp_path, "abc", compute)
    path = tmp_path / "abc.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes({"half": content[: len(content) // 2], "byte": content, "nothing left": b""}[damage])
    assert torch.equal(cached_templates(tmp_path, "abc", compute), compute()) and compute.calls == 3
    assert torch.equal(cached_templates(tmp_path, "abc", compute), compute()) and compute.calls == 4
    assert [p.name for p in tmp_path.iterdir()] == ["abc.safetensors"]


def test_an_interrupted_computation_leaves_no_file(tmp_path):
    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached_templates(tmp_path, "abc", stop)
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_the_computation_is_not_swallowed(tmp_path):
    def fail():
        raise ValueError("no teacher")

    with pytest.raises(ValueError, match="no teacher"):
        cached_templates(tmp_path, "abc", fail)


def test_similarity_is_the_cosine_of_every_pair():
    a, b = torch.tensor([[3.0, 4.0], [0.0, 2.0]]), torch.tensor([[4.0, 3.0], [-1.0, 0.0], [0.0, 1.0]])
    expected = torch.tensor([[24 / 25, -3 / 5, 4 / 5], [3 / 5, 0.0, 1.0]])
    assert torch.allclose(similarity(a, b), expected, atol=1e-6)
    assert similarity(a.double(), b.half()).dtype == torch.float32

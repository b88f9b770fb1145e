"""What every registered network promises: its shapes, weights from the seed, templates, training, files and errors."""

import re

import pytest
import torch
import torch.nn.functional as F

from maskinv_lib.networks import AROUND, NETWORKS, build_network, map_shape, outline
from maskinv_lib.networks.templates import NetworkRecogniser
from maskinv_lib.networks.weights import load_network, save_network
from tests.networks.samples import faces, same_tensors, trained

torch.set_num_threads(1)

REGISTERED = [*NETWORKS, *(f"{around}:{inner}" for around in AROUND for inner in NETWORKS)]
NAMES = ["compact", "iresnet18", "mobilefacenet", "upper-face:compact", "two-branch:compact"]


@pytest.fixture(scope="module", params=NAMES)
def network(request):
    """A network of an odd embedding size; tests leave it as it is."""
    return trained(request.param, 33)


@pytest.mark.parametrize("name", REGISTERED)
def test_name_sizes_contract_and_frozen_tensors(name):
    inner, usual, network = outline(name.split(":")[-1]), outline(name), outline(name, 48)
    channels, side = (256, 2) if name.endswith("compact") else (512, 7)
    assert map_shape(name) == (2 * channels if name.startswith("two-branch") else channels, side, side)
    assert usual.embedding_size == inner.embedding_size == (512 if "iresnet" in name else 128)
    assert (network.name, network.embedding_size, network.contract) == (name, 48, inner.contract)
    frozen = [key for key, parameter in network.named_parameters() if not parameter.requires_grad]
    assert frozen == [key for key in network.state_dict() if re.search(r"(^|\.)features\.weight$", key)] != []


@pytest.mark.parametrize("name", NAMES)
def test_first_weights_are_a_function_of_the_seed(name):
    before = torch.get_rng_state()
    one = build_network(name, 32, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(7)
    same, other = build_network(name, 32, seed=1), build_network(name, 32, seed=2)
    assert same_tensors(one, same)
    for module, another in zip(one.modules(), other.modules(), strict=True):
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            assert not torch.equal(module.weight, another.weight)
        if isinstance(module, torch.nn.Conv2d) and module.weight.numel() > 20_000:
            bound = 0.02 if module.weight.numel() > 100_000 else 0.03  # fewer draws spread more
            assert module.weight.std().item() == pytest.approx(0.1, rel=bound)
        if isinstance(module, torch.nn.PReLU):
            assert module.weight.unique().tolist() == [0.25]


@torch.no_grad()
def test_templates_do_not_depend_on_batch_pixel_type_or_mode(network):
    images = faces(8 if network.name == "iresnet18" else 64)
    assert network.training
    recogniser = NetworkRecogniser(network, batch=64)
    alone, two, many = (recogniser.templates(images[:count]) for count in (1, 2, len(images)))
    assert network.training and many.shape == (len(images), 33)
    assert (alone - two[:1]).abs().max() < 1e-5 and (two - many[:2]).abs().max() < 1e-5
    assert torch.allclose(NetworkRecogniser(network, batch=3).templates(images[:4]), many[:4], atol=1e-5)
    assert torch.allclose(recogniser.templates(images[:4] / 127.5 - 1), many[:4], atol=1e-4)


@torch.no_grad()
def test_maps_come_in_the_same_pass_as_the_embeddings(network):
    network.eval()
    embeddings, maps = network.with_maps(faces())
    assert torch.equal(embeddings, network(faces())) and embeddings.shape == (4, 33)
    assert tuple(maps.shape[1:]) == map_shape(network.name)
    network.train()


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("name", [name for name in NAMES if name != "iresnet18"])  # it takes too long
def test_it_learns_in_fp32_and_bf16_channels_last(name, autocast):
    network = build_network(name, 16).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1)
    target = F.normalize(torch.randn(8, 16, generator=torch.Generator().manual_seed(0)))
    losses = []
    for _ in range(5):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            embeddings, maps = network.with_maps(faces(8).to(memory_format=torch.channels_last))
        assert embeddings.dtype == torch.float32 and maps.shape == (8, *map_shape(name))
        assert maps.dtype == (torch.bfloat16 if autocast else torch.float32)
        loss = (1 - (F.normalize(embeddings) * target).sum(1)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    for key, parameter in network.named_parameters():
        assert parameter.grad.isfinite().all() if parameter.requires_grad else (parameter == 1).all(), key
    counters = [value for key, value in network.state_dict().items() if key.endswith("num_batches_tracked")]
    assert set(map(int, counters)) == {5}


@torch.no_grad()
def test_it_comes_back_from_a_file(tmp_path, network):
    save_network(tmp_path / "model.safetensors", network, {"seed": 4})
    loaded, metadata = load_network(tmp_path / "model.safetensors")
    assert metadata["network"] == loaded.name == network.name
    assert metadata["embedding_size"] == loaded.embedding_size == 33 and metadata["seed"] == 4
    assert same_tensors(loaded, network) and loaded.contract == network.contract
    frozen = [[key for key, p in of.named_parameters() if not p.requires_grad] for of in (loaded, network)]
    assert frozen[0] == frozen[1]


@pytest.mark.parametrize("name", NAMES)
def test_it_starts_from_a_network_of_its_kind(name):
    network, other = build_network(name, 16, seed=2), build_network(name, 16, seed=3)
    network.start_from(other.state_dict())
    assert same_tensors(network, other)


FLOAT = torch.zeros(2, 3, 112, 112) - 0.5
REFUSED = {
    "none negative": FLOAT + 1,
    "0..255, hand them over as uint8": faces(2).float(),
    "from -3": FLOAT * 6,
    "NaN": FLOAT.clone().index_fill_(0, torch.tensor(1), float("nan")),
    "[2, 3, 112, 96]": FLOAT[..., :96],
    "[2, 3, 160, 160]": torch.zeros(2, 3, 160, 160, dtype=torch.uint8),
    "permute(0, 3, 1, 2)": faces(2).permute(0, 2, 3, 1),
    "three channels": faces(2)[:, :1],
    "torch.int64": faces(2).long(),
    "images[None]": faces(2)[0],
    "empty": faces(2)[:0],
    "ndarray": faces(2).numpy(),
}


@pytest.mark.parametrize("words", REFUSED)
def test_other_input_is_refused_and_modes_come_back(network, words):
    for use in (network, NetworkRecogniser(network).templates):
        with pytest.raises(ValueError, match=re.escape(words)) as caught:
            use(REFUSED[words])
        assert "uint8 [B, 3, 112, 112] RGB in 0..255, or the same shape as float in [-1, 1]" in str(caught.value)
    assert all(module.training for module in network.modules())


@pytest.mark.parametrize(
    "name, size, words",
    [
        ("iResNet50", None, "Did you mean 'iresnet50'"),
        ("uper-face:compact", None, "Did you mean 'upper-face'"),
        ("upper-face:compct", None, "Did you mean 'compact'"),
        ("upper-face:", None, "Unknown network ''"),
        *(("compact", size, "embedding_size must be a whole number from 1 up") for size in (0, 2.0)),
        *(
            ("two-branch:compact", size, "embedding_size of two branches must be a whole number from 2 up")
            for size in (1, 0, 2.0)
        ),
    ],
)
def test_unknown_names_and_sizes_are_refused(name, size, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        build_network(name, size)

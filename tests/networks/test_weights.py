"""Networks on disk: round trip, strictness, damage."""

import json
import struct

import pytest
import torch
from safetensors.torch import save_file

from maskinv_lib.networks import InputContract, build_network
from maskinv_lib.networks.weights import fits, load_network, read_tensors, save_network, write_tensors

torch.set_num_threads(1)


@pytest.fixture
def network():
    return build_network("compact", embedding_size=16, seed=5)


@pytest.fixture
def path(tmp_path, network):
    save_network(tmp_path / "model.safetensors", network, {"stage": "maskinv-lg", "seed": 3, "teacher": None})
    return tmp_path / "model.safetensors"


def resave(path, tensors, metadata):
    """Write a file around the checks of ``save_network``."""
    write_tensors(path, tensors, metadata)
    return path


def test_a_network_comes_back_with_its_facts(path, network):
    loaded, metadata = load_network(path)
    assert loaded.name == "compact" and loaded.embedding_size == 16
    assert metadata["stage"] == "maskinv-lg" and metadata["seed"] == 3 and metadata["teacher"] is None
    assert metadata["input_contract"] == {"name": "minus one to one", "mean": 127.5, "scale": 127.5}


def test_the_stored_contract_is_the_one_applied(tmp_path, network):
    network.contract = InputContract(name="zero to one", mean=0.0, scale=255.0)
    save_network(tmp_path / "a.safetensors", network, {})
    faces = torch.full((1, 3, 112, 112), 51, dtype=torch.uint8)
    assert load_network(tmp_path / "a.safetensors")[0].contract.scaled(faces).unique().tolist() == pytest.approx([0.2])


def test_channels_last_weights_are_stored_by_value(tmp_path, network):
    save_network(tmp_path / "a.safetensors", network.to(memory_format=torch.channels_last), {})
    assert torch.equal(load_network(tmp_path / "a.safetensors")[0].conv1.weight, network.conv1.weight)


def test_saving_takes_no_name_of_its_own_and_leaves_no_half_file(tmp_path, network):
    with pytest.raises(ValueError, match="embedding_size"):
        save_network(tmp_path / "a.safetensors", network, {"embedding_size": 4})
    with pytest.raises(ValueError):
        save_network(tmp_path / "a.safetensors", network, {"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.safetensors"):
        load_network(tmp_path / "gone.safetensors")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_half_written_file_is_refused(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ValueError, match=r"model\.safetensors is half-written or damaged"):
        load_network(path)


def test_a_changed_byte_among_the_weights_is_found(path):
    content = bytearray(path.read_bytes())
    content[-1000] ^= 0x10
    path.write_bytes(bytes(content))
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged.*checksum"):
        load_network(path)


def test_a_pickle_is_never_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return open, (str(tmp_path / "EXECUTED"), "w")

    torch.save({"conv1.weight": Trap()}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="damaged"):
        load_network(tmp_path / "model.safetensors")
    assert not (tmp_path / "EXECUTED").exists()


def test_tensors_of_another_network_are_refused_with_the_one_that_fits(path):
    tensors, metadata = read_tensors(path)
    with pytest.raises(ValueError) as caught:
        load_network(resave(path, tensors, metadata | {"network": "iresnet18"}))
    message = str(caught.value)
    assert "model.safetensors" in message and "does not hold the network iresnet18" in message
    assert "missing (layer1.1.bn1.weight" in message
    assert "misshaped (conv1.weight: torch.float32 [32, 3, 7, 7] instead of torch.float32 [64, 3, 3, 3]" in message
    assert message.endswith("Its tensors fit: compact.")


def test_missing_unexpected_and_misshaped_tensors_are_named(path):
    tensors, metadata = read_tensors(path)
    del tensors["fc.bias"]
    tensors["head.weight"] = torch.zeros(3)
    tensors["bn2.weight"] = tensors["bn2.weight"].double()
    with pytest.raises(ValueError) as caught:
        load_network(resave(path, tensors, metadata))
    for words in ("1 missing (fc.bias)", "1 unexpected (head.weight)", "1 misshaped (bn2.weight: torch.float64 [256]"):
        assert words in str(caught.value)
    assert str(caught.value).endswith("fit: no registered network.")


@pytest.mark.parametrize("name", ["network", "embedding_size", "input_contract"])
def test_metadata_must_be_there(path, name):
    tensors, metadata = read_tensors(path)
    del metadata[name]
    with pytest.raises(ValueError, match=rf"model\.safetensors .*metadata missing: {name}.*fit: compact"):
        load_network(resave(path, tensors, metadata))


@pytest.mark.parametrize(
    "change",
    [{"network": "iresnet19"}, {"embedding_size": "16"}, {"input_contract": {"mean": 0}}, {"input_contract": 3}],
)
def test_metadata_that_make_no_sense_are_refused_with_the_file(path, change):
    tensors, metadata = read_tensors(path)
    with pytest.raises(ValueError, match=r"model\.safetensors does not say"):
        load_network(resave(path, tensors, metadata | change))


def test_a_file_of_another_program_is_no_network_of_ours(tmp_path, network):
    save_file(dict(network.state_dict()), tmp_path / "theirs.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"metadata missing: network, embedding_size, input_contract.*fit: compact"):
        load_network(tmp_path / "theirs.safetensors")


def test_fits_finds_the_network_at_any_embedding_size(network):
    assert fits("compact", network.state_dict())
    assert not fits("iresnet50", network.state_dict())
    assert not fits("compact", {"features.weight": torch.zeros(0)})


def test_tensors_and_metadata_round_trip(tmp_path):
    base = torch.arange(6).reshape(2, 3)
    tensors = {"a": base, "view": base[1], "b": torch.rand(2, 2, dtype=torch.float64), "c": torch.tensor(True)}
    write_tensors(tmp_path / "t.safetensors", tensors, {"numbers": [1, 2.5, None], "text": "größer"})
    read, metadata = read_tensors(tmp_path / "t.safetensors")
    assert metadata == {"numbers": [1, 2.5, None], "text": "größer"}
    assert read.keys() == tensors.keys() and all(torch.equal(read[k], tensors[k]) for k in tensors)


def test_the_header_is_plain_json(path):
    content = path.read_bytes()
    header = json.loads(content[8 : 8 + struct.unpack("<Q", content[:8])[0]])
    assert json.loads(header["__metadata__"]["network"]) == "compact"
    assert header["conv1.weight"]["dtype"] == "F32"


def test_equal_tensors_and_metadata_are_equal_bytes(tmp_path):
    tensors = {"b": torch.arange(3.0), "a": torch.zeros(2, 2, dtype=torch.bfloat16)}
    metadata = {name: {"value": name, "é": '\x1f"\n'} for name in "zyxwvutsrq"}
    contents = set()
    for index in range(4):
        write_tensors(tmp_path / f"{index}.safetensors", tensors, metadata)
        contents.add((tmp_path / f"{index}.safetensors").read_bytes())
    assert len(contents) == 1
    read, facts = read_tensors(tmp_path / "0.safetensors")
    assert facts == metadata and all(torch.equal(read[name], value) for name, value in tensors.items())

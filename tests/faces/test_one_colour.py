"""Every reader of faces and every network takes RGB channels in the same order and range."""

import pytest
import torch
from PIL import Image

from maskinv_lib.evaluation.benchmarks.bins import read_bin, write_bin
from maskinv_lib.faces import recordio
from maskinv_lib.faces.folders import read_folder
from maskinv_lib.faces.record_writer import write_records
from maskinv_lib.networks import build_network
from maskinv_lib.networks.templates import NetworkRecogniser
from tests.faces.samples import ORANGE, encoded, noise, pixels


def saved(kind, colour=ORANGE):
    return encoded(Image.fromarray(pixels(colour)), kind, **({"quality": 95} if kind == "JPEG" else {}))


def folder(root, kind):
    (root / "people" / "anyone").mkdir(parents=True)
    (root / "people" / "anyone" / f"face.{kind.lower()}").write_bytes(saved(kind))
    return read_folder(root / "people").faces.images


def records(root, kind):
    write_records(root / "records", [(saved(kind), 7)])
    return recordio.faces(recordio.open_records(root / "records"), source="records").images


def bins(root, kind):
    other = saved(kind, (250, 122, 12))  # almost the same colour: an impostor pair needs another picture
    write_bin(root / "pairs.bin", [saved(kind), saved(kind), saved(kind), other], [True, False])
    return read_bin(root / "pairs.bin").images


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("reader", [folder, records, bins])
def test_every_reader_gives_the_same_rgb(reader, kind, tmp_path):
    images = reader(tmp_path, kind)
    assert images.dtype == torch.uint8
    assert images.shape[1:] == (3, 112, 112)
    assert (images.int() - torch.tensor(ORANGE)[:, None, None]).abs().max() <= 4
    red, green, blue = images.float().mean((0, 2, 3))
    assert red > green > blue


@pytest.mark.parametrize("name", ["iresnet18", "mobilefacenet", "compact"])
def test_every_network_takes_pixels_as_bytes_and_as_floats(name):
    recogniser = NetworkRecogniser(build_network(name, seed=3))
    images = torch.from_numpy(noise(3, 3, 112, 112))
    images[0] = torch.tensor(ORANGE, dtype=torch.uint8)[:, None, None]
    as_bytes, as_floats = recogniser.templates(images), recogniser.templates(images.float() / 127.5 - 1)
    assert (as_bytes - as_floats).abs().max() < 1e-4
    assert (recogniser.templates(images[:1]) - as_bytes[:1]).abs().max() < 1e-5
    with pytest.raises(ValueError, match=r"0\.\.255, hand them over as uint8"):
        recogniser.templates(images.float())
    for wrong in (images[:, :, :96], images.repeat(1, 1, 2, 2)[:, :, :160, :160], images.permute(0, 2, 3, 1)):
        with pytest.raises(ValueError, match="A network expects uint8"):
            recogniser.templates(wrong)

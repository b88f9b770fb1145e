"""Networks: templates of faces, and the margin head over as many people as large training sets have."""

import copy
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskinv_lib.networks import build_network
from maskinv_lib.networks.templates import NetworkRecogniser
from maskinv_lib.tools.speed.measuring import Row
from maskinv_lib.tools.speed.plain_training import plain_network
from maskinv_lib.tools.speed.tasks import SEED, Setting, Task, threads, where
from maskinv_lib.training.objectives import Batch, Objective, build_objective
from maskinv_lib.utils.randomness import key

HEAD = "margins.ElasticFaceArc"

BATCH = {"cpu": 64, "cuda": 1024}
"""Faces whose templates are made at a time, by kind of device."""


def tasks(setting: Setting) -> list[Task]:
    """Return the measurements of this module."""
    found = []
    for device in setting.devices:
        names = setting.sizes.embedded if device.type == "cpu" else setting.sizes.embedded_on_gpu
        counts = setting.threads if device.type == "cpu" else [setting.cores]
        found += [
            Task(
                group="templates",
                name=f"{name}, {where(device, count)}",
                run=partial(templates, setting, name, device, count),
            )
            for name in names
            for count in (counts if name == "compact" else counts[-1:])
        ]
        run = partial(head, setting, device)
        found.append(Task(group="head", name=f"{HEAD}, {where(device, setting.cores)}", run=run))
    return found


def batch_of(setting: Setting, device: torch.device) -> Tensor:
    """Return faces, uint8 [B, 3, 112, 112], in the processor's memory."""
    return setting.faces.images[torch.arange(BATCH[device.type]) % len(setting.faces)]


@torch.no_grad()
def plain_templates(network: nn.Module, images: Tensor, device: torch.device) -> Tensor:
    """Return flip-summed templates, float32 [N, D], as an obvious program makes them."""
    faces = images.to(device)
    return F.normalize(network(faces) + network(faces.flip(-1)), dim=1).cpu()


def templates(setting: Setting, name: str, device: torch.device, count: int) -> list[Row]:
    """Return the speed of making templates, against the network in evaluation mode."""
    images, network = batch_of(setting, device), build_network(name, seed=SEED)
    plain = plain_network(network).to(device).eval()
    recogniser = NetworkRecogniser(copy.deepcopy(network), device)
    with threads(count):
        row = setting.rate(
            partial(recogniser.templates, images),
            partial(plain_templates, plain, images, device),
            amounts=[len(images)] * 2,
            device=device,
            group="templates",
            name=f"{name}, {len(images)} faces and their mirror images, {where(device, count)}",
            unit="faces/s",
            against="network.eval(), channels first, its layers as they are",
        )
    return [row]


def head_of(identities: int, width: int, device: torch.device) -> Objective:
    """Return the margin head over a number of people."""
    return build_objective(HEAD, {}, embedding_size=width, classes=identities, seed=SEED).to(device)


def head_step(objective: Objective, embeddings: Tensor) -> None:
    """Compute the loss of embeddings, float32 [B, width], and its gradients."""
    count, device = len(embeddings), embeddings.device
    labels = torch.arange(count, device=device) * 7 % len(objective.centres)
    keys = key(SEED, "speed of the head", torch.arange(count), device=device)
    masked = torch.zeros(count, dtype=torch.bool, device=device)
    batch = Batch(labels=labels, masked=masked, keys=keys, progress=0.0, embeddings={objective.views[0]: embeddings})
    objective.zero_grad(set_to_none=True)
    torch.stack(list(objective(batch).values())).sum().backward()


def random_embeddings(count: int, width: int, device: torch.device) -> Tensor:
    """Return random embeddings, float32 [count, width], that need a gradient."""
    generator = torch.Generator().manual_seed(SEED)
    return torch.randn(count, width, generator=generator).to(device).requires_grad_()


def head(setting: Setting, device: torch.device) -> list[Row]:
    """Return the speed of the head's loss and gradients."""
    sizes = setting.sizes
    count = sizes.head_batch if device.type == "cpu" else sizes.gpu_head_batch
    objective = head_of(sizes.identities, sizes.width, device)
    with threads(setting.cores):
        row = setting.rate(
            partial(head_step, objective, random_embeddings(count, sizes.width, device)),
            amounts=[count],
            device=device,
            group="head",
            name=f"{sizes.identities:,} people, batch {count}, fp32, {where(device, setting.cores)}",
            unit="faces/s",
            against="no obvious baseline",
        )
    return [row]

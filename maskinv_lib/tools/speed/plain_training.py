"""The baseline of the training: an obvious PyTorch loop, and networks as an obvious program defines them.

float32, channels first, torch's own PReLU; the teacher's network runs on the clean faces in every step, and masks are
drawn one face after the other. The objectives and the optimisers' settings are those of the plan.
"""

import copy
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskinv_lib.faces import Faces
from maskinv_lib.networks import Network
from maskinv_lib.networks.mobilefacenet import ConvUnit
from maskinv_lib.study.plan import Plan
from maskinv_lib.training.objectives import Batch, Objective
from maskinv_lib.utils.randomness import key

Draw = Callable[[np.ndarray], np.ndarray]
"""Draws some mask on a face, uint8 [112, 112, 3] RGB."""


def plain_network(network: nn.Module) -> nn.Module:
    """Return a copy of a network, with the same weights, of torch's own layers alone and with channels first."""
    return _replaced(copy.deepcopy(network)).to(memory_format=torch.contiguous_format)


def _replaced(module: nn.Module) -> nn.Module:
    for name, child in module.named_children():
        setattr(module, name, _replaced(child))
    if isinstance(module, nn.PReLU):
        plain = nn.PReLU(module.num_parameters)
        plain.weight = module.weight
        return plain
    if isinstance(module, ConvUnit):
        return nn.Sequential(module.conv, module.bn, *([module.prelu] if module.prelu is not None else []))
    return module


class PlainLoop:
    """The obvious loop. faces: the training set. draw: draws one mask. objectives: as the training builds them.

    student, teacher: networks, which are copied (``plain_network``). device: where the networks compute.
    """

    def __init__(
        self,
        plan: Plan,
        faces: Faces,
        *,
        student: Network,
        teacher: Network,
        objectives: list[Objective],
        draw: Draw,
        device: torch.device,
    ) -> None:
        self.plan, self.faces, self.draw, self.device = plan, faces, draw, device
        self.network = plain_network(student).to(device).train()
        self.teacher = plain_network(teacher).to(device).eval()
        self.objectives = nn.ModuleList(copy.deepcopy(objective) for objective in objectives).to(device)
        schedule = plan.schedule
        parameters = [p for p in (*self.network.parameters(), *self.objectives.parameters()) if p.requires_grad]
        common = {"lr": 1e-4, "weight_decay": schedule.weight_decay}
        if schedule.optimizer == "adamw":
            self.optimizer: torch.optim.Optimizer = torch.optim.AdamW(parameters, **common)
        else:
            self.optimizer = torch.optim.SGD(parameters, momentum=schedule.momentum, **common)

    def step(self) -> float:
        """Make a batch and train on it; return the loss."""
        index = torch.randperm(len(self.faces))[: self.plan.schedule.batch]
        flip = torch.rand(len(index)) < 0.5
        clean = self.faces.images[index]
        clean = torch.where(flip[:, None, None, None], clean.flip(-1), clean)
        where = torch.rand(len(index)) < self.plan.mask_probability
        return self.train(clean, self.masked(clean, where), where, self.faces.identity[index])

    def masked(self, clean: Tensor, where: Tensor) -> Tensor:
        """Return clean faces, uint8 [B, 3, 112, 112], with a mask on those of ``where``, bool [B]."""
        images = clean.permute(0, 2, 3, 1).contiguous().numpy().copy()
        for number in where.nonzero().flatten().tolist():
            images[number] = self.draw(images[number])
        return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()

    def train(self, clean: Tensor, masked: Tensor, where: Tensor, labels: Tensor) -> float:
        """Train on one batch of faces and of the same faces as the student sees them; return the loss."""
        losses = self.losses(clean, masked, where, labels, key("plain loop", torch.arange(len(labels))))
        loss = torch.stack(list(losses.values())).sum()
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), self.plan.schedule.clip)
        self.optimizer.step()
        return float(loss.detach())

    def losses(self, clean: Tensor, masked: Tensor, where: Tensor, labels: Tensor, keys: Tensor) -> dict[str, Tensor]:
        """Return name -> loss of one batch. keys: int64 [B], from which the margins are drawn."""
        clean, masked, where, labels, keys = (x.to(self.device) for x in (clean, masked, where, labels, keys))
        with torch.no_grad():
            teacher = F.normalize(self.teacher(clean), dim=1)
        batch = Batch(
            labels=labels,
            masked=where,
            keys=keys,
            progress=0.0,
            embeddings={"masked": self.network(masked)},
            teacher=teacher,
            images={"clean": clean, "masked": masked},
        )
        return {name: loss for objective in self.objectives for name, loss in objective(batch).items()}

"""The batch of a training step: which faces, flipped or not, masked or not, and the teacher's templates of them."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from maskinv_lib.faces import Faces
from maskinv_lib.faces.masks.drawing import draw_masks, recolour
from maskinv_lib.study.plan import Plan
from maskinv_lib.training.objectives import Batch
from maskinv_lib.utils.randomness import key, permutation, uniform

GROUP = 4
"""Faces of one person in a group of the half-balanced sampler, as published for EKD (8 people in a batch of 64)."""


@dataclass(kw_only=True)
class Views:
    """Turns step numbers into batches, each a pure function of its keys.

    faces: the training set. teacher: float32 [2, N, D], templates of the plain and of the mirrored faces, or None.
    live: the teacher itself, images [B, 3, 112, 112] -> unit templates [B, D], where it sees the student's mask; its
    input is then random, so that its templates cannot be computed before. All views share one flip per sample, and so
    does the teacher unless the plan says "separate".
    """

    faces: Faces
    plan: Plan
    seed: int
    device: torch.device
    teacher: Tensor | None = None
    live: Callable[[Tensor], Tensor] | None = None

    def __post_init__(self) -> None:
        batch = self.plan.schedule.batch
        self.general = batch if self.plan.sampler == "shuffled" else batch // 2  # faces drawn without groups
        if batch > len(self.faces):
            raise ValueError(f"batch {batch} is larger than the set of {len(self.faces)} faces.")
        if self.general < batch and batch % (2 * GROUP):
            raise ValueError(f"batch {batch} cannot be half of groups of {GROUP} faces: use a multiple of {2 * GROUP}.")
        self.images = self.faces.images.to(self.device)
        self.labels = self.faces.identity.to(self.device)
        self.teacher = self.teacher if self.teacher is None else self.teacher.to(self.device)
        self.order = -1, torch.empty(0)  # the current epoch and its permutation
        self.people = [] if self.general == batch else _by_person(self.faces.identity)

    @property
    def has_teacher(self) -> bool:
        """Whether batches come with templates of a teacher."""
        return self.teacher is not None or self.live is not None

    def indices(self, step: int) -> tuple[int, Tensor]:
        """Return (epoch, face numbers int64 [B]) of a step; an epoch is a keyed permutation without its remainder.

        With the half-balanced sampler the second half of the batch is groups of ``GROUP`` faces of one person.
        """
        epoch, part = divmod(step, len(self.faces) // self.general)
        if epoch != self.order[0]:
            self.order = epoch, permutation(key(self.seed, "order", epoch), len(self.faces)).to(self.device)
        index = self.order[1][part * self.general : (part + 1) * self.general]
        return epoch, torch.cat([index, self._groups(step).to(self.device)]) if self.people else index

    def _groups(self, step: int) -> Tensor:
        """Return int64 [B / 2]: faces of different people, ``GROUP`` of each.

        A person with fewer faces has copies of them in the group, which make easy pairs: use sets with ``GROUP`` faces
        of each person.
        """
        count = (self.plan.schedule.batch - self.general) // GROUP
        people = permutation(key(self.seed, "people", step), len(self.people))[:count].tolist()
        groups = []
        for group in range(count):
            own = self.people[people[group % len(people)]]
            order = permutation(key(self.seed, "group", step, group), len(own))
            groups.append(own[order[torch.arange(GROUP) % len(own)]])
        return torch.cat(groups)

    def batch(self, step: int, progress: float = 0.0) -> Batch:
        """Return a step's batch: images of every view (uint8 [B, 3, 112, 112]; "clean" always), teacher's templates.

        It has no embeddings yet: the training loop adds them.
        """
        epoch, index = self.indices(step)
        keys = key(self.seed, "sample", epoch, index, device=self.device)
        if self.people:  # a face may be in both halves, and gets two masks
            keys = torch.cat([keys[: self.general], key(keys[self.general :], "grouped", step, device=self.device)])
        flip, draw = uniform(keys, 2).unbind(-1)
        flipped, masked = flip < 0.5, draw < self.plan.mask_probability
        clean = _mirrored(self.images.index_select(0, index), flipped)
        images, coverage = {"clean": clean}, torch.zeros(len(index), device=self.device)
        for view in self.plan.views:
            if view.startswith("masked"):
                images[view], covered = self._masked(clean, masked, keys, view)
                coverage = covered if view == "masked" else coverage
        return Batch(
            labels=self.labels[index],
            masked=masked,
            keys=keys,
            progress=progress,
            embeddings={},
            teacher=self._teacher_templates(index, flipped, keys, images),
            coverage=coverage,
            general=torch.arange(len(index), device=self.device) < self.general if self.people else None,
            images=images,
        )

    def _masked(self, clean: Tensor, masked: Tensor, keys: Tensor, view: str) -> tuple[Tensor, Tensor]:
        coverage = torch.zeros(len(clean), device=self.device)
        if self.plan.mask_probability == 0:
            return clean, coverage
        purpose = ("mask",) if view == "masked" else ("mask", view)
        if self.device.type != "cpu":  # which faces wear a mask is not read back: that would wait for the device
            drawn, covered = self._drawn(clean, key(keys, *purpose, device=self.device))
            return _chosen(masked, drawn, clean), covered * masked
        where = masked.nonzero().squeeze(-1)
        drawn, covered = self._drawn(clean.index_select(0, where), key(keys[where], *purpose))
        images = _words(clean).index_copy(0, where, _words(drawn)).view(torch.uint8).view(clean.shape)
        return images, coverage.index_copy(0, where, covered)

    def _drawn(self, clean: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        recoloured = self.plan.mask_kinds == "recoloured"
        drawn, covered = draw_masks(clean, keys, "seen" if recoloured else self.plan.mask_kinds)
        return recolour(drawn, clean, keys) if recoloured else drawn, covered

    def _teacher_templates(self, index: Tensor, flipped: Tensor, keys: Tensor, images: dict) -> Tensor | None:
        if not self.has_teacher:
            return None
        teacher_flipped = flipped
        if self.plan.flips == "separate":
            teacher_flipped = uniform(key(keys, "teacher's flip", device=self.device), 1)[:, 0] < 0.5
        if self.live is None:
            return self.teacher[teacher_flipped.long(), index]
        return self.live(_mirrored(images["masked"], teacher_flipped != flipped))


def _mirrored(images: Tensor, where: Tensor) -> Tensor:
    return _chosen(where, images.flip(-1), images)


def _chosen(where: Tensor, images: Tensor, others: Tensor) -> Tensor:
    """Return each face of ``images`` where ``where`` [B] is true, else that of ``others``."""
    return torch.where(where[:, None], _words(images), _words(others)).view(torch.uint8).view(images.shape)


def _words(images: Tensor) -> Tensor:
    """Return uint8 [B, 3, 112, 112] as int64 [B, 4704], eight bytes each: a processor copies them ten times faster."""
    return images.flatten(1).view(torch.int64)


def _by_person(identity: Tensor) -> list[Tensor]:
    """Return each person's face numbers, int64 [count], in the order of the identities."""
    order = torch.argsort(identity, stable=True)
    return list(order.split(torch.bincount(identity).tolist()))

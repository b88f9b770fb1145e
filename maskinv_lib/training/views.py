"""What a training step sees: which faces, flipped or not, masked or not, and what the teacher says of them."""

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
"""Faces of one person in a group of the half-balanced sampler, as published for EKD (8 people of 4 faces in 64)."""


@dataclass(kw_only=True)
class Views:
    """Turns step numbers into batches, each a pure function of its keys.

    faces: the training set. teacher: float32 [2, N, D], templates of the plain and of the mirrored faces, or None.
    live: the teacher itself, images [B, 3, 112, 112] -> unit templates [B, D], where it sees the student's mask; its
    input is then random, so nothing can be computed before. One flip per sample is shared by all views, and unless
    the plan says "separate" by the teacher too.
    """

    faces: Faces
    plan: Plan
    seed: int
    device: torch.device
    teacher: Tensor | None = None
    live: Callable[[Tensor], Tensor] | None = None

    def __post_init__(self) -> None:
        batch = self.plan.schedule.batch
        self.drawn = batch if self.plan.sampler == "shuffled" else batch // 2  # from the whole set, without groups
        self.per_epoch = len(self.faces) // batch
        if self.per_epoch == 0:
            raise ValueError(f"batch {batch} is larger than the set of {len(self.faces)} faces.")
        if self.drawn < batch and batch % (2 * GROUP):
            raise ValueError(f"batch {batch} cannot be half of groups of {GROUP} faces: use a multiple of {2 * GROUP}.")
        self.images = self.faces.images.to(self.device)
        self.labels = self.faces.identity.to(self.device)
        self.teacher = self.teacher if self.teacher is None else self.teacher.to(self.device)
        self.order = -1, torch.empty(0)  # the permutation of the epoch at hand
        self.people = [] if self.drawn == batch else _by_person(self.faces.identity)

    @property
    def has_teacher(self) -> bool:
        """Whether batches come with templates of a teacher."""
        return self.teacher is not None or self.live is not None

    def indices(self, step: int) -> tuple[int, Tensor]:
        """Return (epoch, int64 [B] face numbers) of a step; an epoch is a keyed permutation, its rest is dropped.

        With the half-balanced sampler the second half of the batch are groups of ``GROUP`` faces of one person.
        """
        epoch, place = divmod(step, len(self.faces) // self.drawn)
        if epoch != self.order[0]:
            self.order = epoch, permutation(key(self.seed, "order", epoch), len(self.faces)).to(self.device)
        index = self.order[1][place * self.drawn : (place + 1) * self.drawn]
        return epoch, torch.cat([index, self._groups(step).to(self.device)]) if self.people else index

    def _groups(self, step: int) -> Tensor:
        """Return int64 [B / 2]: faces of different people, ``GROUP`` of each.

        A person with fewer has copies of them in the group, which make easy pairs: use sets with ``GROUP`` a person.
        """
        count = (self.plan.schedule.batch - self.drawn) // GROUP
        chosen = permutation(key(self.seed, "people", step), len(self.people))[:count].tolist()
        chosen = [chosen[place % len(chosen)] for place in range(count)]
        found = []
        for place, person in enumerate(chosen):
            own = self.people[person]
            order = permutation(key(self.seed, "group", step, place), len(own))
            found.append(own[order[torch.arange(GROUP) % len(own)]])
        return torch.cat(found)

    def batch(self, step: int, progress: float = 0.0) -> Batch:
        """Return a step's batch: images of every view (uint8 [B, 3, 112, 112]; "clean" always), and the teacher's word.

        No embeddings yet: the loop adds what the student says.
        """
        epoch, index = self.indices(step)
        keys = key(self.seed, "sample", epoch, index, device=self.device)
        if self.drawn < len(index):  # a face may stand in both halves, and gets two masks
            keys = torch.cat([keys[: self.drawn], key(keys[self.drawn :], "grouped", step, device=self.device)])
        flip, draw = uniform(keys, 2).unbind(-1)
        flipped, masked = flip < 0.5, draw < self.plan.mask_probability
        clean = _mirrored(self.images[index], flipped)
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
            teacher=self._taught(index, flipped, keys, images),
            coverage=coverage,
            general=torch.arange(len(index), device=self.device) < self.drawn if self.people else None,
            images=images,
        )

    def _masked(self, clean: Tensor, masked: Tensor, keys: Tensor, view: str) -> tuple[Tensor, Tensor]:
        coverage = torch.zeros(len(clean), device=self.device)
        if self.plan.mask_probability == 0:
            return clean, coverage
        where = masked.nonzero().squeeze(-1)
        purpose = ("mask",) if view == "masked" else ("mask", view)
        own = key(keys[where], *purpose, device=self.device)
        varied = self.plan.mask_kinds == "recoloured"
        drawn, covered = draw_masks(clean[where], own, "seen" if varied else self.plan.mask_kinds)
        drawn = recolour(drawn, clean[where], own) if varied else drawn
        return clean.index_copy(0, where, drawn), coverage.index_copy(0, where, covered)

    def _taught(self, index: Tensor, flipped: Tensor, keys: Tensor, images: dict[str, Tensor]) -> Tensor | None:
        if not self.has_teacher:
            return None
        wanted = flipped
        if self.plan.flips == "separate":
            wanted = uniform(key(keys, "teacher's flip", device=self.device), 1)[:, 0] < 0.5
        if self.live is None:
            return self.teacher[wanted.long(), index]
        return self.live(_mirrored(images["masked"], wanted != flipped))


def _mirrored(images: Tensor, where: Tensor) -> Tensor:
    return torch.where(where[:, None, None, None], images.flip(-1), images)


def _by_person(identity: Tensor) -> list[Tensor]:
    """Return each person's face numbers, int64 [count], in the order of the identities."""
    order = torch.argsort(identity, stable=True)
    return list(order.split(torch.bincount(identity).tolist()))

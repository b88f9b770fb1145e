"""The one training loop: every stage, every device (Huber et al., FG 2021, with the optimiser as published)."""

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from maskinv_lib import checkpoints
from maskinv_lib.faces import Faces
from maskinv_lib.files import write_text
from maskinv_lib.masks import draw_masks
from maskinv_lib.networks import build_network
from maskinv_lib.objectives import Batch, Objective, build_objective
from maskinv_lib.randomness import key, permutation, uniform
from maskinv_lib.recipes import Plan, Schedule

PUBLISHED_STEPS = (7 / 26, 13 / 26, 19 / 26, 24 / 26)
LOG_EVERY = 20
CHECKPOINT_SECONDS = 15.0


def choose_precision(wanted: str, device: torch.device) -> torch.dtype:
    """Return the dtype of the student's forward pass: ``auto`` is bfloat16 where the device computes in it."""
    known = {"fp32": torch.float32, "bf16": torch.bfloat16}
    if wanted in known:
        return known[wanted]
    if wanted != "auto":
        raise ValueError(f"Unknown precision {wanted!r}. Known: auto, fp32, bf16.")
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    able = getattr(torch.cpu, "get_capabilities", dict)()  # older torch does not say: float32 is always right
    return torch.bfloat16 if able.get("avx512_bf16") or able.get("amx_bf16") else torch.float32


def learning_rate(schedule: Schedule, progress: float, warm_up: bool = True) -> float:
    """Return the learning rate at ``progress`` in [0, 1] of the schedule (see ``recipes.Schedule``)."""
    if schedule.policy == "steps":
        return schedule.learning_rate * 0.1 ** sum(progress >= step for step in PUBLISHED_STEPS)
    if schedule.policy != "one-cycle":
        raise ValueError(f"Unknown policy {schedule.policy!r}. Known: one-cycle, steps.")
    if progress < schedule.warm_up:
        return schedule.learning_rate * (progress / schedule.warm_up if warm_up else 1.0)
    fallen = (progress - schedule.warm_up) / (1 - schedule.warm_up)
    return schedule.learning_rate * 0.5 * (1 + math.cos(math.pi * fallen))


@dataclass(kw_only=True)
class Views:
    """Turns step numbers into batches: which faces, flipped or not, masked or not, each a function of its keys.

    faces: the training set. teacher: float32 [2, N, D], templates of the plain and of the mirrored faces, or None.
    One flip per sample is shared by all views and by the teacher.
    """

    faces: Faces
    plan: Plan
    seed: int
    device: torch.device
    teacher: Tensor | None = None

    def __post_init__(self) -> None:
        self.per_epoch = len(self.faces) // self.plan.schedule.batch
        if self.per_epoch == 0:
            raise ValueError(f"batch {self.plan.schedule.batch} is larger than the set of {len(self.faces)} faces.")
        self.images = self.faces.images.to(self.device)
        self.labels = self.faces.identity.to(self.device)
        self.teacher = self.teacher if self.teacher is None else self.teacher.to(self.device)
        self.order = -1, torch.empty(0)  # the permutation of the epoch at hand

    def indices(self, step: int) -> tuple[int, Tensor]:
        """Return (epoch, int64 [B] face numbers) of a step; an epoch is a keyed permutation, its rest is dropped."""
        epoch, place = divmod(step, self.per_epoch)
        if epoch != self.order[0]:
            self.order = epoch, permutation(key(self.seed, "order", epoch), len(self.faces)).to(self.device)
        batch = self.plan.schedule.batch
        return epoch, self.order[1][place * batch : (place + 1) * batch]

    def batch(self, step: int, views: tuple[str, ...], progress: float) -> tuple[dict[str, Tensor], Batch]:
        """Return the images of each view, uint8 [B, 3, 112, 112], and the batch that the objectives read."""
        epoch, index = self.indices(step)
        keys = key(self.seed, "sample", epoch, index, device=self.device)
        flip, draw = uniform(keys, 2).unbind(-1)
        flipped, masked = flip < 0.5, draw < self.plan.mask_probability
        clean = self.images[index]
        clean = torch.where(flipped[:, None, None, None], clean.flip(-1), clean)
        images = {"clean": clean}
        if "masked" in views:
            images["masked"] = self._masked(clean, masked, keys)
        teacher = None if self.teacher is None else self.teacher[flipped.long(), index]
        batch = Batch(
            labels=self.labels[index], masked=masked, keys=keys, progress=progress, embeddings={}, teacher=teacher
        )
        return {view: images[view] for view in views}, batch

    def _masked(self, clean: Tensor, masked: Tensor, keys: Tensor) -> Tensor:
        if self.plan.mask_probability == 0:
            return clean
        where = masked.nonzero().squeeze(-1)
        drawn, _ = draw_masks(clean[where], key(keys[where], "mask", device=self.device), self.plan.mask_kinds)
        return clean.index_copy(0, where, drawn)


class Training:
    """A student on its way: network, objectives, optimisers and the step it has reached.

    folder: receives ``log.jsonl`` and ``checkpoints/``. key: stands for everything that decides the result; a
    checkpoint with another key or precision is not resumed. seed: of the first weights and class centres. start:
    backbone to begin from, as a state dict, or None for random weights. on_log: called with each record of the log.
    """

    def __init__(
        self,
        plan: Plan,
        views: Views,
        *,
        seed: int,
        folder: Path,
        key: str,
        precision: str = "auto",
        start: dict[str, Tensor] | None = None,
        on_log: Callable[[dict], None] = lambda record: None,
    ) -> None:
        self.plan, self.views, self.folder, self.key, self.on_log = plan, views, Path(folder), key, on_log
        self.dtype = choose_precision(precision, views.device)
        self.network = build_network(plan.network, embedding_size=plan.embedding_size, seed=seed)
        if start is not None:
            self.network.load_state_dict(start)
        self.network.to(views.device, memory_format=torch.channels_last)
        self.objectives = nn.ModuleList(self._objective(index, seed) for index in range(len(plan.objectives)))
        self.objectives.to(views.device)
        self.optimizers = self._optimizers()
        self.step, self.records, self.milestones = 0, [], {}

    def _objective(self, index: int, seed: int) -> Objective:
        term = self.plan.objectives[index]
        objective = build_objective(
            term.objective,
            term.settings,
            embedding_size=self.plan.embedding_size,
            classes=self.views.faces.identities,
            seed=seed,
        )
        if objective.needs_teacher and self.views.teacher is None:
            raise ValueError(f"{term.objective} needs a teacher's templates, and this training was given none.")
        objective.check_labels(self.views.labels)
        return objective

    def _optimizers(self) -> dict[str, torch.optim.Optimizer]:
        schedule = self.plan.schedule
        common = {"lr": 0.0, "weight_decay": schedule.weight_decay}
        groups = {
            "backbone optimizer": [p for p in self.network.parameters() if p.requires_grad],
            "head optimizer": [p for p in self.objectives.parameters() if p.requires_grad],
        }
        make = {
            "sgd": lambda group: torch.optim.SGD(group, momentum=schedule.momentum, **common),
            "adamw": lambda group: torch.optim.AdamW(group, **common),
        }[schedule.optimizer]
        return {name: make(group) for name, group in groups.items() if group}

    @property
    def parts(self) -> dict[str, nn.Module]:
        """The modules whose state makes the training go on."""
        return {"network": self.network, "objectives": self.objectives}

    def run(self) -> None:
        """Train to the end of the schedule, from the last checkpoint where there is one with the same key.

        Raises FloatingPointError at the first log line with a loss that is not finite; no checkpoint holds it.
        """
        self._resume()
        steps = self.plan.schedule.steps
        self.network.train()
        sums, started, saved = {}, time.monotonic(), time.monotonic()
        for step in range(self.step, steps):
            for name, value in self._train_step(step).items():
                sums[name] = sums.get(name, 0) + value.detach()
            self.step = step + 1
            if self.step % LOG_EVERY == 0 or self.step == steps or self.step in self._milestone_steps():
                self._log(sums, started)
                sums, started = {}, time.monotonic()
                self._keep_milestone()
                if time.monotonic() - saved > CHECKPOINT_SECONDS and self.step < steps:
                    self._checkpoint(self.optimizers)
                    saved = time.monotonic()
        self._checkpoint({})  # finished: what an optimiser remembers is not needed any more

    def _train_step(self, step: int) -> dict[str, Tensor]:
        schedule = self.plan.schedule
        progress = (step + 0.5) / schedule.steps
        for name, optimizer in self.optimizers.items():
            warm = name.startswith("backbone") or schedule.head_warm_up
            optimizer.param_groups[0]["lr"] = learning_rate(schedule, progress, warm)
        needed = tuple(dict.fromkeys(view for objective in self.objectives for view in objective.views))
        images, batch = self.views.batch(step, needed, progress)
        with torch.autocast(self.views.device.type, self.dtype, enabled=self.dtype != torch.float32):
            embeddings = self.network(torch.cat(list(images.values())))  # all views in one pass, [V * B, D]
        batch.embeddings = dict(zip(images, embeddings.float().chunk(len(images)), strict=True))
        losses = {name: loss for objective in self.objectives for name, loss in objective(batch).items()}
        for optimizer in self.optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        sum(losses.values()).backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), schedule.clip)
        for optimizer in self.optimizers.values():
            optimizer.step()
        return losses

    def _log(self, sums: dict[str, Tensor], started: float) -> None:
        steps = self.step - (self.records[-1]["step"] if self.records else 0)
        seconds = time.monotonic() - started
        losses = {name: float(value) / steps for name, value in sums.items()}
        bad = {name: value for name, value in losses.items() if not math.isfinite(value)}
        if bad:
            raise FloatingPointError(
                f"The loss is not finite at step {self.step} of {self.plan.schedule.steps}: {bad}. "
                f"Lower the learning rate ({self.plan.schedule.learning_rate}), or compute in fp32: precision=fp32."
            )
        batch = self.plan.schedule.batch
        record = {
            "step": self.step,
            "steps": self.plan.schedule.steps,
            "faces": self.step * batch,
            "loss": sum(losses.values()),
            **losses,
            "learning_rate": self.optimizers["backbone optimizer"].param_groups[0]["lr"],
            "faces_per_second": steps * batch / max(seconds, 1e-9),
            "seconds": seconds,
        }
        self.records.append(record)
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        self.on_log(record)

    def _milestone_steps(self) -> dict[int, float]:
        return {round(at * self.plan.schedule.steps): at for at in self.plan.milestones}

    def _keep_milestone(self) -> None:
        at = self._milestone_steps().get(self.step)
        if at is not None:
            self.milestones[at] = {name: value.detach().clone() for name, value in self.network.state_dict().items()}
            checkpoints.save(self._milestone_path(at), {"network": self.network}, {}, {"key": self.key})

    def _milestone_path(self, at: float) -> Path:
        return self.folder / "checkpoints" / f"milestone-{at:.4f}.safetensors"

    def _checkpoint(self, optimizers: dict[str, torch.optim.Optimizer]) -> None:
        facts = {"key": self.key, "precision": str(self.dtype), "step": self.step, "records": self.records}
        checkpoints.save(self.folder / "checkpoints" / "last.safetensors", self.parts, optimizers, facts)

    def _resume(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        found = checkpoints.load(self.folder / "checkpoints" / "last.safetensors", self.key)
        same = found and found[1]["precision"] == str(self.dtype)  # in another precision it would be another network
        if same and self._milestones_found(found[1]["step"]):
            tensors, facts = found
            finished = facts["step"] == self.plan.schedule.steps
            checkpoints.restore(tensors, self.parts, {} if finished else self.optimizers)
            self.step, self.records = facts["step"], facts["records"]
        write_text(self.folder / "log.jsonl", "".join(json.dumps(record) + "\n" for record in self.records))

    def _milestones_found(self, step: int) -> bool:
        for place, at in self._milestone_steps().items():
            if place <= step:
                found = checkpoints.load(self._milestone_path(at), self.key)
                if not found:
                    return False
                self.milestones[at] = {name.removeprefix("network/"): value for name, value in found[0].items()}
        return True

"""The one training loop: every stage, every device (Huber et al., FG 2021, with the optimiser as published)."""

import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from maskinv_lib.networks import build_network, map_shape
from maskinv_lib.study.plan import Plan
from maskinv_lib.study.recipes import Schedule
from maskinv_lib.training import checkpoints
from maskinv_lib.training.objectives import Objective, build_objective
from maskinv_lib.training.views import Views
from maskinv_lib.utils.files import write_text

PUBLISHED_STEPS = (7 / 26, 13 / 26, 19 / 26, 24 / 26)
LOG_EVERY = 20
CHECKPOINT_SECONDS = 15.0
BATCH_NORM = (nn.BatchNorm1d, nn.BatchNorm2d)


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
            self.network.start_from(start)
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
            map_shape=map_shape(self.plan.network, self.plan.embedding_size),
        )
        lacking = [view for view in objective.views if view not in self.plan.views]
        if lacking:
            raise ValueError(f"{term.objective} needs the view {lacking[0]!r}; the plan has: {self.plan.views}.")
        objective.check_labels(self.views.labels)
        if objective.needs_teacher:
            if not self.views.has_teacher:
                raise ValueError(f"{term.objective} needs a teacher's templates, and this training was given none.")
            if self.views.teacher is not None:
                objective.prepare(self.views.teacher, self.views.labels)
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
        steps = self.plan.steps
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
        progress = (step + 0.5) / self.plan.steps
        for name, optimizer in self.optimizers.items():
            warm = name.startswith("backbone") or schedule.head_warm_up
            optimizer.param_groups[0]["lr"] = learning_rate(schedule, progress, warm)
        if self.plan.batch_norm != "live" and 2 * step >= self.views.per_epoch:
            self._freeze_batch_norm()
        losses = self._losses(step, progress)
        for optimizer in self.optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        sum(losses.values()).backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), schedule.clip)
        for optimizer in self.optimizers.values():
            optimizer.step()
        return losses

    def _losses(self, step: int, progress: float) -> dict[str, Tensor]:
        batch = self.views.batch(step, progress)
        shown = [view for view in self.plan.views if view in batch.images]
        images = torch.cat([batch.images[view] for view in shown])  # all views in one pass, [V * B, 3, 112, 112]
        if any(objective.needs_maps for objective in self.objectives):
            with self._precision():
                embeddings, maps = self.network.with_maps(images)
            batch.maps = dict(zip(shown, maps.chunk(len(shown)), strict=True))
        else:
            embeddings = self._embed(images)
        batch.embeddings = dict(zip(shown, embeddings.float().chunk(len(shown)), strict=True))
        batch.embed = self._embed_made
        return {name: loss for objective in self.objectives for name, loss in objective(batch).items()}

    def _embed(self, images: Tensor) -> Tensor:
        with self._precision():
            return self.network(images).float()

    def _embed_made(self, images: Tensor) -> Tensor:
        """Embed images that an objective made: batch norm's running statistics stay those of faces."""
        norms = [module for module in self.network.modules() if isinstance(module, BATCH_NORM)]
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.momentum = 0.0
        embeddings = self._embed(images)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        return embeddings

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.views.device.type, self.dtype, enabled=self.dtype != torch.float32)

    def _freeze_batch_norm(self) -> None:
        for module in self.network.modules():
            if isinstance(module, BATCH_NORM):
                module.eval()

    def _log(self, sums: dict[str, Tensor], started: float) -> None:
        steps = self.step - (self.records[-1]["step"] if self.records else 0)
        seconds = time.monotonic() - started
        losses = {name: float(value) / steps for name, value in sums.items()}
        bad = {name: value for name, value in losses.items() if not math.isfinite(value)}
        if bad:
            raise FloatingPointError(
                f"The loss is not finite at step {self.step} of {self.plan.steps}: {bad}. "
                f"Lower the learning rate ({self.plan.schedule.learning_rate}), or compute in fp32: precision=fp32."
            )
        each = self.plan.faces_per_step
        record = {
            "step": self.step,
            "steps": self.plan.steps,
            "faces": self.step * each,
            "loss": sum(losses.values()),
            **losses,
            "learning_rate": self.optimizers["backbone optimizer"].param_groups[0]["lr"],
            "faces_per_second": steps * each / max(seconds, 1e-9),
            "seconds": seconds,
        }
        self.records.append(record)
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        self.on_log(record)

    def _milestone_steps(self) -> dict[int, float]:
        return {round(at * self.plan.steps): at for at in self.plan.milestones}

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
            finished = facts["step"] == self.plan.steps
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

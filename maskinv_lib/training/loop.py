"""The one training loop: every stage, every device (Huber et al., FG 2021, with the optimiser as published)."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from maskinv_lib.networks import Network, build_network, map_shape
from maskinv_lib.study.plan import Plan
from maskinv_lib.study.recipes import Schedule
from maskinv_lib.training import checkpoints
from maskinv_lib.training.objectives import Objective, build_objective
from maskinv_lib.training.progress import log_record, one_cycle
from maskinv_lib.training.views import Views
from maskinv_lib.utils.files import write_text

PUBLISHED_STEPS = (7 / 26, 13 / 26, 19 / 26, 24 / 26)
HALF_AN_EPOCH = 0.5 / 26  # of the published schedule
LOG_EVERY = 20
CHECKPOINT_SECONDS = 15.0
BATCH_NORM = (nn.BatchNorm1d, nn.BatchNorm2d)


def choose_precision(precision: str, device: torch.device) -> torch.dtype:
    """Return the dtype of the student's forward pass: ``auto`` is bfloat16 where the device computes in it."""
    known = {"fp32": torch.float32, "bf16": torch.bfloat16}
    if precision in known:
        return known[precision]
    if precision != "auto":
        raise ValueError(f"Unknown precision {precision!r}. Known: auto, fp32, bf16.")
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    features = getattr(torch.cpu, "get_capabilities", dict)()  # missing in older torch; float32 works everywhere
    return torch.bfloat16 if features.get("avx512_bf16") or features.get("amx_bf16") else torch.float32


def learning_rate(schedule: Schedule, progress: float, warm_up: bool = True) -> float:
    """Return the learning rate at ``progress`` in [0, 1] of the schedule (see ``recipes.Schedule``)."""
    if schedule.policy == "steps":
        return schedule.learning_rate * 0.1 ** sum(progress >= step for step in PUBLISHED_STEPS)
    if schedule.policy != "one-cycle":
        raise ValueError(f"Unknown policy {schedule.policy!r}. Known: one-cycle, steps.")
    if progress < schedule.warm_up and not warm_up:
        return schedule.learning_rate
    return schedule.learning_rate * one_cycle(progress, schedule.warm_up)


class Training:
    """The training of a student: network, objectives, optimisers and the number of steps done.

    folder: receives ``log.jsonl`` and ``checkpoints/``. key: stands for everything that decides the result; a
    checkpoint with another key or precision is not resumed. seed: of the first weights and class centres. start:
    first weights of the network, as a state dict, or None for random ones. on_log: called with each record of the log.
    build: makes the network with random weights.
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
        build: Callable[..., Network] = build_network,
    ) -> None:
        self.plan, self.views, self.folder, self.key, self.on_log = plan, views, Path(folder), key, on_log
        self.dtype = choose_precision(precision, views.device)
        self.network = build(plan.network, embedding_size=plan.embedding_size, seed=seed)
        if start is not None:
            self.network.start_from(start)
        self.network.to(views.device, memory_format=torch.channels_last)
        if plan.compiled == "yes":
            self.network.compile(dynamic=False)  # in place: the names of the weights stay
        self.objectives = nn.ModuleList(self._objective(index, seed) for index in range(len(plan.objectives)))
        self.objectives.to(views.device)
        self.optimizers = self._optimizers()
        self.step, self.records = 0, []

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
        missing = [view for view in objective.views if view not in self.plan.views]
        if missing:
            raise ValueError(f"{term.objective} needs the view {missing[0]!r}; the plan has: {self.plan.views}.")
        objective.check_labels(self.views.labels)
        if objective.needs_teacher:
            if not self.views.has_teacher:
                raise ValueError(f"{term.objective} needs a teacher's templates, and this training has none.")
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
        optimizer = {
            "sgd": lambda group: torch.optim.SGD(group, momentum=schedule.momentum, **common),
            "adamw": lambda group: torch.optim.AdamW(group, **common),
        }[schedule.optimizer]
        return {name: optimizer(group) for name, group in groups.items() if group}

    @property
    def parts(self) -> dict[str, nn.Module]:
        """The modules whose state a checkpoint holds."""
        return {"network": self.network, "objectives": self.objectives}

    def run(self) -> None:
        """Train to the last step, from the last checkpoint where there is one with the same key.

        A loss that is not finite raises FloatingPointError at the next log record; no checkpoint is written with it.
        """
        self._resume()
        steps = self.plan.last_step
        self.network.train()
        sums, started, saved = {}, time.monotonic(), time.monotonic()
        for step in range(self.step, steps):
            for name, value in self._train_step(step).items():
                sums[name] = sums.get(name, 0) + value.detach()
            self.step = step + 1
            if self.step % LOG_EVERY == 0 or self.step == steps:
                self._log(sums, started)
                sums, started = {}, time.monotonic()
                if time.monotonic() - saved > CHECKPOINT_SECONDS and self.step < steps:
                    self._checkpoint(self.optimizers)
                    saved = time.monotonic()
        self._checkpoint({})  # finished: the optimisers' state is not needed any more

    def _train_step(self, step: int) -> dict[str, Tensor]:
        schedule = self.plan.schedule
        progress = (step + 0.5) / self.plan.steps
        for name, optimizer in self.optimizers.items():
            warm = name.startswith("backbone") or schedule.head_warm_up
            optimizer.param_groups[0]["lr"] = learning_rate(schedule, progress, warm)
        if self.plan.batch_norm != "live" and step >= HALF_AN_EPOCH * self.plan.steps:
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
        views = [view for view in self.plan.views if view in batch.images]
        images = torch.cat([batch.images[view] for view in views])  # all views in one pass, [V * B, 3, 112, 112]
        images = images.contiguous(memory_format=torch.channels_last)  # bytes are cheaper to reorder than floats
        if any(objective.needs_maps for objective in self.objectives):
            with self._precision():
                embeddings, maps = self.network.with_maps(images)
            batch.maps = dict(zip(views, maps.chunk(len(views)), strict=True))
        else:
            embeddings = self._embed(images)
        batch.embeddings = dict(zip(views, embeddings.float().chunk(len(views)), strict=True))
        batch.embed = self._embed_restored
        return {name: loss for objective in self.objectives for name, loss in objective(batch).items()}

    def _embed(self, images: Tensor) -> Tensor:
        with self._precision():
            return self.network(images).float()

    def _embed_restored(self, images: Tensor) -> Tensor:
        """Embed images that an objective has computed: batch norm's running statistics stay those of faces."""
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
        logged = self.step - (self.records[-1]["step"] if self.records else 0)
        record = log_record(
            {name: float(value) / logged for name, value in sums.items()},
            step=self.step,
            steps=self.plan.last_step,
            batch=self.plan.faces_per_step,
            logged=logged,
            seconds=time.monotonic() - started,
            learning_rate=self.optimizers["backbone optimizer"].param_groups[0]["lr"],
            highest_rate=self.plan.schedule.learning_rate,
        )
        self.records.append(record)
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        self.on_log(record)

    def _checkpoint(self, optimizers: dict[str, torch.optim.Optimizer]) -> None:
        facts = {"key": self.key, "precision": str(self.dtype), "step": self.step, "records": self.records}
        checkpoints.save(self.folder / "checkpoints" / "last.safetensors", self.parts, optimizers, facts)

    def _resume(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        tensors, facts = checkpoints.load(self.folder / "checkpoints" / "last.safetensors", self.key) or ({}, {})
        same = facts.get("precision") == str(self.dtype)  # in another precision it would be another network
        if same:
            finished = facts["step"] == self.plan.last_step
            checkpoints.restore(tensors, self.parts, {} if finished else self.optimizers)
            self.step, self.records = facts["step"], facts["records"]
        write_text(self.folder / "log.jsonl", "".join(json.dumps(record) + "\n" for record in self.records))

"""Grouped distillation of logits: learn from the teacher which classes are likely for a face, and ignore the rest.

GKD (Zhao et al., AAAI 2023, arXiv 2304.04462) splits the classes of each face into a primary group, the few that share
nearly all of the student's probability, and the others. It distils the split between the two groups and the
distribution within the primary group; the teacher's logits of the many other classes are left out as noise.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskinv_lib.training.objectives import Batch, Context, unit
from maskinv_lib.training.objectives.margins import CosFace
from maskinv_lib.training.objectives.template_kd import teacher_templates
from maskinv_lib.utils import checks, randomness
from maskinv_lib.utils.checks import number

FIT_STEPS = 400
"""Adam steps in which the teacher's classifier is fitted."""

FIT_BATCH = 512
"""Templates per step, drawn with replacement from the plain and the mirrored ones."""

FIT_RATE = 0.01
"""First learning rate of the fit; it falls linearly to 0. The centres are of length 1."""

PUBLISHED_SCALE = 64.0
"""The scale of the logits for which temperature and mass were published."""

_LOG_ZERO = -1e30  # a logarithm of zero that stays finite, so that 0 * (log 0 - log 0) is 0


def group_size(logits: Tensor, mass: float, step: int) -> Tensor:
    """Return the size n of the primary group, one for the batch, int64 scalar, from logits [B, C].

    The smallest multiple of ``step`` (at most C) of classes, most likely first, to which the batch's mean softmax at
    temperature 1 gives at least ``mass`` in 0..1.
    """
    likely = logits.detach().softmax(1).mean(0).sort(descending=True).values  # [C]
    needed = (likely.cumsum(0) < mass).sum() + 1
    return (needed + step - 1).div(step, rounding_mode="floor").mul(step).clamp(max=len(likely))


def primary_group(logits: Tensor, labels: Tensor, size: Tensor) -> Tensor:
    """Return bool [B, C], which classes are in each sample's primary group: ``size`` of them.

    They are the right class (``labels``, int64 [B]) and those of the highest logits [B, C] among the others.
    """
    first = logits.detach().scatter(1, labels[:, None], torch.inf)
    order = first.argsort(dim=1, descending=True, stable=True)
    inside = torch.arange(logits.shape[1], device=logits.device) < size
    return torch.zeros_like(order, dtype=torch.bool).scatter(1, order, inside.expand_as(order))


def grouped_divergences(student: Tensor, teacher: Tensor, group: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Return Binary-KD and Primary-KD, scalars, means over the batch.

    student, teacher: logits [B, C]; group P: bool [B, C]. With p and q the softmax of student and teacher at the
    temperature T: T^2 KL([q_P, q_rest] || [p_P, p_rest]), q_P the sum over P, and T^2 KL(q | P || p | P).
    """
    logs = [logits / temperature for logits in (student, teacher)]
    primary = [x.masked_fill(~group, _LOG_ZERO).log_softmax(1) for x in logs]
    return tuple(temperature**2 * _divergence(*pair) for pair in ([_split(x, group) for x in logs], primary))


def _split(logits: Tensor, group: Tensor) -> Tensor:
    """Return the logarithms of the two groups' probabilities, [B, 2]."""
    logs = logits.log_softmax(1)
    return torch.stack([logs.masked_fill(~part, _LOG_ZERO).logsumexp(1) for part in (group, ~group)], dim=1)


def _divergence(student: Tensor, teacher: Tensor) -> Tensor:
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True)


class GKD(CosFace):
    """CosFace and grouped distillation: losses "margin", "gkd_binary", "gkd_primary" (float32, already weighted).

    L = CE + w (scale / 64) (Binary + beta Primary). CE is of logits scale * cos, P and the divergences of 64 * cos,
    with the CosFace margin already taken from the right class. At the published scale of 64 that is the published
    loss, and at another one P and the softened probabilities mean the same, and weigh as much against CE.
    w = min(progress / warm_up, 1): the published min(epoch / 10, 1) of a schedule of 26 epochs, as a share of the
    stage; 0 at its start. P is chosen by the student (``group_size``, ``primary_group``).

    beta = 4 is published for the group size that follows the batch. step: 100 is published, for training sets of tens
    of thousands of classes; 0 takes a hundredth of the classes, at least 1, so that few classes still make groups.
    margin: in units of the cosine, 0 to 2. scale: at least 1. temperature: at least 0.01. mass, warm_up: 0 to 1
    (warm_up 0: none). view: whose embeddings are trained. Buffer teacher_centres: float32 [classes, embedding_size],
    from ``prepare``; so the teacher's templates must be as wide as the student's.
    """

    needs_teacher = True

    def __init__(
        self,
        context: Context,
        *,
        margin: float = 0.4,
        beta: float = 4.0,
        temperature: float = 4.0,
        mass: float = 0.93,
        warm_up: float = 10 / 26,
        step: int = 0,
        **softmax: object,
    ) -> None:
        super().__init__(context, margin=margin, **softmax)
        self.seed = context.seed
        self.beta = number("beta", beta)
        self.temperature = number("temperature", temperature, minimum=0.01)
        self.mass = number("mass", mass, maximum=1.0)
        self.warm_up = number("warm_up", warm_up, maximum=1.0)
        self.step = checks.whole_number("step", step) or max(1, context.classes // 100)
        self.register_buffer("teacher_centres", torch.zeros(context.classes, context.embedding_size))
        self._fitted = False

    def prepare(self, templates: Tensor, labels: Tensor) -> None:
        """Fit the classifier that the frozen teacher lacks: ``teacher_centres``, of unit length.

        templates: float32 [2, N, D], labels: int64 [N]. The centres start as the classes' mean templates and are
        trained with this objective's own CosFace loss, ``FIT_STEPS`` Adam steps on ``FIT_BATCH`` templates whose draw
        depends on the seed and the step alone. A second or two for 6,000 faces of 300 people at D = 128.
        """
        self.check_labels(labels)
        self._check_templates(templates, labels)
        start = class_means(templates, labels, len(self.centres)).to(templates.device)
        with torch.enable_grad(), torch.autocast(templates.device.type, enabled=False):
            centres = self._fit(start, templates.detach().float().flatten(0, 1), labels.to(templates.device).repeat(2))
        self.teacher_centres.copy_(centres)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the three losses; missing teacher templates or a missing ``prepare`` raise ValueError."""
        embeddings, teacher = batch.embeddings[self.views[0]], self._teacher(batch)
        with torch.autocast(embeddings.device.type, enabled=False):
            student = self.logits(embeddings, self.centres, batch.labels)
            teacher = self.logits(teacher, self.teacher_centres, batch.labels)
            margin = F.cross_entropy(student, batch.labels)
            stretch = PUBLISHED_SCALE / self.scale
            student, teacher = student * stretch, teacher * stretch
            group = primary_group(student, batch.labels, group_size(student, self.mass, self.step))
            binary, primary = grouped_divergences(student, teacher, group, self.temperature)
            weight = (min(batch.progress / self.warm_up, 1.0) if self.warm_up else 1.0) / stretch
            return {"margin": margin, "gkd_binary": weight * binary, "gkd_primary": weight * self.beta * primary}

    def logits(self, embeddings: Tensor, centres: Tensor, labels: Tensor) -> Tensor:
        """Return float32 [B, classes]: scale * cos, less scale * margin for the right class.

        embeddings: [B, D] and centres: [classes, D] of any float dtype and length; labels: int64 [B].
        """
        cosines = (unit(embeddings) @ unit(centres).T).clamp(-1.0, 1.0)
        own = cosines.gather(1, labels[:, None]) - self.margin
        return self.scale * cosines.scatter(1, labels[:, None], own)

    def _fit(self, start: Tensor, templates: Tensor, labels: Tensor) -> Tensor:
        centres = nn.Parameter(start)
        optimizer = torch.optim.Adam([centres], lr=FIT_RATE)
        for step in range(FIT_STEPS):
            key = randomness.key(self.seed, "teacher classifier", step)
            batch = (randomness.uniform(key, FIT_BATCH) * len(labels)).long().to(labels.device)
            optimizer.param_groups[0]["lr"] = FIT_RATE * (1 - step / FIT_STEPS)
            optimizer.zero_grad()
            F.cross_entropy(self.logits(templates[batch], centres, labels[batch]), labels[batch]).backward()
            optimizer.step()
        return unit(centres.detach())

    def _check_templates(self, templates: Tensor, labels: Tensor) -> None:
        expected = [2, len(labels), self.centres.shape[1]]
        if list(templates.shape) != expected:
            raise ValueError(
                f"GKD expects the teacher's templates as {expected} ([2, faces, embedding_size]), not "
                f"{list(templates.shape)}. Build the student with the teacher's embedding_size."
            )

    def _teacher(self, batch: Batch) -> Tensor:
        templates = teacher_templates(batch, type(self).__name__)
        if not self._fitted:  # read only until it is true: reading it in every step would wait for a GPU
            self._fitted = bool(self.teacher_centres.any())
        if not self._fitted:
            raise ValueError("GKD has no classifier of the teacher. Call prepare(templates, labels) before training.")
        return templates


def class_means(templates: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Return the unit mean template of each class, float32 [classes, D] on the CPU; 0 of a class without a face.

    templates: [2, N, D]; labels: int64 [N]. Summed on the CPU, where the order of summation is fixed.
    """
    sums = torch.zeros(classes, templates.shape[-1], dtype=torch.float64)
    sums.index_add_(0, labels.cpu(), templates.detach().cpu().double().sum(0))
    return F.normalize(sums, dim=1, eps=1e-6).float()

"""The training of heads on frozen templates, which leaves the network that computed the templates unchanged.

The embedding unmasking model (EUM) with the self-restrained triplet loss (SRT, Boutros et al., arXiv 2103.01716) maps
the template of a masked face close to those of the person's unmasked faces; a logistic regression predicts whether a
mask is worn. Throughout, templates are unit vectors, float [N, D]; M is the number of masks drawn per face.
"""

import time
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from maskinv_lib.networks.heads import EUM, MaskClassifier
from maskinv_lib.training.progress import log_record, one_cycle
from maskinv_lib.utils import checks
from maskinv_lib.utils.checks import number
from maskinv_lib.utils.randomness import key, permutation, uniform

LOG_EVERY = 20


def srt_loss(anchor: Tensor, positive: Tensor, negative: Tensor, margin: float = 2.0) -> Tensor:
    """Return the self-restrained triplet loss as described (arXiv 2103.01716), a float32 scalar, mean over B triplets.

    anchor [B, D]: unmasked embeddings by the EUM; positive, negative [B, D]: frozen templates of unmasked faces of the
    same person and of another; no gradient reaches them. All are brought to unit length, and d is the *squared*
    Euclidean distance, 0..4. With averages over the batch:
    relu(d(a, p) + margin - mean d(p, n)) if mean d(a, n) >= mean d(p, n): negatives are far enough, so only the
    distance to the positive is reduced; else the plain triplet loss relu(d(a, p) + margin - d(a, n)).
    """
    number("margin", margin, maximum=4.0)
    if not anchor.shape == positive.shape == negative.shape or anchor.ndim != 2:
        shapes = ", ".join(str(list(x.shape)) for x in (anchor, positive, negative))
        raise ValueError(f"Anchor, positive and negative must share one shape [batch, D], not {shapes}.")
    with torch.autocast(anchor.device.type, enabled=False):
        sides = (anchor, positive.detach(), negative.detach())
        a, p, n = (F.normalize(side.float(), dim=1, eps=1e-6) for side in sides)
        to_positive, to_negative, between = ((x - y).square().sum(1) for x, y in ((a, p), (a, n), (p, n)))  # [B]
        distance = torch.where(to_negative.mean() >= between.mean(), between.mean(), to_negative)
        return F.relu(to_positive + margin - distance).mean()


@dataclass(kw_only=True)
class Triplets:
    """Turns step numbers into triplets of templates, each a function of its keys.

    masked: float [M, N, D] or [N, D], N faces with M drawn masks each. clean: float [N, D], the same faces without.
    labels: int64 [N], at least two people. An epoch is a keyed permutation of the faces, whose rest is dropped.
    """

    masked: Tensor
    clean: Tensor
    labels: Tensor
    seed: int
    batch: int

    def __post_init__(self) -> None:
        self.masked, self.clean = _checked(self.masked, self.clean)
        if self.labels.shape != self.clean.shape[:1] or self.labels.dtype != torch.int64:
            shape = f"{self.labels.dtype} {list(self.labels.shape)}"
            raise ValueError(f"labels must be int64 [{len(self.clean)}], one per clean template, not {shape}.")
        self.labels = self.labels.to(self.clean.device)
        _, person, counts = self.labels.unique(return_inverse=True, return_counts=True)
        if len(counts) < 2:
            raise ValueError("Triplets need faces of two people or more; all labels are the same.")
        if not 2 <= checks.whole_number("batch", self.batch) <= len(self.clean):
            raise ValueError(f"batch must be from 2 to the number of faces, {len(self.clean)}, not {self.batch}.")
        self.sorted = torch.argsort(self.labels, stable=True)  # [N] person after person
        self.own = counts[person]  # [N] pictures of the face's person
        self.first = (counts.cumsum(0) - counts)[person]  # [N] index of that person's first picture in ``sorted``
        self.order = -1, torch.empty(0)  # the current epoch and its permutation

    def draw(self, step: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the indices of a step's triplets, int64 [B] each: (drawn mask, face, positive, negative).

        The positive is any picture of the face's person, the face itself included; the negative any of all others.
        """
        epoch, index = divmod(step, len(self.clean) // self.batch)
        if epoch != self.order[0]:
            order = permutation(key(self.seed, "triplet order", epoch), len(self.clean))
            self.order = epoch, order.to(self.clean.device)
        face = self.order[1][index * self.batch : (index + 1) * self.batch]
        own, first = self.own[face], self.first[face]
        shares = uniform(key(self.seed, "triplet", epoch, face, device=face.device), 3)  # [B, 3]
        counts = torch.stack((torch.full_like(own, len(self.masked)), own, len(self.clean) - own), dim=1)
        mask, same, other = torch.minimum((shares * counts).long(), counts - 1).unbind(1)  # a share may round to 1
        other = torch.where(other < first, other, other + own)  # skip the person's own pictures
        return mask, face, self.sorted[first + same], self.sorted[other]

    def at(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return the templates of a step, float32 [B, D] each: masked anchor, clean positive, clean negative."""
        mask, face, positive, negative = self.draw(step)
        return self.masked[mask, face], self.clean[positive], self.clean[negative]


def train_eum(
    masked: Tensor,
    clean: Tensor,
    labels: Tensor,
    *,
    seed: int,
    budget: int,
    batch: int = 512,
    learning_rate: float = 0.1,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    warm_up: float = 0.15,
    margin: float = 2.0,
) -> tuple[EUM, list[dict]]:
    """Train an EUM with the self-restrained triplet loss: (EUM in evaluation mode, log), a function of its arguments.

    masked, clean, labels: see ``Triplets``; it is trained on the device of ``clean``. budget: masked templates seen, at
    least one batch. SGD with the learning rate of ``one_cycle``. The log has one ``log_record`` per 20 steps. Raises
    ValueError on inputs that do not fit, and FloatingPointError once the loss is not finite.
    """
    triplets = Triplets(masked=masked, clean=clean, labels=labels, seed=seed, batch=batch)
    steps = checks.whole_number("budget", budget, minimum=batch) // batch
    highest, warm_up = number("learning_rate", learning_rate), number("warm_up", warm_up, maximum=0.99)
    momentum, weight_decay = number("momentum", momentum, maximum=1.0), number("weight_decay", weight_decay)
    head = EUM(embedding_size=triplets.clean.shape[1], seed=seed).to(triplets.clean.device)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.0, momentum=momentum, weight_decay=weight_decay)
    records, losses, started = [], [], time.monotonic()
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate = highest * one_cycle((step + 0.5) / steps, warm_up)
        masked, positive, negative = triplets.at(step)
        loss = srt_loss(head(masked), positive, negative, margin)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
        if (step + 1) % LOG_EVERY == 0 or step + 1 == steps:
            record = log_record(
                {"loss": float(torch.stack(losses).mean())},
                step=step + 1,
                steps=steps,
                batch=batch,
                logged=len(losses),
                seconds=time.monotonic() - started,
                learning_rate=rate,
                highest_rate=highest,
            )
            records.append(record)
            losses, started = [], time.monotonic()
    return head.eval(), records


def fit_mask_classifier(masked: Tensor, clean: Tensor, *, penalty: float = 1e-4) -> MaskClassifier:
    """Fit a logistic regression to convergence: is a template of a masked [M, N, D] or of a clean [N, D] face?

    Minimises mean cross-entropy + penalty / 2 |weight|^2 in float64 by Newton's method, no randomness. Both classes
    have the same weight whatever M, so that drawing more masks does not make a mask more likely. The result is in
    evaluation mode, on the CPU.
    """
    from sklearn.linear_model import LogisticRegression  # slow to import, and only fitting needs it

    masked, clean = _checked(masked, clean)
    templates = torch.cat((masked.flatten(0, 1), clean)).double().cpu().numpy()
    wears = np.arange(len(templates)) < len(templates) - len(clean)
    inverse = 1.0 / (number("penalty", penalty, minimum=1e-12) * len(templates))
    settings = {"class_weight": "balanced", "solver": "newton-cholesky", "tol": 1e-8, "max_iter": 1000}
    fitted = LogisticRegression(C=inverse, **settings).fit(templates, wears)
    head = MaskClassifier(embedding_size=clean.shape[1])
    head.weight.copy_(torch.from_numpy(fitted.coef_[0]))
    head.bias.fill_(float(fitted.intercept_[0]))
    return head.eval()


def _checked(masked: Tensor, clean: Tensor) -> tuple[Tensor, Tensor]:
    """Return (masked [M, N, D], clean [N, D]) as float32 on the device of ``clean``, or raise ValueError."""
    masked = masked[None] if masked.ndim == 2 else masked
    if masked.ndim != 3 or clean.ndim != 2 or masked.shape[1:] != clean.shape or masked.numel() == 0:
        raise ValueError(
            f"Templates of masked faces [M, N, D] and of the same faces clean [N, D] do not fit: "
            f"{list(masked.shape)} and {list(clean.shape)}. Give both for the same faces, in the same order."
        )
    for what, templates in (("masked", masked), ("clean", clean)):
        if not templates.is_floating_point() or not templates.isfinite().all():
            raise ValueError(f"The {what} templates must be finite floats; they are {templates.dtype}, or hold NaN.")
    return masked.to(clean.device, torch.float32), clean.float()

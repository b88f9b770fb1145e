"""What every training does at its steps: set the one-cycle learning rate, check the loss, and write a log record."""

import math


def one_cycle(progress: float, warm_up: float) -> float:
    """Return the share of the highest learning rate at ``progress`` in [0, 1] of a training.

    It rises linearly from 0 to 1 over the share ``warm_up`` of the training, then falls to 0 along a cosine.
    """
    if progress < warm_up:
        return progress / warm_up
    return 0.5 * (1 + math.cos(math.pi * ((progress - warm_up) / (1 - warm_up))))


def log_record(
    losses: dict[str, float],
    *,
    step: int,
    steps: int,
    batch: int,
    logged: int,
    seconds: float,
    learning_rate: float,
    highest_rate: float,
) -> dict:
    """Return the log record of the ``logged`` steps up to number ``step`` of ``steps``, JSON-serialisable.

    losses: means over these steps by name; the record holds them and their sum "loss". batch: faces or templates per
    step. seconds: duration of these steps. learning_rate: that of the last one. A loss that is not finite raises
    FloatingPointError with its name.
    """
    not_finite = {name: value for name, value in losses.items() if not math.isfinite(value)}
    if not_finite:
        raise FloatingPointError(
            f"The loss is not finite at step {step} of {steps}: {not_finite}. "
            f"Lower the learning rate ({highest_rate}), or train the network in fp32: precision=fp32."
        )
    return {
        "step": step,
        "steps": steps,
        "faces": step * batch,
        "loss": sum(losses.values()),
        **losses,
        "learning_rate": learning_rate,
        "faces_per_second": logged * batch / max(seconds, 1e-9),
        "seconds": seconds,
    }

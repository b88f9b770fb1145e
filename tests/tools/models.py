"""A model without a network for tests of the tools: a Python function on the pixels, named as module:function."""

import sys

import torch
import torch.nn.functional as F

from maskinv_lib.tools.recogniser import open_recogniser

SOURCE = """
import torch.nn.functional as F

def blocks(faces):
    return F.avg_pool2d(faces.float() - 127.5, 16).flatten(1)

def upper(faces):
    return F.avg_pool2d(faces[:, :, :48].float() - 127.5, 16).flatten(1)
"""


def pixel_model(folder, monkeypatch, name="blocks"):
    """Open the mean of each block of pixels as a model; its module is written to ``folder``, the working directory."""
    (folder / "pixel_models.py").write_text(SOURCE)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    sys.modules.pop("pixel_models", None)
    return open_recogniser(f"pixel_models:{name}")


def block_templates(images):
    """Return what ``blocks`` gives, flip-summed, computed here: float32 [N, D]."""
    pooled = [F.avg_pool2d(part.float() - 127.5, 16).flatten(1) for part in (images, images.flip(-1))]
    return torch.nn.functional.normalize(sum(pooled), dim=1)

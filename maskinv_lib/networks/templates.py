"""Recognisers turn faces into templates: L2-normalised embeddings, compared by their cosine."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from maskinv_lib.faces import Faces
from maskinv_lib.networks import Network, check_shape
from maskinv_lib.networks.weights import read_tensors, write_tensors


class NetworkRecogniser:
    """One network as a recogniser: evaluation mode, float32, no gradients.

    An evaluation uses its method ``templates`` alone: faces, uint8 or float in [-1, 1], [N, 3, 112, 112], to float32
    [N, D] of unit length. A template does not depend on the other faces of its batch (within 1e-5). The network moves
    to ``device`` and stays there; after each call its modules are in the mode they were in. Results are on the images'
    device. batch: faces at a time; None takes 64 on a CPU, where more do not fit the cache, and 256 elsewhere.
    """

    def __init__(self, network: Network, device: torch.device | str = "cpu", batch: int | None = None) -> None:
        self.network = network.to(device)
        self.device = torch.device(device)
        self.batch = batch or (64 if self.device.type == "cpu" else 256)

    def templates(self, images: Tensor) -> Tensor:
        """Return flip-summed templates, float32 [N, D]: embedding(face) + embedding(mirrored face), unit length."""
        return F.normalize(self.embeddings(images, flip=False) + self.embeddings(images, flip=True), dim=1)

    @torch.no_grad()
    def embeddings(self, images: Tensor, flip: bool) -> Tensor:
        """Return raw embeddings of the faces, or of their mirror images if ``flip``, float32 [N, D].

        Input that the network does not accept raises ValueError: what was expected and what came.
        """
        check_shape(images)
        with inference(self.network), _exact(self.device):
            parts = [self._embed(part, flip).to(images.device) for part in images.split(self.batch)]
        return torch.cat(parts)

    def _embed(self, images: Tensor, flip: bool) -> Tensor:
        images = images.flip(-1) if flip else images
        return self.network(images.to(self.device, memory_format=torch.channels_last)).float()  # faster by a quarter


@contextlib.contextmanager
def inference(network: Network) -> Iterator[None]:
    """Put a network in evaluation mode for a block; afterwards each module is in the mode it was in."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextlib.contextmanager
def _exact(device: torch.device) -> Iterator[None]:
    """Compute a block in full float32: no autocast, and no TF32, which would round cosines at the third digit."""
    matmul, convolution = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(matmul)
        torch.backends.cudnn.allow_tf32 = convolution


def teacher_templates(recogniser: NetworkRecogniser, faces: Faces) -> Tensor:
    """Return the teacher's target for each face and flip, float32 [2, N, D] of unit length on the faces' device.

    [0] are the templates of the faces as they are, [1] of their mirror images. The teacher is frozen and sees clean
    faces, so a training needs no others.
    """
    embeddings = [recogniser.embeddings(faces.images, flip=flip) for flip in (False, True)]
    return F.normalize(torch.stack(embeddings), dim=2)


def cached_templates(folder: Path, key: str, compute: Callable[[], Tensor]) -> Tensor:
    """Return ``compute()``, kept in ``folder`` under ``key``; a damaged file is computed and written again.

    key: a text that stands for all that the templates depend on (the network's and the faces' hashes); it becomes
    the file's name. The file is written whole or not at all.
    """
    path = Path(folder) / f"{key}.safetensors"
    with contextlib.suppress(FileNotFoundError, ValueError, KeyError):
        return read_tensors(path)[0]["templates"]
    templates = compute()
    write_tensors(path, {"templates": templates}, {"key": key})
    return templates


def similarity(a: Tensor, b: Tensor) -> Tensor:
    """Return the cosine of every template of ``a`` [N, D] with every template of ``b`` [M, D], float32 [N, M]."""
    return F.normalize(a.float(), dim=1) @ F.normalize(b.float(), dim=1).T

"""A network that sees the upper part of the aligned face alone, which no mask covers; all rows below are blank.

It is the simplest method against masks and a baseline for the others: FaceX-Zoo's study of masked recognition has such
a model too. It does not use mouth and chin on unmasked faces either, and never sees a mask.
"""

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional

from maskinv_lib.faces import SIZE
from maskinv_lib.networks import Network

ROW = 54
"""First row that is blanked: the highest top edge of the published masks, y = 54, two pixels below the eyes' centres.

No mask of ``faces.masks`` covers a pixel above it; the soft rim of one may reach a row or two higher, and the shadow
on the skin about six.
"""


class UpperFace(Network):
    """The network ``inner`` on faces whose rows from ``ROW`` down are blank; raw embeddings [B, embedding_size].

    inner: a factory such as ``iresnet.compact``, called with ``embedding_size`` unless it is None. The upper part is
    not moved, so the size of the feature maps and the positions of eyes and brows are those of the whole face, and
    weights trained on whole faces may be loaded into ``inner``. Blank is 0 after scaling, mid grey in the contracts of
    iResNet and MobileFaceNet; so is the zero padding of the first convolution.
    """

    def __init__(self, *, name: str, inner: Callable[..., Network], embedding_size: int | None = None) -> None:
        network = inner() if embedding_size is None else inner(embedding_size=embedding_size)
        super().__init__(name=name, embedding_size=network.embedding_size, contract=network.contract)
        self.inner = network

    def start_from(self, state: dict[str, Tensor]) -> None:
        """Copy the tensors of a network for whole faces of the inner network's kind, or of an upper-face network."""
        upper_face = all(name.startswith("inner.") for name in state)
        (self if upper_face else self.inner).load_state_dict(state)

    def maps(self, pixels: Tensor) -> Tensor:
        """Return the inner network's last feature maps, [B, channels, height, width], of the upper part."""
        return self.inner.maps(upper_part(pixels))

    def head(self, maps: Tensor) -> Tensor:
        """Return the inner network's raw embeddings, float32 [B, embedding_size], from its last feature maps."""
        return self.inner.head(maps)


def upper_part(pixels: Tensor) -> Tensor:
    """Return scaled pixels [B, 3, 112, 112] with 0 in the rows from ``ROW`` down, also in place of NaN."""
    return functional.pad(pixels[:, :, :ROW], (0, 0, 0, SIZE - ROW))

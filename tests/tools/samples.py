"""Pictures, folders of people and thresholds that several tests of the tools need."""

from PIL import Image

from maskinv_lib.tools.thresholds import Threshold


def save(path, image):
    """Write an image uint8 [3, H, W] to ``path``, whose folders need not exist, and return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
    return path


def save_people(folder, faces, persons):
    """Write the four pictures of each person, named as LFW names them: p03/p03_0001.png."""
    for index, (image, person) in enumerate(zip(faces.images, faces.identity.tolist(), strict=True)):
        if person in persons:
            save(folder / f"p{person:02d}" / f"p{person:02d}_{index % 4 + 1:04d}.png", image)
    return folder


def threshold(value, **rates):
    """Return a threshold set on the unmasked pairs of a benchmark."""
    return Threshold(value=value, benchmark="pairs", condition="unmasked-unmasked", mask_kinds="none", **rates)

"""The JPEGs that the input benchmarks read: 1000 pictures cut from two photographs, the same on every machine."""

from __future__ import annotations

from pathlib import Path

from measuring import scratch

NUM_FILES = 1000
WIDTH, HEIGHT, QUALITY = 500, 375, 90
DESCRIPTION = (
    f"{NUM_FILES} JPEGs of {WIDTH}x{HEIGHT}, quality {QUALITY}, cut from scikit-learn's two photographs"
)


def folder_of_photographs() -> Path:
    """Returns a folder with one sub-folder of JPEGs for each of the two photographs; makes it the first time."""
    return scratch(f"photographs-{NUM_FILES}-{WIDTH}x{HEIGHT}-q{QUALITY}", _make)


def large_folder_of_photographs(num_copies: int) -> Path:
    """Returns a folder with each photograph several times, by hard links: for epochs that are not over at once."""
    photographs = folder_of_photographs()

    def link(folder: Path) -> None:
        for path in photographs.rglob("*.jpg"):
            folder.joinpath(path.parent.name).mkdir(exist_ok=True)
            for copy in range(num_copies):
                folder.joinpath(path.parent.name, f"{path.stem}-{copy}.jpg").hardlink_to(path)

    return scratch(f"{photographs.name}-{num_copies}-copies", link)


def paths_and_labels() -> tuple[list[str], list[int]]:
    """Returns the files' paths, sorted, and the index of each one's photograph."""
    paths = sorted(folder_of_photographs().rglob("*.jpg"))
    names = sorted({path.parent.name for path in paths})
    return [str(path) for path in paths], [names.index(path.parent.name) for path in paths]


def _make(folder: Path) -> None:
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_sample_image

    rng = np.random.default_rng(0)
    for name in ("china", "flower"):
        photograph = Image.fromarray(load_sample_image(f"{name}.jpg"))
        folder.joinpath(name).mkdir()
        for index in range(NUM_FILES // 2):
            # Not much smaller than the picture: what is enlarged is smoother than a photograph, and decodes faster.
            height = int(rng.integers(320, photograph.height + 1))
            width = height * WIDTH // HEIGHT
            left = int(rng.integers(0, photograph.width - width + 1))
            top = int(rng.integers(0, photograph.height - height + 1))
            box = (left, top, left + width, top + height)
            picture = photograph.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS, box)
            picture.save(folder / name / f"{index:04}.jpg", quality=QUALITY)

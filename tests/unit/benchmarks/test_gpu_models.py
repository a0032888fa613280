"""What the models of gpu.py cost, against what is known of them."""

from __future__ import annotations

import sys
from pathlib import Path

import keras  # noqa: F401 (imported here, before a test's environment is compared)
import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))

from gpu_models import images, workload


def forward_flops(name: str) -> float:
    chosen = workload(name, tiny=False)
    return chosen.flops(chosen.build())


def test_resnet_50_takes_as_much_as_its_authors_say() -> None:
    """He et al., 2015, table 1: 3.8 billion multiplications. Its later variant, v1.5, takes 4.1."""
    assert forward_flops("resnet50") == pytest.approx(2 * 3.86e9, rel=0.005)


def test_vit_b16_takes_as_much_as_in_torchvision() -> None:
    """torchvision's vit_b_16 at 224x224: 17.56 billion multiplications."""
    assert forward_flops("vit_b16") == pytest.approx(2 * 17.56e9, rel=0.005)


def test_gpt2_small_takes_two_operations_a_weight_and_token() -> None:
    chosen = workload("gpt2_small", tiny=False)
    num_weights, attention = 124.4e6, 12 * 4 * 1024 * 768
    assert chosen.tokens == 1024
    # It asks nothing of the model, which would take half a gigabyte.
    per_token = chosen.flops(None) / chosen.tokens  # type: ignore[arg-type]
    assert per_token == pytest.approx(2 * num_weights + attention, rel=0.01)


@pytest.mark.parametrize("name", ["resnet50", "resnet50_float32", "vit_b16", "gpt2_small"])
def test_examples_fit_their_model(name: str) -> None:
    chosen = workload(name, tiny=True)
    features, _ = chosen.examples(3)
    model = chosen.build()
    assert features.shape == (3, *model.input.shape[1:])
    assert features.dtype == model.input.dtype


def test_float32_are_the_same_pixels_in_four_times_the_bytes() -> None:
    (pixels, labels), (wide, wide_labels) = (images(8, 10, 2, dtype=dtype) for dtype in ("uint8", "float32"))
    assert (pixels == wide).all()
    assert (labels == wide_labels).all()
    assert wide.nbytes == 4 * pixels.nbytes

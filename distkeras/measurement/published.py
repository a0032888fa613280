"""What others measured on many workers, with where it is written, and what the model gives for the same setting.

Each setting is put into the model as its source describes it: the published rate of one device, the bytes of the
model's gradients, the nominal bandwidth of the network. What no source says is assumed alike for all: `_LATENCY` a
message, exchanges that overlap the whole backward pass, steps that do not vary, input that is never waited for. So
the model says what such a cluster could do, and a published figure above it would show that it is wrong.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from distkeras.measurement.cost_model import BACKWARD_SHARE, StepFacts, predict
from distkeras.measurement.network import Algorithm, Network
from distkeras.observability.formats import percent_text

# Assumed: no source says what a message took. RDMA takes a few microseconds less, TCP some more.
_LATENCY = 10e-6
_GIGABIT = 1e9 / 8
# https://keras.io/api/applications/; ResNeXt-101 (32x4d): timm's results; BERT base: Devlin et al., arXiv:1810.04805.
_PARAMETERS = {
    "Inception V3": 23.9e6,
    "ResNet-50": 25.6e6,
    "ResNet-101": 44.7e6,
    "ResNeXt-101": 44.2e6,
    "VGG-16": 138.4e6,
    "BERT base": 110e6,
}

Transport = Literal["RDMA", "TCP", "NVLink", "not said"]


@dataclass(frozen=True)
class Source:
    """Where figures come from.

    Attributes:
        authors: Who published them.
        title: Under which title.
        year: When.
        where: The section, table or file.
        url: Where to read them.
    """

    authors: str
    title: str
    year: int
    where: str
    url: str

    def describe(self) -> str:
        """Returns the source as a reference."""
        return f"{self.authors}: {self.title} ({self.year}), {self.where}, {self.url}"


@dataclass(frozen=True)
class Point:
    """A published figure.

    Attributes:
        num_workers: On how many workers.
        efficiency: Of what as many times one worker would do.
        source: Where it is written.
    """

    num_workers: int
    efficiency: float
    source: Source


@dataclass(frozen=True)
class PublishedCurve:
    """What one model did on one cluster, with more and more workers.

    Attributes:
        model: The model that was trained.
        cluster: The machines, and the software.
        transport: How messages travelled between the workers.
        step: One worker's part, as far as it was published.
        network: What connected them, at its nominal bandwidth.
        points: The published figures, fewest workers first.
    """

    model: str
    cluster: str
    transport: Transport
    step: StepFacts
    network: Network
    points: tuple[Point, ...]

    @property
    def name(self) -> str:
        """How it is called in tables and charts."""
        return f"{self.model}, {self.cluster}"


@dataclass(frozen=True)
class Comparison:
    """A published figure beside the model's.

    Attributes:
        curve: The setting.
        point: The published figure.
        modelled: The model's efficiency for as many workers.
    """

    curve: PublishedCurve
    point: Point
    modelled: float

    @property
    def difference(self) -> float:
        """The model's efficiency less the published one."""
        return self.modelled - self.point.efficiency


def compare(curves: Sequence[PublishedCurve] | None = None) -> list[Comparison]:
    """Returns every published figure beside what the model gives for its setting.

    Args:
        curves: The settings; None: all of `CURVES`.
    """
    return [
        Comparison(curve, point, predict(curve.step, curve.network, point.num_workers).efficiency)
        for curve in (CURVES if curves is None else curves)
        for point in curve.points
    ]


def describe(comparisons: Sequence[Comparison]) -> str:
    """Returns how far the model is from published figures, and that it is a model."""
    differences = [comparison.difference for comparison in comparisons]
    median = statistics.median(differences)
    furthest = max(comparisons, key=lambda comparison: abs(comparison.difference))
    return (
        f"This is a model. Beside {len(comparisons)} published figures its efficiency is {_points(median)} higher in "
        f"the median, and from {_points(min(differences))} to {_points(max(differences))}: it knows nothing of what "
        f"their clusters lost to protocols and to other work. The furthest: {furthest.curve.name} on "
        f"{furthest.point.num_workers} workers, published {percent_text(furthest.point.efficiency)}, modelled "
        f"{percent_text(furthest.modelled)}."
    )


def _points(difference: float) -> str:
    return f"{100 * difference:.0f} points"


def _step(model: str, batch_size: int, examples_per_second: float, bucket_bytes: float) -> StepFacts:
    return StepFacts(
        batch_size=batch_size,
        compute_seconds=batch_size / examples_per_second,
        gradient_bytes=4 * _PARAMETERS[model],
        bucket_bytes=bucket_bytes,
        overlap=BACKWARD_SHARE,
    )


def _network(gigabits: float, algorithms: tuple[Algorithm, ...]) -> Network:
    return Network(bandwidth=gigabits * _GIGABIT, latency=_LATENCY, algorithms=algorithms)


_HOROVOD_2017 = Source(
    "Uber (A. Sergeev and others)",
    "Horovod, README",
    2017,
    "the tables for 16 and 64 GPUs that pull request 44 took out",
    "https://github.com/horovod/horovod/pull/44",
)
_HOROVOD_128 = Source(
    "Uber (A. Sergeev and others)",
    "Horovod, README",
    2017,
    "the chart for 32 servers; A. Sergeev, M. Del Balso: Horovod, arXiv:1802.05799, section 8 tells of the same",
    "https://github.com/horovod/horovod/pull/44",
)
_HOROVOD_512 = Source(
    "Uber (A. Sergeev and others)",
    "Horovod, Benchmarks",
    2018,
    "docs/benchmarks.rst: 128 servers with 4 Pascal GPUs each, RoCE at 25 Gbit/s",
    "https://github.com/horovod/horovod/blob/master/docs/benchmarks.rst",
)
_GOYAL = Source(
    "P. Goyal, P. Dollár, R. Girshick and others",
    "Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour",
    2017,
    "abstract (efficiency from 8 to 256 GPUs) and section 4 (120 ms of backpropagation, 50 Gbit Ethernet)",
    "https://arxiv.org/abs/1706.02677",
)
_DLPERF_PYTORCH = Source(
    "OneFlow",
    "DLPerf: NVIDIA DeepLearningExamples PyTorch ResNet50 v1.5",
    2020,
    "Performance, FP32 and AMP",
    "https://github.com/Oneflow-Inc/DLPerf/tree/master/NVIDIADeepLearningExamples/PyTorch/resnet50v1.5",
)
_DLPERF = Source(
    "OneFlow",
    "DLPerf Benchmark Test Report V1.0",
    2020,
    "BERT Base Pretrain, batch size 32, TensorFlow 1.x with Horovod",
    "https://github.com/Oneflow-Inc/DLPerf/blob/master/reports/dlperf_benchmark_test_report_v1.md",
)
_NVIDIA = Source(
    "NVIDIA",
    "DeepLearningExamples, ResNeXt101-32x4d for TensorFlow",
    2020,
    "Training performance: NVIDIA DGX A100 (8x A100 40GB), TF32 + XLA",
    "https://github.com/NVIDIA/DeepLearningExamples",
)

# Horovod sends 64 MiB at a time (docs/tensor-fusion.rst); NCCL 2.0 knew rings only, trees came with 2.4.
_HOROVOD_BUCKET = 64 * 1024**2
_RING: tuple[Algorithm, ...] = ("ring",)
_NCCL: tuple[Algorithm, ...] = ("ring", "tree")


def _horovod_2017(
    model: str, alone: float, transport: Transport, on_16: float, later: Sequence[Point] = ()
) -> PublishedCurve:
    """Returns a curve of Horovod's first cluster, of servers with four Pascal GPUs; rates are images a second."""
    return PublishedCurve(
        model,
        f"Horovod, 4 Pascal GPUs a server, 25 Gb/s {transport}",
        transport,
        _step(model, 64, alone, _HOROVOD_BUCKET),
        _network(25, _RING),
        (Point(16, on_16 / (16 * alone), _HOROVOD_2017), *later),
    )


def _horovod_on_64(model: str, alone: float, on_64: float) -> PublishedCurve:
    """Returns a curve of Horovod's second cluster."""
    return PublishedCurve(
        model,
        "Horovod, 4 Pascal GPUs a server, 40 Gb/s TCP",
        "TCP",
        _step(model, 64, alone, _HOROVOD_BUCKET),
        _network(40, _RING),
        (Point(64, on_64 / (64 * alone), _HOROVOD_2017),),
    )


def _from_128(on_128: float, on_512: float) -> tuple[Point, Point]:
    return Point(128, on_128, _HOROVOD_128), Point(512, on_512, _HOROVOD_512)


def _v100s(precision: str, batch_size: int, alone: float, on_16: float, on_32: float) -> PublishedCurve:
    """Returns a curve of DLPerf; it does not say the size of buckets, 25 MiB is PyTorch's default."""
    return PublishedCurve(
        "ResNet-50",
        f"PyTorch, 8 V100 GPUs a server, {precision}, 100 Gb/s InfiniBand",
        "RDMA",
        _step("ResNet-50", batch_size, alone, 25 * 1024**2),
        _network(100, _NCCL),
        (
            Point(16, on_16 / (16 * alone), _DLPERF_PYTORCH),
            Point(32, on_32 / (32 * alone), _DLPERF_PYTORCH),
        ),
    )


CURVES: tuple[PublishedCurve, ...] = (
    _horovod_2017("Inception V3", 134.4, "RDMA", 2022.6, _from_128(0.90, 0.90)),
    _horovod_2017("ResNet-101", 119.4, "RDMA", 1746.2, _from_128(0.90, 0.90)),
    _horovod_2017("VGG-16", 130.9, "RDMA", 1787.4, _from_128(0.79, 0.68)),
    _horovod_2017("Inception V3", 134.4, "TCP", 1990.7),
    _horovod_2017("ResNet-101", 119.4, "TCP", 1685.1),
    _horovod_2017("VGG-16", 130.9, "TCP", 1308.7),
    _horovod_on_64("Inception V3", 148.8, 7932.1),
    _horovod_on_64("ResNet-101", 136.0, 7741.6),
    _horovod_on_64("VGG-16", 149.6, 6084.2),
    # A worker is a server of 8 GPUs here, 32 images each: the figure compares 32 servers with one. 120 ms are two
    # thirds of a step. Gradients went out layer by layer, 161 of them.
    PublishedCurve(
        "ResNet-50",
        "Caffe2, servers of 8 P100 GPUs, 50 Gb/s Ethernet",
        "not said",
        _step("ResNet-50", 8 * 32, 8 * 32 / 0.18, 4 * _PARAMETERS["ResNet-50"] / 161),
        _network(50, _NCCL),
        (Point(32, 0.90, _GOYAL),),
    ),
    _v100s("float32", 128, 367.29, 5716.79, 10917.09),
    _v100s("mixed precision", 256, 802.9, 11991.94, 22551.16),
    PublishedCurve(
        "BERT base",
        "Horovod, 8 V100 GPUs a server, 100 Gb/s InfiniBand",
        "RDMA",
        _step("BERT base", 32, 106.80, _HOROVOD_BUCKET),
        _network(100, _NCCL),
        (Point(16, 1090.20 / (16 * 106.80), _DLPERF), Point(32, 1923.68 / (32 * 106.80), _DLPERF)),
    ),
    # Third-generation NVLink: 300 GB a second each way.
    PublishedCurve(
        "ResNeXt-101",
        "TensorFlow, 8 A100 GPUs of one server, NVLink",
        "NVLink",
        _step("ResNeXt-101", 128, 371, _HOROVOD_BUCKET),
        _network(2400, _NCCL),
        (Point(8, 2854 / (8 * 371), _NVIDIA),),
    ),
)

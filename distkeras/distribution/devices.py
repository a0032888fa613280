"""Which devices a run uses: chosen before TensorFlow starts them, refused before anything is built."""

from __future__ import annotations

import logging

import tensorflow as tf

from distkeras.config.sections import TopologySection
from distkeras.errors import ResourceError

_logger = logging.getLogger(__name__)


def select_devices(section: TopologySection) -> list[str]:
    """Returns the TensorFlow device of each replica, such as `["GPU:0", "GPU:1"]`.

    On the CPU, more than one replica makes logical devices, which must happen before TensorFlow's runtime starts.

    Raises:
        ResourceError: If the machine lacks the devices that the section asks for.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if section.devices == "cpu" or (section.devices == "auto" and not gpus):
        return _logical_cpus(1 if section.replicas == "auto" else section.replicas)
    wanted = len(gpus) if section.replicas == "auto" else section.replicas
    if not gpus or wanted > len(gpus):
        raise ResourceError(
            f"The run asks for {max(wanted, 1)} GPU(s), and TensorFlow sees {len(gpus)} on this machine.",
            place="topology",
            remedy="use topology.devices: cpu, or fewer topology.replicas; `distkeras doctor` shows what is seen",
        )
    for gpu in gpus[:wanted]:
        # Without growth TensorFlow takes all memory of every GPU at its first use, also of those in use by others.
        try:
            tf.config.experimental.set_memory_growth(gpu, True)
        except RuntimeError as error:
            # Something made a tensor before: the devices work, with the memory setting they started with.
            _logger.warning("the memory of %s cannot grow as needed: %s", gpu.name, error)
    return [f"GPU:{index}" for index in range(wanted)]


def _logical_cpus(count: int) -> list[str]:
    cpu = tf.config.list_physical_devices("CPU")[0]
    configured = len(tf.config.get_logical_device_configuration(cpu) or [None])
    if configured < count:
        try:
            tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
        except RuntimeError as error:
            raise ResourceError(
                f"TensorFlow is already running with {configured} CPU device(s), and {count} replicas need as many.",
                place="topology.replicas",
                remedy="choose the replicas before the first TensorFlow operation of the process",
            ) from error
    return [f"CPU:{index}" for index in range(count)]

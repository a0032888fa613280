"""Sound as a picture of it: the logarithm of a mel spectrogram, by Keras's MelSpectrogram."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from distkeras.config.transform_sections import SpectrogramSection
from distkeras.data.preprocessing.base import Preprocessing
from distkeras.data.sources.audio_folder import AudioFolderSource
from distkeras.data.sources.base import Source
from distkeras.errors import ConfigError

LOWEST_HERTZ = 20.0
# Below the noise that 16-bit samples have themselves; it keeps the logarithm of silence finite.
FLOOR = 1e-6


class Spectrogram(Preprocessing):
    """Samples, float32, shape (batch, num_samples), to spectrograms, float32, shape (batch, frames, mel_bins, 1).

    Values are `log(power + 1e-6)`, the power being that of the Fourier transform of a Hann window (padded with zeros
    to a power of two), weighted by triangular filters on the HTK mel scale from 20 Hz to half the sample rate.
    A frame stands at every `frame_step` samples from the first on, centred there; beyond its ends a sound is
    mirrored. Nothing is learnt: there is no state.

    Args:
        section: Frames and bands.
        source: Sounds, whose length and sample rate count; an audio folder, or a part of one.

    Raises:
        ConfigError: If the source is no audio folder, its sounds are shorter than a frame, or a frame is too short
            to tell the bands apart.
    """

    feature_dtype = "float32"

    def __init__(self, section: SpectrogramSection, source: Source) -> None:
        audio, _ = source.origin(np.zeros(1, np.int64))
        if not isinstance(audio, AudioFolderSource):
            raise ConfigError(
                "Spectrograms are of sounds, whose sample rate is known.",
                place="data.spectrogram",
                received=source.name,
                remedy="use a source of kind audio_folder, or leave data.spectrogram out",
            )
        num_samples = audio.num_samples
        if section.frame_length > num_samples:
            raise ConfigError(
                f"A frame is longer than the sounds, which have {num_samples:,} samples.",
                place="data.spectrogram.frame_length",
                received=section.frame_length,
                remedy="set a shorter frame, or more data.source.seconds",
            )
        self.feature_shape = (1 + num_samples // section.frame_step, section.mel_bins, 1)
        self._layer = _layer(section, audio.sample_rate)
        # As a graph it is TensorFlow's with every Keras backend, also where it is called eagerly.
        signature = [tf.TensorSpec((None, num_samples), tf.float32)]
        self._picture = tf.function(self._compute, input_signature=signature, autograph=False)

    def __call__(self, features: Any) -> tf.Tensor:
        return self._picture(features)

    def state(self) -> dict[str, Any]:
        return {}

    def _compute(self, samples: tf.Tensor) -> tf.Tensor:
        bands = self._layer(samples)
        picture = tf.math.log(tf.transpose(bands, (0, 2, 1)) + FLOOR)
        return tf.ensure_shape(tf.expand_dims(picture, -1), (None, *self.feature_shape))


def _layer(section: SpectrogramSection, sample_rate: int) -> keras.layers.MelSpectrogram:
    fft_length = 1 << (section.frame_length - 1).bit_length()
    layer = keras.layers.MelSpectrogram(
        fft_length=fft_length,
        sequence_stride=section.frame_step,
        sequence_length=section.frame_length,
        sampling_rate=sample_rate,
        num_mel_bins=section.mel_bins,
        min_freq=LOWEST_HERTZ,
        max_freq=sample_rate / 2,
        # Keras cuts decibels off relative to the loudest of the batch: an example would depend on its neighbours.
        power_to_db=False,
        dtype="float32",
    )
    filters = np.asarray(
        layer.linear_to_mel_weight_matrix(
            section.mel_bins, fft_length // 2 + 1, sample_rate, LOWEST_HERTZ, sample_rate / 2
        )
    )
    num_empty = int(np.count_nonzero(filters.max(axis=0) == 0))
    if num_empty:
        raise ConfigError(
            f"{num_empty} of {section.mel_bins} frequency bands are narrower than what a frame tells apart.",
            place="data.spectrogram.mel_bins",
            received=f"frames of {section.frame_length} samples, {sample_rate} of them a second",
            remedy="set fewer mel_bins, or a longer frame_length",
        )
    return layer

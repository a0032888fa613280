"""Spectrograms against a computation in NumPy, straight from the formulas."""

from __future__ import annotations

import os
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from distkeras.config.source_sections import AudioFolderSource as AudioSection
from distkeras.config.transform_sections import SpectrogramSection
from distkeras.data.preprocessing.spectrogram import Spectrogram
from distkeras.data.sources.arrays import ArraySource
from distkeras.data.sources.audio_folder import AudioFolderSource
from distkeras.data.sources.base import Subset
from distkeras.errors import ConfigError

RATE = 8_000
NUM_SAMPLES = 2_000


@pytest.fixture
def sounds(tmp_path: Path) -> AudioFolderSource:
    random = np.random.default_rng(3)
    time = np.arange(NUM_SAMPLES) / RATE
    noise = random.uniform(-1, 1, NUM_SAMPLES)
    # A little noise in every band: where there is no power, only rounding errors could be compared.
    tone = 0.9 * np.sin(2 * np.pi * 440 * time) + noise / 100
    waves = {"noise": noise, "tone": tone, "none": 0 * time}
    for name, samples in waves.items():
        (tmp_path / name).mkdir()
        with wave.open(str(tmp_path / name / "1.wav"), "wb") as file:
            file.setparams((1, 2, RATE, 0, "NONE", ""))
            file.writeframes((samples * 32_767).astype("<i2").tobytes())
    return AudioFolderSource(
        AudioSection(kind="audio_folder", path=tmp_path, sample_rate=RATE, seconds=NUM_SAMPLES / RATE)
    )


def mel(hertz: Any) -> Any:
    return 1127.0 * np.log1p(np.asarray(hertz) / 700.0)


def filter_bank(num_bands: int, fft_length: int) -> np.ndarray:
    edges = np.linspace(mel(20.0), mel(RATE / 2), num_bands + 2)
    bins = mel(np.arange(fft_length // 2 + 1) * RATE / fft_length)[:, np.newaxis]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return np.maximum(0, np.minimum(rising, falling))


def expected(samples: np.ndarray, section: SpectrogramSection, fft_length: int) -> np.ndarray:
    length, half = section.frame_length, fft_length // 2
    # TensorFlow's periodic window is symmetric where its length is odd.
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / (length - length % 2))
    padded = np.pad(samples.astype(np.float64), half, mode="reflect")
    left = (fft_length - length) // 2
    starts = range(0, len(samples) + 1, section.frame_step)
    frames = np.stack([padded[start + left : start + left + length] for start in starts])
    power = np.abs(np.fft.rfft(frames * window, fft_length)) ** 2
    return np.log(power @ filter_bank(section.mel_bins, fft_length) + 1e-6)[..., np.newaxis]


@pytest.mark.parametrize(
    ("frame_length", "frame_step", "mel_bins", "fft_length"),
    [(200, 80, 24, 256), (512, 512, 40, 512), (333, 7, 20, 512)],
)
def test_values(
    sounds: AudioFolderSource, frame_length: int, frame_step: int, mel_bins: int, fft_length: int
) -> None:
    section = SpectrogramSection(frame_length=frame_length, frame_step=frame_step, mel_bins=mel_bins)
    spectrogram = Spectrogram(section, sounds)
    samples, _ = sounds.read_arrays(np.arange(3))
    pictures = spectrogram(samples).numpy()
    assert pictures.dtype == np.float32
    assert pictures.shape == (3, *spectrogram.feature_shape)
    for picture, sound in zip(pictures, samples, strict=True):
        np.testing.assert_allclose(picture, expected(sound, section, fft_length), atol=1e-4)


def test_an_example_does_not_depend_on_its_neighbours(sounds: AudioFolderSource) -> None:
    spectrogram = Spectrogram(SpectrogramSection(frame_length=200, mel_bins=24), sounds)
    samples, _ = sounds.read_arrays(np.arange(3))
    together = spectrogram(samples).numpy()
    alone = np.concatenate([spectrogram(sound[np.newaxis]).numpy() for sound in samples])
    np.testing.assert_array_equal(together, alone)
    assert np.allclose(together[1], np.log(1e-6))  # "none" is silent.


def test_works_in_a_pipeline_on_a_part_of_the_data(sounds: AudioFolderSource) -> None:
    part = Subset(sounds, np.array([2, 0]))
    spectrogram = Spectrogram(SpectrogramSection(frame_length=200, mel_bins=24), part)
    dataset = tf.data.Dataset.range(2).map(lambda i: part.read(i)[0]).batch(2).map(spectrogram)
    assert dataset.element_spec == tf.TensorSpec((None, 13, 24, 1), tf.float32)
    [pictures] = dataset.as_numpy_iterator()
    np.testing.assert_allclose(pictures, spectrogram(part.read_arrays(np.arange(2))[0]), atol=1e-5)
    assert spectrogram.state() == {}


def test_the_jax_backend_gives_the_same(
    sounds: AudioFolderSource, run_python: Callable[..., Any], tmp_path: Path
) -> None:
    code = f"""
import numpy as np, tensorflow as tf
from pathlib import Path
import keras
from distkeras.config.source_sections import AudioFolderSource as Section
from distkeras.config.transform_sections import SpectrogramSection
from distkeras.data.preprocessing.spectrogram import Spectrogram
from distkeras.data.sources.audio_folder import AudioFolderSource
assert keras.backend.backend() == "jax"
source = AudioFolderSource(Section(kind="audio_folder", path=Path({str(tmp_path)!r}), sample_rate={RATE}, seconds=0.25))
spectrogram = Spectrogram(SpectrogramSection(frame_length=200, mel_bins=24), source)
dataset = tf.data.Dataset.range(3).map(lambda i: source.read(i)[0]).batch(3).map(spectrogram)
np.save("pictures.npy", next(dataset.as_numpy_iterator()))
"""
    result = run_python("-c", code, env={**os.environ, "KERAS_BACKEND": "jax"})
    assert result.returncode == 0, result.stderr
    spectrogram = Spectrogram(SpectrogramSection(frame_length=200, mel_bins=24), sounds)
    here = spectrogram(sounds.read_arrays(np.arange(3))[0])
    np.testing.assert_allclose(np.load(tmp_path / "pictures.npy"), here, atol=1e-5)


def test_sounds_shorter_than_a_frame(sounds: AudioFolderSource) -> None:
    with pytest.raises(
        ConfigError, match="A frame is longer than the sounds, which have 2,000 samples"
    ) as caught:
        Spectrogram(SpectrogramSection(frame_length=2_001), sounds)
    assert caught.value.place == "data.spectrogram.frame_length"


def test_bands_that_no_frequency_falls_into(sounds: AudioFolderSource) -> None:
    with pytest.raises(
        ConfigError, match="of 64 frequency bands are narrower than what a frame tells apart"
    ) as caught:
        Spectrogram(SpectrogramSection(frame_length=128, mel_bins=64), sounds)
    assert caught.value.place == "data.spectrogram.mel_bins"


def test_what_is_no_sound() -> None:
    arrays = ArraySource(np.zeros((3, NUM_SAMPLES), np.float32), np.zeros(3, np.int64))
    with pytest.raises(ConfigError, match="Spectrograms are of sounds, whose sample rate is known"):
        Spectrogram(SpectrogramSection(), arrays)

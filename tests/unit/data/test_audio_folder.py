"""Sounds by class folder: samples as they were written, and every way a WAV file can be wrong."""

from __future__ import annotations

import shutil
import struct
import wave
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from distkeras.config.source_sections import AudioFolderSource as Section
from distkeras.data.bad_data import find_unreadable_example
from distkeras.data.sources.audio_folder import AudioFolderSource
from distkeras.errors import ConfigError, DataError

RATE = 8_000
SAMPLES = np.random.default_rng(2).integers(-(2**15), 2**15, 100).astype(np.int16)


def write_wave(path: Path, samples: np.ndarray = SAMPLES, rate: int = RATE, width: int = 2) -> Path:
    """Writes samples of shape (num_samples,) or (num_samples, num_channels)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(samples.shape[1] if samples.ndim > 1 else 1)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(samples.astype("<i2" if width == 2 else "<i4").tobytes())
    return path


def chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)


def sample_format(encoding: int = 1, extra: bytes = b"") -> bytes:
    return chunk(b"fmt ", struct.pack("<HHIIHH", encoding, 1, RATE, 2 * RATE, 2, 16) + extra)


def riff(*chunks: bytes) -> bytes:
    content = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(content)) + content


DATA = chunk(b"data", SAMPLES.tobytes())
# The first two bytes of an extensible format's identifier say what the samples are.
EXTENSION = struct.pack("<HHI", 22, 16, 4) + struct.pack("<H", 1) + bytes(14)


def section(folder: Path, **keys: object) -> Section:
    return Section.model_validate(
        {"kind": "audio_folder", "path": folder, "sample_rate": RATE, "seconds": 100 / RATE, **keys}
    )


def refusal(folder: Path, **keys: object) -> str:
    with pytest.raises(DataError) as caught:
        AudioFolderSource(section(folder, **keys))
    return str(caught.value)


@pytest.fixture
def sounds(tmp_path: Path) -> Path:
    folder = tmp_path / "sounds"
    write_wave(folder / "dog" / "2.wav")
    write_wave(folder / "cat" / "young" / "1.WAV", -SAMPLES // 2)
    return folder


def test_order_labels_and_places(sounds: Path) -> None:
    source = AudioFolderSource(section(sounds))
    assert [source.locate(example_id) for example_id in range(2)] == ["cat/young/1.WAV", "dog/2.wav"]
    assert source.labels().tolist() == [0, 1]
    assert source.class_names == ("cat", "dog")
    assert (source.granularity, source.feature_shape, source.feature_dtype) == ("example", (100,), "float32")
    assert source.sample_rate == RATE
    assert source.bytes_of(np.array([1])).tolist() == [244]


def test_reads_samples_in_a_pipeline(sounds: Path) -> None:
    source = AudioFolderSource(section(sounds))
    dataset = tf.data.Dataset.from_tensor_slices(np.int64([1, 0])).map(source.read)
    assert dataset.element_spec[0] == tf.TensorSpec((100,), tf.float32)
    [(second, label), (first, _)] = dataset.as_numpy_iterator()
    np.testing.assert_array_equal(second, SAMPLES.astype(np.float32) / 2**15)
    np.testing.assert_array_equal(first, (-SAMPLES // 2).astype(np.float32) / 2**15)
    assert label == 1


def test_the_values_are_those_of_tensorflows_own_decoder(sounds: Path) -> None:
    source = AudioFolderSource(section(sounds))
    decoded, _ = tf.audio.decode_wav(tf.io.read_file(str(sounds / "dog" / "2.wav")))
    np.testing.assert_array_equal(source.read(tf.constant(1, tf.int64))[0], decoded[:, 0])


@pytest.mark.parametrize("num_samples", [40, 160])
def test_long_sounds_are_cut_and_short_ones_filled(sounds: Path, num_samples: int) -> None:
    source = AudioFolderSource(section(sounds, seconds=num_samples / RATE))
    [samples] = source.read_arrays(np.array([1]))[0]
    expected = np.zeros(num_samples, np.float32)
    expected[:100] = SAMPLES[:num_samples] / 2**15
    np.testing.assert_array_equal(samples, expected)


def test_of_many_channels_the_first_is_read(tmp_path: Path) -> None:
    write_wave(tmp_path / "a" / "1.wav", np.stack([SAMPLES, SAMPLES[::-1]], axis=1))
    source = AudioFolderSource(section(tmp_path, seconds=50 / RATE))
    np.testing.assert_array_equal(source.read_arrays(np.array([0]))[0][0], SAMPLES[:50] / np.float32(2**15))


@pytest.mark.parametrize(
    "content",
    [
        riff(sample_format(), chunk(b"LIST", b"odd"), DATA),
        riff(chunk(b"LIST", b"odd"), sample_format(), DATA),
        riff(chunk(b"junk", bytes(28)), sample_format(extra=b"\0\0"), DATA),
        riff(sample_format(0xFFFE, EXTENSION), DATA, chunk(b"LIST", b"odd")),
        riff(sample_format(), chunk(b"data", SAMPLES.tobytes() + b"x")),
    ],
    ids=["odd chunk", "chunk before the format", "longer format", "extensible", "odd length"],
)
def test_chunks_that_other_programs_write(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.wav").write_bytes(content)
    source = AudioFolderSource(section(tmp_path))
    np.testing.assert_array_equal(source.read_arrays(np.array([0]))[0][0], SAMPLES / np.float32(2**15))


def test_without_labels_the_folder_itself_is_searched(sounds: Path) -> None:
    write_wave(sounds / "top.wav")
    source = AudioFolderSource(section(sounds), labelled=False)
    assert source.class_names is None
    assert source.labels().tolist() == [0] * 3


def test_the_fingerprint_is_of_names_lengths_and_what_is_read(sounds: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(sounds, tmp_path / "elsewhere" / "other")
    before = AudioFolderSource(section(sounds)).fingerprint
    assert AudioFolderSource(section(copy)).fingerprint == before
    assert AudioFolderSource(section(copy, seconds=0.5)).fingerprint != before
    write_wave(copy / "dog" / "2.wav", SAMPLES[:99])
    assert AudioFolderSource(section(copy)).fingerprint != before


def test_another_sample_rate(sounds: Path) -> None:
    path = write_wave(sounds / "dog" / "1.wav", rate=44_100)
    text = refusal(sounds)
    assert "A sound file has 44,100 samples a second; data.source.sample_rate is 8,000." in text
    assert f"where: {path}" in text


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "A sound file is empty."),
        (b"ID3\x04 this is an MP3 file", "A sound file is not a WAV file."),
        (riff(sample_format()), "A sound file is not a WAV file."),
        (riff(DATA), "A sound file is not a WAV file."),
        (riff(sample_format(3), DATA), "A sound file is not 16-bit PCM."),
        (
            riff(sample_format(0xFFFE, EXTENSION.replace(b"\1", b"\3")), DATA),
            "A sound file is not 16-bit PCM.",
        ),
        (riff(sample_format(), DATA)[:-1], "A sound file is cut off."),
        (riff(sample_format(), chunk(b"data", b"")), "A sound file has no samples."),
    ],
    ids=["empty", "other file", "no data", "no format", "float", "extensible float", "torn", "silent"],
)
def test_what_is_refused(sounds: Path, content: bytes, sentence: str) -> None:
    path = sounds / "dog" / "0.wav"
    path.write_bytes(content)
    text = refusal(sounds)
    assert sentence in text
    assert f"where: {path}" in text


def test_other_widths_are_named(sounds: Path) -> None:
    write_wave(sounds / "dog" / "0.wav", SAMPLES, width=4)
    text = refusal(sounds)
    assert "A sound file is not 16-bit PCM." in text
    assert "received: 'format 1, 32 bits'" in text


def test_what_is_left_of_a_torn_file_is_named(sounds: Path) -> None:
    path = sounds / "dog" / "2.wav"
    path.write_bytes(path.read_bytes()[:-50])
    assert "received: '150 of 200 bytes of samples'" in refusal(sounds)


def test_no_prefix_of_a_sound_is_accepted(sounds: Path) -> None:
    path = sounds / "dog" / "2.wav"
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        refusal(sounds)


def test_an_unreadable_file(sounds: Path) -> None:
    (sounds / "dog" / "gone.wav").symlink_to(sounds / "nowhere.wav")
    assert "A sound file cannot be read." in refusal(sounds)


def test_an_example_needs_a_sample(sounds: Path) -> None:
    with pytest.raises(ConfigError, match="An example of sound would have no samples"):
        AudioFolderSource(section(sounds, seconds=0.00001))


def test_a_file_changed_during_training_is_found_by_name(sounds: Path) -> None:
    source = AudioFolderSource(section(sounds))
    write_wave(sounds / "dog" / "2.wav", SAMPLES[:60])
    with pytest.raises(tf.errors.InvalidArgumentError):
        list(tf.data.Dataset.range(2).map(source.read))
    error = find_unreadable_example(source)
    assert error is not None
    assert error.place == f"dog/2.wav in {sounds}"
    assert "The sound file has changed since it was opened." in str(error.received)

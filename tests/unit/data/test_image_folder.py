from __future__ import annotations

import io
import os
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from distkeras.config.source_sections import ImageFolderSource as Section
from distkeras.data.bad_data import find_unreadable_example
from distkeras.data.sources.image_folder import ImageFolderSource
from distkeras.data.sources.image_header import read_image_header
from distkeras.errors import DataError

PICTURE = np.random.default_rng(1).integers(0, 256, (9, 7, 3), dtype=np.uint8)
FORMATS = ["JPEG", "PNG", "GIF", "BMP"]


def encoded(
    image_format: str, picture: np.ndarray = PICTURE, mode: str | None = None, **options: object
) -> bytes:
    stream = io.BytesIO()
    image = Image.fromarray(picture)
    (image.convert(mode) if mode else image).save(stream, image_format, **options)
    return stream.getvalue()


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def section(folder: Path, **keys: object) -> Section:
    return Section.model_validate({"kind": "image_folder", "path": folder, **keys})


def refusal(folder: Path, **keys: object) -> str:
    with pytest.raises(DataError) as caught:
        ImageFolderSource(section(folder, **keys))
    return str(caught.value)


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims any size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    folder = tmp_path / "pets"
    write(folder / "dogs" / "2.png", encoded("PNG"))
    write(folder / "dogs" / "10.PNG", encoded("PNG"))
    write(folder / "cats" / "young" / "b.bmp", encoded("BMP"))
    write(folder / "cats" / "c.gif", encoded("GIF"))
    write(folder / "cats" / "a.jpg", encoded("JPEG"))
    return folder


class TestReading:
    def test_order_labels_and_places(self, pets: Path) -> None:
        source = ImageFolderSource(section(pets))
        places = [source.locate(example_id) for example_id in range(source.num_examples)]
        assert places == ["cats/a.jpg", "cats/c.gif", "cats/young/b.bmp", "dogs/10.PNG", "dogs/2.png"]
        assert source.labels().tolist() == [0, 0, 0, 1, 1]
        assert source.class_names == ("cats", "dogs")
        assert source.feature_shape == (9, 7, 3)
        assert (source.granularity, source.feature_dtype) == ("example", "uint8")

    def test_reads_pixels_in_a_pipeline(self, pets: Path) -> None:
        source = ImageFolderSource(section(pets))
        dataset = tf.data.Dataset.from_tensor_slices(np.int64([4, 2])).map(source.read)
        assert dataset.element_spec[0] == tf.TensorSpec((9, 7, 3), tf.uint8)
        for image, _ in dataset:  # PNG and BMP keep every pixel.
            np.testing.assert_array_equal(image, PICTURE)
        assert [int(label) for _, label in dataset] == [1, 0]

    @pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
    def test_decodes_to_the_wanted_channels(self, tmp_path: Path, channels: int, mode: str) -> None:
        for name in ("L", "RGB"):
            write(tmp_path / "a" / f"{name}.png", encoded("PNG", mode=name))
        source = ImageFolderSource(section(tmp_path, channels=channels))
        images = [source.read(tf.constant(i, tf.int64))[0] for i in range(2)]
        assert [image.shape for image in images] == [(9, 7, channels)] * 2
        expected = np.asarray(Image.fromarray(PICTURE).convert(mode)).reshape(9, 7, channels)
        same = images[["L", "RGB"].index(mode)].numpy()
        np.testing.assert_array_equal(same, expected)

    def test_the_content_decides_not_the_extension(self, tmp_path: Path) -> None:
        write(tmp_path / "a" / "really_a_png.jpg", encoded("PNG"))
        source = ImageFolderSource(section(tmp_path))
        np.testing.assert_array_equal(source.read(tf.constant(0, tf.int64))[0], PICTURE)

    def test_images_of_many_sizes_have_no_fixed_shape(self, pets: Path) -> None:
        write(pets / "cats" / "wide.png", encoded("PNG", np.zeros((9, 8, 3), np.uint8)))
        source = ImageFolderSource(section(pets))
        assert source.feature_shape == (None, None, 3)
        shapes = {tuple(source.read(tf.constant(i, tf.int64))[0].shape) for i in range(source.num_examples)}
        assert shapes == {(9, 7, 3), (9, 8, 3)}

    def test_hidden_files_and_other_extensions_are_counted(self, pets: Path) -> None:
        write(pets / "cats" / ".DS_Store", b"")
        write(pets / "cats" / "._a.jpg", b"")
        write(pets / "dogs" / "notes.txt", b"")
        write(pets / ".git" / "x.png", b"")
        source = ImageFolderSource(section(pets))
        assert (source.num_examples, source.ignored) == (5, 3)
        assert source.class_names == ("cats", "dogs")

    def test_an_odd_but_readable_image_is_accepted(self, tmp_path: Path) -> None:
        write(tmp_path / "a" / "1.jpg", encoded("JPEG") + b"camera maker's trailer")
        assert ImageFolderSource(section(tmp_path)).num_examples == 1


class TestFingerprint:
    def test_does_not_depend_on_place_or_time(self, pets: Path, tmp_path: Path) -> None:
        copy = shutil.copytree(pets, tmp_path / "elsewhere" / "other")
        os.utime(copy / "cats" / "a.jpg", (0, 0))
        fingerprints = {ImageFolderSource(section(folder)).fingerprint for folder in (pets, copy)}
        assert len(fingerprints) == 1

    @pytest.mark.parametrize("change", ["rename", "resize", "remove"])
    def test_changes_with_names_sizes_and_files(self, pets: Path, change: str) -> None:
        before = ImageFolderSource(section(pets)).fingerprint
        file = pets / "dogs" / "2.png"
        if change == "rename":
            file.rename(file.with_name("3.png"))
        elif change == "resize":
            file.write_bytes(encoded("PNG", np.zeros((4, 4, 3), np.uint8)))
        else:
            file.unlink()
        assert ImageFolderSource(section(pets)).fingerprint != before


class TestRefusals:
    def test_missing_folder(self, tmp_path: Path) -> None:
        text = refusal(tmp_path / "none")
        assert "There is no folder of images here." in text
        assert f"where: {tmp_path / 'none'}" in text

    def test_file_instead_of_a_folder(self, tmp_path: Path) -> None:
        assert "There is a file here, and no folder of images." in refusal(write(tmp_path / "x", b""))

    def test_empty_folder(self, tmp_path: Path) -> None:
        assert "A folder of images is empty." in refusal(tmp_path)

    def test_no_class_folders(self, tmp_path: Path) -> None:
        write(tmp_path / "1.png", encoded("PNG"))
        text = refusal(tmp_path)
        assert "A folder of images has no class sub-folders." in text
        assert "Put each class's images in a sub-folder with the class's name." in text

    def test_empty_class(self, pets: Path) -> None:
        write(pets / "eels" / "readme.txt", b"")
        text = refusal(pets)
        assert "Class 'eels' has no images." in text
        assert f"where: {pets / 'eels'}" in text

    def test_unreadable_file(self, pets: Path) -> None:
        (pets / "cats" / "gone.jpg").symlink_to(pets / "nowhere.jpg")
        text = refusal(pets)
        assert "An image cannot be read." in text
        assert f"where: {pets / 'cats' / 'gone.jpg'}" in text
        assert "No such file or directory" in text

    def test_zero_bytes(self, pets: Path) -> None:
        path = write(pets / "cats" / "zero.jpg", b"")
        text = refusal(pets)
        assert "An image file is empty." in text
        assert f"where: {path}" in text

    def test_text_named_as_an_image(self, pets: Path) -> None:
        path = write(pets / "cats" / "page.jpg", b"<html>404 Not Found</html>")
        text = refusal(pets)
        assert "An image file is not a JPEG, PNG, BMP or GIF image." in text
        assert f"where: {path}" in text

    @pytest.mark.parametrize("image_format", FORMATS)
    def test_truncated_image(self, pets: Path, image_format: str) -> None:
        content = encoded(image_format)
        path = write(pets / "cats" / "cut.jpg", content[: len(content) * 3 // 4])
        text = refusal(pets)
        assert f"A {image_format} image is cut off or damaged." in text
        assert f"where: {path}" in text

    def test_image_bomb_is_refused_before_it_is_decoded(self, pets: Path) -> None:
        path = write(pets / "cats" / "bomb.png", bomb(60_000, 60_000))
        assert path.stat().st_size < 100
        text = refusal(pets)
        assert "An image claims 3,600,000,000 pixels; 50,000,000 are allowed." in text
        assert "received: 'PNG, 60000 x 60000'" in text
        assert f"where: {path}" in text

    def test_max_pixels_is_inclusive(self, pets: Path) -> None:
        assert ImageFolderSource(section(pets, max_pixels=63)).num_examples == 5
        assert "An image claims 63 pixels; 62 are allowed. 4 more cannot be used." in refusal(
            pets, max_pixels=62
        )

    @pytest.mark.parametrize("image_format", ["GIF", "BMP"])
    def test_formats_without_one_channel(self, tmp_path: Path, image_format: str) -> None:
        write(tmp_path / "a" / "1.gif", encoded(image_format))
        text = refusal(tmp_path, channels=1)
        assert f"A {image_format} image cannot be decoded to one channel." in text
        assert "Set data.source.channels: 3, or convert the file to PNG." in text

    def test_the_first_bad_file_is_named_and_the_others_counted(self, pets: Path) -> None:
        first = write(pets / "cats" / "0.jpg", b"")
        write(pets / "dogs" / "0.jpg", b"text")
        text = refusal(pets)
        assert "An image file is empty. 1 more cannot be used." in text
        assert f"where: {first}" in text


class TestFailuresWhileTraining:
    def test_a_damaged_image_is_found_by_name(self, pets: Path) -> None:
        path = pets / "dogs" / "2.png"
        content = bytearray(path.read_bytes())
        content[60:100] = bytes(40)  # Inside the pixels: header and end stay as they were.
        path.write_bytes(content)
        source = ImageFolderSource(section(pets))
        with pytest.raises(tf.errors.InvalidArgumentError):
            list(tf.data.Dataset.range(5).map(source.read))
        error = find_unreadable_example(source)
        assert error is not None
        assert error.problem == "An example cannot be read or decoded."
        assert error.place == f"dogs/2.png in {pets}"

    def test_a_file_removed_during_training_is_found_by_name(self, pets: Path) -> None:
        source = ImageFolderSource(section(pets))
        (pets / "cats" / "c.gif").unlink()
        error = find_unreadable_example(source, [0, 1])
        assert error is not None
        assert error.place == f"cats/c.gif in {pets}"
        assert "No such file or directory" in str(error.received)


class TestHeaders:
    @pytest.mark.parametrize("image_format", FORMATS)
    def test_size_and_format(self, image_format: str) -> None:
        header = read_image_header(io.BytesIO(encoded(image_format)))
        assert header is not None
        assert (header.format, header.height, header.width, header.is_whole) == (image_format, 9, 7, True)

    @pytest.mark.parametrize("options", [{"progressive": True}, {"exif": b"Exif\0\0" + b"x" * 60_000}])
    def test_jpeg_variants(self, options: dict[str, object]) -> None:
        header = read_image_header(io.BytesIO(encoded("JPEG", **options)))
        assert header is not None
        assert (header.height, header.width) == (9, 7)

    def test_jpeg_with_fill_bytes_and_restart_marker(self) -> None:
        content = encoded("JPEG")
        header = read_image_header(io.BytesIO(content[:2] + b"\xff\xd0\xff\xff" + content[2:]))
        assert header is not None
        assert (header.height, header.width) == (9, 7)

    def test_bmp_of_os2_and_bmp_from_the_top(self) -> None:
        core = b"BM" + struct.pack("<IHHI", 26, 0, 0, 26) + struct.pack("<IHHHH", 12, 7, 9, 1, 24)
        top_down = b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + struct.pack("<Iii", 40, 7, -9) + bytes(28)
        for content in (core, top_down):
            header = read_image_header(io.BytesIO(content))
            assert header is not None
            assert (header.height, header.width) == (9, 7)

    @pytest.mark.parametrize("image_format", FORMATS)
    def test_no_prefix_of_these_images_is_whole(self, image_format: str) -> None:
        content = encoded(image_format)
        for length in range(len(content)):
            header = read_image_header(io.BytesIO(content[:length]))
            assert header is None or not header.is_whole

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"\xff\xd8\xff",
            b"\xff\xd8\xff\xda\x00\x02",
            b"\xff\xd8\xff\xe0\x00\x00" * 3,
            b"\xff\xd8\xff\xe0\x00\x01" * 3,
            b"\xff\xd8\xff\xe0\xff\xff",
            bomb(0, 5),
            b"RIFF0000WEBPVP8 ",
        ],
    )
    def test_what_is_no_image(self, content: bytes) -> None:
        assert read_image_header(io.BytesIO(content)) is None

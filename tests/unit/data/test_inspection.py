"""What an inspection says of real files, good and bad."""

from __future__ import annotations

import io
import json
import re
import wave
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from PIL import Image

from distkeras.cli.inspection_text import inspection_lines
from distkeras.config.sections import DataSection
from distkeras.data.inspection import inspect_section, section_for
from distkeras.data.inspection.page import render
from distkeras.data.inspection.pictures import thumbnails_of_arrays
from distkeras.data.inspection.statistics import distribution, frequent, frequent_words
from distkeras.errors import ConfigError, DataError


def inspect(path, label=None):
    return inspect_section(section_for(path, label))


def inspect_kind(**source):
    return inspect_section(DataSection.model_validate_json(json.dumps({"source": source})).source)


def by_name(inspection):
    return {column.name: column for column in inspection.columns}


def frame():
    numbers = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "name": [f"n{row}" for row in range(50)],
            "size": np.where(np.arange(50) % 10 == 0, np.nan, numbers.normal(3, 1, 50)),
            "legs": np.arange(50) % 4,
            "review": ["a good film, and a long one", "not a good film at all"] * 25,
            "day": pd.date_range("2024-01-01", periods=50),
            "kind": ["red", "blue"] * 20 + ["red"] * 10,
        }
    )


def write_table(folder, suffix):
    path = folder / f"table{suffix}"
    match suffix:
        case ".csv":
            frame().to_csv(path, index=False)
        case ".tsv":
            frame().to_csv(path, index=False, sep="\t")
        case ".parquet":
            frame().to_parquet(path, index=False)
        case ".xlsx":
            frame().to_excel(path, index=False)
        case _:
            frame().to_json(path, orient="records", lines=True, date_format="iso")
    return path


class TestTables:
    @pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet", ".xlsx", ".jsonl"])
    def test_any_table_with_text_and_empty_cells(self, tmp_path, suffix):
        found = inspect(write_table(tmp_path, suffix))
        assert found.num_examples == 50
        assert found.num_bytes == (tmp_path / f"table{suffix}").stat().st_size
        assert dict(found.classes) == {"blue": 20, "red": 30}
        columns = by_name(found)
        assert list(columns) == list(frame().columns)
        assert columns["kind"].role == "label"
        size = columns["size"]
        assert size.num_missing == 5
        expected = frame()["size"].dropna()
        assert size.numbers["value"].mean == pytest.approx(expected.mean())
        assert size.numbers["value"].std == pytest.approx(expected.std(ddof=0))
        assert sum(size.numbers["value"].counts) == 45
        assert (columns["legs"].numbers["value"].min, columns["legs"].num_distinct) == (0, 4)
        assert dict(columns["review"].counts["words"])["film"] == 50
        assert columns["name"].numbers["characters"].max == 3
        assert columns["name"].num_distinct == 50
        if suffix in (".csv", ".tsv", ".parquet"):
            assert columns["day"].facts["from"].startswith("2024-01-01")
            assert columns["day"].facts["to"].startswith("2024-02-19")
        assert found.samples[0].text.startswith("name: n0")

    def test_a_folder_of_parquet_files(self, tmp_path):
        table = pa.Table.from_pandas(frame(), preserve_index=False)
        for part in range(2):
            pq.write_table(table.slice(25 * part, 25), tmp_path / f"{part}.parquet")
        found = inspect(tmp_path, "legs")
        assert (found.kind, found.num_examples) == ("parquet", 50)
        assert found.classes == [("0", 13), ("1", 13), ("2", 12), ("3", 12)]

    def test_a_label_that_is_a_quantity_has_no_classes(self, tmp_path):
        found = inspect(write_table(tmp_path, ".csv"), "size")
        assert found.classes is None
        assert by_name(found)["size"].role == "label"

    def test_rows_that_are_too_short_are_named(self, tmp_path):
        (tmp_path / "t.csv").write_text("a,b,kind\n1,2,x\n3,y\n4,5,x\n6,7,8,z\n")
        found = inspect(tmp_path / "t.csv")
        assert found.num_examples == 2
        assert [(one.place, one.stage) for one in found.problems] == [
            ("t.csv row 2", "parse"),
            ("t.csv row 4", "parse"),
        ]
        assert found.problems[0].reason == "the row has 2 fields; the header has 3"

    def test_what_is_no_table_at_all(self, tmp_path):
        (tmp_path / "t.csv").write_bytes(b"a,b\n\xff\xfe\x00,1\n")
        inspect(tmp_path / "t.csv")  # bytes that are no text become a column of bytes
        (tmp_path / "e.csv").write_bytes(b"")
        with pytest.raises(DataError, match="There is no column ''"):
            inspect(tmp_path / "e.csv")
        (tmp_path / "t.parquet").write_bytes(b"PAR1 nonsense")
        with pytest.raises(DataError, match="A Parquet file cannot be read"):
            inspect(tmp_path / "t.parquet")
        (tmp_path / "t.jsonl").write_text('{"a": 1}\nnot json\n')
        with pytest.raises(DataError, match="A line is not JSON") as caught:
            inspect(tmp_path / "t.jsonl")
        assert "t.jsonl line 2" in str(caught.value)
        (tmp_path / "u.jsonl").write_text('{"a": 1}\n{"a": {"b": 2}}\n')
        with pytest.raises(DataError, match="The table cannot be read"):
            inspect(tmp_path / "u.jsonl")

    def test_a_misspelt_label_gets_a_suggestion(self, tmp_path):
        with pytest.raises(DataError, match="There is no column 'knid'") as caught:
            inspect(write_table(tmp_path, ".csv"), "knid")
        assert "did you mean 'kind'?" in str(caught.value)
        with pytest.raises(DataError, match="There is no column 'zzzz'") as caught:
            inspect(write_table(tmp_path, ".csv"), "zzzz")
        assert "name one of: name, size" in str(caught.value)

    def test_a_time_series_is_its_table(self, tmp_path):
        for suffix in (".csv", ".parquet", ".xlsx"):
            path = write_table(tmp_path, suffix)
            found = inspect_kind(kind="time_series", path=str(path), target="size", window=3)
            assert (found.num_examples, by_name(found)["size"].role) == (50, "label")


def write_images(folder, sizes=((20, 30), (40, 50))):
    for name, (height, width) in zip(("cats", "dogs"), sizes, strict=True):
        (folder / name).mkdir(parents=True)
        for index in range(8):
            pixels = np.random.default_rng(index).integers(0, 255, (height, width, 3), np.uint8)
            image = Image.fromarray(pixels).convert("L" if index == 7 else "RGB")
            image.save(folder / name / f"{index}.{'png' if index % 2 else 'jpg'}")


class TestFolders:
    def test_images(self, tmp_path):
        write_images(tmp_path)
        found = inspect(tmp_path)
        assert (found.kind, found.num_examples) == ("image_folder", 16)
        assert found.classes == [("cats", 8), ("dogs", 8)]
        image = by_name(found)["image"]
        assert (image.numbers["height"].min, image.numbers["height"].max) == (20, 40)
        assert (image.numbers["width"].min, image.numbers["width"].max) == (30, 50)
        assert dict(image.counts["formats"]) == {"JPEG": 8, "PNG": 8}
        assert dict(image.counts["channels"]) == {"3": 14, "1": 2}
        assert 100 < image.numbers["pixel"].mean < 155
        assert image.shape == (None, None, 3)
        assert all(sample.picture.startswith(b"\xff\xd8") for sample in found.samples)
        assert [sample.class_name for sample in found.samples] == ["cats"] * 6 + ["dogs"] * 6

    def test_images_of_one_size_have_a_shape(self, tmp_path):
        write_images(tmp_path, ((20, 30), (20, 30)))
        assert by_name(inspect(tmp_path))["image"].shape == (20, 30, 3)

    def test_bad_images_are_listed_and_the_others_counted(self, tmp_path):
        write_images(tmp_path)
        whole = (tmp_path / "cats/1.png").read_bytes()
        (tmp_path / "cats/1.png").write_bytes(whole[:-20])
        (tmp_path / "cats/2.jpg").write_bytes(b"text")
        (tmp_path / "dogs/3.png").write_bytes(whole[:16] + (60000).to_bytes(4, "big") * 2 + whole[24:])
        found = inspect(tmp_path)
        assert found.num_examples == 13
        assert {one.place: one.reason for one in found.problems} == {
            "cats/1.png": "it does not end as its format says: it may be cut off",
            "cats/2.jpg": "it is not a JPEG, PNG, BMP or GIF image",
            "dogs/3.png": "it claims 3,600,000,000 pixels; 50,000,000 are allowed",
        }

    def test_texts(self, tmp_path):
        for name, text in (("good", "A good film. Good!"), ("bad", "a bad film")):
            (tmp_path / name).mkdir()
            for index in range(3):
                (tmp_path / name / f"{index}.txt").write_text(text * (index + 1))
        (tmp_path / "bad/9.txt").write_bytes(b"\xff\xfe not utf-8")
        (tmp_path / "bad/8.txt").write_text(" ")
        found = inspect(tmp_path)
        assert (found.kind, found.num_examples, found.classes) == (
            "text_folder",
            6,
            [("bad", 3), ("good", 3)],
        )
        text = by_name(found)["text"]
        assert text.numbers["characters"].max == 54
        assert dict(text.counts["words"])["good"] == 12
        assert [(one.place, one.stage) for one in found.problems] == [
            ("bad/8.txt", "parse"),
            ("bad/9.txt", "parse"),
        ]
        with pytest.raises(ConfigError, match="--label names a column; this is text_folder"):
            inspect(tmp_path, "kind")

    def test_texts_that_are_too_long(self, tmp_path):
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "1.txt").write_text("word " * 10)
        found = inspect_kind(kind="text_folder", path=str(tmp_path), max_bytes=20)
        assert [one.reason for one in found.problems] == ["it is longer than 20 bytes"] * 2

    def test_sounds(self, tmp_path):
        for name, seconds in (("yes", 1.0), ("no", 0.5)):
            (tmp_path / name).mkdir()
            with wave.open(str(tmp_path / name / "1.wav"), "wb") as sound:
                sound.setparams((1, 2, 8000, 0, "NONE", ""))
                sound.writeframes(bytes(int(seconds * 16000)))
        whole = (tmp_path / "no/1.wav").read_bytes()
        (tmp_path / "no/2.wav").write_bytes(b"RIFF")
        (tmp_path / "no/3.wav").write_bytes(whole[:22] + bytes(2) + whole[24:])
        found = inspect(tmp_path)
        assert (found.kind, found.num_examples) == ("audio_folder", 2)
        sound = by_name(found)["sound"]
        assert (sound.numbers["seconds"].min, sound.numbers["seconds"].max) == (0.5, 1.0)
        assert sound.counts["samples a second"] == [("8000", 2)]
        assert [(one.place, one.reason) for one in found.problems] == [
            ("no/2.wav", "A sound file is not a WAV file."),
            ("no/3.wav", "its header says that it has no samples"),
        ]

    def test_a_file_that_may_not_be_read(self, tmp_path):
        write_images(tmp_path)
        (tmp_path / "cats/0.jpg").unlink()
        (tmp_path / "cats/0.jpg").symlink_to(tmp_path / "nowhere")
        [problem] = inspect(tmp_path).problems
        assert (problem.place, problem.stage, problem.reason) == (
            "cats/0.jpg",
            "read",
            "No such file or directory",
        )


class TestOtherSources:
    def test_arrays(self, tmp_path):
        pixels = np.random.default_rng(0).integers(0, 255, (30, 8, 8, 1), np.uint8)
        np.savez(tmp_path / "a.npz", x=pixels, y=np.arange(30) % 3, names=np.array(["a"] * 30))
        found = inspect(tmp_path / "a.npz")
        assert (found.num_examples, found.classes) == (30, [("0", 10), ("1", 10), ("2", 10)])
        columns = by_name(found)
        assert (columns["x"].shape, columns["x"].type, columns["x"].role) == ((8, 8, 1), "uint8", "feature")
        assert columns["x"].numbers["value"].mean == pytest.approx(pixels.mean())
        assert columns["names"].role == "other"
        assert all(sample.picture for sample in found.samples)

    def test_one_array_with_empty_values(self, tmp_path):
        np.save(tmp_path / "x.npy", np.array([[1.0, np.nan], [3.0, np.inf]]))
        found = inspect(tmp_path)
        x = by_name(found)["x"]
        assert (x.num_missing, x.numbers["value"].max) == (1, 3.0)
        assert found.classes is None

    def test_a_large_array_is_looked_at_in_blocks(self, tmp_path, monkeypatch):
        monkeypatch.setattr("distkeras.data.inspection.arrays.MAX_BYTES", 64 * 80)
        np.save(tmp_path / "x.npy", np.arange(10_000.0).reshape(1000, 10))
        np.save(tmp_path / "y.npy", np.arange(1000) % 2)
        found = inspect(tmp_path)
        assert found.facts == {"looked at": "some blocks of x, y"}
        assert by_name(found)["x"].numbers["value"].max == 9999

    def test_what_numpy_cannot_read(self, tmp_path):
        (tmp_path / "a.npz").write_bytes(b"PK nonsense")
        with pytest.raises(DataError, match="The arrays cannot be read"):
            inspect(tmp_path / "a.npz")

    def test_records_of_any_features(self, tmp_path):
        png = io.BytesIO()
        Image.fromarray(np.zeros((9, 7, 3), np.uint8)).save(png, "PNG")
        path = str(tmp_path / "train.tfrecord-00000-of-00001")
        with tf.io.TFRecordWriter(path) as writer:
            for index in range(20):
                features = {
                    "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[png.getvalue()])),
                    "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[index % 2])),
                    "box": tf.train.Feature(float_list=tf.train.FloatList(value=[0.5] * 4)),
                }
                if index == 3:
                    del features["box"]
                example = tf.train.Example(features=tf.train.Features(feature=features))
                writer.write(example.SerializeToString())
            writer.write(b"\xff\xff\xff no example")
        found = inspect(tmp_path)
        assert (found.kind, found.num_examples) == ("tfrecord", 21)
        columns = by_name(found)
        assert (columns["image"].type, columns["image"].numbers["height"].max) == ("image", 9)
        assert (columns["box"].shape, columns["box"].num_missing) == ((4,), 1)
        assert columns["label"].role == "label"
        assert found.classes == [("0", 10), ("1", 10)]
        assert [problem.place for problem in found.problems] == ["train.tfrecord-00000-of-00001 record 21"]
        assert "image: PNG 7 x 9" in found.samples[0].text

    def test_records_with_texts(self, tmp_path):
        with tf.io.TFRecordWriter(str(tmp_path / "a.tfrecord")) as writer:
            for index in range(10):
                features = {
                    "text": tf.train.Feature(
                        bytes_list=tf.train.BytesList(value=[f"text number {index}".encode()])
                    ),
                    "label": tf.train.Feature(
                        bytes_list=tf.train.BytesList(value=[b"no" if index % 2 else b"yes"])
                    ),
                }
                example = tf.train.Example(features=tf.train.Features(feature=features))
                writer.write(example.SerializeToString())
        found = inspect(tmp_path / "a.tfrecord")
        assert found.classes == [("no", 5), ("yes", 5)]
        assert dict(by_name(found)["text"].counts["words"])["number"] == 10
        with pytest.raises(DataError, match=r"There are no \*.array_record\* files here"):
            inspect_kind(kind="array_record", path=str(tmp_path))

    def test_what_is_only_known_when_it_is_opened(self):
        found = inspect_kind(kind="synthetic", shape=[4, 4, 3], num_examples=700, num_classes=3)
        assert (found.kind, found.num_examples, len(found.classes)) == ("synthetic", 700, 3)
        assert sum(count for _, count in found.classes) == 700
        assert by_name(found)["features"].shape == (4, 4, 3)
        assert found.samples[0].picture
        mixture = {
            "kind": "mixture",
            "sources": [
                {"source": {"kind": "synthetic", "shape": [2], "num_examples": 30}} for _ in range(2)
            ],
        }
        assert inspect_kind(**mixture).num_examples == 60
        regression = inspect_kind(kind="synthetic", shape=[2], num_examples=10, num_classes=None)
        assert regression.classes is None

    def test_a_stream(self):
        with pytest.raises(ConfigError, match="A stream has no examples to look back at"):
            inspect_kind(kind="generator", function="a.b:c", shape=[2])

    def test_what_is_not_there(self, tmp_path):
        (tmp_path / "flowers.csv").write_text("a\n1\n")
        with pytest.raises(DataError, match="There is no such file or folder") as caught:
            inspect(tmp_path / "flower.csv")
        assert f"did you mean {tmp_path / 'flowers.csv'}?" in str(caught.value)


class TestStatistics:
    def test_whole_numbers_get_a_bin_each(self):
        found = distribution([1, 1, 2, 4])
        assert (found.edges, found.counts) == ((0.5, 1.5, 2.5, 3.5, 4.5), (2, 1, 0, 1))

    def test_what_is_not_finite_is_left_out(self):
        assert distribution([np.nan, np.inf]) is None
        assert distribution([1.5, np.nan]).counts[0] + sum(distribution([1.5, np.nan]).counts[1:]) == 1

    def test_of_equal_counts_the_first_by_alphabet_comes_first(self):
        assert frequent(["b", "a", "c", "c"], 2) == [("c", 2), ("a", 1)]
        assert frequent_words(["It's late, it's LATE.", "don't"])[:2] == [("it's", 2), ("late", 2)]

    def test_thumbnails_of_arrays(self):
        assert thumbnails_of_arrays([np.zeros((4, 4, 2), np.uint8), np.zeros((4, 4))]) == [None, None]
        dark = np.linspace(0, 4, 48).reshape(4, 4, 3).astype(np.uint8)
        strange = np.array([np.nan, np.inf, -np.inf, 16] * 12, np.float32).reshape(4, 4, 3)
        pictures = [
            np.asarray(Image.open(io.BytesIO(picture))) for picture in thumbnails_of_arrays([dark, strange])
        ]
        # Numbers from 0 to 16, from black to white: what goes up to 4 is dark.
        assert [pictures[0].min() < 30, 30 < pictures[0].max() < 100] == [True, True]
        assert pictures[1].max() > 180


class Page(HTMLParser):
    """Everything a page refers to, and its elements."""

    def __init__(self, text):
        super().__init__()
        self.references, self.tags = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.references += [value for name, value in attrs if name in ("src", "href", "srcset", "action")]


class TestPage:
    def test_it_stands_alone_and_has_everything(self, tmp_path):
        write_images(tmp_path)
        (tmp_path / "cats/1.png").write_bytes(b"text")
        text = render(inspect(tmp_path))
        page = Page(text)
        assert all(reference.startswith("data:image/jpeg;base64,") for reference in page.references)
        assert len(page.references) == 12
        assert "script" not in page.tags
        assert not re.search(r"https?://", text)
        assert page.tags.count("svg") == 3
        for words in (
            "Class balance",
            "cats",
            "1 bad record",
            "cats/1.png",
            "prefers-color-scheme: dark",
            "formats",
        ):
            assert words in text

    def test_names_are_text_and_never_markup(self, tmp_path):
        (tmp_path / "t.csv").write_text('<script>a</script>,"<b>kind</b>"\n1,<img src=x>\n2,<i>\n')
        text = render(inspect(tmp_path / "t.csv"))
        assert {"script", "img", "b", "i"}.isdisjoint(Page(text).tags)
        assert "&lt;script&gt;" in text

    def test_a_page_stays_below_one_megabyte(self, tmp_path):
        for label in range(30):
            (tmp_path / f"class-{label:02d}").mkdir()
            for index in range(6):
                # Noise compresses worst.
                pixels = np.random.default_rng(index).integers(0, 255, (200, 200, 3), np.uint8)
                Image.fromarray(pixels).save(tmp_path / f"class-{label:02d}" / f"{index}.png")
        assert len(render(inspect(tmp_path)).encode()) < 1_000_000
        wide = pd.DataFrame(
            {f"column {place} " + "x" * 100: np.arange(5.0) for place in range(500)} | {"y": 0}
        )
        wide.to_csv(tmp_path / "wide.csv", index=False)
        text = render(inspect(tmp_path / "wide.csv"))
        assert len(text.encode()) < 1_000_000
        assert "the first 200 of 501" in text

    def test_a_table_shows_its_first_rows(self, tmp_path):
        text = render(inspect(write_table(tmp_path, ".csv")))
        assert "name: n0, size: , legs: 0" in text
        assert "table.csv row 10" in text


class TestLines:
    @pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
    def test_lines_fit_eighty_columns(self, tmp_path, suffix):
        lines = inspection_lines(inspect(write_table(tmp_path, suffix)))
        # The first is the path, which is there to be copied.
        assert max(map(len, lines[1:])) <= 80
        assert any(re.fullmatch(r"kind \* +\w+ +0 +2 .*", line) for line in lines)
        assert any(line.split()[:3] == ["red", "30", "60%"] for line in lines)
        assert lines[-1] == "no bad records"

    def test_many_columns_classes_and_problems_are_counted(self, tmp_path):
        for label in range(30):
            (tmp_path / f"{label:02d}").mkdir()
            for index in range(2):
                (tmp_path / f"{label:02d}" / f"{index}.txt").write_text("a text" if index else " ")
        lines = inspection_lines(inspect(tmp_path))
        assert "and 10 more classes" in lines
        assert "30 bad records" in lines
        assert lines[-1] == "  and 20 more"
        wide = pd.DataFrame({f"c{place}": [1, 2] for place in range(60)})
        wide.to_csv(tmp_path / "wide.csv", index=False)
        assert "and 20 more columns" in inspection_lines(inspect(tmp_path / "wide.csv"))


def test_json_has_no_samples_and_is_plain(tmp_path):
    found = json.loads(json.dumps(inspect(write_table(tmp_path, ".csv")).as_mapping()))
    assert (found["examples"], found["label"], found["num_bad_records"]) == (50, "kind", 0)
    assert found["classes"] == [["blue", 20], ["red", 30]]
    size = next(column for column in found["columns"] if column["name"] == "size")
    assert (size["type"], size["missing"], size["role"]) == ("double", 5, "feature")
    assert len(size["numbers"]["value"]["edges"]) == len(size["numbers"]["value"]["counts"]) + 1
    assert "samples" not in found

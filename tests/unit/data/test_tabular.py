from __future__ import annotations

import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from distkeras.config.source_sections import CsvSource, ParquetSource
from distkeras.data.sources.base import Source
from distkeras.data.sources.tabular import open_tabular, read_column
from distkeras.errors import DataError

PLANTS = "height,width,kind\n1.5,2,moss\n3,4.25,fern\n5,6,moss\n"


def csv_section(folder: Path, text: str | bytes, **keys: object) -> CsvSource:
    path = folder / "plants.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return CsvSource.model_validate({"kind": "csv", "path": path, "label": "kind", **keys})


def parquet_section(path: Path, **keys: object) -> ParquetSource:
    return ParquetSource.model_validate({"kind": "parquet", "path": str(path), "label": "kind", **keys})


def write_parquet(path: Path, **columns: object) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def refusal(section: CsvSource | ParquetSource) -> str:
    with pytest.raises(DataError) as caught:
        open_tabular(section)
    return str(caught.value)


def read_all(source: Source) -> tuple[np.ndarray, np.ndarray]:
    features, labels = source.read(tf.range(source.num_examples, dtype=tf.int64))
    return features.numpy(), labels.numpy()


class TestCsv:
    def test_reads_features_and_text_labels(self, tmp_path: Path) -> None:
        source = open_tabular(csv_section(tmp_path, PLANTS))
        features, labels = read_all(source)
        np.testing.assert_array_equal(features, np.float32([[1.5, 2], [3, 4.25], [5, 6]]))
        assert features.dtype == np.float32
        assert labels.tolist() == [1, 0, 1]
        assert labels.dtype == np.int64
        assert source.class_names == ("fern", "moss")
        assert source.feature_names == ("height", "width")
        assert source.feature_shape == (2,)
        assert source.granularity == "batch"
        assert source.locate(2) == "plants.csv row 3"

    def test_takes_the_named_columns_in_the_named_order(self, tmp_path: Path) -> None:
        text = 'note,b,kind,a\n"two\nlines, and a comma",2,0,1\nx,4,1,3\n'
        source = open_tabular(csv_section(tmp_path, text, features=["a", "b"]))
        features, labels = read_all(source)
        assert source.feature_names == ("a", "b")
        assert features.tolist() == [[1, 2], [3, 4]]
        assert labels.tolist() == [0, 1]
        assert source.class_names is None

    def test_number_labels_stay_numbers(self, tmp_path: Path) -> None:
        whole = open_tabular(csv_section(tmp_path, "a,kind\n1,7\n2,-3\n")).labels()
        assert (whole.dtype, whole.tolist()) == (np.int64, [7, -3])
        real = open_tabular(csv_section(tmp_path, "a,kind\n1,7\n2, 0.5\n")).labels()
        assert (real.dtype, real.tolist()) == (np.float32, [7, 0.5])

    def test_a_class_may_be_called_na(self, tmp_path: Path) -> None:
        source = open_tabular(csv_section(tmp_path, "a,kind\n1,NA\n2,null\n"))
        assert source.class_names == ("NA", "null")

    def test_delimiter_byte_order_mark_and_blank_lines(self, tmp_path: Path) -> None:
        source = open_tabular(csv_section(tmp_path, "\ufeffa;kind\r\n\r\n1;x\r\n2;y\r\n", delimiter=";"))
        assert read_all(source)[0].tolist() == [[1], [2]]

    def test_missing_file(self, tmp_path: Path) -> None:
        section = CsvSource(kind="csv", path=tmp_path / "none.csv", label="kind")
        text = refusal(section)
        assert "A CSV file cannot be read." in text
        assert f"where: {tmp_path / 'none.csv'}" in text
        assert "No such file or directory" in text

    @pytest.mark.parametrize("text", ["", "\n\n"])
    def test_empty_file(self, tmp_path: Path, text: str) -> None:
        assert "A CSV file is empty." in refusal(csv_section(tmp_path, text))

    def test_header_only(self, tmp_path: Path) -> None:
        assert "A CSV file has a header and no rows." in refusal(csv_section(tmp_path, "a,kind\n"))

    def test_missing_label_column(self, tmp_path: Path) -> None:
        text = refusal(csv_section(tmp_path, PLANTS, label="kindd"))
        assert "There is no label column 'kindd'." in text
        assert "Did you mean 'kind'?" in text

    def test_missing_feature_column(self, tmp_path: Path) -> None:
        text = refusal(csv_section(tmp_path, PLANTS, features=["height", "zzz"]))
        assert "There is no feature column 'zzz'." in text
        assert "Name one of its columns: height, width, kind." in text

    def test_wrong_delimiter(self, tmp_path: Path) -> None:
        text = refusal(csv_section(tmp_path, PLANTS, delimiter=";"))
        assert "There is no label column 'kind'." in text
        assert "The table has one column only; for a CSV file check data.source.delimiter." in text

    def test_duplicate_column(self, tmp_path: Path) -> None:
        assert "Two columns are called 'a'." in refusal(csv_section(tmp_path, "a,b,a,kind\n1,2,3,x\n"))

    def test_label_among_the_features(self, tmp_path: Path) -> None:
        text = refusal(csv_section(tmp_path, PLANTS, features=["height", "kind"]))
        assert "Column 'kind' is feature and label at once." in text

    @pytest.mark.parametrize("features", [[], ["height", "height"]])
    def test_no_feature_or_one_twice(self, tmp_path: Path, features: list[str]) -> None:
        text = refusal(csv_section(tmp_path, PLANTS, features=features))
        assert "There must be at least one feature column, and none twice." in text

    def test_ragged_row(self, tmp_path: Path) -> None:
        text = refusal(csv_section(tmp_path, "a,b,kind\n1,2,x\n\n3,y\n4,5,z\n"))
        assert "A row has 2 fields; the header has 3." in text
        assert "where: plants.csv row 2 (line 4)" in text
        assert "['3', 'y']" in text

    def test_cell_that_is_not_a_number(self, tmp_path: Path) -> None:
        text = refusal(csv_section(tmp_path, "a,b,kind\n1,2,x\n3,4_0,y\n"))
        assert "A cell of column 'b' is not a number." in text
        assert "where: plants.csv row 2 (line 3), column 'b'" in text
        assert "received: '4_0'" in text

    def test_row_and_line_differ_after_a_quoted_line_break(self, tmp_path: Path) -> None:
        text = refusal(csv_section(tmp_path, 'a,kind\n1,"two\nlines"\nabc,y\n'))
        assert "plants.csv row 2 (line 4), column 'a'" in text

    @pytest.mark.parametrize(
        ("cell", "received"), [("nan", "nan"), ("inf", "inf"), ("-inf", "-inf"), ("1e39", "1e+39")]
    )
    def test_values_that_are_not_finite(self, tmp_path: Path, cell: str, received: str) -> None:
        text = refusal(csv_section(tmp_path, f"a,b,kind\n1,2,x\n3,{cell},y\n"))
        assert "Column 'b' is no finite float32 in 1 row." in text
        assert "where: plants.csv row 2, column 'b'" in text
        assert f"received: {received}" in text

    def test_empty_cells(self, tmp_path: Path) -> None:
        text = refusal(csv_section(tmp_path, "a,b,kind\n1,2,x\n3,,y\n,,z\n", features=["b"]))
        assert "Column 'b' has 2 empty cells." in text
        assert "where: plants.csv row 2, column 'b'" in text

    def test_empty_label(self, tmp_path: Path) -> None:
        text = refusal(csv_section(tmp_path, "a,kind\n1,x\n3,\n"))
        assert "Column 'kind' has 1 empty cell." in text
        assert "row 2, column 'kind'" in text

    def test_label_that_is_not_finite(self, tmp_path: Path) -> None:
        text = refusal(csv_section(tmp_path, "a,kind\n1,0.5\n3,inf\n"))
        assert "Column 'kind' is no finite float32 in 1 row." in text

    @pytest.mark.parametrize(
        ("labels", "row", "received"),
        [("1 2 l3 4", 3, "'l3'"), ("a b 7 c", 3, "'7'")],
    )
    def test_labels_that_mix_numbers_and_text(
        self, tmp_path: Path, labels: str, row: int, received: str
    ) -> None:
        rows = "".join(f"1,{label}\n" for label in labels.split())
        text = refusal(csv_section(tmp_path, f"a,kind\n{rows}"))
        assert "The label column 'kind' mixes numbers and text." in text
        assert f"plants.csv row {row}, column 'kind'" in text
        assert f"received: {received}" in text

    @pytest.mark.parametrize("content", ["a,kind\n1,caf\xe9\n", "caf\xe9,kind\n1,x\n"])
    def test_not_utf8(self, tmp_path: Path, content: str) -> None:
        text = refusal(csv_section(tmp_path, content.encode("latin-1")))
        assert "A CSV file is not UTF-8 text." in text
        assert "Save the file as UTF-8." in text

    def test_what_only_arrow_refuses_keeps_arrows_words(self, tmp_path: Path) -> None:
        # Arabic digits are a number for Python, not for Arrow.
        text = refusal(csv_section(tmp_path, "a,kind\n\u0661,x\n"))
        assert "A CSV file cannot be parsed." in text
        assert "conversion error to double" in text


class TestParquet:
    def test_reads_a_file(self, tmp_path: Path) -> None:
        path = write_parquet(tmp_path / "p.parquet", kind=["b", "a"], x=[1, 2], y=[0.5, 1.5], z=[True, False])
        source = open_tabular(parquet_section(path))
        features, labels = read_all(source)
        assert source.feature_names == ("x", "y", "z")
        assert features.tolist() == [[1, 0.5, 1], [2, 1.5, 0]]
        assert labels.tolist() == [1, 0]
        assert source.class_names == ("a", "b")

    def test_same_cells_same_fingerprint_as_csv(self, tmp_path: Path) -> None:
        path = write_parquet(
            tmp_path / "p.parquet", height=[1.5, 3, 5], width=[2, 4.25, 6], kind=["moss", "fern", "moss"]
        )
        csv = open_tabular(csv_section(tmp_path, PLANTS))
        assert open_tabular(parquet_section(path)).fingerprint == csv.fingerprint

    def test_reads_a_folder_in_the_order_of_names(self, tmp_path: Path) -> None:
        write_parquet(tmp_path / "2.parquet", a=[3.0], kind=[1])
        write_parquet(tmp_path / "1.parquet", a=[1.0, 2.0], kind=[0, 1])
        (tmp_path / "_SUCCESS").touch()
        source = open_tabular(parquet_section(tmp_path))
        assert read_all(source)[0].tolist() == [[1], [2], [3]]
        assert [source.locate(row) for row in range(3)] == [
            "1.parquet row 1",
            "1.parquet row 2",
            "2.parquet row 1",
        ]

    def test_other_columns_are_not_read(self, tmp_path: Path) -> None:
        path = write_parquet(tmp_path / "p.parquet", a=[1.0, 2.0], note=["long", "text"], kind=[0, 1])
        note = pq.read_metadata(path).row_group(0).column(1)
        start = note.dictionary_page_offset
        content = bytearray(path.read_bytes())
        content[start : start + note.total_compressed_size] = bytes(note.total_compressed_size)
        path.write_bytes(content)
        assert open_tabular(parquet_section(path, features=["a"])).num_examples == 2
        with pytest.raises((pa.ArrowException, OSError)):
            pq.read_table(path)

    def test_categories_of_pandas_are_text(self, tmp_path: Path) -> None:
        kinds = pa.array(["b", "a", "b"]).dictionary_encode()
        source = open_tabular(parquet_section(write_parquet(tmp_path / "p.parquet", a=[1, 2, 3], kind=kinds)))
        assert source.class_names == ("a", "b")
        assert source.labels().tolist() == [1, 0, 1]

    def test_missing_path(self, tmp_path: Path) -> None:
        text = refusal(parquet_section(tmp_path / "none"))
        assert "There is no such Parquet file or folder." in text

    def test_folder_without_parquet_files(self, tmp_path: Path) -> None:
        (tmp_path / "a.csv").touch()
        text = refusal(parquet_section(tmp_path))
        assert "A folder has no .parquet files." in text
        assert str(tmp_path) in text

    @pytest.mark.parametrize("content", [b"", b"not parquet at all"])
    def test_damaged_file(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "p.parquet"
        path.write_bytes(content)
        text = refusal(parquet_section(path))
        assert "A Parquet file cannot be read." in text
        assert str(path) in text

    def test_damaged_pages(self, tmp_path: Path) -> None:
        path = write_parquet(tmp_path / "p.parquet", a=np.random.default_rng(0).random(5000), kind=[0] * 5000)
        content = bytearray(path.read_bytes())
        content[4:200] = bytes(196)
        path.write_bytes(content)
        assert "A Parquet file cannot be read." in refusal(parquet_section(path))

    def test_missing_column(self, tmp_path: Path) -> None:
        path = write_parquet(tmp_path / "p.parquet", a=[1.0], kind=[0])
        text = refusal(parquet_section(path, label="Kind"))
        assert "There is no label column 'Kind'." in text
        assert "Did you mean 'kind'?" in text

    def test_drifted_type(self, tmp_path: Path) -> None:
        write_parquet(tmp_path / "1.parquet", a=[1.0], kind=[0])
        write_parquet(tmp_path / "2.parquet", a=["1.0"], kind=[0])
        text = refusal(parquet_section(tmp_path))
        assert "Column 'a' is string here and double in 1.parquet." in text
        assert f"where: {tmp_path / '2.parquet'}" in text

    def test_drifted_columns(self, tmp_path: Path) -> None:
        write_parquet(tmp_path / "1.parquet", a=[1.0], kind=[0])
        write_parquet(tmp_path / "2.parquet", b=[1.0], kind=[0])
        text = refusal(parquet_section(tmp_path))
        assert "Column 'a' is missing from a Parquet file." in text
        assert "2.parquet" in text

    def test_column_twice_in_a_later_file(self, tmp_path: Path) -> None:
        write_parquet(tmp_path / "1.parquet", a=[1.0], kind=[0])
        twice = pa.Table.from_arrays([pa.array([1.0]), pa.array([2.0]), pa.array([0])], ["a", "a", "kind"])
        pq.write_table(twice, tmp_path / "2.parquet")
        assert "Column 'a' is twice in a Parquet file." in refusal(parquet_section(tmp_path))

    def test_text_feature(self, tmp_path: Path) -> None:
        path = write_parquet(tmp_path / "p.parquet", a=["x"], kind=[0])
        text = refusal(parquet_section(path))
        assert "The feature column 'a' is string, not numbers." in text

    def test_label_that_is_neither_numbers_nor_text(self, tmp_path: Path) -> None:
        path = write_parquet(tmp_path / "p.parquet", a=[1.0], kind=[[1, 2]])
        text = refusal(parquet_section(path))
        assert "The label column 'kind' is list<element: int64>, neither numbers nor text." in text

    def test_nulls_name_file_row_and_column(self, tmp_path: Path) -> None:
        write_parquet(tmp_path / "1.parquet", a=[1.0, 2.0], kind=[0, 1])
        write_parquet(tmp_path / "2.parquet", a=[1.0, None], kind=[0, 1])
        text = refusal(parquet_section(tmp_path))
        assert "Column 'a' has 1 empty cell." in text
        assert "where: 2.parquet row 2, column 'a'" in text

    def test_values_that_are_not_finite(self, tmp_path: Path) -> None:
        path = write_parquet(tmp_path / "p.parquet", a=[1.0, float("nan"), float("inf")], kind=[0, 1, 2])
        text = refusal(parquet_section(path))
        assert "Column 'a' is no finite float32 in 2 rows." in text
        assert "where: p.parquet row 2, column 'a'" in text

    def test_no_rows(self, tmp_path: Path) -> None:
        path = write_parquet(
            tmp_path / "p.parquet", a=pa.array([], pa.float64()), kind=pa.array([], pa.int64())
        )
        assert "There are no rows in the Parquet data." in refusal(parquet_section(path))


def raw_arrays(source: Source) -> dict[str, list[object]]:
    features, _ = source.read_arrays(np.arange(source.num_examples))
    return {name: column.tolist() for name, column in features.items()}


class TestRawColumns:
    PEOPLE = "age,city,height,kind\n31, Paris ,1.5,a\n,Oslo,1e2,b\n4,,,a\n"

    def test_numbers_and_texts_with_empty_cells(self, tmp_path: Path) -> None:
        source = open_tabular(csv_section(tmp_path, self.PEOPLE), raw=True)
        assert source.feature_shape == {"age": (), "city": (), "height": ()}
        assert source.feature_dtype == {"age": "float32", "city": "string", "height": "float32"}
        assert source.feature_names == ("age", "city", "height")
        assert source.class_names == ("a", "b")
        assert (source.granularity, source.needs_tensorflow) == ("batch", False)
        features, labels = source.read_arrays(np.array([2, 0]))
        np.testing.assert_array_equal(features["age"], np.float32([4, 31]))
        np.testing.assert_array_equal(features["height"], np.float32([np.nan, 1.5]))
        assert features["age"].dtype == np.float32
        assert features["city"].tolist() == [b"", b"Paris"]
        assert labels.tolist() == [0, 0]
        assert source.locate(2) == "plants.csv row 3"

    @pytest.mark.parametrize("fits", [True, False])
    def test_graphs_read_what_numpy_reads(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fits: bool
    ) -> None:
        if not fits:
            monkeypatch.setattr("distkeras.data.sources.raw_columns.MAX_TENSOR_BYTES", 0)
        source = open_tabular(csv_section(tmp_path, self.PEOPLE), raw=True)
        batches = tf.data.Dataset.range(3).batch(2).map(source.read)
        assert list(batches.element_spec[0]) == ["age", "city", "height"]
        assert batches.element_spec[0]["city"] == tf.TensorSpec([None], tf.string)
        for ids, (features, labels) in zip(([0, 1], [2]), batches.as_numpy_iterator(), strict=True):
            expected, expected_labels = source.read_arrays(np.array(ids))
            assert list(features) == list(expected)
            for name, column in features.items():
                np.testing.assert_array_equal(column, expected[name])
            np.testing.assert_array_equal(labels, expected_labels)

    def test_same_cells_same_fingerprint_as_parquet(self, tmp_path: Path) -> None:
        columns = {"age": [31, None, 4], "city": ["Paris", "Oslo", None], "height": [1.5, 100, None]}
        path = write_parquet(tmp_path / "p.parquet", **columns, kind=["a", "b", "a"])
        csv = open_tabular(csv_section(tmp_path, self.PEOPLE), raw=True)
        parquet = open_tabular(parquet_section(path), raw=True)
        assert str(raw_arrays(parquet)) == str(raw_arrays(csv))
        assert parquet.fingerprint == csv.fingerprint
        changed = csv_section(tmp_path, self.PEOPLE.replace("Oslo", "Rome"))
        assert open_tabular(changed, raw=True).fingerprint != csv.fingerprint

    def test_a_number_is_what_arrow_reads_as_one(self, tmp_path: Path) -> None:
        cells = ["1", "+1", "-1.", ".5", "1E+5", "nan", "007"]
        text = "a,kind\n" + "".join(f"{cell},x\n" for cell in cells)
        source = open_tabular(csv_section(tmp_path, text), raw=True)
        assert str(raw_arrays(source)) == str({"a": [1.0, 1.0, -1.0, 0.5, 1e5, float("nan"), 7.0]})

    @pytest.mark.parametrize("cell", ["1_0", "0x1", "1e", "-", "1 2", "\u0661"])
    def test_one_typing_error_makes_no_categories(self, tmp_path: Path, cell: str) -> None:
        section = csv_section(tmp_path, f"a,kind\n1,x\n\n,x\n2,x\n{cell},x\n")
        with pytest.raises(DataError, match="A cell of column 'a' is not a number") as caught:
            open_tabular(section, raw=True)
        assert caught.value.place == "plants.csv row 4, column 'a'"
        assert caught.value.received == cell

    def test_a_column_that_is_half_text_is_text(self, tmp_path: Path) -> None:
        source = open_tabular(csv_section(tmp_path, "a,b,kind\n1,,x\nB2,,x\n,,x\n"), raw=True)
        assert raw_arrays(source)["a"] == [b"1", b"B2", b""]
        assert source.feature_dtype == {"a": "string", "b": "float32"}

    def test_types_of_the_training_table_are_kept(self, tmp_path: Path) -> None:
        section = csv_section(tmp_path, "zip,age,kind\n01,,x\n")
        source = open_tabular(section, raw=True, types={"zip": "string", "age": "float32"})
        assert str(raw_arrays(source)) == str({"zip": [b"01"], "age": [float("nan")]})
        section = csv_section(tmp_path, "age,kind\n,x\nold,x\n")
        with pytest.raises(DataError, match="A cell of column 'age' is not a number") as caught:
            open_tabular(section, raw=True, types={"age": "float32"})
        assert caught.value.place == "plants.csv row 2, column 'age'"

    def test_types_of_parquet_columns(self, tmp_path: Path) -> None:
        path = write_parquet(
            tmp_path / "p.parquet",
            flag=[True, None],
            colour=pa.array(["red", None]).dictionary_encode(),
            code=[1, None],
            empty=pa.nulls(2),
            kind=[0, 1],
        )
        source = open_tabular(parquet_section(path), raw=True, types={"code": "string"})
        assert str(raw_arrays(source)) == str(
            {
                "flag": [1.0, float("nan")],
                "colour": [b"red", b""],
                "code": [b"1", b""],
                "empty": [float("nan"), float("nan")],
            }
        )

    def test_parquet_text_where_numbers_were_trained_on(self, tmp_path: Path) -> None:
        path = write_parquet(tmp_path / "p.parquet", age=[None, "old"], kind=[0, 1])
        with pytest.raises(
            DataError, match="Column 'age' is text; the model was trained on numbers"
        ) as caught:
            open_tabular(parquet_section(path), raw=True, types={"age": "float32"})
        assert caught.value.place == "p.parquet row 2, column 'age'"

    def test_dates_are_neither_numbers_nor_text(self, tmp_path: Path) -> None:
        path = write_parquet(tmp_path / "p.parquet", day=[datetime.date(2024, 2, 29)], kind=[0])
        with pytest.raises(DataError, match="'day' is date32\\[day\\], neither numbers nor text"):
            open_tabular(parquet_section(path), raw=True)

    @pytest.mark.parametrize("cell", ["inf", "1e39"])
    def test_numbers_that_are_not_finite(self, tmp_path: Path, cell: str) -> None:
        section = csv_section(tmp_path, f"a,kind\n1,x\n,x\n{cell},x\n")
        with pytest.raises(DataError, match="Column 'a' is no finite float32 in 1 row") as caught:
            open_tabular(section, raw=True)
        assert caught.value.place == "plants.csv row 3, column 'a'"

    def test_an_empty_label_stays_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="Column 'kind' has 1 empty cell"):
            open_tabular(csv_section(tmp_path, "a,kind\n1,x\n2,\n"), raw=True)

    def test_a_ragged_row_stays_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="A row has 1 fields; the header has 2"):
            open_tabular(csv_section(tmp_path, "a,kind\nold,x\n2\n"), raw=True)

    def test_what_raw_columns_would_allow_is_named_as_the_way_out(self, tmp_path: Path) -> None:
        assert "set data.tabular.impute" in refusal(csv_section(tmp_path, "a,kind\n1,x\n,y\n"))
        assert "set data.tabular, which makes categories" in refusal(csv_section(tmp_path, "a,kind\nold,x\n"))


class TestReadColumn:
    def test_a_column_that_is_no_feature(self, tmp_path: Path) -> None:
        text = "day,a,person,kind\n2024-01-02,1,eve,x\n2024-01-01,,,y\n"
        section = csv_section(tmp_path, text, features=["a"])
        assert read_column(section, "day").tolist() == ["2024-01-02", "2024-01-01"]
        assert read_column(section, "person").tolist() == ["eve", ""]
        np.testing.assert_array_equal(read_column(section, "a"), [1, np.nan])
        assert read_column(section, "kind").tolist() == ["x", "y"]
        with pytest.raises(DataError, match="There is no feature column 'dai'"):
            read_column(section, "dai")

    def test_dates_and_categories_of_parquet(self, tmp_path: Path) -> None:
        days = [datetime.datetime(2024, 1, 2), None]
        person = pa.array(["eve", None]).dictionary_encode()
        path = write_parquet(tmp_path / "p.parquet", day=days, person=person, a=[1.0, 2.0], kind=[0, 1])
        section = parquet_section(path, features=["a"])
        expected = np.array(["2024-01-02", "NaT"], "datetime64[us]")
        np.testing.assert_array_equal(read_column(section, "day"), expected)
        assert read_column(section, "person").tolist() == ["eve", ""]

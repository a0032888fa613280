"""Excel workbooks, written by openpyxl and damaged by hand."""

from __future__ import annotations

import datetime
import sys
import zipfile
from pathlib import Path

import numpy as np
import openpyxl
import pytest

from distkeras.config.source_sections import CsvSource, ExcelSource
from distkeras.data.sources import open_source
from distkeras.data.sources.tabular import open_tabular
from distkeras.errors import DataError, MissingDependencyError

PLANTS = [["height", "width", "kind"], [1.5, 2, "moss"], [3, 4.25, "fern"], [5, 6, "moss"]]


def write_excel(path: Path, rows: list[list[object]], **other_sheets: list[list[object]]) -> Path:
    workbook = openpyxl.Workbook()
    workbook.active.title = "Data"
    for name, content in {"Data": rows, **other_sheets}.items():
        sheet = workbook["Data"] if name == "Data" else workbook.create_sheet(name)
        for row in content:
            sheet.append(row)
    workbook.save(path)
    return path


def excel_section(path: Path, **keys: object) -> ExcelSource:
    return ExcelSource.model_validate({"kind": "excel", "path": path, "label": "kind", **keys})


def refused(path: Path, *, raw: bool = False, **keys: object) -> DataError:
    with pytest.raises(DataError) as caught:
        open_tabular(excel_section(path, **keys), raw=raw)
    return caught.value


def refused_rows(folder: Path, rows: list[list[object]], *, raw: bool = False, **keys: object) -> DataError:
    return refused(write_excel(folder / "plants.xlsx", rows), raw=raw, **keys)


def change_member(path: Path, member: str, old: bytes, new: bytes) -> None:
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    assert old in members[member]
    members[member] = members[member].replace(old, new)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def test_reads_the_cells_of_a_csv_file(tmp_path: Path) -> None:
    csv = tmp_path / "plants.csv"
    csv.write_text("\n".join(",".join(map(str, row)) for row in PLANTS))
    source = open_source(excel_section(write_excel(tmp_path / "plants.xlsx", PLANTS)))
    features, labels = source.read_arrays(np.arange(3))
    np.testing.assert_array_equal(features, np.float32([[1.5, 2], [3, 4.25], [5, 6]]))
    assert (labels.tolist(), source.class_names) == ([1, 0, 1], ("fern", "moss"))
    assert source.feature_names == ("height", "width")
    assert source.locate(2) == "plants.xlsx sheet 'Data' row 4"
    same = open_source(CsvSource(kind="csv", path=csv, label="kind"))
    assert source.fingerprint == same.fingerprint


def test_named_columns_of_a_named_sheet(tmp_path: Path) -> None:
    path = write_excel(
        tmp_path / "p.xlsx", [["nothing"]], Second=[["b", "note", "kind", "a"], [2, "x", 0.5, 1]]
    )
    source = open_tabular(excel_section(path, sheet="Second", features=["a", "b"]))
    features, labels = source.read_arrays(np.arange(1))
    assert (features.tolist(), labels.tolist(), labels.dtype) == ([[1, 2]], [0.5], np.float32)


def test_whole_numbers_are_whole_whatever_they_are_stored_as(tmp_path: Path) -> None:
    path = write_excel(tmp_path / "p.xlsx", [["a", "kind"], [1, 2.0], [1, 3]])
    labels = open_tabular(excel_section(path)).labels()
    assert (labels.tolist(), labels.dtype) == ([2, 3], np.int64)


def test_blank_rows_are_no_rows_and_rows_are_numbered_as_excel_does(tmp_path: Path) -> None:
    rows: list[list[object]] = [[None], ["a", "kind"], [1, "x"], [None, None], [2, "y"], [None]]
    source = open_tabular(excel_section(write_excel(tmp_path / "p.xlsx", rows)))
    assert source.num_examples == 2
    assert source.locate(1) == "p.xlsx sheet 'Data' row 5"


def test_raw_columns(tmp_path: Path) -> None:
    rows: list[list[object]] = [
        ["age", "city", "day", "flag", "mixed", "kind"],
        [31, " Paris ", datetime.datetime(2024, 2, 29), True, 1, "x"],
        [None, None, None, None, "B2", "y"],
        [2.5, "Oslo", datetime.date(2024, 3, 1), False, None, "x"],
    ]
    source = open_tabular(excel_section(write_excel(tmp_path / "p.xlsx", rows)), raw=True)
    features, _ = source.read_arrays(np.arange(3))
    np.testing.assert_array_equal(features["age"], np.float32([31, np.nan, 2.5]))
    np.testing.assert_array_equal(features["flag"], np.float32([1, np.nan, 0]))
    assert features["city"].tolist() == [b"Paris", b"", b"Oslo"]
    assert features["day"].tolist() == [b"2024-02-29 00:00:00", b"", b"2024-03-01 00:00:00"]
    assert features["mixed"].tolist() == [b"1", b"B2", b""]


def test_a_formula_gives_the_value_that_was_saved_with_it(tmp_path: Path) -> None:
    path = write_excel(tmp_path / "p.xlsx", [["a", "kind"], ["=2*21", "x"], [1, "y"]])
    change_member(path, "xl/worksheets/sheet1.xml", b"<f>2*21</f><v />", b"<f>2*21</f><v>42</v>")
    features, _ = open_tabular(excel_section(path)).read_arrays(np.arange(2))
    assert features.tolist() == [[42], [1]]


@pytest.mark.parametrize("raw", [False, True])
def test_a_formula_that_was_never_calculated_is_no_empty_cell(tmp_path: Path, raw: bool) -> None:
    error = refused_rows(tmp_path, [["b", "a", "kind"], [1, 1, "x"], [None, "=B2+1", "y"]], raw=raw)
    assert error.problem == "A formula has never been calculated."
    assert error.place == "plants.xlsx sheet 'Data' row 3, column 'a'"
    assert error.received == "=B2+1"


def test_a_wrong_size_in_the_file_cuts_nothing(tmp_path: Path) -> None:
    path = write_excel(tmp_path / "plants.xlsx", PLANTS)
    change_member(path, "xl/worksheets/sheet1.xml", b'<dimension ref="A1:C4"', b'<dimension ref="A1:A2"')
    assert open_tabular(excel_section(path)).num_examples == 3


def test_missing_sheet(tmp_path: Path) -> None:
    path = write_excel(tmp_path / "plants.xlsx", PLANTS, Measures=[["a"]])
    error = refused(path, sheet="Mesures")
    assert error.problem == "There is no sheet 'Mesures'."
    assert error.remedy == "Did you mean 'Measures'?"
    assert refused(path, sheet="zzz").remedy == "Name one of: Data, Measures."


def test_missing_column(tmp_path: Path) -> None:
    error = refused_rows(tmp_path, PLANTS, label="kindd")
    assert error.problem == "There is no label column 'kindd'."
    assert error.place == "plants.xlsx sheet 'Data'"


@pytest.mark.parametrize(
    ("rows", "problem"), [([], "A sheet is empty."), (PLANTS[:1], "A sheet has a header and no rows.")]
)
def test_nothing_in_a_sheet(tmp_path: Path, rows: list[list[object]], problem: str) -> None:
    assert refused_rows(tmp_path, rows).problem == problem


def test_text_in_a_column_of_numbers(tmp_path: Path) -> None:
    rows = [["a", "b", "kind"], [1, 2, "x"], [3, "4", "y"]]
    error = refused_rows(tmp_path, rows)
    assert error.problem == "A cell of column 'b' is not a number."
    assert error.place == "plants.xlsx sheet 'Data' row 3, column 'b'"
    assert error.received == "4"
    assert refused_rows(tmp_path, [*rows, [1, 5, "x"]], raw=True).place == error.place


def test_empty_cells(tmp_path: Path) -> None:
    error = refused_rows(tmp_path, [["a", "kind"], [1, "x"], [None, "y"]])
    assert error.problem == "Column 'a' has 1 empty cell."
    assert error.place == "plants.xlsx sheet 'Data' row 3, column 'a'"
    error = refused_rows(tmp_path, [["a", "kind"], [1, "x"], [2, None]], raw=True)
    assert error.problem == "Column 'kind' has 1 empty cell."


def test_errors_of_excel_are_no_categories(tmp_path: Path) -> None:
    error = refused_rows(tmp_path, [["a", "kind"], ["#DIV/0!", "x"]], raw=True)
    assert error.problem == "A cell holds an error of Excel."
    assert error.place == "plants.xlsx sheet 'Data' row 2, column 'a'"


def test_labels_that_mix_numbers_and_text(tmp_path: Path) -> None:
    error = refused_rows(tmp_path, [["a", "kind"], [1, 7], [1, "l3"], [1, 8]])
    assert error.problem == "The label column 'kind' mixes numbers and text."
    assert error.place == "plants.xlsx sheet 'Data' row 3, column 'kind'"


def test_a_cell_beside_the_columns(tmp_path: Path) -> None:
    error = refused_rows(tmp_path, [["a", "kind"], [1, "x"], [1, "x", None, 3]])
    assert error.problem == "A cell stands in a column without a name."
    assert error.place == "plants.xlsx sheet 'Data' row 3, column D"


def test_a_column_twice(tmp_path: Path) -> None:
    assert refused_rows(tmp_path, [["a", "a", "kind"], [1, 1, "x"]]).problem == "Two columns are called 'a'."


def test_missing_file(tmp_path: Path) -> None:
    error = refused(tmp_path / "none.xlsx")
    assert error.problem == "An Excel file cannot be read."
    assert error.received == "No such file or directory"


def test_old_workbooks_are_refused_by_their_content(tmp_path: Path) -> None:
    path = tmp_path / "old.xlsx"
    path.write_bytes(bytes.fromhex("d0cf11e0a1b11ae1") + bytes(504))
    error = refused(path)
    assert error.problem == "This is a workbook of Excel 97 (.xls), or one with a password."
    assert error.remedy == "Save it as .xlsx, without a password."


@pytest.mark.parametrize("content", [b"", b"a,kind\n1,x\n"])
def test_no_workbook(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "plants.xlsx"
    path.write_bytes(content)
    assert refused(path).problem == "The file is no .xlsx workbook, or is damaged."


def test_an_archive_that_is_no_workbook(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "plants.xlsx", "w") as archive:
        archive.writestr("hello.txt", "hello")
    assert refused(tmp_path / "plants.xlsx").problem == "The file is no .xlsx workbook, or is damaged."


def test_a_damaged_sheet(tmp_path: Path) -> None:
    path = write_excel(tmp_path / "plants.xlsx", PLANTS)
    change_member(path, "xl/worksheets/sheet1.xml", b"</row>", b"")
    assert refused(path).problem == "The file is no .xlsx workbook, or is damaged."


def test_a_zip_bomb_is_not_unpacked(tmp_path: Path) -> None:
    path = write_excel(tmp_path / "plants.xlsx", PLANTS)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.xml", bytes(60 * 2**20))
    error = refused(path)
    assert "would unpack to 62,9" in error.problem
    assert error.place == str(path)


def test_a_workbook_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_excel(tmp_path / "plants.xlsx", PLANTS)
    monkeypatch.setattr("distkeras.data.sources.excel_table.MAX_BYTES", 5000)
    assert "would unpack to" in refused(path).problem


def test_without_openpyxl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_excel(tmp_path / "plants.xlsx", PLANTS)
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(MissingDependencyError, match="'openpyxl'") as caught:
        open_tabular(excel_section(path))
    assert caught.value.remedy == 'Install it with: pip install "distkeras[excel]"'

"""CSV and Parquet: cells against numbers written by hand; what is wrong is named by row and column."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from quant_lens_engine.intake import inspect_file
from quant_lens_engine.intake.datasets import read_arrays


@pytest.fixture
def table(tmp_path):
    """A file of that text."""

    def write(text):
        (tmp_path / "theirs").write_bytes(text if isinstance(text, bytes) else text.encode())
        return tmp_path / "theirs"

    return write


@pytest.mark.parametrize(
    ("text", "x", "y"),
    [
        ("a,b,target\n1,2,0\n3,4,1\n", [[1, 2], [3, 4]], [0, 1]),
        ("Label,a,b\n0,1.5,2\n1,3,4e-3\n", [[1.5, 2], [3, 0.004]], [0, 1]),
        ("1;2;0\n3;4;1\n", [[1, 2], [3, 4]], [0, 1]),
        ("a\tb\ty\r\n1\t 2 \t0\r\n-3\t+4\t1\r\n", [[1, 2], [-3, 4]], [0, 1]),
        ("\ufeffa,class\n1,2\n3,4\n", [[1], [3]], [2, 4]),
        (",a,b,y\n0,1,2,5\n1,3,4,6\n", [[1, 2], [3, 4]], [5, 6]),
        ('"a","b, c",price\n1,2,0.5\n3,"4",-1.25\n', [[1, 2], [3, 4]], [0.5, -1.25]),
        ("a,y\n1,dog\n2,cat\n3, dog\n", [[1], [2], [3]], [1, 0, 1]),
        ("a,y\n9007199254740991,1\n9007199254740993,2\n", [[2**53 - 1], [float(2**53)]], [1, 2]),
        ("a,y\n1,1\n\n2,2\n", [[1], [2]], [1, 2]),
    ],
)
def test_cells_and_labels(table, read, text, x, y):
    name, found = read(table(text))
    assert name == "csv"
    np.testing.assert_array_equal(found.x, np.array(x))
    np.testing.assert_array_equal(found.y, y)


def test_whole_numbers_stay_whole(table, read):
    assert read(table("a,b,y\n1,2,0\n3,4,1\n"))[1].x.dtype == np.int64
    assert read(table("a,b,y\n1,2,0\n3,4.0,1\n"))[1].x.dtype == np.float64


def test_many_blocks_and_many_columns(table, read):
    x = np.random.default_rng(0).random((3000, 400)).astype(np.float32)
    lines = [",".join(map(str, [*map(float, row), place % 7])) for place, row in enumerate(x)]
    header = ",".join([*(f"pixel number {place}" for place in range(400)), "label"])
    _, found = read(table("\n".join([header, *lines]) + "\n"))
    np.testing.assert_array_equal(found.x.astype(np.float32), x)
    np.testing.assert_array_equal(found.y, np.arange(3000) % 7)


def test_a_header_longer_than_what_is_looked_at(table, read):
    header = ",".join([*(f"a rather long name of a column {place}" for place in range(5000)), "y"])
    _, found = read(table(header + "\n" + ",".join(["1"] * 5001) + "\n"))
    assert found.x.shape == (1, 5000)


def test_what_was_taken_as_what(table, read):
    _, found = read(table("sepal,petal,species\n1,2,setosa\n3,4,versicolor\n"))
    assert found.notes == (
        "x has 2 columns: sepal, petal.", "The column 'species' was taken as y.",
        "Its texts are classes: 0 = setosa, 1 = versicolor.",
    )  # fmt: skip


def test_a_table_in_a_folder_or_zip(pack, read):
    name, found = read(pack({"set/data.csv": b"a,y\n1,2\n3,4\n", "set/README.md": b"x"}))
    assert (name, found.x.tolist()) == ("csv", [[1], [3]])


@pytest.mark.parametrize(
    ("text", "code", "words", "details"),
    [
        ("a,b,y\n1,2,0\n3,oops,1\n", "not_numbers", "row 1 (line 3), column 'b' is 'oops'", {"row": 1, "column": "b"}),
        ("a,b,y\n1,2,0\n3,,1\n", "missing_value", "row 1 (line 3), column 'b' is missing", {"row": 1, "column": "b"}),
        ("a,b,y\n1,NA,0\n3,4,1\n", "missing_value", "row 0 (line 2), column 'b'", {"row": 0, "value": "NA"}),
        ("1,2,0\n3,x,1\n", "not_numbers", "row 1 (line 2), column 'column 2'", {"line": 2}),
        ("a,b,y\n1,2,0\n3,4,\n", "missing_value", "row 1 (line 3), column 'y'", {"row": 1, "column": "y"}),
        ("a,b,y\n1,2,0\n3,4\n5,6,7\n", "bad_csv", "line 3 has 2 cells where 3 are expected", {"line": 3, "found": 2}),
        ("a,a,y\n1,2,0\n3,4,1\n", "duplicate_column", "two columns are named 'a'", {}),
        ("a,y\n1,2\n3,1,000\n", "bad_csv", "line 3 has 3 cells", {}),
        (b"a,y\n1,2\n3,4\n" + b"1,2\n" * 30_000 + b"\xff\xfe,2\n", "bad_csv", "UTF8", {}),
    ],
)
def test_what_is_wrong_is_named(table, refused, text, code, words, details):
    error = refused(table(text), code)
    assert words in error.message
    assert details.items() <= error.details.items()


def test_a_bad_cell_behind_the_first_block(table, refused):
    text = "a,y\n" + "1.25,0\n" * 1_000_000 + "x,0\n"
    assert refused(table(text), "not_numbers").details["row"] == 1_000_000


def test_a_table_without_rows(table, refused):
    refused(table("a,b,y\n\n\n"), "not_data")
    refused(table("\n\na,b,y\n"), "not_data")


def test_a_table_that_is_too_large_stops_early(table, refused, monkeypatch):
    monkeypatch.setattr("quant_lens_engine.intake.datasets.csv_table.MAX_TABLE_BYTES", 1 << 20)
    error = refused(table("a,y\n" + "1,0\n" * 2_000_000), "too_large")
    assert "Parquet" in error.hint


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1,\n "b": 2}',
        "<a,b>\n<c,d>",
        "%PDF,1\n,",
    ],
)
def test_other_texts_are_no_tables(table, refused, text):
    refused(table(text), "not_data")


@pytest.mark.parametrize("text", ["[1, 2]\n[3, 4]", "one line\nand another", "well, yes\nno, maybe\nso, there"])
def test_prose_is_a_text_and_no_table(table, text):
    assert read_arrays(table(text), "theirs")[0] == "text"


# ---- Parquet


def parquet(path, columns, **options):
    pq.write_table(pa.table(columns), path, **options)
    return path


def test_columns_of_parquet(tmp_path, read):
    columns = {"b": [1, 2, 3], "a": [0.5, 1.5, 2.5], "target": [2, 0, 1], "__index_level_0__": [7, 8, 9]}
    path = parquet(tmp_path / "theirs", columns)
    name, found = read(path)
    assert (name, found.x.dtype) == ("parquet", np.float64)
    np.testing.assert_array_equal(found.x[:], [[1, 0.5], [2, 1.5], [3, 2.5]])
    np.testing.assert_array_equal(found.y, [2, 0, 1])
    assert "Columns not read: __index_level_0__." in found.notes


@pytest.mark.parametrize(
    ("kinds", "dtype"),
    [
        ([pa.float32(), pa.float32()], np.float32),
        ([pa.uint8(), pa.uint8()], np.uint8),
        ([pa.int8(), pa.int64()], np.int64),
        ([pa.int8(), pa.float32()], np.float64),
        ([pa.bool_(), pa.int32()], np.int64),
        ([pa.decimal128(25, 2), pa.decimal128(25, 2)], np.float64),
    ],
)
def test_types_of_a_table(tmp_path, read, kinds, dtype):
    columns = {name: pa.array([0, 1, 1]).cast(kind) for name, kind in zip("ab", kinds, strict=True)}
    _, found = read(parquet(tmp_path / "theirs", columns | {"y": [0, 1, 2]}))
    assert found.x.dtype == dtype
    assert found.x[:].tolist() == [[0, 0], [1, 1], [1, 1]]


def test_only_row_groups_with_rows_used_are_decoded(tmp_path, read):
    x = np.random.default_rng(0).random(2_000_000)
    path = parquet(tmp_path / "theirs", {"a": x, "y": np.zeros(len(x), np.int8)}, row_group_size=100_000)
    _, found = read(path)
    tracemalloc.start()
    before = pa.total_allocated_bytes()
    rows = np.array([0, 150_000, 1_999_999])
    np.testing.assert_array_equal(found.x[rows][:, 0], x[rows])
    assert pa.total_allocated_bytes() - before < 1_000_000
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


def test_shards_and_splits(pack, read, tmp_path):
    def shard(values):
        path = parquet(tmp_path / "shard", {"a": values, "y": values})
        return path.read_bytes()

    members = {"data/test-0-of-2.parquet": [1, 2], "data/test-1-of-2.parquet": [3], "data/train-0.parquet": [9, 8]}
    _, found = read(pack({name: shard(values) for name, values in members.items()}))
    assert found.x[:].tolist() == [[1], [2], [3]]
    assert found.x[np.array([2, 0])].tolist() == [[3], [1]]
    assert found.y.tolist() == [1, 2, 3]
    assert found.calibration.y.tolist() == [9, 8]


@pytest.mark.parametrize(
    ("columns", "code", "words"),
    [
        ({"a": [1, 2], "b": ["x", "y"], "y": [0, 1]}, "not_numbers", "the column 'b' holds string"),
        ({"a": [1, 2], "y": [0, None]}, "missing_value", "the column 'y' has no value in row 1"),
        ({"y": [0, 1]}, "missing_array", "there is no column of rows beside the labels"),
        ({"a": [[1], [2]], "b": [[1], [2]], "y": [0, 1]}, "missing_array", "'a', 'b' could each be the rows"),
        ({"a": pa.array([], pa.int64()), "y": pa.array([], pa.int64())}, "empty_data", "no rows"),
        ({"a": [[], []], "y": [0, 1]}, "ragged_rows", "row 0 of the column 'a' holds lists of 0"),
        ({"a": [["x"], ["y"]], "y": [0, 1]}, "not_numbers", "lists of string"),
        ({"a": pa.array([0, 1], pa.timestamp("s")), "y": [0, 1]}, "not_numbers", "timestamp"),
    ],
)
def test_columns_that_are_refused(tmp_path, refused, columns, code, words):
    assert words in refused(parquet(tmp_path / "theirs", columns), code).message


@pytest.mark.parametrize(
    ("columns", "code", "words"),
    [
        ({"a": [1, 2, None], "y": [0, 1, 2]}, "missing_value", "the column 'a' has no value in row 2"),
        (
            {"a": [[1, 2], [3], [4, 5]], "y": [0, 1, 2]},
            "ragged_rows",
            "row 1 of the column 'a' holds a list of 1 values",
        ),
        ({"a": [[[1]], [[2]], [[3, 4]]], "y": [0, 1, 2]}, "ragged_rows", "row 2 of the column 'a' holds a list of 2"),
        ({"a": [[1, 2], [3, None], [4, 5]], "y": [0, 1, 2]}, "missing_value", "'a' has no value in row 1"),
        ({"a": [[1, 2], None, [4, 5]], "y": [0, 1, 2]}, "missing_value", "'a' has no value in row 1"),
    ],
)
def test_rows_that_are_refused_when_used(tmp_path, read, refused, columns, code, words):
    _, found = read(parquet(tmp_path / "theirs", columns))
    assert words in refused(tmp_path / "theirs", code, lambda: found.x[:]).message
    assert len(found.x[:1]) == 1


@pytest.mark.parametrize("kept", [10, 100, -1, -9])
def test_a_truncated_file(tmp_path, refused, kept):
    path = parquet(tmp_path / "theirs", {"a": [1, 2], "y": [0, 1]})
    path.write_bytes(path.read_bytes()[:kept])
    refused(path, "truncated_file")


def test_a_footer_that_claims_more_than_the_file(tmp_path, refused):
    path = parquet(tmp_path / "theirs", {"a": [1, 2], "y": [0, 1]})
    path.write_bytes(path.read_bytes()[:-8] + b"\xff\xff\xff\x7fPAR1")
    refused(path, "bad_parquet")


def test_the_inspection_of_a_table(tmp_path):
    path = parquet(tmp_path / "theirs", {"a": np.arange(1000) % 50, "y": np.arange(1000) % 4})
    found = inspect_file(path)
    assert (found.samples, found.x_shape, found.x_min, found.x_max, found.classes) == (1000, [1000, 1], 0, 48, 4)
    assert "The range is that of 250 of the 1000 rows, evenly spaced." in found.notes

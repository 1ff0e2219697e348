"""Files read line by line."""

from __future__ import annotations

import gzip
import tracemalloc

import pytest

from flexmeter.management.mapping import CsvMapping
from flexmeter.management.rows import Row, csv_rows, jsonl_rows, line_limit
from flexmeter.management.sources import Source, UnreadableSource

NAMED = CsvMapping(constants={"event_name": "tokens"})


def rows_of(path, read=jsonl_rows):
    with Source(str(path), line_limit=line_limit()) as source:
        return list(read(source))


def csv_rows_of(path, mapping=NAMED):
    return rows_of(path, lambda source: csv_rows(source, mapping))


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_lines_are_found_by_content_not_by_suffix(tmp_path, pack, end):
    path = tmp_path / "file"
    path.write_bytes(pack(b"\xef\xbb\xbf" + end.join([b'{"n": 1}', b"", b' {"n": "\xc3\xbc\xe2\x80\xa8"} ', b'{"n": 3}'])))
    assert [(row.line, row.event) for row in rows_of(path)] == [(1, {"n": 1}), (3, {"n": "ü\u2028"}), (4, {"n": 3})]


def test_a_line_that_is_not_json_does_not_hide_the_next(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b'{"n": 1\n\xff\xfe\nNaN\n[[[[\n{"n": 2}\n' + b"[" * 100_000)
    rows = rows_of(path)
    assert [row.fault is None for row in rows] == [False, False, False, False, True, False]
    assert [row.line for row in rows] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_csv_cells_may_hold_line_breaks_quotes_and_delimiters(tmp_path, end):
    path = tmp_path / "file"
    text = end.join(["external_customer_id,properties.a", '"ac""me, inc","one', 'two"', "", "beta,three"])
    path.write_bytes(text.encode())
    rows = csv_rows_of(path)
    assert [(row.line, row.event["external_customer_id"], row.event["properties"]) for row in rows] == [
        (2, 'ac"me, inc', {"a": f"one{end}two"}),
        (5, "beta", {"a": "three"}),
    ]
    assert rows[0].raw.decode() == text.split(end, 1)[1].split(f"{end}{end}")[0]


def test_a_broken_csv_row_does_not_hide_the_next(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b'external_customer_id,n\n"a"b,1\nc,2\nd\n\xff,4\ne,5\n"open,6\nf,7\n')
    rows = csv_rows_of(path)
    assert [(row.line, row.fault is None) for row in rows] == [
        (2, False),
        (3, True),
        (4, False),
        (5, False),
        (6, True),
        (7, False),
    ]
    assert rows[3].raw == b"\xff,4"


def test_a_file_without_rows_has_none(tmp_path):
    path = tmp_path / "file"
    for text in (b"", b"\n", b"\xef\xbb\xbf"):
        path.write_bytes(text)
        assert rows_of(path) == []
    for text in (b"", b"external_customer_id\n"):
        path.write_bytes(text)
        assert csv_rows_of(path) == []


def test_a_file_that_cannot_be_read_says_so(tmp_path):
    with pytest.raises(UnreadableSource, match="No such file"):
        rows_of(tmp_path / "nowhere.jsonl")
    with pytest.raises(UnreadableSource, match="directory"):
        rows_of(tmp_path)


@pytest.mark.parametrize("damage", [lambda packed: packed[:-20], lambda packed: packed[:-20] + b"x" * 20])
def test_rows_before_the_damage_of_a_file_are_given(tmp_path, damage):
    path = tmp_path / "file.gz"
    path.write_bytes(damage(gzip.compress(b'{"n": 1}\n' * 10_000, compresslevel=0)))
    rows: list[Row] = []
    with Source(str(path), line_limit=line_limit()) as source, pytest.raises(UnreadableSource, match="damaged after line"):
        rows.extend(jsonl_rows(source))
    assert 9_000 < len(rows) <= 10_000


def test_reading_goes_on_where_it_was_left(tmp_path):
    path = tmp_path / "file.csv"
    path.write_bytes(b"\xef\xbb\xbfexternal_customer_id\na\nb\nc\n")
    with Source(str(path), line_limit=line_limit()) as source:
        rows = csv_rows(source, NAMED)
        assert next(rows).event["external_customer_id"] == "a"
        place = source.offset, source.line
        rows.close()
    with Source(str(path), line_limit=line_limit()) as source:
        rest = [(row.line, row.event["external_customer_id"]) for row in csv_rows(source, NAMED, place)]
    assert rest == [(3, "b"), (4, "c")]


def test_the_part_that_was_read_is_known_from_the_bytes_of_the_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b'{"n": 1}\n' * 100_000)
    with Source(str(path), line_limit=line_limit()) as source:
        lines = source.lines()
        for _ in range(50_000):
            next(lines)
        assert 0.45 < source.part() < 0.55
        for _ in lines:
            pass
        assert source.part() == 1


def test_memory_does_not_grow_with_the_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(b'{"n": 1, "text": "' + b"x" * 1_000 + b'"}\n' + b'{"n": 2}\n' * 500_000, compresslevel=1))
    tracemalloc.start()
    try:
        with Source(str(path), line_limit=line_limit()) as source:
            assert sum(1 for _ in source.lines()) == 500_001
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1024 * 1024


@pytest.mark.parametrize(("read", "before"), [(rows_of, b""), (csv_rows_of, b"external_customer_id,n\n")])
def test_a_line_without_end_is_cut_and_the_next_one_read(tmp_path, read, before, settings):
    settings.FLEXMETER_MAX_PROPERTIES_BYTES = 65_536
    path = tmp_path / "file"
    good = b"acme,1\n" if before else b'{"n": 1}\n'
    path.write_bytes(gzip.compress(before + good + b"a," + b"x" * 30_000_000 + b"\n" + good, compresslevel=1))
    tracemalloc.start()
    try:
        rows = read(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [row.fault is None for row in rows] == [True, False, True]
    assert len(rows[1].raw) == line_limit()
    assert "longer than" in rows[1].fault.message
    assert peak < 16 * line_limit()

"""Tables: formats, separators, and rows that cannot be read."""

from __future__ import annotations

import io
import json
import logging
import zipfile
from pathlib import Path

import polars
import pytest

import elman
from elman.data.pairs import read_pairs
from elman.data.stories import read_stories
from elman.data.tables import SkippedRows, read_rows, read_table
from elman.media.columns import Columns
from elman.media.labelled import read_labelled

TABLE = Columns("text", "label", "file", None, None, None, None)
ROWS = {"text": ["a, b; c", "d"], "label": ["x", "1,5"]}


def write(path: Path, text: str | bytes) -> str:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def table(path: str) -> dict[str, list]:
    return read_table(path).to_dict(as_series=False)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", 'text,label\n"a, b; c",x\nd,"1,5"\n'),
        ("a.csv", 'text;label\n"a, b; c";x\nd;1,5\n'),
        ("a.csv", 'sep=;\ntext;label\n"a, b; c";x\nd;1,5\n'),
        ("a.csv", "text\tlabel\na, b; c\tx\nd\t1,5\n"),
        ("a.csv", "\ufefftext|label\r\na, b; c|x\r\nd|1,5"),
        ("a.csv", "sep=^\ntext^label\na, b; c^x\nd^1,5\n"),
        ("a.csv", '\n text ;label; \n\n"a, b; c";x;\n ; \nd;1,5;;\n;\n'),
        ("a.tsv", "text\tlabel\n\na, b; c\tx\nd\t1,5\n\n"),
        ("a.tsv", 'text,label\n"a, b; c",x\nd,"1,5"\n'),
        ("a.json", json.dumps([{"text": "a, b; c", "label": "x"}, {"text": "d", "label": "1,5"}], indent=1)),
        ("a.json", '{"text": "a, b; c", "label": "x"}\n\n{"label": "1,5", "text": "d"}\n'),
        ("a.jsonl", json.dumps([{"text": "a, b; c", "label": "x"}, {"text": "d", "label": "1,5"}])),
        ("a.json", json.dumps(ROWS)),
        ("a.json", json.dumps(ROWS, indent=1)),
    ],
)
def test_forms(name: str, text: str, tmp_path: Path) -> None:
    assert table(write(tmp_path / name, text)) == ROWS


def test_binary_forms(tmp_path: Path) -> None:
    frame = polars.DataFrame(ROWS)
    frame.write_parquet(tmp_path / "a.parquet")
    frame.write_ipc(tmp_path / "a.feather")
    frame.write_ipc_stream(tmp_path / "b.arrow")
    for name in ("a.parquet", "a.feather", "b.arrow"):
        assert table(str(tmp_path / name)) == ROWS
    with pytest.raises(elman.ElmanError, match=r"c.feather: a Feather table of version 1"):
        read_table(write(tmp_path / "c.feather", b"FEA1...."))
    with pytest.raises(elman.ElmanError, match=r"d.parquet: not a valid parquet table"):
        read_table(write(tmp_path / "d.parquet", b"PAR1...."))
    whole = (tmp_path / "a.feather").read_bytes()
    for data in (whole[:40], whole[:-30], whole[:-12] + b"\xff" * 12, b"wor"):
        with pytest.raises(elman.ElmanError, match=r"e.feather: not a valid feather table"):
            read_table(write(tmp_path / "e.feather", data))


def workbook(path: Path, **sheets: list[list[str | float]]) -> str:
    """A minimal .xlsx."""
    kinds = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    rel = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006"
    numbers = range(1, len(sheets) + 1)

    def cell(value: str | float) -> str:
        text = f'<c t="inlineStr"><is><t>{value}</t></is></c>'
        return text if isinstance(value, str) else f"<c><v>{value}</v></c>"

    with zipfile.ZipFile(path, "w") as book:
        overrides = "".join(
            f'<Override PartName="/xl/worksheets/sheet{k}.xml" ContentType="{kinds}.worksheet+xml"/>' for k in numbers
        )
        book.writestr(
            "[Content_Types].xml",
            f'<Types xmlns="{package}/content-types"><Default Extension="rels" ContentType="application/vnd.'
            f'openxmlformats-package.relationships+xml"/><Override PartName="/xl/workbook.xml" ContentType="{kinds}.'
            f'sheet.main+xml"/>{overrides}</Types>',
        )
        book.writestr(
            "_rels/.rels",
            f'<Relationships xmlns="{package}/relationships"><Relationship Id="r1" Type="{rel}/officeDocument" '
            'Target="xl/workbook.xml"/></Relationships>',
        )
        names = "".join(f'<sheet name="{n}" sheetId="{k}" r:id="r{k}"/>' for k, n in zip(numbers, sheets, strict=True))
        book.writestr(
            "xl/workbook.xml", f'<workbook xmlns="{main}" xmlns:r="{rel}"><sheets>{names}</sheets></workbook>'
        )
        links = "".join(
            f'<Relationship Id="r{k}" Type="{rel}/worksheet" Target="worksheets/sheet{k}.xml"/>' for k in numbers
        )
        book.writestr(
            "xl/_rels/workbook.xml.rels", f'<Relationships xmlns="{package}/relationships">{links}</Relationships>'
        )
        for k, rows in zip(numbers, sheets.values(), strict=True):
            cells = "".join(f"<row>{''.join(map(cell, row))}</row>" for row in rows)
            book.writestr(
                f"xl/worksheets/sheet{k}.xml", f'<worksheet xmlns="{main}"><sheetData>{cells}</sheetData></worksheet>'
            )
    return str(path)


def test_workbooks(tmp_path: Path) -> None:
    pytest.importorskip("fastexcel")
    rows: list[list[str | float]] = [["text", " label"], ["a, b", 1], ["", ""], ["c", 0]]
    one = workbook(tmp_path / "one.xlsx", Data=rows, Empty=[])
    assert table(one) == {"text": ["a, b", "c"], "label": ["1", "0"]}
    assert read_labelled(one, TABLE).labels == [("1",), ("0",)]
    two = workbook(tmp_path / "two.xlsx", A=rows, B=[["x"], ["y"]])
    with pytest.raises(elman.ElmanError, match=r"two.xlsx: has 2 sheets: A, B; name one: .*two.xlsx::A"):
        read_table(two)
    assert table(f"{two}::B") == {"x": ["y"]}
    with pytest.raises(elman.ElmanError, match=r"has no sheet 'C'; it has A, B"):
        read_table(f"{two}::C")
    with pytest.raises(elman.ElmanError, match=r"broken.xlsx: not a readable workbook"):
        read_table(write(tmp_path / "broken.xlsx", b"PK\x03\x04nothing"))


@pytest.mark.parametrize(
    ("name", "text", "message", "kept"),
    [
        ("a.csv", "text,label\na,b,1\nb,2\n", "line 2: 3 columns, where the header has 2", ["b"]),
        ("a.csv", "text,label\n\nb,2\nc\n", "line 4: 1 column, where the header has 2", ["b"]),
        ("a.csv", 'text,label\n"b\nb",2\n"c",1,2\n', "line 4: 3 columns", ["b\nb"]),
        ("a.csv", 'sep=;\ntext;label\nb;2\n"c";1;2\n', "line 4: 3 columns", ["b"]),
        (
            "a.csv",
            'text,label\n"a,1\nb,2\nc,3\n',
            "line 2: a quote is opened on this line and never closed",
            ["b", "c"],
        ),
        ("a.csv", 'text,label\n"a" a,1\nb,2\n', "line 2: text after a closing quote", ["b"]),
        ("a.csv", 'text,label\nb,2\n"a,1\nb,2\nc,3\n"d",4\n', "line 3: text after a closing", ["b", "b", "c", "d"]),
        ("a.tsv", "text\tlabel\nb\t1\na\n", "line 3: 1 column", ["b"]),
        ("a.tsv", 'text\tlabel\n"b\nb"\t1\na\n', "line 4: 1 column", ["b\nb"]),
        ("a.jsonl", '{"text":"b","label":1}\n{"text"\n[1]\n', "line 2: not valid JSON", ["b"]),
        ("a.json", '[{"text":"b","label":1}, 3]', "record 2: a number; an object", ["b"]),
        ("a.csv", "text,label\nb,1\n ,2\n", r"row 2: the text is empty \(line 3\)", ["b"]),
        ("a.csv", "text,label\nb,1\nc,\n", r"row 2: no label \(line 3\)", ["b"]),
    ],
)
def test_bad_rows(
    name: str, text: str, message: str, kept: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / name, text)
    with pytest.raises(elman.ElmanError, match=rf"{name}, {message}.*--skip-bad") as caught:
        read_labelled(path, TABLE)
    assert "\n" not in str(caught.value)
    assert read_labelled(path, TABLE._replace(skip_bad=True)).inputs == kept
    bad = 2 if name == "a.jsonl" else 1
    assert f"{bad} bad row" in caplog.text and message.partition(":")[0] in caplog.text


def test_bad_rows_of_pairs_and_stories(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "source,target\na,b\nc\nd,e\n")
    with pytest.raises(elman.ElmanError, match=r"a.csv, line 3: 1 column"):
        read_pairs(path, "source", "target")
    assert read_pairs(path, "source", "target", skip_bad=True).sources == ["a", "d"]
    path = write(tmp_path / "b.csv", "story,question,answer\nA. B.,Who?,\nC.,Where?,there\n")
    names = ("story", "question", "answer")
    with pytest.raises(elman.ElmanError, match=r"b.csv, row 1: the answer is empty \(line 2\)"):
        read_stories(path, names, "kind")
    assert [s.answer for s in read_stories(path, names, "kind", skip_bad=True)] == ["there"]


def test_line_numbers(tmp_path: Path) -> None:
    for text in ('text,label\n"a\nb",1\n\nc,2\n,\nd,3\n', "text,label\nab,1\n\n\nc,2\n,\nd,3"):
        path = write(tmp_path / "a.csv", text)
        assert read_rows(path, None, SkippedRows(path, False)).lines.tolist() == [2, 5, 7]


def test_quotes(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", 'text,"the ""label"""\n"say ""hi""\nall",1\n5" pipe,2\n')
    assert table(path) == {"text": ['say "hi"\nall', '5" pipe'], 'the "label"': ["1", "2"]}
    path = write(tmp_path / "a.tsv", 'text\tlabel\n"Hi" he said\t1\nb "x\t2\n')
    assert table(path) == {"text": ['"Hi" he said', 'b "x'], "label": ["1", "2"]}
    path = write(tmp_path / "b.tsv", 'text\tlabel\n"a\tb"\t1\n"c"\t2\n')
    assert table(path) == {"text": ["a\tb", "c"], "label": ["1", "2"]}
    path = write(tmp_path / "long.csv", f'text,label\n"{"x" * 300_000}",1\n')
    assert len(table(path)["text"][0]) == 300_000


def test_cells_are_unchanged(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "text,label\n007,NA\n1e5,null\n 1.50 ,true\n")
    assert table(path) == {"text": ["007", "1e5", " 1.50 "], "label": ["NA", "null", "true"]}
    path = write(tmp_path / "a.jsonl", '{"text":"a","label":1.50}\n{"text":"b","label":true}\n{"text":"c"}\n')
    assert table(path) == {"text": ["a", "b", "c"], "label": ["1.50", "true", None]}


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("texts,label", "has no column 'text'; it has texts, label: did you mean --text texts?"),
        ("Review,label", "has no column 'text'; it has Review, label: did you mean --text Review?"),
        ("text,labl", "has no column 'label'; it has text, labl: did you mean --label labl?"),
        ("text,Class Name", "has no column 'label'; it has text, Class Name; --label sets the name"),
        ("TEXT,label", "did you mean --text TEXT?"),
        (
            "a good film,pos",
            "it has a good film, pos; --text sets the name, and the first line must name all columns",
        ),
        ('"""text""",label', """it has "text", label: did you mean --text '"text"'?"""),
        ("text,text", "2 columns are named 'text'; rename them"),
    ],
)
def test_suggestions_for_columns(header: str, message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", f"{header}\na,b\n")
    with pytest.raises(elman.ElmanError) as caught:
        read_labelled(path, TABLE)
    assert message in str(caught.value)


def test_suggestions_for_columns_of_pairs(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "src,tgt\na,b\n")
    with pytest.raises(elman.ElmanError, match="a.csv: --source and --target name the same column, 'src'"):
        read_pairs(path, "src", "src")
    with pytest.raises(elman.ElmanError, match="a.csv: --text and --label name the same column, 'tgt'"):
        read_labelled(path, TABLE._replace(text="tgt", label="tgt"))
    with pytest.raises(elman.ElmanError, match="did you mean --source src"):
        read_pairs(path, "source", "target")
    with pytest.raises(elman.ElmanError, match="did you mean --target tgt"):
        read_pairs(path, "src", "target")


def test_spellings_of_labels_are_merged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cells = ["1", "1.0", " 1", "1.00\u00a0", "007", "7", "caf\u00e9", "cafe\u0301", "not  ok", "not ok", "1.10", "1.1"]
    text = "text,label\n" + "".join(f"t{k},{cell}\n" for k, cell in enumerate(cells))
    found = read_labelled(write(tmp_path / "a.csv", text), TABLE)
    names = ["1"] * 4 + ["007", "7"] + ["caf\u00e9"] * 2 + ["not ok"] * 2 + ["1.10", "1.1"]
    assert found.labels == [(name,) for name in names]
    assert "the labels '1' and '1.0' and '1.00' are merged into '1'" in caplog.text
    floats = read_labelled(write(tmp_path / "b.csv", "text,label\na,1.0\nb,0.0\n"), TABLE)
    assert floats.labels == [("1.0",), ("0.0",)]
    several = TABLE._replace(separator=";")
    caplog.clear()
    read_labelled(write(tmp_path / "c.csv", "text,label\na,x|y\nb,x\n"), several)
    assert "no example has several labels with ';' between them" in caplog.text
    assert read_labelled(write(tmp_path / "c.csv", 'text,label\na,"1; 1.0;x"\n'), several).labels == [("1", "x")]


def test_a_model_recognises_spellings_of_its_labels(tmp_path: Path) -> None:
    text = "text,label\n" + "".join(f"{['good', 'bad'][k % 2]} {k},{k % 2}\n" for k in range(30))
    model = elman.train("classify", write(tmp_path / "a.csv", text), steps=1, hidden_size=4, progress=False)
    other = model.read([write(tmp_path / "b.csv", "text;label\nbad; 1.0\ngood;0.0\n")])
    assert other.labels.tolist() == [[0, 1], [1, 0]]


def test_labels_that_are_not_classes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = "text,label\n" + "".join(f"t{k},{k / 7:.3f}\n" for k in range(30))
    read_labelled(write(tmp_path / "a.csv", text), TABLE)
    assert "30 of 30 labels are different; did you mean regression?" in caplog.text
    caplog.clear()
    text = "text,label\n" + "".join(f"t{k},{k % 3}\n" for k in range(30))
    with caplog.at_level(logging.WARNING):
        read_labelled(write(tmp_path / "b.csv", text), TABLE)
    assert not caplog.text


def test_records_that_are_not_text(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"text": {"en": "a"}, "label": 1}\n')
    with pytest.raises(elman.ElmanError, match="column 'text'"):
        read_labelled(path, TABLE)
    path = write(tmp_path / "b.json", '{"text": {"0": "a"}, "label": {"0": 1}}')
    with pytest.raises(elman.ElmanError, match=r"an object with the keys text, label; .*orient='records'"):
        read_labelled(path, TABLE)
    path = write(tmp_path / "c.json", '[{"text": "a",\n "label": }]')
    with pytest.raises(elman.ElmanError, match=r"c.json: not valid JSON: .* at line 2, column 11"):
        read_labelled(path, TABLE)


def test_large_tables_are_read_like_small_ones() -> None:
    from elman.data.separated import read_separated

    body = "".join(f"{k},{'' if k % 3 else 'x'},{k / 7}\n" for k in range(20_000))
    plain = read_separated(f"a,b,c\n{body}", "p", False, lambda *wrong: pytest.fail(str(wrong)))
    quoted = read_separated(f'"a",b,c\n{body}', "p", False, lambda *wrong: pytest.fail(str(wrong)))
    assert plain.table.equals(quoted.table) and (plain.lines == quoted.lines).all()
    assert polars.read_csv(io.BytesIO(f"a,b,c\n{body}".encode()), infer_schema=False)["c"].equals(plain.table["c"])

"""Files whose rows a model is asked about, and the same files with its answers."""

from __future__ import annotations

import contextlib
import io
import os
import re
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, final

import fsspec
import polars

from elman.data.output import check_writable
from elman.data.source import sources
from elman.data.tables import TABLES, SkippedRows, column, is_table, read_rows
from elman.data.text import read_text
from elman.errors import ElmanError

#: Endings by which an argument is a file's name and no text, beside those of tables.
_FILES = (
    ".txt", ".text", ".conll", ".conllu", ".conllup", ".bio", ".iob", ".iob2", ".ann", ".ts", ".wav",
    ".flac", ".ogg", ".mp3",
)  # fmt: skip
_PACKED = re.compile(r"\.(gz|bz2|xz|zip|zst)$")
_PATH = re.compile(r"\S+|(/|~|\.\.?[/\\]|\w:[/\\]).*|.*[/\\][^/\\]*")

#: What is said of one input: columns and their values; None where there is no answer.
Prediction = dict[str, Any] | None


class InputFile(ABC):
    """A file of inputs. inputs: a row each; names: how each is shown; places: where each stands, for messages."""

    inputs: list[Any]
    names: list[Any]
    places: list[str]

    @abstractmethod
    def with_predictions(self, out: str, said: Sequence[Prediction]) -> bytes:
        """The file ``out`` with what is said of each row."""


@final
class InputTable(InputFile):
    """The rows of a table; ``inputs``: what is asked of each; names: how each is shown, and where it stands."""

    def __init__(self, path: str, table: polars.DataFrame, inputs: list[Any], names: list[str] | None = None) -> None:
        self.table, self.inputs, self.names = table, inputs, names or inputs
        self.places = names or [f"{path}, row {k}" for k in range(1, len(inputs) + 1)]

    def with_predictions(self, out: str, said: Sequence[Prediction]) -> bytes:
        """The table, all its columns as they are, with those of the answers behind them."""
        return _table(out, self.table, said)


@final
class InputLines(InputFile):
    """Inputs without other columns: the lines of a text, the series of a file, what the command line says."""

    def __init__(self, inputs: list[Any], places: list[str], names: list[str] | None = None) -> None:
        self.inputs, self.places, self.names = inputs, places, names or inputs

    def with_predictions(self, out: str, said: Sequence[Prediction]) -> bytes:
        """A table with the inputs and the answers; to any other file a line an input, the first answer."""
        if out.lower().endswith(TABLES):
            return _table(out, polars.DataFrame({"input": self.names}), said)
        lines = ("" if one is None else " ".join(_flat(one["predicted"]).splitlines()) for one in said)
        return "".join(f"{line}\n" for line in lines).encode()


def is_file_argument(argument: str) -> bool:
    """Whether an argument of the command line is the name of a file, and no text.

    It is one if there is such a file. A text that is also a file's name goes through standard input.

    Raises:
        ElmanError: it is a folder; or it reads like a file's name, by its ending, and there is none.
    """
    path = os.path.expanduser(argument)
    if os.path.isdir(path):
        raise ElmanError(f"{argument}: this is a folder; give the files in it. {_HINT}")
    if os.path.exists(path) or os.path.exists(path.partition("::")[0]):  # or one in an archive
        return True
    if "://" in argument:
        return is_table(argument)
    if looks_like_file(argument):
        raise ElmanError(f"{argument}: no such file. {_HINT}")
    return False


def looks_like_file(argument: str) -> bool:
    """Whether a text reads like the name of a file, by its ending."""
    return bool(_PATH.fullmatch(argument)) and _PACKED.sub("", argument.lower()).endswith((*TABLES, *_FILES))


_HINT = "A text that looks like a file's name is given on standard input"


def read_inputs(
    argument: str, texts: Callable[[polars.DataFrame], list[str]], *columns: str, whole: bool = False
) -> InputFile:
    """The inputs in a file: of a table what ``texts`` makes of it, which must have these columns; else its lines.

    ``whole``: a text file is one input.
    """
    (path,) = sources([argument])
    if is_table(path, columns):
        table = read_rows(path, columns, SkippedRows(path, None)).table
        return InputTable(argument, table, texts(table))
    text = read_text(path).removesuffix("\n")
    if whole:
        return InputLines([text], [argument])
    lines = text.split("\n")
    return InputLines(lines, [f"{argument}, line {k}" for k in range(1, len(lines) + 1)])


def read_column_inputs(argument: str, name: str, whole: bool = False) -> InputFile:
    """The inputs in a file: a column of a table, or the lines of a text."""
    return read_inputs(argument, lambda table: column(table, name, argument), name, whole=whole)


def check_output(out: str) -> None:
    """ElmanError where answers cannot be written, before any is made."""
    if os.path.lexists(out):
        raise ElmanError(f"--out {out}: is there already; name a new file")
    if "://" not in out:
        check_writable(out, "--out")


def write_output(out: str, data: bytes) -> None:
    """Writes a whole file or none; compressed by its ending."""
    try:
        if "://" in out:
            with fsspec.open(out, "wb", compression="infer") as file:
                file.write(data)
            return
        folder, name = os.path.split(os.path.abspath(out))
        number, part = tempfile.mkstemp(f"-{name}", ".", folder)
        os.close(number)
        try:
            with fsspec.open(part, "wb", compression="infer") as file:
                file.write(data)
            os.chmod(part, 0o666 & ~_umask())
            os.replace(part, out)
        except BaseException:
            with contextlib.suppress(OSError):
                os.remove(part)
            raise
    except (OSError, ValueError) as error:
        raise ElmanError(f"--out {out}: cannot be written: {error}") from None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _flat(value: Any) -> Any:
    return " ".join(value) if isinstance(value, list) else value


def _table(out: str, table: polars.DataFrame, said: Sequence[Prediction]) -> bytes:
    ending, file = os.path.splitext(_PACKED.sub("", out.lower()))[1], io.BytesIO()
    nested = ending in (".jsonl", ".ndjson", ".parquet")
    names = dict.fromkeys(name for one in said if one for name in one) or {"predicted": None}
    for name in names:
        cells = [one.get(name) if one else None for one in said]
        table = table.with_columns(
            polars.Series(_free(name, table.columns), cells if nested else [_flat(cell) for cell in cells])
        )
    try:
        if ending == ".parquet":
            table.write_parquet(file)
        elif ending in (".jsonl", ".ndjson"):
            table.write_ndjson(file)
        elif ending in (".csv", ".tsv"):
            plain = table.with_columns(polars.col(polars.String).replace("", None))  # an empty cell stays empty
            plain.write_csv(file, separator="\t" if ending == ".tsv" else ",")
        else:
            raise ElmanError(f"--out {out}: a table is written to .csv, .tsv, .jsonl, .ndjson or .parquet")
    except polars.exceptions.PolarsError as error:
        what = str(error).splitlines()[0]
        raise ElmanError(f"--out {out}: not for these columns: {what}; .jsonl and .parquet take lists") from None
    return file.getvalue()


def _free(name: str, taken: Sequence[str]) -> str:
    """The name, or the first of name_new, name_new_new, ... that no column has."""
    return _free(f"{name}_new", taken) if name in taken else name

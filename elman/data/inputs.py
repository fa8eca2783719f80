"""Files of inputs for a trained model, and the same files with its predictions."""

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
from elman.data.picture_formats import PICTURES
from elman.data.sound_formats import SOUNDS, UNREADABLE
from elman.data.source import sources
from elman.data.tables import TABLES, SkippedRows, column, is_table, read_rows
from elman.data.text import read_text
from elman.errors import ElmanError

#: Endings by which an argument is taken for a file name and not for a text, in addition to those of tables.
_FILES = (
    ".txt", ".text", ".conll", ".conllu", ".conllup", ".bio", ".iob", ".iob2", ".ann", ".ts", *SOUNDS,
    *UNREADABLE, *PICTURES,
)  # fmt: skip
_COMPRESSED = re.compile(r"\.(gz|bz2|xz|zip|zst)$")
_PATH = re.compile(r"\S+|(/|~|\.\.?[/\\]|\w:[/\\]).*|.*[/\\][^/\\]*")
_HINT = "If this is a text, give it on standard input"

#: The predictions for one input, as columns and their values; None if there is no answer.
Prediction = dict[str, Any] | None


class InputFile(ABC):
    """A file of inputs.

    Attributes:
        inputs (list[Any]): The inputs, one for each row.
        names (list[Any]): How each input is shown.
        places (list[str]): The location of each input, for messages: ``reviews.csv, row 3``.
        relative (bool): Whether the inputs are paths that were written in the file. Default: ``False``.
    """

    relative = False
    inputs: list[Any]
    names: list[Any]
    places: list[str]

    @abstractmethod
    def with_predictions(self, out: str, predictions: Sequence[Prediction]) -> bytes:
        """Return the content of the output file: the inputs together with their predictions.

        Args:
            out (str): The name of the output file, whose ending sets the format.
            predictions (Sequence[Prediction]): One for each input.
        """


@final
class InputTable(InputFile):
    """The rows of a table.

    Args:
        path (str): The path of the table, for messages.
        table (polars.DataFrame): The table.
        inputs (list[Any]): The input of each row.
        names (list[str], optional): How each row is shown and located. Default: the inputs, and the path with the
            number of the row.
        places (list[str], optional): The location of each row, if it is not its name.
    """

    def __init__(
        self,
        path: str,
        table: polars.DataFrame,
        inputs: list[Any],
        names: list[str] | None = None,
        places: list[str] | None = None,
    ) -> None:
        self.table, self.inputs, self.names = table, inputs, names or inputs
        self.places = places or names or [f"{path}, row {k}" for k in range(1, len(inputs) + 1)]

    def with_predictions(self, out: str, predictions: Sequence[Prediction]) -> bytes:
        """Return the table with all its columns, followed by those of the predictions."""
        return _encode_table(out, self.table, predictions)


@final
class InputLines(InputFile):
    """Inputs without columns: the lines of a text file, the series of a file, or arguments of the command line.

    Args:
        inputs (list[Any]): The inputs.
        places (list[str]): The location of each input, for messages.
        names (list[str], optional): How each input is shown. Default: the inputs.
    """

    def __init__(self, inputs: list[Any], places: list[str], names: list[str] | None = None) -> None:
        self.inputs, self.places, self.names = inputs, places, names or inputs

    def with_predictions(self, out: str, predictions: Sequence[Prediction]) -> bytes:
        """Return a table of inputs and predictions, or the first prediction for each input on a line of text."""
        if out.lower().endswith(TABLES):
            return _encode_table(out, polars.DataFrame({"input": self.names}), predictions)
        lines = ("" if row is None else " ".join(_joined(row["predicted"]).splitlines()) for row in predictions)
        return "".join(f"{line}\n" for line in lines).encode()


def is_file_argument(argument: str) -> bool:
    """Return whether an argument of the command line is the name of a file and not a text.

    It is a file name if the file exists. A text that is also the name of a file must be given on standard input.

    Raises:
        ElmanError: The argument is a folder, or it looks like a file name but the file does not exist.
    """
    path = os.path.expanduser(argument)
    if os.path.isdir(path):
        raise ElmanError(f"{argument}: this is a folder; give the files in it. {_HINT}")
    if os.path.exists(path) or os.path.exists(path.partition("::")[0]):  # or a file in an archive
        return True
    if "://" in argument:
        return is_table(argument)
    if looks_like_file(argument):
        raise ElmanError(f"{argument}: no such file. {_HINT}")
    return False


def looks_like_file(argument: str) -> bool:
    """Return whether a text has the form of a file name with a known ending."""
    return bool(_PATH.fullmatch(argument)) and _COMPRESSED.sub("", argument.lower()).endswith((*TABLES, *_FILES))


def read_inputs(
    argument: str, to_inputs: Callable[[polars.DataFrame], list[str]], *columns: str, whole: bool = False
) -> InputFile:
    """Read the inputs in a table or a text file.

    Args:
        argument (str): The path.
        to_inputs (Callable[[polars.DataFrame], list[str]]): Returns the inputs of a table, one for each row.
        *columns (str): The columns that a table must have.
        whole (bool): Whether a text file is a single input. Default: ``False``, each line is an input.

    Raises:
        ElmanError: The file cannot be read or a column is missing.
    """
    (path,) = sources([argument])
    if is_table(path, columns):
        table = read_rows(path, columns, SkippedRows(path, None)).table
        return InputTable(argument, table, to_inputs(table))
    text = read_text(path).removesuffix("\n")
    if whole:
        return InputLines([text], [argument])
    lines = text.split("\n")
    return InputLines(lines, [f"{argument}, line {k}" for k in range(1, len(lines) + 1)])


def read_column_inputs(argument: str, name: str, whole: bool = False) -> InputFile:
    """Read the inputs in a column of a table, or in the lines of a text file; see `read_inputs`."""
    return read_inputs(argument, lambda table: column(table, name, argument), name, whole=whole)


def check_output(out: str, option: str = "--out") -> None:
    """Check that the output file, which this option names, can be written, before any prediction is made.

    Raises:
        ElmanError: The file exists, or its folder does not.
    """
    if os.path.lexists(out):
        raise ElmanError(f"{option} {out}: already exists; name a new file")
    if "://" not in out:
        check_writable(out, option)


def write_output(out: str, data: bytes, option: str = "--out") -> None:
    """Write a file atomically, compressed as the ending of its name says.

    Args:
        out (str): A path or a URL.
        data (bytes): The content.
        option (str): The option that names the file, for messages. Default: ``"--out"``.

    Raises:
        ElmanError: The file cannot be written.
    """
    try:
        if "://" in out:
            with fsspec.open(out, "wb", compression="infer") as file:
                file.write(data)
            return
        folder, name = os.path.split(os.path.abspath(out))
        descriptor, temporary = tempfile.mkstemp(f"-{name}", ".", folder)
        os.close(descriptor)
        try:
            with fsspec.open(temporary, "wb", compression="infer") as file:
                file.write(data)
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, out)
        except BaseException:
            with contextlib.suppress(OSError):
                os.remove(temporary)
            raise
    except (OSError, ValueError) as error:
        raise ElmanError(f"{option} {out}: cannot be written: {error}") from None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _joined(value: Any) -> Any:
    return " ".join(value) if isinstance(value, list) else value


def _encode_table(out: str, table: polars.DataFrame, predictions: Sequence[Prediction]) -> bytes:
    ending, file = os.path.splitext(_COMPRESSED.sub("", out.lower()))[1], io.BytesIO()
    allows_lists = ending in (".jsonl", ".ndjson", ".parquet")
    names = dict.fromkeys(name for row in predictions if row for name in row) or {"predicted": None}
    for name in names:
        cells = [row.get(name) if row else None for row in predictions]
        cells = cells if allows_lists else [_joined(cell) for cell in cells]
        table = table.with_columns(polars.Series(_unused_name(name, table.columns), cells))
    try:
        if ending == ".parquet":
            table.write_parquet(file)
        elif ending in (".jsonl", ".ndjson"):
            table.write_ndjson(file)
        elif ending in (".csv", ".tsv"):
            unquoted = table.with_columns(polars.col(polars.String).replace("", None))  # an empty cell stays empty
            unquoted.write_csv(file, separator="\t" if ending == ".tsv" else ",")
        else:
            raise ElmanError(f"--out {out}: a table is written to .csv, .tsv, .jsonl, .ndjson or .parquet")
    except polars.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0]
        raise ElmanError(f"--out {out}: cannot hold these columns: {reason}; .jsonl and .parquet take lists") from None
    return file.getvalue()


def _unused_name(name: str, taken: Sequence[str]) -> str:
    """Return the name, or the first of name_new, name_new_new, ... that no column has."""
    return _unused_name(f"{name}_new", taken) if name in taken else name

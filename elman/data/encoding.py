"""Decode UTF-8, and recognise what a file is if it is not UTF-8."""

from __future__ import annotations

import re

from elman.errors import ElmanError

#: Byte order marks of other encodings. UTF-32LE comes first because its mark begins with that of UTF-16LE.
_MARKS = {
    b"\xff\xfe\0\0": "UTF-32LE",
    b"\0\0\xfe\xff": "UTF-32BE",
    b"\xff\xfe": "UTF-16LE",
    b"\xfe\xff": "UTF-16BE",
}
#: First bytes of other kinds of files.
_MAGIC = {
    b"PK\x03\x04": "a zip archive or an Office document",
    b"\x1f\x8b": "compressed by gzip; its name must end in .gz",
    b"BZh": "compressed by bzip2; its name must end in .bz2",
    b"\xfd7zXZ\0": "compressed by xz; its name must end in .xz",
    b"\x28\xb5\x2f\xfd": "compressed by Zstandard; its name must end in .zst",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive; unpack it",
    b"Rar!": "a RAR archive; unpack it",
    b"PAR1": "a Parquet table; its name must end in .parquet",
    b"ARROW1": "an Arrow table; its name must end in .arrow or .feather",
    b"%PDF": "a PDF document",
    b"\xd0\xcf\x11\xe0": "an old Office document; save it in a new format",
    b"SQLite format 3\0": "an SQLite database; export a table as .csv",
    b"\x89HDF": "an HDF5 file",
    b"\x93NUMPY": "a NumPy array",
    b"\x89PNG": "an image",
    b"\xff\xd8\xff": "an image",
    b"GIF8": "an image",
    b"RIFF": "an audio or video file",
    b"OggS": "an audio file",
    b"fLaC": "an audio file",
    b"\x7fELF": "a program",
    b"\x80\x04": "a pickle file, and elman never unpickles",
    b"\x80\x05": "a pickle file, and elman never unpickles",
}
#: Bytes that are undefined in Windows-1252.
_NOT_1252 = re.compile(rb"[\x81\x8d\x8f\x90\x9d]")
#: A character that takes several bytes in UTF-8.
_MULTIBYTE = re.compile(
    rb"[\xc2-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]|[\xe1-\xec\xee\xef][\x80-\xbf]{2}|\xed[\x80-\x9f][\x80-\xbf]"
    rb"|\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2}"
)


def decode_utf8(data: bytes, name: str) -> str:
    """Decode UTF-8 bytes, without a byte order mark.

    Args:
        data (bytes): The bytes of a file.
        name (str): The name of the file, for the error message.

    Raises:
        ElmanError: The bytes are not UTF-8. The message names the encoding or the kind of file that they seem to be.
    """
    for mark, encoding in _MARKS.items():
        if data.startswith(mark):
            raise ElmanError(f"{name}: not UTF-8 at byte 0: this is {encoding}; {_conversion(encoding)}")
    for magic, kind in _MAGIC.items():
        if data.startswith(magic) and not _is_utf8(data):
            raise ElmanError(f"{name}: not text: this is {kind}")
    if (zero := data.find(b"\0")) >= 0:
        if wide := _utf16_or_utf32(data):
            raise ElmanError(f"{name}: not UTF-8: byte {zero} is zero, and this seems to be {wide}; "
                             f"{_conversion(wide)}")  # fmt: skip
        raise ElmanError(f"{name}: not text: byte {zero} is zero; a UTF-8 text file is required")
    try:
        return data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        where = f"{name}: not UTF-8 at byte {error.start} (0x{data[error.start]:02x}), line {line}"
        raise ElmanError(f"{where}; {_encoding_hint(data)}") from None


def _is_utf8(data: bytes) -> bool:
    if b"\0" in data:
        return False
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _utf16_or_utf32(data: bytes) -> str | None:
    """Recognise UTF-16 or UTF-32 without a byte order mark by the positions of the zero bytes."""
    sample = data[: 4 * 1024]
    size = len(sample) // 4 * 4
    if size < 4:
        return None
    zeros = [sample[k:size:4].count(0) / (size // 4) for k in range(4)]
    if min(zeros[2], zeros[3]) > 0.9 and zeros[0] < 0.1:
        return "UTF-32LE"
    if min(zeros[0], zeros[1]) > 0.9 and zeros[3] < 0.1:
        return "UTF-32BE"
    even, odd = (zeros[0] + zeros[2]) / 2, (zeros[1] + zeros[3]) / 2
    if odd > 0.5 and even < 0.1:
        return "UTF-16LE"
    return "UTF-16BE" if even > 0.5 and odd < 0.1 else None


def _encoding_hint(data: bytes) -> str:
    """Suggest the encoding of bytes that are not UTF-8, or a repair."""
    rest = _MULTIBYTE.sub(b"", data)
    invalid = len(re.findall(rb"[\x80-\xff]", rest))
    multibyte = len(_MULTIBYTE.findall(data))
    if multibyte > invalid:
        return f"the rest is UTF-8, but {invalid:,} bytes are invalid; iconv -c -f UTF-8 -t UTF-8 removes them"
    runs = re.findall(rb"[\x80-\xff]+", data)
    if sum(map(len, runs)) > 3 * len(runs) or _NOT_1252.search(data):  # whole words outside ASCII
        return (
            "the file is in another encoding (Windows-1251, Shift JIS, GB 18030, ...): save it as UTF-8, or try "
            "iconv -f ENCODING -t UTF-8"
        )
    if re.search(rb"[\x80-\x9f]", data):
        return f"this seems to be Windows-1252 (cp1252): {_conversion('WINDOWS-1252')}"
    return f"if it is Latin-1, {_conversion('ISO-8859-1')}"


def _conversion(encoding: str) -> str:
    return f"try iconv -f {encoding} -t UTF-8"

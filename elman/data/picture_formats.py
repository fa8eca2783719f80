"""Name the files that are pictures, and say what a file is that is none."""

from __future__ import annotations

#: Endings of the names of picture files.
PICTURES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".gif", ".bmp", ".dib", ".webp", ".tif", ".tiff", ".ppm",
    ".pgm", ".pbm", ".pnm", ".pfm", ".avif", ".jp2", ".j2k", ".jpx", ".ico", ".icns", ".tga", ".psd", ".sgi", ".pcx",
    ".qoi", ".dds", ".xbm",
)  # fmt: skip
#: Endings of pictures that cannot be read.
UNREADABLE = (".heic", ".heif", ".svg", ".svgz", ".jxl", ".eps", ".ai", ".wmf", ".emf", ".raw", ".cr3")

#: Pillow's names of the formats that are read. Each begins with bytes that no other file begins with.
FORMATS = (
    "JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "AVIF", "JPEG2000", "ICO", "ICNS", "PSD", "SGI", "PCX",
    "QOI", "DDS", "XBM",
)  # fmt: skip

_SVG = "an SVG drawing; convert it to PNG"
_EPS = "an EPS drawing; convert it to PNG"
_VIDEO = "a video; save one of its pictures as JPEG"
_JXL = "a JPEG XL picture; convert it to JPEG or PNG"
#: What files are, by their first bytes.
_REFUSED = {
    b"%PDF": "a PDF document; convert its page to PNG",
    b"%!PS": _EPS,
    b"\xc5\xd0\xd3\xc6": _EPS,
    b"version https://git-lfs": "a pointer of Git LFS; `git lfs pull` fetches the picture",
    b"PK\x03\x04": "a zip archive; unpack it, or give it with --images",
    b"\x1f\x8b": "a compressed file; unpack it",
    b"\xff\x0a": _JXL,
    b"\0\0\0\x0cJXL ": _JXL,
    b"\x1a\x45\xdf\xa3": _VIDEO,
    b"FLV": _VIDEO,
    b"FUJIFILM": "a raw photograph; convert it to JPEG",
}
#: Formats that are read, by their first bytes.
_KNOWN = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG": "PNG",
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"8BPS": "PSD",
    b"\0\0\1\0": "ICO",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
}
_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_AVIF = (b"avif", b"avis")


def formats_of(name: str) -> tuple[str, ...]:
    """Return Pillow's names of the formats that a file may have.

    A TGA file does not say what it is, so that its name must.
    """
    return (*FORMATS, "TGA") if name.lower().endswith(".tga") else FORMATS


def describe(data: bytes) -> str:
    """Say what a file is that cannot be read as a picture.

    Args:
        data (bytes): The content of the file.

    Returns:
        str: What the file is and, where there is one, the remedy.

    Example::

        >>> describe(b"<svg xmlns='http://www.w3.org/2000/svg'></svg>")
        'an SVG drawing; convert it to PNG'
    """
    if not data:
        return "the file is empty"
    head = data[:4096]
    if not data.strip(b"\0"):
        return "the file contains only zero bytes"
    if not data.strip():
        return "the file contains only white space"
    for start, what in _REFUSED.items():
        if head.startswith(start):
            return what
    return _describe_container(head) or _describe_text(head) or _describe_known(head)


def _describe_container(head: bytes) -> str:
    """Name HEIC pictures, videos and sounds."""
    if head[:4] == b"RIFF" and head[8:12] != b"WEBP":
        return "a sound file" if head[8:12] == b"WAVE" else _VIDEO
    if head[4:8] != b"ftyp":
        return ""
    brands = {head[k : k + 4] for k in range(8, min(int.from_bytes(head[:4], "big"), 64), 4) if k != 12}
    if brands & set(_AVIF):
        return "a broken AVIF picture, or one that needs a newer Pillow: pip install -U pillow"
    return "a HEIC photograph; convert it to JPEG" if brands & set(_HEIC) else _VIDEO


def _describe_text(head: bytes) -> str:
    """Name drawings, web pages and other texts."""
    encoding = "utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    text = head.decode(encoding, "ignore").strip().lower()
    if text.startswith("<") and "<svg" in text:
        return _SVG
    if text.startswith("<") and ("<html" in text or "<!doctype html" in text):
        return "an HTML page, which a server may have sent instead of the picture; download the picture again"
    if text.startswith("<?xml"):
        return "an XML file, not a picture"
    if not text or (b"\0" in head and encoding == "utf-8-sig"):
        return ""
    try:
        head[: len(head) - 4 if len(head) == 4096 else None].decode(encoding)
    except UnicodeDecodeError as error:
        if error.start < len(head) - 8:
            return ""
    return "a text file, not a picture" if all(c.isprintable() or c.isspace() for c in text[:1000]) else ""


def _describe_known(head: bytes) -> str:
    """Name pictures that are broken."""
    kind = next((name for start, name in _KNOWN.items() if head.startswith(start)), "")
    kind = "WebP" if head[:4] == b"RIFF" else kind
    if kind == "TIFF":
        return "a TIFF file that is broken or of a kind that cannot be read; convert it to PNG"
    return f"a broken {kind} file" if kind else "not a picture in a format that can be read; convert it to PNG or JPEG"

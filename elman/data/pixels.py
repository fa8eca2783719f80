"""Convert pictures of every kind of pixel to RGB."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from elman.errors import ElmanError

if TYPE_CHECKING:
    from PIL.Image import Image

#: EXIF's number of the orientation.
_ORIENTATION = 0x0112
#: Tags of TIFF.
_BITS, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339
#: The number of values that are scaled at once, which bounds the memory for float64.
_BLOCK = 1 << 20
#: Formats whose 32-bit pixels hold 16-bit values.
_SIXTEEN_BITS = ("PNG", "PPM", "JPEG2000")


def to_rgb(picture: Image) -> Image:
    """Return a picture in mode RGB, rotated as its EXIF orientation says.

    Transparent parts become white. 16-bit values are divided by 257; the values of 32-bit integers and of floats are
    scaled so that the smallest becomes black and the largest white. CMYK becomes ``(1 - C) (1 - K)``, without a colour
    profile.

    Args:
        picture (PIL.Image.Image): A picture, whose pixels are loaded.

    Raises:
        ElmanError: A value is not finite.
    """
    return _rotated(_converted(picture), _orientation(picture))


def from_array(pixels: Any) -> Image:
    """Return an array of pixels as a picture.

    Args:
        pixels: An array or tensor of shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4): uint8, or floats from 0 to 1;
            or bool, uint16 or int32 of shape (H, W).

    Raises:
        ElmanError: The array has another shape or type, or a float is not between 0 and 1.
    """
    from PIL import Image

    array = np.asarray(pixels.detach().cpu() if hasattr(pixels, "detach") else pixels)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise ElmanError(f"an array of shape {array.shape}; (height, width, 3) or (height, width) is required")
    if array.dtype == bool:
        array = array.astype(np.uint8) * 255
    if array.dtype == np.uint8:
        return Image.fromarray(np.ascontiguousarray(array))
    if array.dtype.kind == "f":
        return Image.fromarray(_from_shares(array))
    if array.ndim == 3:
        raise ElmanError(f"an array of {array.dtype}; uint8 values from 0 to 255, or floats from 0 to 1, are required")
    if array.dtype == np.uint16:
        return Image.fromarray(_scaled_16(array))
    if array.dtype.kind not in "iu":
        raise ElmanError(f"an array of {array.dtype}; uint8 values from 0 to 255, or floats from 0 to 1, are required")
    return Image.fromarray(_scaled(array))


def _converted(picture: Image) -> Image:
    """Return a picture in mode RGB, not rotated."""
    from PIL import Image

    mode = picture.mode
    if mode.startswith("I") or mode == "F":
        return Image.fromarray(_grey(picture)).convert("RGB")
    if mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in picture.info:
        with_alpha = (picture.convert("LA") if mode == "La" else picture).convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(white, with_alpha).convert("RGB")
    if mode == "LAB":
        from PIL import ImageCms

        changed = ImageCms.profileToProfile(
            picture, ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
        assert changed is not None
        return changed
    return picture if mode == "RGB" else picture.convert("RGB")


def _grey(picture: Image) -> np.ndarray:
    """Return the 8-bit values of a picture with larger ones."""
    values, mode = np.asarray(picture), picture.mode
    tags = getattr(picture, "tag_v2", {})
    if mode == "I" and _first(tags.get(_SAMPLE_FORMAT)) == 1 and _first(tags.get(_BITS)) == 32:
        values = values.view(np.uint32)  # Pillow takes unsigned values for signed ones
    if mode.startswith("I;") or (mode == "I" and picture.format in _SIXTEEN_BITS):
        scaled = _scaled_16(values.clip(0, 65535))
    else:
        scaled = _scaled(values)
    if tags.get(_PHOTOMETRIC) == 0:  # white is zero, which Pillow inverts for 8-bit values only
        scaled = 255 - scaled
    transparent = picture.info.get("transparency")
    return np.where(values == transparent, np.uint8(255), scaled) if isinstance(transparent, int) else scaled


def _first(value: Any) -> Any:
    """Return the first value of a tag of TIFF."""
    return value[0] if isinstance(value, tuple) and value else value


def _scaled_16(values: np.ndarray) -> np.ndarray:
    """Scale 0 to 65535 to 0 to 255."""
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _scaled(values: np.ndarray) -> np.ndarray:
    """Scale the range of the values to 0 to 255; equal values become 0."""
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    if not np.isfinite(low) or not np.isfinite(high):
        raise ElmanError("the picture has values that are not finite (NaN or infinity)")
    if low == high:
        return np.zeros(values.shape, dtype=np.uint8)
    scaled = np.empty(values.shape, dtype=np.uint8)
    rows = max(1, _BLOCK // max(1, values[0].size))
    for k in range(0, len(values), rows):
        halves = values[k : k + rows].astype(np.float64) / 2 - low / 2  # the range of halves is always finite
        scaled[k : k + rows] = np.rint(halves / (high / 2 - low / 2) * 255)
    return scaled


def _from_shares(values: np.ndarray) -> np.ndarray:
    """Return the 8-bit values of floats from 0 to 1."""
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    if not (low >= 0 and high <= 1):  # NaN too
        raise ElmanError(
            f"an array of {values.dtype} from {low:g} to {high:g}; floats from 0 to 1 are required, or uint8"
        )
    return np.rint(values * 255).astype(np.uint8)


def _orientation(picture: Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1 where it is missing or the EXIF data are broken."""
    try:
        value = picture.getexif().get(_ORIENTATION, 1)
    except Exception:
        return 1
    return value if isinstance(value, int) else 1


def _rotated(picture: Image, orientation: int) -> Image:
    """Return a picture upright."""
    from PIL.Image import Transpose

    operations = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    return picture.transpose(operations[orientation]) if orientation in operations else picture

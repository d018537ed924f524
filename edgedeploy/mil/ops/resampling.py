"""Resizing and resampling of images.

Source: the image resizing operations of MIL, iOS 15 to 17. What the documentation leaves open
follows the values in Apple's own tests; where these say nothing either, it raises.
"""

from __future__ import annotations

import numpy as np

from edgedeploy.mil.registry import Array, op
from edgedeploy.mil.sampling import BETWEEN_ENDS, between, grid, nearest


def _scaled(size: int, factor: Array | float) -> int:
    """Return the size that MIL declares: in the arithmetic of the factor's own type."""
    return int(np.floor(factor * size))


@op("upsample_nearest_neighbor")
def upsample_nearest_neighbor(
    x: Array,
    scale_factor_height: Array | float = 1,
    scale_factor_width: Array | float = 1,
) -> Array:
    """Return ``x`` with its last two axes scaled; output ``i`` is input ``floor(i in / out)``.

    Args:
        x: ``[*D, H, W]``.
        scale_factor_height: May be a fraction; the size is rounded down.
        scale_factor_width: As the height's.
    """
    for axis, factor in ((-2, scale_factor_height), (-1, scale_factor_width)):
        size, count = x.shape[axis], _scaled(x.shape[axis], factor)
        x = np.take(x, np.arange(count) * size // count, axis)
    return x


@op("resize_nearest_neighbor")
def resize_nearest_neighbor(x: Array, target_size_height: Array, target_size_width: Array) -> Array:
    """Return ``x`` with every pixel of the last two axes repeated.

    Args:
        x: ``[*D, H, W]``.
        target_size_height: A multiple of ``H``.
        target_size_width: A multiple of ``W``.

    Raises:
        ValueError: A size is no multiple: which pixels it takes then is not documented, and was
            seen to differ from the formulas of other frameworks.
    """
    for axis, target in ((-2, target_size_height), (-1, target_size_width)):
        times, rest = divmod(int(target), x.shape[axis])
        if rest or not times:
            raise ValueError(f"{int(target)} pixels are no multiple of {x.shape[axis]}")
        x = np.repeat(x, times, axis)
    return x


@op("upsample_bilinear")
def upsample_bilinear(
    x: Array,
    scale_factor_height: Array | float = 1,
    scale_factor_width: Array | float = 1,
    align_corners: Array | bool = True,
    half_pixel_centers: Array | bool | None = None,
) -> Array:
    """Return ``x`` with its last two axes scaled, linear between pixels.

    Args:
        x: ``[*D, H, W]``.
        scale_factor_height: May be a fraction; the size is rounded down, and the grid follows the
            sizes.
        scale_factor_width: As the height's.
        align_corners: Whether the first and last pixels stay where they are.
        half_pixel_centers: Whether pixels have their centre in the middle; by default where
            ``align_corners`` is False.

    Raises:
        ValueError: Both are True.
    """
    halves = not align_corners if half_pixel_centers is None else bool(half_pixel_centers)
    if align_corners and halves:
        raise ValueError("corners cannot be aligned with pixel centres in the middle")
    mode = "UNALIGN_CORNERS" if halves else "DEFAULT"
    if align_corners:
        mode = "STRICT_ALIGN_CORNERS"
    for axis, factor in ((-2, scale_factor_height), (-1, scale_factor_width)):
        size = x.shape[axis]
        x = between(x, axis, grid(size, _scaled(size, factor), mode))
    return x


@op("resize_bilinear")
def resize_bilinear(
    x: Array,
    target_size_height: Array | int = 1,
    target_size_width: Array | int = 1,
    sampling_mode: str = "DEFAULT",
) -> Array:
    """Return ``x`` with its last two axes of other sizes, linear between pixels.

    Args:
        x: ``[*D, H, W]``.
        target_size_height: New height.
        target_size_width: New width.
        sampling_mode: See :func:`edgedeploy.mil.sampling.grid`.
    """
    for axis, target in ((-2, target_size_height), (-1, target_size_width)):
        x = between(x, axis, grid(x.shape[axis], int(target), sampling_mode))
    return x


@op("resize")
def resize(
    x: Array,
    shape: Array,
    resized_dims: Array,
    interpolation_mode: str = "LINEAR",
    sampling_mode: str = "DEFAULT",
) -> Array:
    """Return ``x`` with its last axes of other sizes.

    Args:
        x: Any shape.
        shape: Whose last ``resized_dims`` sizes count; 0 keeps a size.
        resized_dims: How many axes.
        interpolation_mode: ``LINEAR`` or ``NEAREST_NEIGHBOR``.
        sampling_mode: See :func:`edgedeploy.mil.sampling.grid`.

    Raises:
        ValueError: A mode is unknown, integers are to be interpolated, or a nearest pixel is one
            of two.
    """
    if interpolation_mode not in ("LINEAR", "NEAREST_NEIGHBOR"):
        raise ValueError(f"interpolation {interpolation_mode!r} is unknown")
    if interpolation_mode == "LINEAR" and x.dtype.kind != "f":
        raise ValueError("nothing says how values between integers are rounded")
    for axis in range(-int(resized_dims), 0):
        points = grid(x.shape[axis], int(shape[axis]) or x.shape[axis], sampling_mode)
        linear = interpolation_mode == "LINEAR"
        x = between(x, axis, points) if linear else np.take(x, nearest(points), axis)
    return x


@op("crop")
def crop(x: Array, crop_height: Array, crop_width: Array) -> Array:
    """Return ``x`` without what is cut off the start and the end of its last two axes.

    Args:
        x: ``[*D, H, W]``.
        crop_height: ``[2]``: start, end.
        crop_width: ``[2]``: start, end.
    """
    (top, bottom), (left, right) = map(int, crop_height), map(int, crop_width)
    return x[..., top : x.shape[-2] - bottom, left : x.shape[-1] - right]


@op("crop_resize")
def crop_resize(
    x: Array,
    roi: Array | None = None,
    boxes: Array | None = None,
    box_indices: Array | None = None,
    target_height: Array | int = 1,
    target_width: Array | int = 1,
    normalized_coordinates: Array | bool = False,
    spatial_scale: Array | float = 1.0,
    box_coordinate_mode: str = "CORNERS_HEIGHT_FIRST",
    sampling_mode: str = "DEFAULT",
    pad_value: Array | float = 0.0,
) -> Array:
    """Return patches of images, resized; linear between pixels.

    Args:
        x: ``[B, C, H, W]``.
        roi: Up to iOS 16: ``[N, 1, 4, 1, 1]``, boxes for all images, or ``[N, 1, 5, 1, 1]``, each
            after the index of its image.
        boxes: From iOS 17 on: ``[N, 4]``.
        box_indices: From iOS 17 on: ``[N]``, the image of each box; by default its own number.
        target_height: Height of the patches.
        target_width: Width of the patches.
        normalized_coordinates: Whether coordinates count from 0 to 1.
        spatial_scale: Multiplies the coordinates.
        box_coordinate_mode: ``CORNERS_`` or ``CENTER_SIZE_``, ``HEIGHT_FIRST`` or ``WIDTH_FIRST``.
        sampling_mode: See :func:`edgedeploy.mil.sampling.grid`.
        pad_value: What points outside the image are.

    Returns:
        ``[N, B, C, h, w]`` or ``[N, 1, C, h, w]``; from iOS 17 on ``[N, C, h, w]``.
    """
    batch = len(x)
    boxes, images = _boxes(batch, roi, boxes, box_indices)
    sizes = x.shape[2:]
    scale = [float(spatial_scale) * (size - 1 if normalized_coordinates else 1) for size in sizes]
    counts = (int(target_height), int(target_width))
    patches = []
    for box, chosen in zip(boxes, images, strict=True):
        if chosen.start < 0 or chosen.stop > batch:
            raise IndexError(f"there is no image {chosen.start}")
        patch, inside = x[chosen.start : chosen.stop], np.ones((1, 1), np.bool_)
        for place, (start, end) in enumerate(_ends(box, box_coordinate_mode)):
            points = _box_points(
                start * scale[place], end * scale[place], counts[place], sampling_mode
            )
            fits = (points >= 0) & (points <= sizes[place] - 1)
            patch = between(patch, place - 2, np.clip(points, 0, sizes[place] - 1))
            inside = inside & (fits[:, None] if place == 0 else fits)
        patches.append(np.where(inside, patch, np.float32(pad_value)))
    made = np.stack(patches)
    return made if roi is not None else made[:, 0]


def _boxes(
    batch: int, roi: Array | None, boxes: Array | None, box_indices: Array | None
) -> tuple[Array, list[range]]:
    """Return boxes ``[N, 4]`` and which images each is cut from."""
    if boxes is not None:
        own = range(len(boxes)) if box_indices is None else map(int, box_indices)
        return boxes, [range(image, image + 1) for image in own]
    if roi is None:
        raise ValueError("there are no boxes")
    rows = roi.reshape(len(roi), -1)
    if rows.shape[1] == 4:
        return rows, [range(batch)] * len(rows)
    return rows[:, 1:], [range(int(row[0]), int(row[0]) + 1) for row in rows]


def _ends(box: Array, mode: str) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return where a box starts and ends, its height first."""
    first, second, third, fourth = map(float, box)
    if mode.startswith("CENTER_SIZE_"):
        ends = (first - third / 2, first + third / 2), (second - fourth / 2, second + fourth / 2)
    else:
        ends = (first, third), (second, fourth)
    return ends if mode.endswith("HEIGHT_FIRST") else ends[::-1]


def _box_points(start: float, end: float, count: int, mode: str) -> Array:
    """Return the points of a sampling mode in a box; it may run backwards from end to end only."""
    if end < start and mode not in BETWEEN_ENDS:
        raise ValueError(f"a box from {start} to {end} has no {mode} points")
    return start + grid(end - start + 1, count, mode)


@op("resample")
def resample(
    x: Array,
    coordinates: Array,
    sampling_mode: str,
    padding_mode: str,
    padding_value: Array | float,
    coordinates_mode: str,
    align_corners: Array | bool,
) -> Array:
    """Return the values of images at any points.

    Args:
        x: ``[B, C, H, W]``.
        coordinates: ``[B, h, w, 2]``: x and y.
        sampling_mode: ``bilinear`` or ``nearest`` (halves to the even pixel, as PyTorch).
        padding_mode: What lies outside: ``constant``, ``border`` (the last pixel),
            ``reflection`` (in the last pixel's centre) or ``symmetric`` (in its edge).
        padding_value: For ``constant``.
        coordinates_mode: ``unnormalized``, ``normalized_minus_one_to_one`` or
            ``normalized_zero_to_one``.
        align_corners: Whether normalized ends are the last pixels' centres or their edges.

    Returns:
        ``[B, C, h, w]``.

    Raises:
        ValueError: A mode is unknown.
    """
    points = []
    for place, size in enumerate((x.shape[3], x.shape[2])):
        raw = _in_pixels(coordinates[..., place], size, coordinates_mode, bool(align_corners))
        points.append(_folded(raw, size, padding_mode))
    across, down = points
    fill = float(padding_value) if padding_mode == "constant" else None
    if sampling_mode == "nearest":
        return _pixels(x, np.rint(down), np.rint(across), fill)
    if sampling_mode != "bilinear":
        raise ValueError(f"sampling mode {sampling_mode!r} is unknown")
    top, left = np.floor(down), np.floor(across)
    out: Array = np.zeros((), x.dtype)
    for low in (0, 1):
        for right in (0, 1):
            share = (1 - np.abs(down - top - low)) * (1 - np.abs(across - left - right))
            out = out + _pixels(x, top + low, left + right, fill) * share[:, None]
    return out


def _in_pixels(values: Array, size: int, mode: str, align_corners: bool) -> Array:
    """Return coordinates of one axis as distances from the first pixel's centre, in float32."""
    values = values.astype(np.float32)
    if mode == "unnormalized":
        return values
    if mode == "normalized_minus_one_to_one":
        values = (values + 1) / 2
    elif mode != "normalized_zero_to_one":
        raise ValueError(f"coordinates mode {mode!r} is unknown")
    return values * (size - 1) if align_corners else values * size - np.float32(0.5)


def _folded(points: Array, size: int, mode: str) -> Array:
    """Return coordinates moved into the image as the padding has it."""
    if mode == "constant":
        return points
    if mode in ("reflection", "symmetric"):
        edge = 0.0 if mode == "reflection" else 0.5
        span = np.float32(size - 1 + 2 * edge)
        if span:
            turns = np.mod(points + edge, 2 * span)
            points = np.minimum(turns, 2 * span - turns) - np.float32(edge)
    elif mode != "border":
        raise ValueError(f"padding mode {mode!r} is unknown")
    return np.clip(points, 0, size - 1)


def _pixels(x: Array, rows: Array, columns: Array, fill: float | None) -> Array:
    """Return pixels ``[B, C, h, w]``; outside the image ``fill``, or without it the last ones."""
    height, width = x.shape[2:]
    item = np.arange(len(x)).reshape(-1, 1, 1)
    down = np.clip(rows, 0, height - 1).astype(np.int64)
    across = np.clip(columns, 0, width - 1).astype(np.int64)
    found = np.moveaxis(x[item, :, down, across], -1, 1)
    if fill is None:
        return found
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    return np.where(inside[:, None], found, np.float32(fill))


@op("affine")
def affine(
    x: Array,
    transform_matrix: Array,
    output_height: Array,
    output_width: Array,
    sampling_mode: str,
    padding_mode: str,
    padding_value: Array | float,
    coordinates_mode: str,
    align_corners: Array | bool,
) -> Array:
    """Return images as they are seen through an affine map of coordinates from -1 to 1.

    Args:
        x: ``[B, C, H, W]``.
        transform_matrix: ``[B or 1, 6]``: ``x' = a0 x + a1 y + a2``, ``y' = b0 x + b1 y + b2``.
        output_height: ``h``, more than 1.
        output_width: ``w``, more than 1.
        sampling_mode: As for :func:`resample`; MIL supports ``bilinear``.
        padding_mode: As for :func:`resample`; MIL supports ``constant``.
        padding_value: As for :func:`resample`; MIL supports 0.
        coordinates_mode: ``normalized_minus_one_to_one``.
        align_corners: True.

    Returns:
        ``[B, C, h, w]``.

    Raises:
        ValueError: A form that MIL does not support.
    """
    sizes = (int(output_height), int(output_width))
    if coordinates_mode != "normalized_minus_one_to_one" or not align_corners or 1 in sizes:
        raise ValueError("only aligned corners from -1 to 1 are documented")
    down, across = np.meshgrid(*(np.linspace(-1, 1, size) for size in sizes), indexing="ij")
    source = np.stack([across, down, np.ones(sizes)], axis=-1)
    matrices = np.broadcast_to(transform_matrix, (len(x), 6)).reshape(-1, 1, 2, 3)
    coordinates = np.matmul(source, matrices.swapaxes(-1, -2))
    return resample(
        x,
        coordinates,
        sampling_mode,
        padding_mode,
        padding_value,
        coordinates_mode,
        align_corners,
    )

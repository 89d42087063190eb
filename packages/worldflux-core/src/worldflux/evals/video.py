"""Truth, open-loop prediction and error side by side, as an animated GIF or WebP."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from worldflux.core.errors import ConfigurationError, did_you_mean
from worldflux.files import expanded

from .extras import require_viz
from .strips import INK, PAPER, TITLED, band, phase, strips

if TYPE_CHECKING:
    from .imagination import Imagination

CONTEXT, OPEN_LOOP = (46, 160, 67), (207, 72, 60)  # border: the model sees this row | it imagines it
TRUTH, PREDICTION, ERROR = (40, 90, 200), (220, 120, 20), (120, 120, 120)
GRID = (225, 225, 225)
MAX_CURVES = 8


def save_animation(
    result: Imagination,
    path: str | Path,
    *,
    modality: str | None = None,
    sequences: int = 4,
    size: int = 128,
    milliseconds: int = 120,
) -> Path:
    """Write ``result`` as an animation, one frame per row, and return its path.

    Images: a line per sequence with truth, prediction and absolute error, each at least ``size`` pixels wide,
    the frames the model has seen with a green border and the imagined ones with a red border; below them the first
    sequence's vectors and rewards as strips. Vectors: the first sequence's curves, a line per dimension (8 at most),
    truth and prediction on the left and the absolute error on the right, the context shaded green, and all of it (32
    dimensions at most) as strips; of a model that decodes no observation, the reward's. A title says which is which,
    and whether the model sees the row. The suffix decides the format: ``.gif`` or ``.webp``.

    Raises:
        ConfigurationError: another suffix, an unknown modality, or pillow is missing.
    """
    path = animation_path(path)
    name = modality or (*result.images, *result.truth, "reward")[0]
    curves = {**result.truth, **({} if result.predicted_reward is None else {"reward": result.reward})}
    if name not in curves:
        near = did_you_mean(name, curves)
        raise ConfigurationError(f"no modality {name!r} was imagined, only {sorted(curves)}.{near}")
    image_module = require_viz("PIL.Image", "writing an animation")
    if name in result.images:
        frames = [image_module.fromarray(f) for f in _image_frames(result, name, sequences=sequences, size=size)]
    else:
        frames = _curve_frames(result, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    options: dict[str, Any] = {"lossless": True} if path.suffix.lower() == ".webp" else {"optimize": True}
    times = [milliseconds] * (len(frames) - 1) + [8 * milliseconds]  # rest before it begins anew
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=times, loop=0, **options)
    return path


def animation_path(path: str | Path) -> Path:
    """Return ``path`` if an animation can be written there.

    Raises:
        ConfigurationError: its suffix is neither ``.gif`` nor ``.webp``, or pillow is missing.
    """
    path = expanded(path)
    if path.suffix.lower() not in (".gif", ".webp"):
        raise ConfigurationError(f"an animation is written as .gif or .webp, got {path.name!r}")
    require_viz("PIL.Image", "writing an animation")
    return path


def _image_frames(result: Imagination, name: str, *, sequences: int, size: int) -> list[np.ndarray]:
    """Return uint8 frames [height, width, 3], one per row of time."""
    count = min(sequences, result.reward.shape[0])
    truth, prediction = result.truth[name][:count], np.clip(result.prediction[name][:count], 0.0, 1.0)
    scale = max(1, -(-size // truth.shape[-1]))
    border = max(2, scale)
    frames = []
    for t in range(truth.shape[1]):
        colour = CONTEXT if t < result.context else OPEN_LOOP
        panels = (truth[:, t], prediction[:, t], np.abs(prediction[:, t] - truth[:, t]))
        columns = [[_framed(_rgb(image), scale, border, colour) for image in panel] for panel in panels]
        frame = np.concatenate([np.concatenate(column, 0) for column in columns], 1)
        frames.append(_explained(frame, result, t, colour))
    return frames


def _explained(frame: np.ndarray, result: Imagination, t: int, colour: tuple[int, int, int]) -> np.ndarray:
    """A frame of images under its title and above what else there is as strips, if it is wide enough for words."""
    if (width := frame.shape[1]) < TITLED:
        return frame
    words = [["what happened", "imagined", "absolute error"], [phase(t, result.context, result.horizon)]]
    vectors = [name for name in result.truth if name not in result.images]
    vectors += [] if result.predicted_reward is None else ["reward"]
    below = [strips(result, name, now=t, width=width) for name in vectors]
    return np.concatenate([band(width, words, ink=PAPER, paper=colour), frame, *below])


def _rgb(image: np.ndarray) -> np.ndarray:
    """Return an image [C, H, W] of floats in [0, 1] as uint8 [H, W, 3]: of stacked frames the newest, of other than
    three channels the first."""
    three = image[-3:] if image.shape[0] % 3 == 0 else np.repeat(image[:1], 3, 0)
    return np.rint(three.transpose(1, 2, 0) * 255).astype(np.uint8)


def _framed(image: np.ndarray, scale: int, border: int, colour: tuple[int, int, int]) -> np.ndarray:
    large = image.repeat(scale, 0).repeat(scale, 1)
    height, width = large.shape[:2]
    framed = np.empty((height + 2 * border, width + 2 * border, 3), np.uint8)
    framed[:] = colour
    framed[border:-border, border:-border] = large
    return framed


def _curve_frames(result: Imagination, name: str) -> list[Any]:
    """Return pillow images in which the curves of the first sequence grow row by row."""
    rows = result.context + result.horizon
    if name in result.truth:
        truth, prediction = result.truth[name], result.prediction[name]
    else:
        assert result.predicted_reward is not None
        truth, prediction = result.reward, result.predicted_reward
    truth, prediction = (values[0].reshape(rows, -1)[:, :MAX_CURVES] for values in (truth, prediction))
    image_module = require_viz("PIL.Image", "writing an animation")
    frames = []
    for t in range(rows):
        curves = np.asarray(_curve_frame(truth, prediction, name, now=t, context=result.context))
        below = strips(result, name, now=t, width=curves.shape[1])
        frames.append(image_module.fromarray(np.concatenate([curves, below])))
    return frames


def _curve_frame(truth: np.ndarray, prediction: np.ndarray, name: str, *, now: int, context: int) -> Any:
    image_module = require_viz("PIL.Image", "writing an animation")
    draw_module = require_viz("PIL.ImageDraw", "writing an animation")
    width, height, left, top, gap = 300, 84, 64, 28, 12
    rows, dims = truth.shape
    image = image_module.new("RGB", (left + 2 * width + 2 * gap, top + dims * (height + gap) + gap), PAPER)
    draw = draw_module.Draw(image)
    draw.text((left, 8), phase(now, context, rows - context), fill=CONTEXT if now < context else OPEN_LOOP)
    draw.text((left + width - 90, 8), "truth", fill=TRUTH)
    draw.text((left + width - 55, 8), "imagined", fill=PREDICTION)
    draw.text((left + width + gap, 8), "absolute error", fill=ERROR)
    error = np.abs(prediction - truth)
    for d in range(dims):
        y = top + d * (height + gap)
        low = float(min(truth[:, d].min(), prediction[:, d].min()))
        high = float(max(truth[:, d].max(), prediction[:, d].max()))
        draw.text((4, y + height // 2 - 6), f"{name}[{d}]"[:10], fill=INK)
        for value, at in ((high, y), (low, y + height - 10)):
            draw.text((4, at), f"{value:.3g}", fill=ERROR)
        box = (left, y, width, height)
        _panel(draw, box, [(truth[:, d], TRUTH), (prediction[:, d], PREDICTION)], low, high, now, context)
        box = (left + width + gap, y, width, height)
        # The error is drawn on the scale of the curves beside it, so that a small one looks small.
        _panel(draw, box, [(error[:, d], ERROR)], 0.0, high - low, now, context)
    return image


def _panel(
    draw: Any,
    box: tuple[int, int, int, int],
    curves: list[tuple[np.ndarray, tuple[int, int, int]]],
    low: float,
    high: float,
    now: int,
    context: int,
) -> None:
    """Draw ``curves`` up to row ``now`` in ``box`` (x, y, width, height), the context rows shaded."""
    x0, y0, width, height = box
    rows = len(curves[0][0])
    span = high - low or 1.0

    def point(t: int, value: float) -> tuple[float, float]:
        clipped = min(max((value - low) / span, 0.0), 1.0)
        return x0 + 4 + (width - 8) * t / max(rows - 1, 1), y0 + height - 4 - (height - 8) * clipped

    edge = (point(context - 1, low)[0] + point(context, low)[0]) / 2
    draw.rectangle((x0, y0, edge, y0 + height), fill=(232, 246, 235))
    draw.rectangle((x0, y0, x0 + width, y0 + height), outline=GRID)
    for values, colour in curves:
        points = [point(t, float(values[t])) for t in range(now + 1)]
        if len(points) > 1:
            draw.line(points, fill=colour, width=2)
        x, y = points[-1]
        draw.ellipse((x - 2, y - 2, x + 2, y + 2), fill=colour)

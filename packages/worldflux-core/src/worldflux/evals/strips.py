"""Words and vectors in pictures: title bands, and strips: a line for each number, a column for each row of time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .extras import require_viz

if TYPE_CHECKING:
    from .imagination import Imagination

INK, PAPER = (30, 30, 30), (255, 255, 255)
LOW, HIGH = np.array((20, 30, 80)), np.array((250, 220, 90))  # colours of a vector's lowest and highest number
TITLED = 240  # pixels a picture must be wide, or words do not fit
LINE, TEXT = 6, 16  # pixels of one number's line, and of a line of words
MAX_NUMBERS = 32


def phase(t: int, context: int, horizon: int) -> str:
    """Say what row t is: seen by the model, or imagined."""
    rows = context + horizon
    if t < context:
        return f"row {t + 1}/{rows}: context (the model sees it)"
    return f"row {t + 1}/{rows}: open loop, step {t - context + 1} of {horizon}"


def band(width: int, lines: list[list[str]], *, ink: tuple[int, int, int], paper: tuple[int, int, int]) -> np.ndarray:
    """Return lines of words, each spread over columns of equal width, as a picture ``[height, width, 3]`` uint8."""
    image = require_viz("PIL.Image", "writing an animation").new("RGB", (width, TEXT * len(lines) + 4), paper)
    draw: Any = require_viz("PIL.ImageDraw", "writing an animation").Draw(image)
    for number, words in enumerate(lines):
        for column, word in enumerate(words):
            draw.text((4 + column * width // len(words), 2 + number * TEXT), word, fill=ink)
    return np.asarray(image)


def strips(result: Imagination, name: str, *, now: int, width: int) -> np.ndarray:
    """Return the first sequence's vector as truth, prediction and error side by side, up to row ``now``.

    Truth and prediction share their colours, each number from its lowest to its highest; the error is dark where it is
    none. What is to come is blank. A picture ``[height, width, 3]`` uint8 under a line of words.
    """
    if name in result.truth:
        truth, prediction = result.truth[name][0], result.prediction[name][0]
    else:
        assert result.predicted_reward is not None
        truth, prediction = result.reward[0], result.predicted_reward[0]
    truth, prediction = (values.reshape(len(values), -1)[:, :MAX_NUMBERS] for values in (truth, prediction))
    low = np.minimum(truth.min(0), prediction.min(0))
    span = np.maximum(np.maximum(truth.max(0), prediction.max(0)) - low, 1e-12)
    shares = ((truth - low) / span, (prediction - low) / span, np.abs(prediction - truth) / span)
    edges = [round(width * i / 3) for i in range(4)]
    parts = [coloured(share, now, edges[i + 1] - edges[i]) for i, share in enumerate(shares)]
    words = [f"{name}: what happened", f"{name}: imagined", f"{name}: error"]
    return np.concatenate([band(width, [words], ink=INK, paper=PAPER), np.concatenate(parts, 1)])


def coloured(shares: np.ndarray, now: int, width: int) -> np.ndarray:
    """Values ``[T, D]`` in [0, 1], 32 numbers at most, as a picture ``[D * LINE, width, 3]``; blank after ``now``."""
    shares = shares[:, :MAX_NUMBERS]
    colours = LOW + np.clip(shares, 0, 1)[..., None] * (HIGH - LOW)  # [T, D, 3]
    colours[now + 1 :] = PAPER
    columns = np.arange(width - 4) * len(shares) // max(1, width - 4)
    cells = np.rint(colours).astype(np.uint8).transpose(1, 0, 2)[:, columns].repeat(LINE, 0)
    return np.pad(cells, ((0, 2), (0, 4), (0, 0)), constant_values=255)

"""Pictures of many environments at once: canvases ``[N, 3, S, S]`` float32 of colours from 0 to 255, uint8 in the end.

Places and lengths are shares of the side, x to the right and y down; edges are smooth, so that a small move shows.
"""

from __future__ import annotations

import numpy as np

from .draws import Draws

Array = np.ndarray


def blank(colours: Array, size: int) -> Array:
    """Return canvases of one colour each, ``colours [N, 3]``."""
    return np.broadcast_to(colours.astype(np.float32)[:, :, None, None], (len(colours), 3, size, size)).copy()


def fill(canvas: Array, cover: Array, colours: Array) -> None:
    """Lay ``colours [N, 3]`` over canvases where ``cover [N, S, S]`` (0 to 1) says how much of a pixel they take."""
    canvas += (colours.astype(np.float32)[:, :, None, None] - canvas) * cover[:, None]


class Window:
    """The pixels around places ``[N, 2]``: all that a thing there can cover that reaches no further than ``reach``."""

    def __init__(self, canvas: Array, places: Array, reach: float) -> None:
        size = canvas.shape[-1]
        wide = min(2 * int(np.ceil(reach * size)) + 3, size)
        first = np.clip((places * size).astype(np.int64) - wide // 2, 0, size - wide)
        pixels = first[:, :, None] + np.arange(wide)  # [N, 2, W]
        self._canvas, self._size = canvas, size
        self._where = (
            np.arange(len(canvas))[:, None, None, None], np.arange(3)[:, None, None],
            pixels[:, 1, None, :, None], pixels[:, 0, None, None, :],
        )  # fmt: skip
        offsets = ((pixels + 0.5) / size - places[:, :, None]).astype(np.float32)
        self._dx, self._dy = offsets[:, 0, None, :], offsets[:, 1, :, None]

    def paint(self, *layers: tuple[Array, Array]) -> None:
        """Lay colours over the canvases, each ``(cover [N, W, W], colours [N, 3])``."""
        patch = self._canvas[self._where]
        for cover, colours in layers:
            patch += (colours.astype(np.float32)[:, :, None, None] - patch) * cover[:, None]
        self._canvas[self._where] = patch

    def disc(self, radius: Array) -> Array:
        """Return what discs in the middle cover, of a ``radius [N]``."""
        return self._inside(radius.astype(np.float32)[:, None, None] - self._distance())

    def ring(self, radius: Array) -> Array:
        """Return what rings cover, two pixels wide inwards."""
        inwards = radius.astype(np.float32)[:, None, None] - self._distance()
        return self._inside(inwards) * (1 - self._inside(inwards - np.float32(2 / self._size)))

    def turned_box(self, angle: Array, low: Array, high: Array) -> Array:
        """Return what boxes cover that go from ``low [N, 2]`` to ``high [N, 2]`` in a frame turned by ``angle [N]``."""
        cos, sin = (part[:, None, None].astype(np.float32) for part in turn(angle))
        u, v = cos * self._dx + sin * self._dy, cos * self._dy - sin * self._dx
        low, high = (side.astype(np.float32).T[:, :, None, None] for side in (low, high))
        across, along = np.minimum(u - low[0], high[0] - u), np.minimum(v - low[1], high[1] - v)
        return self._inside(np.minimum(across, along))

    def _distance(self) -> Array:
        return np.sqrt(self._dx * self._dx + self._dy * self._dy)

    def _inside(self, inwards: Array) -> Array:
        """Return how much of a pixel lies inside, by how far (negative: outside) its middle is from the edge."""
        return np.clip(inwards * np.float32(self._size) + np.float32(0.5), 0, 1)


def box(low: Array, high: Array, size: int) -> Array:
    """Return what boxes from ``low [N, 2]`` to ``high [N, 2]`` cover, exactly."""
    edges = np.arange(size + 1) / size
    along = np.minimum(high[:, :, None], edges[1:]) - np.maximum(low[:, :, None], edges[:-1])  # [N, 2, S]
    share = np.clip(along * size, 0, 1).astype(np.float32)
    return share[:, 1, :, None] * share[:, 0, None, :]


def turn(angle: Array) -> tuple[Array, Array]:
    """Return cosine and sine ``[N]``, the same for an angle wherever it stands in an array."""
    angle = np.ascontiguousarray(angle)
    return np.cos(angle), np.sin(angle)


def border(thickness: Array, size: int) -> Array:
    """Return what borders of a ``thickness [N]`` around the pictures cover."""
    sides = np.repeat(thickness[:, None], 2, 1)
    return 1 - box(sides, 1 - sides, size)


def developed(
    canvas: Array, *, light: Array, blur: Array, noise: Array, draws: Draws, name: str, count: Array
) -> Array:
    """Return canvases as pictures, uint8, and change them: multiplied by ``light [N]``, blurred, with noise.

    The noise is drawn under ``name`` for the ``count [N]``-th time.
    """
    size = canvas.shape[-1]
    lit = np.flatnonzero(light != 1)
    if len(lit):
        canvas[lit] *= light[lit].astype(np.float32)[:, None, None, None]
    blurred = np.flatnonzero(blur > 0.1 / size)  # less moves no colour to the next pixel
    if len(blurred):
        kernels = _kernels(blur[blurred] * size, size)
        canvas[blurred] = kernels @ canvas[blurred] @ kernels.swapaxes(2, 3)
    noisy = np.flatnonzero(noise)
    if len(noisy):
        grain = draws.rows(noisy).bumps(name, count[noisy], 1, size, size)
        canvas[noisy] += grain * noise[noisy].astype(np.float32)[:, None, None, None]
    return np.clip(np.rint(canvas, out=canvas), 0, 255, out=canvas).astype(np.uint8)


def _kernels(deviation: Array, size: int) -> Array:
    """Return matrices ``[N, 1, S, S]`` that blur a row of pixels, of a deviation in pixels."""
    apart = np.arange(size)[:, None] - np.arange(size)
    weights = np.exp(-0.5 * (apart / deviation[:, None, None]) ** 2)
    return (weights / weights.sum(2, keepdims=True)).astype(np.float32)[:, None]

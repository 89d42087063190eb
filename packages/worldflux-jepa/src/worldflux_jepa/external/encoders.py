"""Frozen encoders: pictures in, tokens out, and nothing of them learns, is saved or changes.

Letters: B batch, C channels, H and W pixels, N patches, D channels of a token.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from worldflux import CheckpointError, ConfigurationError, ShapeMismatchError
from worldflux.blocks import folded

from .weights import Weights

AT_ONCE = 64  # pictures
CHANNELS = (1, 3)


class FrozenEncoder(nn.Module):
    """A pretrained network that is only ever asked, in evaluation mode and without gradients.

    Its weights are no parameters and no part of ``state_dict()``, which holds their digest alone: a checkpoint that
    was made with other weights is refused. The network is built when it is first asked. ``image_size`` 0 keeps the
    encoder's own size and margins; another one has pictures scaled to it, with nothing cut off of square ones.
    Raises ConfigurationError for a size the encoder cannot read.
    """

    mean: Tensor
    std: Tensor
    digest: Tensor

    def __init__(self, weights: Weights, *, image_size: int = 0, network: nn.Module | None = None) -> None:
        super().__init__()
        self.weights = weights
        self.pixels = weights.pixels.sized(image_size) if image_size else weights.pixels
        self.width, size = weights.width, self.pixels.size
        if size % weights.patch:
            low = size - size % weights.patch
            raise ConfigurationError(
                f"pictures of {size} pixels hold no whole number of patches of {weights.patch}: set image_size to "
                f"{max(low, weights.patch)} or {low + weights.patch}"
            )
        if weights.classes_size not in (None, size):
            raise ConfigurationError(
                f"{weights.kind.class_name} knows the positions of {weights.classes_size} pixels a side only, got "
                f"image_size {size}: leave it out"
            )
        self.grid = size // weights.patch
        for name in ("mean", "std"):
            numbers = torch.tensor(getattr(self.pixels, name)).reshape(3, 1, 1)
            self.register_buffer(name, numbers, persistent=False)
        self.register_buffer("digest", torch.tensor(list(bytes.fromhex(weights.digest)), dtype=torch.uint8))
        self._shared = _Shared(weights, network)

    def forward(self, images: Tensor) -> Tensor:
        """Images ``[..., C, H, W]``, uint8 or floats in [0, 1], to all tokens ``[..., prefix + N, k D]``.

        C is 1 or 3, or 3 k of k frames, whose channels are joined.
        """
        frames = max(1, images.shape[-3] // 3)
        x = images.expand(*images.shape[:-3], 3, *images.shape[-2:]) if images.shape[-3] == 1 else images
        one_by_one = x.unflatten(-3, (frames, 3))
        tokens = folded(lambda x: self.hidden(self.pixels(x, self.mean, self.std)), one_by_one, rank=3)
        return tokens.movedim(-3, -2).flatten(-2)

    def patches(self, pixels: Tensor) -> Tensor:
        """Pixels ``[B, 3, H, W]``, already normalised, to the tokens of patches ``[B, N, D]``, row by row."""
        return self.hidden(pixels)[:, self.weights.prefix :]

    @torch.no_grad()
    def hidden(self, pixels: Tensor) -> Tensor:
        """The same with the tokens before the patches', ``[B, prefix + N, D]``. Raises ShapeMismatchError for a
        network that gives another number of them."""
        network = self._shared.network(self.mean.device)
        found = [self._asked(network, part) for part in pixels.split(AT_ONCE)]
        hidden = torch.cat(found) if len(found) > 1 else found[0]
        rows, columns = (side // self.weights.patch for side in pixels.shape[-2:])
        expected = (len(pixels), self.weights.prefix + rows * columns, self.width)
        if tuple(hidden.shape) != expected:
            raise ShapeMismatchError(
                f"{self.weights.kind.class_name} gives other tokens than {self.weights.prefix} before those of "
                f"{rows} x {columns} patches",
                expected=expected,
                got=tuple(hidden.shape),
            )
        return hidden

    def _asked(self, network: nn.Module, pixels: Tensor) -> Tensor:
        kind = self.weights.kind
        if kind.video:  # each picture is a clip of its own: no other row's future is seen
            clip = pixels.unsqueeze(1).expand(-1, self.weights.tubelet, -1, -1, -1)
            answer = network(pixel_values_videos=clip, **kind.call)
        else:
            answer = network(pixel_values=pixels, **kind.call)
        hidden: Tensor = answer.last_hidden_state
        return hidden.to(self.mean)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        given = state_dict.get(f"{prefix}digest")
        if given is not None and not given.is_meta and bytes(given.tolist()).hex() != self.weights.digest:
            raise CheckpointError(
                f"this model was saved with other encoder weights (SHA-256 {bytes(given.tolist()).hex()[:12]}...) than "
                f"those of {self.weights.folder or self.weights.kind.name} ({self.weights.digest[:12]}...): name the "
                "folder or the revision it was made with"
            )
        super()._load_from_state_dict(state_dict, prefix, *args)


class _Shared:
    """A network that copies of a model share: it never changes. No module, so that it is nobody's parameters."""

    def __init__(self, weights: Weights, network: nn.Module | None) -> None:
        self._weights, self._network = weights, None if network is None else network.eval().requires_grad_(False)

    def network(self, device: torch.device) -> nn.Module:
        """The network on a device, in evaluation mode."""
        if self._network is None:
            self._network = self._weights.network()
        at = next((x.device for x in (*self._network.parameters(), *self._network.buffers())), device)
        return self._network if at == device else self._network.to(device)

    def __deepcopy__(self, memo: dict[int, Any]) -> _Shared:
        return self


class Features(nn.Module):
    """What a frozen encoder tells of all images of an observation: ``pool`` "mean" (of the patches), "cls", "patches".

    Gives ``latent [..., F]``, or of patches ``[..., N, F]``; F is D for each frame of each image. Raises
    ConfigurationError for images without 1 or 3 channels a frame, or "cls" of an encoder that has none.
    """

    def __init__(self, encoder: FrozenEncoder, channels: dict[str, int], *, pool: str = "mean") -> None:
        super().__init__()
        self.encoder, self.names, self.pool = encoder, sorted(channels), pool
        if not channels:
            raise ConfigurationError("a pretrained encoder reads images, and the model observes none")
        for name, count in channels.items():
            if count not in CHANNELS and count % 3:
                raise ConfigurationError(f"image {name!r} has {count} channels, expected 1, or 3 for each frame")
        if pool == "cls" and not encoder.weights.kind.has_cls:
            raise ConfigurationError(f"{encoder.weights.kind.class_name} has no CLS token: set pool='mean'")
        self.width = encoder.width * sum(max(1, count // 3) for count in channels.values())
        self.tokens = encoder.grid**2 if pool == "patches" else 1

    def forward(self, observations: dict[str, Tensor]) -> Tensor:
        """Modalities ``[..., *shape]`` to ``[..., F]`` or ``[..., N, F]``."""
        prefix, found = self.encoder.weights.prefix, []
        for name in self.names:
            tokens = self.encoder(observations[name])
            patches = tokens[..., prefix:, :]
            found.append(
                patches if self.pool == "patches" else tokens[..., 0, :] if self.pool == "cls" else patches.mean(-2)
            )
        return torch.cat(found, -1) if len(found) > 1 else found[0]

"""V-JEPA 2 as a world model: what is hidden of a clip is predicted from what is shown, in representation space."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from worldflux import (
    SLOTS,
    Batch,
    Capability,
    CapabilityError,
    ConfigurationError,
    LossOutput,
    Recipe,
    ShapeMismatchError,
    State,
    StateSpec,
    ValidationError,
    WorldModel,
    vector,
)

from ..layers.targets import follow, target_of
from ..layers.video import Encoder, check_ids, normalised, select
from ..layers.weights import initialise
from . import losses
from .clips import Clips, cut, rows_that_begin
from .config import VJEPA2Config, part_of
from .masks import EvenMasks, Masks, OfficialMasks
from .predictor import Predictor


class VJEPA2(WorldModel):
    """An encoder of video, and a predictor of what is hidden of a clip; it takes no actions and decodes nothing.

    States hold ``latent [B, N, D]``, the tokens of one frame: nothing of other frames enters, so no later frame can.
    ``tokens`` gives those of whole clips, which see each other. Slots: ``observation_encoder`` (``encode``, and to
    learn ``tokens``) and ``predictor`` (``predict``).

    Source: Assran et al. 2025, "V-JEPA 2: Self-Supervised Video Models Enable Understanding, Prediction and Planning";
    facebookresearch/vjepa2 at c2963a4.
    """

    config_class = VJEPA2Config
    config: VJEPA2Config
    capabilities = frozenset({Capability.REPRESENTATION})
    slots: ClassVar = {**SLOTS, "predictor": "predict"}
    batch_keys = ("obs",)
    updates: Tensor

    def __init__(self, config: VJEPA2Config) -> None:
        super().__init__(config)
        self.observation_encoder = Encoder(config)
        self.predictor: Any = Predictor(config)
        self.target_encoder: Any
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        self.initialise()

    def initialise(self) -> None:
        """Set every weight from the config's seed; the target encoder starts as the encoder."""
        generator = torch.Generator().manual_seed(self.config.seed)
        for part in (self.observation_encoder, self.predictor):
            initialise(part, generator=generator)
        self._retarget()

    def set_component(self, slot: str, value: Any) -> None:
        """Replace a component. The targets of an encoder with other weights are its own, from then on."""
        weights, held = _tensors(self.observation_encoder), _tensors(self.target_encoder)
        super().set_component(slot, value)
        now = _tensors(self.observation_encoder)
        self._retarget()
        if len(now) == len(weights) and all(map(torch.equal, now, weights)):  # the same encoder in other clothes
            for target, was in zip(_tensors(self.target_encoder), held, strict=True):
                target.copy_(was)

    def _retarget(self) -> None:
        """The target encoder from the encoder as it is; one that is no module is its own target."""
        encoder = self.observation_encoder
        if hasattr(self, "target_encoder"):
            del self.target_encoder  # a module may be followed by a plain object, which nn.Module would refuse
        self.target_encoder = target_of(encoder) if isinstance(encoder, nn.Module) else encoder

    # --- what it is -----------------------------------------------------------------------------------------------

    def state_spec(self) -> StateSpec:
        rows, columns = self.config.grid
        return StateSpec({"latent": vector(rows * columns, self.config.embed_dim)})

    def begin(self, obs: dict[str, Tensor], *, deterministic: bool) -> State:
        """The tokens of each frame by itself."""
        return State({"latent": self.encoded(obs, "latent", self.config.embed_dim)})

    def advance(self, state: State, action: Tensor, conditioned: dict[str, Tensor], *, deterministic: bool) -> State:
        """Raise CapabilityError: it has learnt from videos without actions."""
        raise CapabilityError(
            "vjepa2 predicts what is hidden of a clip and knows no actions, so it has no transition; "
            "'vjepa2-ac' predicts with actions, on this encoder"
        )

    def tokens(self, clip: Any) -> Tensor:
        """The tokens ``[B, N, D]`` of clips of bytes ``[B, T, C, H, W]``, each of which has seen its whole clip.

        For probes and search; not as the state of a frame, which must not know what comes after. Raises
        ValidationError or ShapeMismatchError.
        """
        seen: Tensor = self._clip_encoder().tokens(self.video(clip))
        return seen

    def _clip_encoder(self) -> Any:
        """The encoder, where it takes clips."""
        encoder = self.component("observation_encoder")
        if not callable(getattr(encoder, "tokens", None)):
            raise ConfigurationError(
                f"{type(encoder).__name__} in the slot observation_encoder encodes frames, but neither reads nor "
                "learns from clips: that takes a method tokens(video, kept=None) that gives [B, N, D]"
            )
        return encoder

    def video(self, clip: Any) -> Tensor:
        """Clips of bytes ``[B, T, C, H, W]`` as the encoder reads them. Raises ValidationError, ShapeMismatchError."""
        seen = self.observations(clip)[self.config.image_name]
        if seen.ndim != 5:
            raise ShapeMismatchError("clips", expected=("B", "T", *self.config.obs_shape), got=tuple(seen.shape))
        return normalised(seen)

    # --- learning -------------------------------------------------------------------------------------------------

    def loss(self, batch: Batch) -> LossOutput:
        """Predict what masks hide of clips of the batch's rows ``[B, T, ...]``, each of one episode.

        Raises ValidationError or ShapeMismatchError for a batch that breaks the contract or is shorter than a tubelet.
        """
        return self.masked_loss(self.drawn(self.checked(batch)))

    def drawn(self, batch: Batch) -> list[Clips]:
        """Clips of each length of a checked batch, from rows and under masks by chance."""
        video, found = normalised(batch.obs[self.config.image_name]), []
        rows = video.shape[1]
        if rows < self.config.tubelet_size:
            raise ValidationError(
                f"the batch has {rows} rows, a tubelet is {self.config.tubelet_size} frames: train on sequences of "
                f"{max(self.config.clip_frames)} rows"
            )
        begins, counts = rows_that_begin(batch, video)
        generator, sequences = self.generator(video.device), torch.arange(len(video), device=video.device)
        for frames in self.config.clip_frames:
            steps = min(frames, rows) // self.config.tubelet_size
            length = steps * self.config.tubelet_size
            start = torch.randint(rows - length + 1, (len(video),), generator=generator, device=video.device)
            chosen, count = cut(begins, counts, start, length)
            clips = video[sequences.unsqueeze(1), chosen]
            found.append(Clips(clips, count, self.masks(len(video), steps, generator)))
        return found

    def masks(self, batch: int, steps: int, generator: torch.Generator) -> list[Masks]:
        """Masks of ``batch`` clips of ``steps`` time steps, by the config; on the generator's device."""
        config, found = self.config, []
        rows, columns = config.grid
        for index, (blocks, scale) in enumerate(zip(config.mask_blocks, config.mask_scales, strict=True)):
            if config.masking == "official":
                source = OfficialMasks(rows, columns, steps, blocks, (scale, scale), config.aspect_ratios)
                drawn = source.draw(batch, iteration=int(self.updates), generator=self.generator("cpu"))
                found.append(Masks(*(ids.to(generator.device) for ids in drawn)))
            else:
                parts = (
                    part_of(shares[index], rows * columns) for shares in (config.context_shares, config.target_shares)
                )
                even = EvenMasks(rows, columns, blocks, scale, config.aspect_ratios, *parts)
                found.append(even.draw(batch, steps, generator=generator))
        return found

    def masked_loss(self, groups: list[Clips]) -> LossOutput:
        """The plain mean of what predictions miss, over all pairs of a length of clips and a mask."""
        self._clip_encoder()
        found, means, spread = [], [], []
        for index, (video, counts, masks) in enumerate(groups):
            target = self.targets(video)
            spread.append(target.std((0, 1)).mean())
            for mask, (_, predicted) in zip(masks, self.predicted(video, masks, group=index), strict=True):
                hidden = select(target, mask.target)
                missed = losses.masked_loss(predicted, hidden, exponent=self.config.loss_exponent)
                found.append(losses.averaged(missed, counts))
                means.append(losses.mean_token_loss(hidden, exponent=self.config.loss_exponent))
        total = torch.stack(found).mean()
        return LossOutput(
            total,
            {"masked": total.detach()},
            {
                "mean_token": torch.stack(means).mean(),  # what always guessing the mean token would miss
                "target_std": torch.stack(spread).mean(),  # across tokens and clips; towards 0 all tokens are alike
                **{f"masked_{place}": value.detach() for place, value in enumerate(found)},
            },
        )

    @torch.no_grad()
    def targets(self, video: Tensor) -> Tensor:
        """What is to be predicted of clips ``[B, T, C, H, W]``: the target encoder's tokens ``[B, N, D]``, normed."""
        return losses.normalised_targets(self.target_encoder.tokens(video), eps=self.config.target_eps)

    def predicted(self, video: Tensor, masks: list[Masks], *, group: int = 0) -> list[tuple[Tensor, Tensor]]:
        """For each mask the context's tokens ``[B, K, D]``, and the predictions ``[B, M, D]`` of what it hides.

        ``video`` is normalised ``[B, T, C, H, W]``; ``group`` counts the lengths of clips, each with its mask token.
        Raises ValidationError for masks that leave nothing, or are another grid's.
        """
        encoder, predictor = self._clip_encoder(), self.component("predictor")
        grid = (video.shape[3] // self.config.patch_size, video.shape[4] // self.config.patch_size)
        steps = video.shape[1] // self.config.tubelet_size
        check_ids(masks, batch=len(video), tokens=steps * grid[0] * grid[1])
        whole = encoder.tokens(video) if self.config.mask_mode == "after" else None
        found = []
        for shown, hidden in masks:
            context = encoder.tokens(video, shown) if whole is None else select(whole, shown)
            token = self.config.mask_index + group
            found.append((context, predictor.predict(context, shown, hidden, grid=grid, token=token)))
        return found

    def mask_token_norms(self) -> list[float]:
        """The length of each mask token's vector; one that was never trained is as long as it started, mostly 0."""
        return [float(token.detach().norm()) for token in self.component("predictor").mask_tokens]

    def on_after_optimizer_step(self) -> None:
        """Move the target encoder towards the encoder."""
        self.move_target(self.config.ema_decay)
        self.updates += 1

    def move_target(self, decay: float) -> None:
        """Keep ``decay`` of the target encoder, and take the rest from the encoder."""
        if isinstance(self.observation_encoder, nn.Module):
            follow(self.target_encoder, self.observation_encoder, 1 - decay)

    def training_defaults(self) -> Recipe:
        return Recipe.of(self.config, sequence_length=max(self.config.clip_frames), boundary="within")

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return all weights, and apart what does not decay: biases, and whatever has one axis."""
        named = [(name, value) for name, value in self.named_parameters() if value.requires_grad]
        plain = [value for name, value in named if value.ndim <= 1 or "bias" in name]
        kept = {id(value) for value in plain}
        rate = self.config.learning_rate
        return [
            {"params": [value for _, value in named if id(value) not in kept], "lr": rate},
            {"params": plain, "lr": rate, "weight_decay": 0.0},
        ]


def _tensors(part: Any) -> list[Tensor]:
    """The weights of a part, or of a target made of it, in their order."""
    return [value.detach() for value in part.state_dict().values()] if isinstance(part, nn.Module) else []

"""The training loop: sample, loss, backward, clip, step, and what happens beside it."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from worldflux.words.counts import counted

from ..core.batch import Batch
from ..core.errors import CheckpointError, ConfigurationError, TrainingError, WorldFluxError
from ..core.events import announce
from ..core.model import WorldModel
from ..data.providers import BatchRequest, as_batch, as_provider
from ..delegated import OfficialBackendHandle
from ..files import expanded
from .any_module import asked
from .callbacks import Callback, CheckpointCallback, JSONLCallback
from .checkpoint import find_checkpoint, write_checkpoint
from .checks import check_arguments, check_going_on, check_steps
from .config import TrainingConfig
from .delegated import Delegating
from .diagnosis import out_of_memory, refuse_non_finite
from .lock import RunLock
from .manifest import RunManifest, facts_of, open_run, refuse_other_run
from .meter import Meter, plain
from .mode import mode
from .optim import build_optimizer, learning_rate_scale, scale_learning_rates, with_initial_rates
from .signals import Interrupted, StopSignals
from .snapshot import load_snapshot, set_torch_rng_state, torch_rng_state, write_snapshot
from .threads import Threads
from .update import Groups, Step, groups_of, make_update, record_update

logger = logging.getLogger(__name__)


class Trainer(Delegating):
    """Trains a world model, or any ``nn.Module`` with ``loss(batch)``, and can always go on where it was.

    The run directory (``config.output_dir``) gets ``config.json``, ``run_manifest.json``, ``metrics.jsonl``,
    ``checkpoints/`` and, at the end, ``model/``. ``callbacks`` come beside the two that are always there, for
    checkpoints and metrics. An ``optimizer`` replaces the model's, a ``scheduler`` the configured schedule of learning
    rates. ``run_info`` is kept in ``config.json`` (which model, which environment). ``status`` is "new", "running",
    "finished", "preempted" or "failed"; ``step`` counts updates, ``seconds`` and ``eval_seconds`` the time they and
    evaluations took. ``way_back`` is what messages say of going on. For a handle on an official program it
    submits and follows a job instead, as ``handle.submit`` does: then ``status()`` tells how that stands.
    """

    def __init__(
        self,
        model: WorldModel | nn.Module | OfficialBackendHandle,
        config: TrainingConfig | None = None,
        callbacks: Sequence[Callback] | None = None,
        *,
        optimizer: torch.optim.Optimizer | None = None,
        scheduler: torch.optim.lr_scheduler.LRScheduler | None = None,
        run_info: Mapping[str, Any] | None = None,
    ) -> None:
        if isinstance(model, OfficialBackendHandle):
            self.take_handle(model, config, callbacks, optimizer, scheduler, run_info)
            return
        check_arguments(model, config, callbacks, optimizer, scheduler)
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        if distributed and (ranks := torch.distributed.get_world_size()) > 1:  # each would train a model of its own
            raise ConfigurationError(f"this is one of {ranks} processes, but a Trainer trains in one: start just one")
        self.config = (config or TrainingConfig()).with_defaults(asked(model).recipe())
        self.device = self.config.resolve_device()
        self.model: Any = model.to(self.device)
        self._asked = asked(model)
        self.optimizer = with_initial_rates(optimizer or build_optimizer(self._asked, self.config))
        self.scheduler = scheduler
        self.callbacks: list[Callback] = []
        for callback in (*(callbacks or ()), JSONLCallback(), CheckpointCallback()):
            self.add_callback(callback)
        self.run_dir = expanded(self.config.output_dir)
        self.run_info = dict(run_info or {})
        self.source: Any = None
        self._given: Any = None
        self.step, self.target, self.seconds, self.eval_seconds = 0, self.config.total_steps, 0.0, 0.0
        self.status, self.stop_reason = "new", ""
        self.way_back = f"resume_from={str(self.run_dir)!r}"
        self.lock = RunLock(self.run_dir)
        self.last_checkpoint: Path | None = None
        self._saved_at: tuple[int, int | None] | None = None
        self._signals = StopSignals()
        self._drawn = 0  # batches of the update at hand
        self.meter = Meter()
        self.threads = Threads(self.config.threads, on_cpu=self.device.type == "cpu")
        self._torch_rng: Mapping[str, Tensor] | None = None
        self._save_wanted = False
        self._manifest: RunManifest | None = None
        self._logged = (time.monotonic(), 0)
        self._groups: Groups = {}

    def add_callback(self, callback: Callback) -> None:
        """Add a callback; one that saves or records replaces the built-in one."""
        if not isinstance(callback, Callback):
            raise ConfigurationError(f"{callback!r} is no Callback: derive it from worldflux.training.Callback")
        builtin = (JSONLCallback, CheckpointCallback)
        if not (type(callback) in builtin and any(type(known) is type(callback) for known in self.callbacks)):
            self.callbacks.append(callback)

    # --- training -------------------------------------------------------------------------------------------------

    def train(self, source: Any, num_steps: int | None = None, resume_from: str | Path | None = None) -> WorldModel:
        """Train until ``num_steps`` updates in all (default: the config's ``total_steps``) and return the model.

        ``source`` is whatever ``as_provider`` takes. ``resume_from`` is a run directory, its checkpoints folder or one
        checkpoint. Ctrl-C and SIGTERM end training after the step at hand, or between two environment steps, with a
        checkpoint and status "preempted"; a second one ends it at once.

        Raises:
            ConfigurationError: the run directory holds another run's checkpoints, or another training is at work there;
                a run is to go on that has taken more updates already.
            CheckpointError: nothing whole to resume from, or a checkpoint could not be written.
            ValidationError, ShapeMismatchError: the source's batches are not what the model learns from.
            TrainingError: the loss or a gradient is not finite, or a step or the source failed.
        """
        self.refuse_handle()
        check_steps(num_steps)
        self._take(source, afresh=resume_from is not None)
        self.target = self.config.total_steps if num_steps is None else num_steps
        # The global generators are torch's own layers' (dropout). They are ours only meanwhile.
        devices = [self.device] if self.device.type == "cuda" else []
        with (
            self.lock, StopSignals() as self._signals, self.threads,
            torch.random.fork_rng(devices), mode(self.model, training=True), self._collecting(),
        ):  # fmt: skip
            found = None if resume_from is None else find_checkpoint(resume_from)
            refuse_other_run(self.run_dir, found, going_on=self.step > 0)
            check_going_on(found, self.target)
            self._start(found)
            self._manifest = open_run(self, found)
            try:
                self._loop()
                self._finish()
            except BaseException as error:
                self.status = "failed"
                with contextlib.suppress(CheckpointError):
                    self._manifest.write(**facts_of(self), error=f"{type(error).__name__}: {error}")
                raise
            else:
                self._manifest.write(**facts_of(self))
            finally:
                self._torch_rng = torch_rng_state(self.device)
                for callback in self.callbacks:
                    callback.on_train_end(self)
        return self.model

    def _start(self, found: Path | None) -> None:
        if found is not None:
            self._asked.seed(self.config.seed)  # of generators that first come into use later
            load_snapshot(found, self)
            self.last_checkpoint, self._saved_at = found, (self.step, self.env_steps)
        elif self._torch_rng is not None:  # a further train() call on the same trainer
            set_torch_rng_state(self._torch_rng, self.device)
        else:
            torch.manual_seed(self.config.seed)
            self._asked.seed(self.config.seed)
        self.status, self.stop_reason, self._save_wanted = "running", "", False
        self._groups = groups_of(self._asked)
        self._logged = (time.monotonic(), self.step)

    def _loop(self) -> None:
        for callback in sorted(self.callbacks, key=lambda one: not isinstance(one, JSONLCallback)):
            callback.on_train_begin(self)  # that which records before those who may have something to record
        while self.step < self.target and not self.stop_reason and not self._signals.received:
            began, before = time.monotonic(), self.seconds
            for callback in self.callbacks:
                callback.on_step_begin(self)
            try:
                self._update()
            except Interrupted:
                break
            finally:
                self.seconds = before + time.monotonic() - began
            self.step += 1
            if self.config.log_interval and (self.step % self.config.log_interval == 0 or self.step == self.target):
                self._log_window()
            for callback in self.callbacks:
                callback.on_step_end(self)
            # Last of all, so that a checkpoint holds everything this step did.
            if self._save_wanted:
                self.save_checkpoint()

    @contextlib.contextmanager
    def _collecting(self) -> Iterator[None]:
        """Look in between the environment steps of a source that has some."""
        looked_into = hasattr(self.source, "between_steps")
        if looked_into:
            self.source.between_steps = self._between_env_steps
        try:
            yield
        finally:
            if looked_into:
                self.source.between_steps = None

    def _between_env_steps(self) -> None:
        if self._drawn:  # the update at hand is under way: it cannot be left, nor gone on with
            return
        self._signals.check()
        for callback in self.callbacks:
            callback.on_collect(self)
        if self._save_wanted and not self._saved():
            self.save_checkpoint()

    def _finish(self) -> None:
        if not self._saved():
            self.save_checkpoint()
        if self._signals.received and self.step < self.target and not self.stop_reason:
            self.status, self.stop_reason = "preempted", self._signals.received
            logger.warning(
                "%s: stopped after step %d and saved %s; go on with %s",
                self.stop_reason, self.step, self.last_checkpoint, self.way_back,
            )  # fmt: skip
            return
        self.status = "finished"
        self.stop_reason = self.stop_reason or f"{counted(self.target, 'step')}"
        try:
            self._asked.save_pretrained(self.run_dir / "model")
        except ConfigurationError as error:  # a model that cannot be found by name has its checkpoint all the same
            logger.warning("the trained model is in %s only: %s", self.last_checkpoint, error)

    def _update(self) -> None:
        """One update, of as many optimizer steps as the model makes."""
        rows = self.config.sequence_length + self._asked.context_rows
        request, self._drawn = BatchRequest(self.config.batch_size, rows, self.device), 0
        if self.scheduler is None:
            scale_learning_rates(self.optimizer, learning_rate_scale(self.step, self.config))
        rate = float(self.optimizer.param_groups[0]["lr"])
        try:
            with self.threads.update(left=self.target - self.step):
                steps = make_update(
                    self._asked, self.optimizer, lambda: self._sample(request),
                    config=self.config, groups=self._groups, ready=self._refuse_non_finite,
                )  # fmt: skip
        except TrainingError:
            raise
        except RuntimeError as error:
            raise TrainingError(f"step {self.step} failed: {error}{out_of_memory(error)}") from error
        if self.scheduler is not None:
            self.scheduler.step()
        self._asked.on_after_optimizer_step()
        record_update(steps, rate, source=self.source, meter=self.meter)

    def _sample(self, request: BatchRequest) -> Batch:
        try:
            with self.threads.elsewhere():
                batch = as_batch(self.source.sample(request))
        except Interrupted:
            raise
        except Exception as error:
            if self._signals.received:  # Ctrl-C reaches the processes of an environment, too, which may end by it
                raise Interrupted(self._signals.received) from error
            # The model is whole: what it learned since the last checkpoint need not be lost with the environment.
            saved = self._save_despite(error)
            if isinstance(error, WorldFluxError):
                raise
            message = f"the source failed at step {self.step}: {type(error).__name__}: {error}{saved}"
            raise TrainingError(message) from error
        self._drawn += 1
        return batch

    def _refuse_non_finite(self, step: Step) -> None:
        named = self.model.named_parameters()
        refuse_non_finite(step, number=self.step, parameters=named, directory=self.run_dir, kept=self.last_checkpoint)

    # --- evaluating -----------------------------------------------------------------------------------------------

    def evaluate(self, data: Any, num_batches: int = 10) -> dict[str, float]:
        """Return the mean ``loss``, components (``loss/NAME``) and metrics over batches of ``data``; nothing learns."""
        provider, meter = as_provider(data, seed=self.config.seed), Meter()
        rows = self.config.sequence_length + self._asked.context_rows
        with self.evaluating(), torch.no_grad():
            for _ in range(num_batches):
                out = self.model.loss(provider.sample(BatchRequest(self.config.batch_size, rows, self.device)))
                losses = {f"loss/{name}": value for name, value in out.components.items()}
                meter.add({"loss": out.loss, **losses, **out.metrics})
        return meter.pop()

    @contextlib.contextmanager
    def evaluating(self) -> Iterator[None]:
        """Evaluation mode, after which modes and random states are as before."""
        devices = [self.device] if self.device.type == "cuda" else []
        self._asked.generator(self.device)  # one that began in here would not be as before
        drawn = self._asked.rng_state()
        with self.threads.meanwhile(), torch.random.fork_rng(devices), mode(self.model, training=False):
            try:
                yield
            finally:
                self._asked.set_rng_state(drawn)

    # --- recording ------------------------------------------------------------------------------------------------

    @property
    def env_steps(self) -> int | None:
        """Environment steps taken by the source, or None if it takes none."""
        return getattr(self.source, "env_steps", None)

    def log(self, metrics: Mapping[str, Any]) -> None:
        """Give a record of metrics to every callback; arrays and tensors of one number are numbers."""
        record: dict[str, Any] = {"step": self.step}
        if self.env_steps is not None:
            record["env_steps"] = self.env_steps
        record |= {"time": round(self.seconds, 3), **{name: plain(value) for name, value in metrics.items()}}
        for callback in self.callbacks:
            callback.on_log(self, record)

    def _log_window(self) -> None:
        now, (then, step) = time.monotonic(), self._logged
        self._logged = (now, self.step)
        collected = self.source.metrics() if hasattr(self.source, "metrics") else {}
        self.log({**self.meter.pop(), **collected, "updates_per_second": (self.step - step) / max(now - then, 1e-9)})

    # --- stopping and saving --------------------------------------------------------------------------------------

    def stop(self, reason: str) -> None:
        """End training after the step at hand, as finished."""
        self.stop_reason = reason

    def request_checkpoint(self) -> None:
        """Have a checkpoint saved at the end of the step at hand, once every callback has run."""
        self._save_wanted = True

    def save_checkpoint(self) -> Path:
        """Save everything now and return the checkpoint. Raises CheckpointError; earlier ones stay whole then."""
        self._save_wanted = False
        path = write_checkpoint(
            self.run_dir / "checkpoints",
            step=self.step,
            write=lambda stage: write_snapshot(stage, self),
            keep=self.config.keep_checkpoints,
        )
        self.last_checkpoint, self._saved_at = path, (self.step, self.env_steps)
        if self._manifest is not None:
            self._manifest.write(**facts_of(self))
        for callback in self.callbacks:
            callback.on_checkpoint(self, path)
        announce("checkpoint_saved", self.model, path=path)
        return path

    def note(self, **facts: Any) -> None:
        """Bring ``run_manifest.json`` up to date, with facts of the caller's. Raises CheckpointError."""
        assert self._manifest is not None, "train() opens the run"
        self._manifest.write(**{**facts_of(self), **facts})

    def load_checkpoint(self, path: str | Path, source: Any = None) -> None:
        """Load a run's newest whole checkpoint, or one checkpoint; ``train`` with the same ``source`` goes on exactly.

        Without a source what it saved of one is left out. Raises CheckpointError.
        """
        if source is not None:
            self._take(source, afresh=True)
        found = find_checkpoint(path)
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            self._asked.seed(self.config.seed)
            load_snapshot(found, self)
            self._torch_rng = torch_rng_state(self.device)
        self.last_checkpoint = found

    def _take(self, source: Any, *, afresh: bool) -> None:
        """Take a source; one that is given again goes on where it is."""
        if afresh or source is not self._given:
            self._given, self.source = source, as_provider(source, seed=self.config.seed)

    def _saved(self) -> bool:
        """Whether this run, not the one it was resumed from, holds a checkpoint of the steps at hand."""
        mine = self.last_checkpoint == self.run_dir / "checkpoints" / f"step-{self.step:06d}"
        return mine and self._saved_at == (self.step, self.env_steps)

    def _save_despite(self, error: Exception) -> str:
        if (self.step == 0 and self.last_checkpoint is None) or self._saved():
            return ""
        try:
            path = self.save_checkpoint()
        except Exception as second:
            logger.error("after %r the state could not be saved either: %s", error, second)
            return ""
        logger.error("the source failed (%s); everything up to step %d is in %s", error, self.step, path)
        return f". Everything up to step {self.step} is saved: go on with {self.way_back}"

    def rng_state(self) -> dict[str, Any]:
        """Return the state of every generator the training draws from, but the source's."""
        return {"torch": torch_rng_state(self.device), "model": self._asked.rng_state()}

    def set_rng_state(self, state: Mapping[str, Any]) -> None:
        """Restore what ``rng_state`` returned."""
        set_torch_rng_state(state["torch"], self.device)
        self._asked.set_rng_state(state["model"])

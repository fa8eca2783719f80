"""The training loop: from a model and its examples to trained weights, through any interruption."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from elman.errors import ElmanError
from elman.layers import state as states
from elman.training import checkpoint, optimiser
from elman.training.checkpoint import Checkpoint, Progress
from elman.training.distributed import World
from elman.training.events import Ended, Event, Listener, Saved, Started, Stepped, Validated
from elman.training.model import Carries, Model
from elman.training.run import Run
from elman.training.selection import rank
from elman.training.threads import Threads

#: Seconds between step events, and between checkpoints if no validation comes first.
_REPORT, _SAVE = 1.0, 60.0


class Objective(nn.Module):
    """The model's loss as a module, for DistributedDataParallel to wrap."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.network, self._model = model.network, [model]

    def forward(self, batch: Any, carry: Any) -> tuple[Tensor, Any]:
        return self._model[0].loss(batch, carry)


class Trainer:
    """Train a model; see `train`.

    Args:
        model (Model): its network is trained in place and ends with the best weights.
        examples, held: the examples to train and to validate on, as `Task.prepare` gives them.
        run (Run, optional): where to save; None saves nothing.
        world (World): the processes that train together.
        listeners: called with every event, in rank 0 only.
    """

    def __init__(
        self, model: Model, examples: Any, held: Any, run: Run | None, world: World, listeners: Sequence[Listener]
    ) -> None:
        self.model, self.held, self.run, self.world = model, held, run, world
        self.config = model.config
        self.listeners = listeners if world.rank == 0 else []
        self.batches = model.batches(examples, world.rank, world.size)
        model.network.to(world.device)
        self.objective = world.wrap(Objective(model))
        self.optimizer = optimiser.build(model.network, self.config)
        self.average = Average(model.network, self.config.average) if self.config.average else None
        self.rates = [group["lr"] for group in self.optimizer.param_groups]
        self.precision = mixed_precision(self.config.precision, world.device)
        self.progress = Progress()
        self.carry: Any = None
        self._report = _Report()
        self._saved_at = 0.0
        self._base, self._began, self._before = 0.0, 0.0, 0.0
        self._best_weights: dict[str, Tensor] | None = None
        by_the_clock = self.config.steps is None and world.size == 1 and world.device.type == "cpu"
        self._threads = Threads() if by_the_clock else None

    def train(self, resume: bool = False) -> Ended:
        """Train until steps or minutes are over, or validations no longer improve.

        Ctrl-C ends the training after the current step, with everything saved.

        Args:
            resume (bool): continue from the last checkpoint of the run. Default: False.

        Raises:
            ElmanError: training diverged: the loss or the gradient is not finite, or far above the first loss. The last
                checkpoint is kept.
        """
        torch.manual_seed(self.config.seed + self.world.rank)
        if resume:
            self._load()
        self._base, self._began = self.progress.seconds, time.perf_counter()
        self._saved_at = self._base
        self._report.restart(self._base)
        self._tell(Started(self.progress.step, self.model))
        if not resume:
            self._save()  # from here on there is something to go on from
        self.model.network.train()
        interrupts = _Interrupts()
        try:
            with interrupts:
                reason = self._loop(interrupts)
        except BaseException:
            self._tell(Ended(self.progress.step, self.progress.seconds, "failed", self.progress.best, self.selected_by))
            raise
        finally:
            if self._threads:
                self._threads.leave()
        end = self._end(reason)
        if interrupts.asked and self.run is not None:
            self.run.release()
        interrupts.pass_on()
        return end

    def _loop(self, interrupts: _Interrupts) -> str:
        """Make steps until there is a reason to stop; return the reason."""
        done, stop = self._done(interrupts)
        self._before = done
        while not stop:
            if done >= 1:
                return "finished"
            began = time.perf_counter()
            units = self._step(done)
            if self._threads:
                self._threads.stepped(time.perf_counter() - began, units)
            done, stop = self._done(interrupts)
            if self._report_and_save(done):
                return "early"
        return "interrupted"

    def _done(self, interrupts: _Interrupts) -> tuple[float, bool]:
        """Return the completed fraction of the run, and whether a signal asked to stop."""
        seconds = self._base + time.perf_counter() - self._began
        self.progress.seconds, stop = self.world.agree(seconds, float(bool(interrupts.asked)))
        shares = [0.0]
        if self.config.steps is not None:
            shares.append(self.progress.step / self.config.steps if self.config.steps else 1.0)
        if self.config.minutes is not None:
            shares.append(self.progress.seconds / (60 * self.config.minutes))
        return max(shares), bool(stop)

    def _step(self, done: float) -> int:
        """Make a step, and return its number of units."""
        if self.config.steps:  # the middle of the step: neither the first nor the last one stands still
            done = max(done, (self.progress.step + 0.5) / self.config.steps)
        factor = optimiser.rate_factor(self.config, done)
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor
        batch = self.batches.batch(self.progress.step)
        with torch.autocast(self.world.device.type, torch.bfloat16, enabled=self.precision):
            loss, carry = self.objective(batch, self.carry)
        self.carry = None if carry is None else states.detach(carry)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        parameters = list(self.model.network.parameters())
        if self.config.clip_value is not None:
            nn.utils.clip_grad_value_(parameters, self.config.clip_value)
        limit = math.inf if self.config.clip_norm is None else self.config.clip_norm
        norm = nn.utils.clip_grad_norm_(parameters, limit).item()
        value = self.world.mean(loss.item())
        self._check_diverged(value, norm)
        self.optimizer.step()
        self.progress.step += 1
        if self.average:
            self.average.update(self.progress.step)
        units = self.model.size(batch) * self.world.size
        self._report.add(value, norm, self.rates[0] * factor, units)
        return units

    def _check_diverged(self, loss: float, norm: float) -> None:
        """Raise an error if training has diverged, before the step changes the weights."""
        progress = self.progress
        if progress.first_loss == math.inf and math.isfinite(loss):
            progress.first_loss = loss
        what = ""
        if not math.isfinite(loss) or not math.isfinite(norm):
            what = f"the loss is {loss:g} and the norm of the gradient {norm:g}"
        elif loss > 3 * progress.first_loss + 3:
            what = f"the loss has grown from {progress.first_loss:.3g} to {loss:.3g}"
        if what:
            kept = f"; the last good checkpoint stays in {self.run.path}" if self.run else ""
            clip = "" if self.config.clip_norm and self.config.clip_norm <= 1 else " or --clip-norm (to 1)"
            raise ElmanError(
                f"training diverged at step {progress.step + 1}: {what}; "
                f"lower --learning-rate (it is {self.config.learning_rate:g}){clip}{kept}"
            )

    def _report_and_save(self, done: float) -> bool:
        """Report, validate and save if it is time to; return whether to stop early."""
        progress, config = self.progress, self.config
        if done >= 1 or self._report.due(progress.seconds):
            self._tell(self._report.event(progress, min(done, 1.0)))
        if config.validate_every:
            due = progress.step % config.validate_every == 0
        else:
            due = int(10 * done + 1e-9) > int(10 * self._before + 1e-9)
        self._before = done
        if due or done >= 1:
            self._validate(min(done, 1.0))
            self._save()
            return config.patience is not None and progress.stale >= config.patience and done < 1
        if progress.seconds - self._saved_at > _SAVE:
            self._save()
        return False

    def _validate(self, done: float) -> None:
        if self.average:
            self.average.exchange()
        try:
            self._evaluate_held(done)
        finally:
            if self.average:
                self.average.exchange()

    def _evaluate_held(self, done: float) -> None:
        network, progress = self.model.network, self.progress
        network.eval()
        with torch.autocast(self.world.device.type, torch.bfloat16, enabled=self.precision):
            metrics = self.model.evaluate(self.held, self.model.validation_size)
        network.train()
        criteria = self.model.selection
        for name, _ in criteria:
            if not math.isfinite(metrics.get(name, 0.0)):
                raise ElmanError(
                    f"the validation {name} is {metrics[name]} at step {progress.step}; "
                    "models cannot be selected by a metric that is not finite"
                )
        better = not progress.best or rank(metrics, criteria) > rank(progress.best, criteria)
        progress.stale = 0 if better else progress.stale + 1
        if better:
            progress.best = self.model.metrics = metrics
            self._keep_best()
        self._tell(Validated(progress.step, done, progress.seconds, metrics, better))

    @property
    def selected_by(self) -> str:
        """The metric that decides which weights are kept as the best."""
        return self.model.selection[0].metric

    def _keep_best(self) -> None:
        self._best_weights = {key: value.clone() for key, value in self.model.network.state_dict().items()}
        if self.run and self.world.rank == 0:
            self.model.write_model(self.run)

    def _save(self) -> None:
        self._saved_at = self.progress.seconds
        if self.run is None:
            return
        tensors = {f"network.{k}": v for k, v in self.model.network.state_dict().items()}
        tensors |= {f"optimizer.{k}": v for k, v in optimiser.tensors(self.optimizer).items()}
        if self.average:
            tensors |= {f"average.{k}": v for k, v in self.average.weights.items()}
        if self.carry is not None:
            tensors |= {f"carry.{k}": self.world.gather(v) for k, v in states.flatten(self.carry).items()}
        tensors["random.cpu"] = self.world.gather(torch.get_rng_state())
        if self.world.device.type == "cuda":
            tensors["random.cuda"] = self.world.gather(torch.cuda.get_rng_state(self.world.device))
        if self.world.rank == 0:
            checkpoint.write(self.run, self.progress.model_dump(), self.world.size, tensors)
            self._tell(Saved(self.progress.step, self.run.path))
        self.world.wait()

    def _load(self) -> None:
        assert self.run is not None
        saved, network = Checkpoint(self.run), self.model.network
        if saved.about.world != self.world.size:
            raise ElmanError(
                f"{self.run.path}: trained by {saved.about.world} processes, cannot be resumed with {self.world.size}"
            )
        rank, device = self.world.rank, self.world.device
        self.progress = saved.about.progress
        saved.rename(self.model.renamed)
        network.load_state_dict(saved.like("network.", network.state_dict()))
        try:
            optimiser.restore(self.optimizer, saved.part("optimizer."))
            torch.set_rng_state(saved.random("cpu", rank, torch.get_rng_state()))
            if device.type == "cuda":
                torch.cuda.set_rng_state(saved.random("cuda", rank, torch.cuda.get_rng_state(device)), device)
        except (ValueError, RuntimeError) as error:
            raise error if isinstance(error, ElmanError) else saved.wrong(str(error)) from None
        if self.average:
            self.average.restore(saved.like("average.", self.average.weights))
        if saved.part("carry."):
            batch = self.batches.batch(self.progress.step)
            first = self.model.first_carry(batch) if isinstance(self.model, Carries) else ()
            form = {key: torch.stack([value] * self.world.size) for key, value in states.flatten(first).items()}
            carry = saved.like("carry.", form, or_bf16=True)
            self.carry = states.unflatten({key: value[rank].to(device) for key, value in carry.items()})
        self.model.metrics = self.progress.best
        if self.world.rank == 0:
            self.run.keep_metrics_until(self.progress.step)

    def _end(self, reason: str) -> Ended:
        if not self.progress.best:  # so that there is a model to use
            self._validate(0.0)
            self._save()
        elif reason == "interrupted":
            self._save()
        if self._best_weights is not None:
            self.model.network.load_state_dict(self._best_weights)
        elif self.run is not None and self.progress.best:
            self.model.load_model(self.run)
        self.model.network.eval()
        end = Ended(self.progress.step, self.progress.seconds, reason, self.progress.best, self.selected_by)
        self._tell(end)
        self.world.wait()
        return end

    def _tell(self, event: Event) -> None:
        for listener in self.listeners:
            listener(event)


class Average:
    """Exponential moving average of the weights of a network.

    a <- d a + (1 - d) w, with d = min(decay, (1 + n) / (10 + n)) after n steps

    Polyak & Juditsky 1992, https://doi.org/10.1137/0330046
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay, self.live = decay, {k: p for k, p in network.named_parameters() if p.requires_grad}
        self.weights = {k: p.detach().clone() for k, p in self.live.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        share = 1 - min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.weights.values()), [p.detach() for p in self.live.values()], share)

    @torch.no_grad()
    def exchange(self) -> None:
        """Swap the average and the weights of the network; a second call swaps them back."""
        for key, parameter in self.live.items():
            kept = parameter.detach().clone()
            parameter.copy_(self.weights[key])
            self.weights[key] = kept

    def restore(self, saved: dict[str, Tensor]) -> None:
        for key, value in self.weights.items():
            value.copy_(saved[key])


class _Report:
    """Accumulate means over the steps since the last event."""

    def __init__(self) -> None:
        self.restart(0.0)

    def restart(self, seconds: float) -> None:
        self.since, self.steps, self.loss, self.norm, self.units, self.rate = seconds, 0, 0.0, 0.0, 0, 0.0

    def add(self, loss: float, norm: float, learning_rate: float, units: int) -> None:
        self.steps, self.loss, self.norm = self.steps + 1, self.loss + loss, self.norm + norm
        self.units, self.rate = self.units + units, learning_rate

    def due(self, seconds: float) -> bool:
        return seconds - self.since >= _REPORT

    def event(self, progress: Progress, done: float) -> Stepped:
        n, seconds = max(1, self.steps), max(1e-9, progress.seconds - self.since)
        event = Stepped(
            progress.step, done, progress.seconds, self.loss / n, self.norm / n, self.rate, self.units / seconds
        )
        self.restart(progress.seconds)
        return event


class _Interrupts:
    """Record the first SIGINT or SIGTERM as a request to stop; raise KeyboardInterrupt at the second one."""

    asked = 0

    def __enter__(self) -> _Interrupts:
        self._before = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._ask)
        return self

    def _ask(self, number: int, frame: Any) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = number

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def pass_on(self) -> None:
        """Raise SIGTERM again once everything is saved; after SIGINT the process continues."""
        if self.asked == signal.SIGTERM:
            signal.raise_signal(signal.SIGTERM)


def mixed_precision(choice: str, device: torch.device) -> bool:
    """Return whether to use bf16; for ``auto``, whether the processor supports it natively."""
    if choice != "auto":
        return choice == "bf16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())

"""The verbs of ``worldflux data`` that write datasets: ``collect``, ``convert``, ``merge``."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worldflux.words.counts import counted

from .assignments import assignments
from .compute import ThreadsOption, computing
from .environment import EnvSetOption, FrameStackOption, ImageSizeOption, RenderSizeOption, named
from .opening import open_source
from .output import JsonOption, emit, fields, live, narrated, say

if TYPE_CHECKING:
    from worldflux.data import Dataset

FormatOption = Annotated[
    str | None, typer.Option("--format", metavar="NAME", help="The format of SOURCE, where it cannot be told.")
]
FormatSetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="An option of the format; may be repeated."),
]
ImagesOption = Annotated[
    str, typer.Option(help="How images are stored: raw, zstd, or auto: raw up to 2 GB, then what is smaller.")
]
EVERY = 10.0  # seconds between two lines where there is no terminal


def collect(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="The dataset's folder, made if absent.")],
    episodes: Annotated[int, typer.Option(min=1, help="How many it shall hold in all.")],
    env: Annotated[
        str | None,
        typer.Option(help="CartPole-v1, study:two-room or file.py:Class, say; of a RUN its own by default."),
    ] = None,
    policy: Annotated[
        str,
        typer.Option(help="Who acts: random, a run's directory, module:function, file.py:function or study:scripted."),
    ] = "random",
    num_envs: Annotated[int, typer.Option(min=1, help="Environments in lockstep.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Of the environments and the policy.")] = 0,
    greedy: Annotated[bool, typer.Option("--greedy", help="A run acts as well as it can, without its noise.")] = False,
    image_size: ImageSizeOption = None,
    render_size: RenderSizeOption = None,
    frame_stack: FrameStackOption = None,
    env_set: EnvSetOption = None,
    max_episode_steps: Annotated[
        int | None, typer.Option(min=1, help="Cut an episode that is not over by then, as a time limit does.")
    ] = None,
    images: ImagesOption = "auto",
    seal_seconds: Annotated[float, typer.Option(min=0, help="What is lost at most if it is killed.")] = 30.0,
    threads: ThreadsOption = None,
    json: JsonOption = False,
) -> None:
    """Record whole episodes in an environment until the dataset holds so many.

    The same command goes on where it stopped, with episodes of other seeds; with another policy or seed it adds theirs.
    Ctrl-C and SIGTERM keep every episode that is whole, and exit with 130 or 143.

    \b
    Examples:
      worldflux data collect --env Pendulum-v1 --policy random --episodes 40 --out set
      worldflux data collect --policy runs/pendulum --episodes 80 --out set --num-envs 4
      worldflux data collect --env CartPole-v1 --policy my_policy.py:act --episodes 10 --out set
      worldflux data collect --env study:two-room --policy study:mixed --episodes 400 --out set --num-envs 16
    """
    from worldflux.training.signals import StopSignals

    with StopSignals() as signals, narrated(), computing(threads), named(env, env_set) as about:
        _from_here(policy)
        from worldflux.experiment import collect as record

        told = _Progress(
            lambda now: (
                f"{now.episodes:,} of {counted(episodes, 'episode')}, {counted(now.rows, 'row')}, "
                f"{now.under_way:,} under way"
            )
        )
        made = record(
            out,
            episodes=episodes,
            policy=policy,
            num_envs=num_envs,
            seed=seed,
            explore=not greedy,
            image_size=image_size,
            render_size=render_size,
            frame_stack=frame_stack,
            max_episode_steps=max_episode_steps,
            images=images,  # type: ignore[arg-type]
            seal_seconds=seal_seconds,
            command=_command(context),
            stop=lambda: signals.received is not None,
            progress=told,
            **about,
        )
    told.end()
    data: dict[str, Any] = {"out": made.out, "episodes": made.episodes, "rows": made.rows, "added": made.added}
    data |= {"mean_return": made.mean_return, "finished": made.episodes >= episodes}
    text = fields({**data, "mean_return": "" if made.mean_return is None else f"{made.mean_return:.4g}"})
    if made.under_way:
        text += (
            f"\nleft out: {counted(made.under_way, 'row')} of episodes that were not over; --max-episode-steps ends "
            "those that never are"
        )
    _stopped_or_done(data, text, finished=made.episodes >= episodes, code=signals.exit_code, as_json=json)


def convert(
    context: typer.Context,
    sources: Annotated[
        list[str], typer.Argument(metavar="SOURCE... OUT", help="Datasets in any format, and the folder to write.")
    ],
    format: FormatOption = None,
    set_: FormatSetOption = None,
    images: ImagesOption = "auto",
    image_size: ImageSizeOption = None,
    json: JsonOption = False,
) -> None:
    """Write datasets of any format as one of ours, which is read fastest.

    The same command goes on where it stopped. Ctrl-C and SIGTERM keep what is written, and exit with 130 or 143.

    \b
    Examples:
      worldflux data convert minari-set set
      worldflux data convert d4rl:hopper.hdf5 set
      worldflux data convert lerobot-set set --image-size 64
    """
    if len(sources) < 2:
        raise typer.BadParameter("give at least one SOURCE, and OUT")
    command = _command(context)
    _written(sources[:-1], Path(sources[-1]), format, set_, images, size=image_size, command=command, as_json=json)


def merge(
    context: typer.Context,
    sources: Annotated[
        list[str], typer.Argument(metavar="SOURCE SOURCE... OUT", help="Datasets, and the folder to write.")
    ],
    images: ImagesOption = "auto",
    json: JsonOption = False,
) -> None:
    """Write several datasets as one. An episode that two of them hold is written once.

    \b
    Example:
      worldflux data merge random expert both
    """
    if len(sources) < 3:
        raise typer.BadParameter("give at least two datasets, and OUT")
    _written(sources[:-1], Path(sources[-1]), None, None, images, command=_command(context), as_json=json)


def _written(
    places: list[str],
    out: Path,
    format: str | None,
    options: list[str] | None,
    images: str,
    *,
    size: int | None = None,
    command: str,
    as_json: bool,
) -> None:
    from worldflux.training.signals import StopSignals

    with StopSignals() as signals, narrated():
        from worldflux.data import convert as write
        from worldflux.data.resizing import resized

        given: list[Dataset] = [open_source(place, format, assignments(options or [])) for place in places]
        if size is not None:
            given = [resized(one, size) for one in given]
        told = _Progress(lambda now: f"{now.episodes:,} of {counted(now.total, 'episode')}, {counted(now.rows, 'row')}")
        made = write(
            given,
            out,
            images=images,  # type: ignore[arg-type]
            command=command,
            stop=lambda: signals.received is not None,
            progress=told,
        )
    told.end()
    finished = made.episodes + made.doubles >= made.total
    data: dict[str, Any] = {"out": made.out, "episodes": made.episodes, "rows": made.rows, "finished": finished}
    data |= {"doubles": made.doubles} if made.doubles else {}
    remarks = list(dict.fromkeys(remark for dataset in given for remark in dataset.remarks))
    text = "\n".join([fields(data), *(f"note: {remark}" for remark in remarks)])
    _stopped_or_done(data | {"remarks": remarks}, text, finished=finished, code=signals.exit_code, as_json=as_json)


def _stopped_or_done(data: dict[str, Any], text: str, *, finished: bool, code: int, as_json: bool) -> None:
    if code and not finished:
        emit(data, f"{text}\nStopped; all of these are kept. The same command goes on.", as_json=as_json)
        raise typer.Exit(code)
    emit(data, text, as_json=as_json)


class _Progress:
    """One live line on a terminal; elsewhere a line now and then."""

    def __init__(self, words: Callable[[Any], str]) -> None:
        self._words, self._said = words, time.monotonic()

    def __call__(self, now: Any) -> None:
        passed = time.monotonic() - self._said
        if sys.stderr.isatty():
            if passed > 0.1:
                live(self._words(now))
                self._said = time.monotonic()
        elif passed > EVERY:
            say(self._words(now))
            self._said = time.monotonic()

    def end(self) -> None:
        """Clear the live line."""
        live("")


def _from_here(policy: str) -> None:
    """A module that ``policy`` names may lie in the working directory."""
    from worldflux.envs.study.options import is_study

    if ":" in policy and not is_study(policy) and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))


def _command(context: typer.Context) -> str:
    """What was typed, as the provenance keeps it."""
    return shlex.join(["worldflux", *context.obj])

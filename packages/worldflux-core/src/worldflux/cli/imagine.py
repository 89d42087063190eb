"""``worldflux imagine``: what a run's model imagines, beside what happens."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from worldflux.core.errors import ConfigurationError

from .compute import ThreadsOption, computing
from .data_options import DataSetOption, TrainedSkipOption
from .environment import EnvOption, EnvSetOption, FrameStackOption, ImageSizeOption, RenderSizeOption, named
from .light import Command
from .opening import load_run, open_recorded
from .output import JsonOption, apart, emit, table

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command(cls=Command)
def imagine(
    run: Annotated[Path, typer.Argument(help="The directory of a run, or of a saved model (with --env).")],
    data: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Recorded episodes instead of the environment: a path or FORMAT:PATH."),
    ] = None,
    data_set: DataSetOption = None,
    frame_skip: TrainedSkipOption = None,
    env: EnvOption = None,
    env_set: EnvSetOption = None,
    image_size: ImageSizeOption = None,
    render_size: RenderSizeOption = None,
    frame_stack: FrameStackOption = None,
    context: Annotated[int, typer.Option(min=1, help="Rows the model sees before it imagines.")] = 5,
    horizon: Annotated[int, typer.Option(min=1, help="Rows it imagines.")] = 15,
    sequences: Annotated[int, typer.Option(min=1, help="Sequences to average over.")] = 16,
    seed: Annotated[int | None, typer.Option(min=0, help="Of the episodes; by default the run's seed + 10000.")] = None,
    random: Annotated[bool, typer.Option("--random", help="Act at random instead of with the trained policy.")] = False,
    out: Annotated[Path | None, typer.Option(help="The animation, .gif or .webp; by default RUN/imagined.gif.")] = None,
    threads: ThreadsOption = None,
    json: JsonOption = False,
) -> None:
    """Predict open loop what the environment shows and pays, and animate truth, prediction and error.

    A run that learned from data alone predicts the episodes it held out. The numbers also go to a file beside the
    animation, with the suffix .json.

    \b
    Examples:
      worldflux imagine runs/cartpole --horizon 15 --out imagined.webp
      worldflux imagine runs/cartpole --data recorded
    """
    from worldflux.evals import animation_path, imagination_in_words
    from worldflux.experiment import imagine_recorded

    animation_path(run / "imagined.gif" if out is None else out)  # before the work, not after it
    with apart(), computing(threads), named(env, env_set) as about:
        about |= {"image_size": image_size, "render_size": render_size, "frame_stack": frame_stack}
        recorded = open_recorded(data, data_set)
        loaded = load_run(run, recorded, about)
        asked: dict[str, Any] = {"context": context, "horizon": horizon, "sequences": sequences, "seed": seed}
        if recorded is None and (loaded.settings.acts_in is not None or not loaded.settings.data):
            if frame_skip is not None:
                raise ConfigurationError("--frame-skip is about recorded data: name it, --data DIR")
            result = loaded.imagine(**asked, random_policy=random)
        else:
            result = imagine_recorded(loaded, recorded, frame_skip=frame_skip, **asked)
        animation, numbers = loaded.save_imagination(result, out)
    document = {
        "run": run,
        "model": loaded.settings.model,
        "env": loaded.settings.acts_in,
        "weights": loaded.weights,
        "animation": animation,
        "numbers": numbers,
        **result.to_dict(),
    }
    shown = [h for h in (1, 2, 5, 10, 15, 20, 30, 50, 100) if h < horizon] + [horizon]
    rows = [
        (name, measure, *(f"{values[h - 1]:.4g}" for h in shown))
        for name, measures in result.errors.items()
        for measure, values in measures.items()
    ]
    text = table(("PREDICTED", "ERROR", *(f"STEP {h}" for h in shown)), rows)
    said = document["in_words"] = imagination_in_words(result)
    if result.nearest:
        said.insert(0, "The model decodes nothing: its latents are shown by the nearest rows of other episodes.")
    text = "\n".join([text, "", *said, ""] if said else [text, ""])
    emit(document, f"{text}\nanimation  {animation}\nnumbers    {numbers}", as_json=json)

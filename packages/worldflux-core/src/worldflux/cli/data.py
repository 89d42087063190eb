"""``worldflux data``: record, look into, convert and check datasets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from worldflux.words.counts import counted

from .assignments import assignments
from .data_writing import FormatOption, FormatSetOption, collect, convert, merge
from .light import Command, Group
from .opening import open_source
from .output import PROBLEM, JsonOption, apart, emit, fields, table

SourceArgument = Annotated[
    str, typer.Argument(metavar="SOURCE", help="A dataset's folder or file, or FORMAT:PATH, in any format.")
]

app = typer.Typer(
    cls=Group,
    help="Record, look into, convert and check datasets.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)
app.command("collect", cls=Command)(collect)
app.command("convert", cls=Command)(convert)
app.command("merge", cls=Command)(merge)


@app.command(cls=Command)
def inspect(
    source: SourceArgument,
    format: FormatOption = None,
    set_: FormatSetOption = None,
    json: JsonOption = False,
) -> None:
    """Say what is in a dataset, what a model would see of it, and what is lost, guessed or slow.

    \b
    Example:
      worldflux data inspect set --json
    """
    from worldflux.data import describe

    with apart():
        told = describe(open_source(source, format, assignments(set_ or [])))
    emit(told, _described(told), as_json=json)


@app.command(cls=Command)
def verify(
    source: SourceArgument,
    format: FormatOption = None,
    set_: FormatSetOption = None,
    json: JsonOption = False,
) -> None:
    """Check every file: our datasets by their hashes, others by reading every row. Exits with 1 for a fault.

    \b
    Example:
      worldflux data verify set
    """
    with apart():
        options = _unverified(source, format) | assignments(set_ or [])
        dataset = open_source(source, format, options)
        problems = [str(problem) for problem in dataset.recording.verify()]
    data = {"place": source, "episodes": len(dataset.episodes), "rows": len(dataset), "sound": not problems}
    text = (
        "\n".join(problems)
        if problems
        else f"sound: {counted(len(dataset.episodes), 'episode')}, {counted(len(dataset), 'row')}"
    )
    emit(data | {"problems": problems}, text, as_json=json)
    if problems:
        raise typer.Exit(PROBLEM)


@app.command(cls=Command)
def split(
    source: SourceArgument,
    train: Annotated[Path | None, typer.Argument(help="Write the larger part to this folder.")] = None,
    held: Annotated[Path | None, typer.Argument(help="Write the held-out part to this folder.")] = None,
    held_out: Annotated[float, typer.Option(help="Share of the episodes that is held out.")] = 0.1,
    seed: Annotated[int, typer.Option(min=0, help="Another one holds out other episodes.")] = 0,
    format: FormatOption = None,
    set_: FormatSetOption = None,
    json: JsonOption = False,
) -> None:
    """List which episodes are held out, by their ids alone, or write both parts as datasets.

    \b
    Examples:
      worldflux data split set --held-out 0.1
      worldflux data split set set-train set-held
    """
    from worldflux.data import convert as write

    if (train is None) != (held is None):
        raise typer.BadParameter("give both folders, or none to see the lists")
    if train is not None and held is not None and train.resolve() == held.resolve():
        raise typer.BadParameter(f"both parts would go to {train}: give each a folder of its own")
    with apart():
        parts = open_source(source, format, assignments(set_ or [])).split(held_out, seed=seed)
        named = dict(zip(("train", "held_out"), parts, strict=True))
        if train is not None and held is not None:
            for part, out in zip(parts, (train, held), strict=True):
                write(part, out)
    data: dict[str, Any] = {
        name: {"episodes": list(part.episodes.ids), "rows": len(part)} for name, part in named.items()
    }
    if train is not None:
        data["train"]["out"], data["held_out"]["out"] = train, held
    rows = [(name, len(part.episodes), len(part)) for name, part in named.items()]
    text = table(("PART", "EPISODES", "ROWS"), rows)
    emit(data, f"{text}\n\nheld out: {', '.join(parts[1].episodes.ids[:20])}", as_json=json)


@app.command(cls=Command)
def preview(
    source: SourceArgument,
    out: Annotated[Path | None, typer.Option(help="The picture, .png; the animation is beside it.")] = None,
    episodes: Annotated[int, typer.Option(min=1, help="Episodes on the contact sheet.")] = 8,
    obs: Annotated[str | None, typer.Option(help="The observation; by default the first image.")] = None,
    format: FormatOption = None,
    set_: FormatSetOption = None,
    json: JsonOption = False,
) -> None:
    """Draw a contact sheet of some episodes (PNG) and animate them (GIF).

    \b
    Example:
      worldflux data preview set --out set.png
    """
    from worldflux.evals import contact_sheet, episode_animation

    with apart():
        dataset = open_source(source, format, assignments(set_ or []))
        picture = out or Path(f"{Path(source.rpartition(':')[2]).name}.png")
        sheet = contact_sheet(dataset, picture, episodes=episodes, obs=obs)
        animation = episode_animation(dataset, picture.with_suffix(".gif"), episodes=min(4, episodes), obs=obs)
    places = {"picture": sheet, "animation": animation}
    emit(places, fields(places), as_json=json)


def _unverified(source: str, format: str | None) -> dict[str, Any]:
    """Our own datasets are opened without looking at the hashes: these are looked at next."""
    native = format == "worldflux" or (format is None and (Path(source) / "dataset.json").is_file())
    return {"verify": False} if native else {}


def _described(told: dict[str, Any]) -> str:
    from worldflux.data import ActionBounds

    lengths, returns = told["lengths"], told.get("returns")
    head = {
        "place": told["place"],
        "format": told["format"],
        "episodes": f"{told['episodes']:,}",
        "rows": f"{told['rows']:,}",
        "rows an episode": f"{lengths['mean']:.1f} ({lengths['min']:.0f} to {lengths['max']:.0f})" if lengths else "",
        "ended in truth": f"{told['ended_in_truth']:,}",
        "stand-ins": f"{told['stand_ins']:,}" if told["stand_ins"] else "",
        "returns": f"{returns['mean']:.4g} ± {returns['std']:.4g} ({returns['min']:.4g} to {returns['max']:.4g})"
        if returns
        else "",
        "environment": told["provenance"].get("env", ""),
        "policy": told["provenance"].get("policy", ""),
        "action bounds": str(ActionBounds(**bounds)) if (bounds := told["actions"].get("bounds")) else "",
    }
    actions = told["actions"]
    rows = [
        (name, about["kind"], "×".join(map(str, about["shape"])), about["dtype"], _range(about))
        for name, about in told["modalities"].items()
    ]
    rows.append(("action", actions["kind"], str(actions["dim"]), "float32", _range(actions)))
    lines = [fields(head), "", table(("COLUMN", "KIND", "SHAPE", "DTYPE", "FROM … TO"), rows), "", "A model sees"]
    lines += [f"  {name}  {tensor}" for name, tensor in told["model_sees"].items()]
    if not told["rewards"]:
        lines.append("  no rewards: dreamer and planet learn what is seen alone, tdmpc2 and mbpo need them")
    lines += ["", *(f"note: {remark}" for remark in told["remarks"])] if told["remarks"] else []
    return "\n".join(lines)


def _range(about: dict[str, Any]) -> str:
    if "low" not in about:
        return ""
    low, high = (values if isinstance(values, list) else [values] for values in (about["low"], about["high"]))
    return f"{min(low, default=0):.4g} … {max(high, default=0):.4g}"

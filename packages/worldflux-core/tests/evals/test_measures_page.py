"""docs/measures.md documents every field of an evaluation by horizon, and no other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from worldflux.evals import LEVELS, EvalResult, evaluate_horizon, imagine
from worldflux.evals.drawing import draw_segments

PAGE = (Path(__file__).resolve().parents[4] / "docs" / "measures.md").read_text(encoding="utf-8")
NAMED = ("observations", "latents", "probes", "spread", "collapse")


def documented(heading: str) -> set[str]:
    """The names in code of the first column of every table under a heading."""
    part = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    cells = [line.split("|")[1] for line in part.splitlines() if line.startswith("| `")]
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def fields(tree, path=(), sources=None):
    """Every field of a document as the page writes it; the sources of curves are added to ``sources``."""
    for name, value in tree.items():
        if isinstance(value, dict) and {"horizon", "mean"} <= set(value):
            sources.add(name)
            yield ".".join((*path, "SOURCE"))
        elif isinstance(value, dict):
            named = len(path) == 1 and path[0] in NAMED
            yield from fields(value, (*path, "NAME" if named else name), sources)
        else:
            yield ".".join((*path, name))


@pytest.fixture(scope="module")
def found(drift):
    """The fields and sources of documents that, together, have everything."""
    asked = {"context": 3, "horizon": 6, "sequences": 24, "held_out": True, "split": "held out", "discount": 0.8}
    earned = {"trained": EvalResult((9.0, 9.0), (5, 5)), "random": EvalResult((1.0, 1.0), (5, 5))}
    seeing = drift.model(frame_skip=2).know()
    seeing.representation = ("place",)
    certain, images = drift.model().know("certainty"), drift.model(images=True).know()
    documents = [
        evaluate_horizon(certain, drift.dataset(), **asked, returns=earned).to_dict(),
        evaluate_horizon(images, drift.dataset(images=True), **asked, frame_skip=1).to_dict(),
        evaluate_horizon(seeing, drift.dataset(), **asked, frame_skip=2).to_dict(),
    ]
    sources = set()
    return {name for document in documents for name in fields(document, (), sources)}, sources


def test_every_field_is_documented_and_every_documented_field_is_there(found):
    assert found[0] == documented("The fields")


def test_every_source_is_documented_and_every_documented_source_is_there(found):
    assert found[1] == documented("Who is measured")


def test_every_level_of_evidence_has_its_rule_on_the_page():
    part = PAGE.split("\n## Levels of evidence\n")[1]
    assert re.findall(r"^\| ([a-z -]+) \| [^|]{20,} \|$", part, re.M) == list(LEVELS)


def test_an_evaluation_and_an_imagination_of_the_same_rows_agree(drift):
    model, data = drift.model().know("actions"), drift.dataset()
    segments, _ = draw_segments(data, sequences=12, rows=9, seed=0)
    curve = evaluate_horizon(model, segments, context=3, horizon=6).curve("observations", "place", "mse", "model")
    errors = imagine(model, segments, context=3).errors["place"]["mse"]
    assert [point.value for point in curve.points] == pytest.approx(errors.tolist())

from __future__ import annotations

import dataclasses
import json
import sys

import numpy as np
import pytest

from worldflux.core.errors import ConfigurationError
from worldflux.evals import (
    evaluate_horizon,
    imagine,
    read_metrics,
    record_segments,
    save_animation,
    save_learning_curve,
    save_pictures,
)
from worldflux.evals.curve import series
from worldflux.evals.video import CONTEXT, OPEN_LOOP


@pytest.fixture
def pictures(toys):
    def make(*, images):
        env = toys.Clockwork([20, 20], images=images)
        recorded = record_segments(env, toys.Alternating(), sequences=2, rows=6)
        return imagine(toys.Knowing(images=images), recorded, context=2)

    return make


@pytest.fixture
def pillow():
    return pytest.importorskip("PIL.Image")


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
@pytest.mark.parametrize("images", [True, False])
def test_an_animation_has_a_frame_for_every_row(pictures, pillow, tmp_path, suffix, images):
    path = save_animation(pictures(images=images), tmp_path / "sub" / f"imagined{suffix}")
    with pillow.open(path) as animation:
        assert animation.n_frames == 6


def test_without_observations_the_rewards_are_drawn(pictures, pillow, tmp_path):
    imagined = dataclasses.replace(pictures(images=False), truth={}, prediction={})
    with pillow.open(save_animation(imagined, tmp_path / "imagined.gif")) as animation:
        assert animation.n_frames == 6
    with pytest.raises(ConfigurationError, match=r"no modality 'obs' was imagined, only \['reward'\]"):
        save_animation(imagined, tmp_path / "imagined.gif", modality="obs")


def test_the_border_tells_context_from_imagination(pictures, pillow, tmp_path):
    path = save_animation(pictures(images=True), tmp_path / "imagined.webp")
    corners = []
    with pillow.open(path) as animation:
        for frame in range(animation.n_frames):
            animation.seek(frame)
            corners.append(animation.convert("RGB").getpixel((0, 0)))
    assert corners == [CONTEXT] * 2 + [OPEN_LOOP] * 4


def test_image_panels_are_truth_prediction_and_error(pictures, pillow, tmp_path):
    path = save_animation(pictures(images=True), tmp_path / "imagined.webp", sequences=1, size=8)
    with pillow.open(path) as animation:
        animation.seek(3)
        frame = np.asarray(animation.convert("RGB"))
    truth, prediction, error = np.split(frame, 3, axis=1)
    inside = slice(2, -2)
    np.testing.assert_array_equal(truth, prediction)
    assert truth[inside, inside].max() == 255
    assert error[inside, inside].max() == 0


def test_a_title_tells_what_is_real_and_what_is_imagined(pictures, pillow, tmp_path, monkeypatch):
    from worldflux.evals import strips

    said, band = [], strips.band
    for module in ("strips", "video"):
        spy = lambda width, lines, **colours: said.append(lines) or band(width, lines, **colours)
        monkeypatch.setattr(f"worldflux.evals.{module}.band", spy)
    save_animation(pictures(images=True), tmp_path / "imagined.gif")
    titles = [lines for lines in said if len(lines) == 2]
    assert [lines[0] for lines in titles] == [["what happened", "imagined", "absolute error"]] * 6
    assert titles[1][1] == ["row 2/6: context (the model sees it)"]
    assert titles[2][1] == ["row 3/6: open loop, step 1 of 4"]


def test_a_strip_has_a_line_for_each_number_and_a_column_for_each_row_of_time(pictures):
    from worldflux.evals.strips import HIGH, LINE, LOW, PAPER, TEXT, strips

    result = pictures(images=False)
    truth = np.stack([np.arange(6.0), np.arange(6.0)[::-1]], 1)[None]
    result = dataclasses.replace(result, truth={"obs": truth}, prediction={"obs": truth})
    picture = strips(result, "obs", now=3, width=192)[TEXT + 4 :]
    assert picture.shape == (2 * LINE + 2, 192, 3)
    happened, imagined, error = np.split(picture, 3, axis=1)
    assert (happened == imagined).all()
    column = [happened[LINE // 2, 10 * t + 5] for t in range(6)]
    assert (column[0] == LOW).all() and (column[4] == PAPER).all() and (column[5] == PAPER).all()
    assert (happened[LINE + LINE // 2, 5] == HIGH).all()  # the second number begins with its highest
    assert (error[: 2 * LINE, :39] == LOW).all()


def test_another_suffix_is_refused(pictures, tmp_path):
    with pytest.raises(ConfigurationError, match=r"\.gif or \.webp, got 'x.mp4'"):
        save_animation(pictures(images=True), tmp_path / "x.mp4")


def test_an_unknown_modality_is_named_with_the_nearest(pictures, tmp_path):
    with pytest.raises(ConfigurationError, match="Did you mean 'obs'"):
        save_animation(pictures(images=False), tmp_path / "x.gif", modality="ob")


def test_without_pillow_the_way_to_get_it_is_told(pictures, tmp_path, monkeypatch):
    result = pictures(images=False)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(ConfigurationError, match=r"needs pillow.*worldflux-core\[viz\]"):
        save_animation(result, tmp_path / "x.gif")


@pytest.fixture
def metrics(tmp_path):
    rows = [{"step": i, "env_steps": 10 * i, "episode/return": float(i)} for i in range(5)]
    rows += [{"step": 5, "env_steps": 50, "eval/return": 7.0}, {"step": 6, "env_steps": 60, "loss": None}]
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_a_line_cut_while_writing_is_left_out(metrics):
    with metrics.open("a", encoding="utf-8") as file:
        file.write('{"step": 7, "env_st')
    assert [row["step"] for row in read_metrics(metrics)] == list(range(7))


def test_a_damaged_line_before_the_last_is_named(metrics):
    metrics.write_text("nonsense\n" + metrics.read_text())
    with pytest.raises(ConfigurationError, match="line 1: not JSON"):
        read_metrics(metrics)


def test_a_series_has_only_rows_with_both_numbers(metrics):
    assert series(read_metrics(metrics), "eval/return") == ([50.0], [7.0])
    assert series(read_metrics(metrics), "loss") == ([], [])


def test_the_learning_curve_is_drawn(metrics, tmp_path):
    pytest.importorskip("matplotlib")
    path = save_learning_curve(metrics, tmp_path / "a" / "curve.png", title="t", random_mean=2.0)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_metrics_without_returns_are_refused_naming_what_is_there(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 2.0}\n')
    with pytest.raises(ConfigurationError, match=r"no 'episode/return' or 'eval/return'.*'loss', 'step'"):
        save_learning_curve(path, tmp_path / "curve.png")


def test_without_matplotlib_the_way_to_get_it_is_told(metrics, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ConfigurationError, match=r"needs matplotlib.*worldflux-core\[viz\]"):
        save_learning_curve(metrics, tmp_path / "curve.png")


def test_missing_metrics_are_said(tmp_path):
    with pytest.raises(ConfigurationError, match="no metrics at"):
        read_metrics(tmp_path / "metrics.jsonl")


def test_every_measure_by_horizon_has_a_picture(drift, tmp_path):
    pytest.importorskip("matplotlib")
    result = evaluate_horizon(drift.model().know(), drift.dataset(), context=3, horizon=4, sequences=12, draws=1)
    names = {path.stem for path in save_pictures(result, tmp_path)}
    assert {"observations-place-mse", "reward-r2", "latents-place-cosine", "continue-reliability"} <= names
    assert all((tmp_path / f"{name}.png").read_bytes()[:4] == b"\x89PNG" for name in names)

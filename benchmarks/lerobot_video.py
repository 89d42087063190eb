"""How long a window of 16 frames takes from a LeRobot video, against decoding the whole file for it.

    OMP_NUM_THREADS=1 python benchmarks/lerobot_video.py [--json] [--record]

Makes LeRobotDatasets of its own: one camera, three episodes in one H.264 file, with a keyframe in every 2 frames (what
LeRobot writes), in 16 and in 250. Both ways have the same windows, drawn at random, and take turns; the whole decode
turns only the wanted frames into pixels. The frames are compared: both ways must give the same.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from statistics import median

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from record import record

from worldflux.data import open_dataset

CAMERA, SIZE, FPS, EPISODES, FRAMES, WINDOW = "observation.images.front", 96, 10, 3, 600, 16
BAR = 5


def write_set(folder: Path, keys: int) -> None:
    """A LeRobotDataset v3.0 whose frames show a square that wanders over noise."""
    lengths, total = [FRAMES] * EPISODES, FRAMES * EPISODES
    starts = np.cumsum(lengths) - lengths
    numbers = {
        "observation.state": pa.array(np.zeros((total, 4), np.float32).tolist(), pa.list_(pa.float32())),
        "action": pa.array(np.zeros((total, 2), np.float32).tolist(), pa.list_(pa.float32())),
        "timestamp": np.tile(np.arange(FRAMES) / FPS, EPISODES).astype(np.float32),
        "frame_index": np.tile(np.arange(FRAMES), EPISODES),
        "episode_index": np.repeat(np.arange(EPISODES), FRAMES),
        "index": np.arange(total),
        "task_index": np.zeros(total, np.int64),
    }
    shapes = {"observation.state": [4], "action": [2]}
    features = {name: {"dtype": "float32", "shape": shapes.get(name, [1]), "names": None} for name in numbers}
    features[CAMERA] = {"dtype": "video", "shape": [SIZE, SIZE, 3], "names": ["height", "width", "channels"]}
    zeros = np.zeros(EPISODES, np.int64)
    episodes = {
        "episode_index": np.arange(EPISODES), "length": lengths, "data/chunk_index": zeros, "data/file_index": zeros,
        "dataset_from_index": starts, "dataset_to_index": starts + FRAMES, f"videos/{CAMERA}/chunk_index": zeros,
        f"videos/{CAMERA}/file_index": zeros, f"videos/{CAMERA}/from_timestamp": starts / FPS,
        f"videos/{CAMERA}/to_timestamp": (starts + FRAMES) / FPS,
    }  # fmt: skip
    info = {
        "codebase_version": "v3.0", "fps": FPS, "features": features, "total_episodes": EPISODES, "total_frames": total,
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
    }  # fmt: skip
    for place in ("data/chunk-000", "meta/episodes/chunk-000", f"videos/{CAMERA}/chunk-000"):
        (folder / place).mkdir(parents=True)
    pq.write_table(pa.table(numbers), folder / "data/chunk-000/file-000.parquet")
    pq.write_table(pa.table(episodes), folder / "meta/episodes/chunk-000/file-000.parquet")
    pq.write_table(pa.table({"task_index": [0], "task": ["wander"]}), folder / "meta/tasks.parquet")
    (folder / "meta/info.json").write_text(json.dumps(info))
    write_video(video_of(folder), total, keys)


def video_of(folder: Path) -> Path:
    return folder / f"videos/{CAMERA}/chunk-000/file-000.mp4"


def write_video(file: Path, frames: int, keys: int) -> None:
    noise = np.random.default_rng(0).integers(0, 80, (SIZE, SIZE, 3), np.uint8)
    with av.open(str(file), "w") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.height = stream.width = SIZE
        stream.pix_fmt = "yuv420p"
        stream.options = {"g": str(keys), "crf": "30"}
        for k in range(frames):
            image, at = noise.copy(), k % (SIZE - 16)
            image[at : at + 16, (3 * k) % (SIZE - 16) :][:, :16] = 220
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def whole_decode(file: Path, first: int) -> np.ndarray:
    """The frames ``first : first + WINDOW`` of a file, all of which is decoded."""
    with av.open(str(file)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        frames = list(container.decode(video=0))
        return np.stack([one.to_ndarray(format="rgb24") for one in frames[first : first + WINDOW]]).transpose(
            0, 3, 1, 2
        )


def measure(keys: int, windows: int) -> dict:
    """Times of both ways over the same windows."""
    with tempfile.TemporaryDirectory() as place:
        write_set(Path(place), keys)
        recording = open_dataset(place, cameras=["front"]).recording
        videos = recording.sources["obs/front"].videos
        rng = np.random.default_rng(1)
        times: dict[str, list[float]] = {"window": [], "whole": []}
        for turn in range(windows + 1):
            episode, start = int(rng.integers(EPISODES)), int(rng.integers(FRAMES - WINDOW))
            begin = time.perf_counter()
            ours = recording.read("obs/front", episode, start, start + WINDOW)
            middle = time.perf_counter()
            theirs = whole_decode(video_of(Path(place)), episode * FRAMES + start)
            end = time.perf_counter()
            assert (ours == theirs).all(), "both ways must give the same frames"
            if turn:  # the first one warms up
                times["window"].append(middle - begin)
                times["whole"].append(end - middle)
        recording.close()
        window, whole = (1e3 * median(times[name]) for name in ("window", "whole"))
        return {
            "keyframe_every": keys,
            "frames_in_file": EPISODES * FRAMES,
            "window_ms": round(window, 2),
            "whole_file_ms": round(whole, 2),
            "ratio": round(whole / window, 1),
            "frames_decoded_per_window": round(videos.decoded / (windows + 1), 1),
            "passed": whole / window >= BAR,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--windows", type=int, default=40)
    parser.add_argument("--json", action="store_true", help="print one JSON object per case")
    parser.add_argument("--record", action="store_true", help="keep the results in docs/results")
    args = parser.parse_args()
    for keys in (2, 16, 250):
        result = measure(keys, args.windows)
        if args.json:
            print(json.dumps(result), flush=True)
        else:
            print(
                f"a keyframe in {keys:>3}: window {result['window_ms']:.2f} ms ({result['frames_decoded_per_window']} "
                f"frames decoded), whole file {result['whole_file_ms']:.1f} ms: {result['ratio']} times faster",
                flush=True,
            )
        if args.record:
            record(
                "lerobot-video",
                case=result,
                key="keyframe_every",
                what=f"Milliseconds for a window of {WINDOW} frames of a LeRobot video, against decoding its file",
                command="OMP_NUM_THREADS=1 python benchmarks/lerobot_video.py --record",
                bar=f"at least {BAR} times faster than decoding the whole file",
            )


if __name__ == "__main__":
    main()

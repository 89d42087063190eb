"""Frames of video files by time: the right ones, and few others decoded on the way."""

from __future__ import annotations

import multiprocessing
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from worldflux.core.errors import ConfigurationError
from worldflux.data.recording import DatasetError
from worldflux.data.video import Videos

pytest.importorskip("av")

from .films import SHAPE, shown, write_film


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return write_film(tmp_path_factory.mktemp("film") / "film.mp4", 160)


def look(videos, film, places, **options):
    options = {"tolerance": 0.02, "shape": SHAPE} | options
    return videos.at(film, np.asarray(places) / 10, **options)


def test_frames_come_by_the_time_they_are_shown_not_as_they_are_stored(film):
    videos = Videos()
    assert shown(look(videos, film, range(40))) == list(range(40))
    assert shown(look(videos, film, [3, 3, 17, 38])) == [3, 3, 17, 38]
    assert shown(look(videos, film, [159, 159])) == [39, 39]


@pytest.mark.parametrize("name", ["film.mp4", "film.mkv"])
def test_any_frames_in_any_order_of_reads_are_those_of_a_whole_decode(tmp_path, name):
    film = write_film(tmp_path / name, 60)
    videos, rng = Videos(), np.random.default_rng(0)
    whole = look(videos, film, range(60))
    for _ in range(40):
        places = np.sort(rng.integers(60, size=rng.integers(1, 6)))
        assert (look(videos, film, places) == whole[places]).all(), places


def test_a_window_decodes_from_the_keyframe_before_to_its_last_frame_only(film):
    videos = Videos()
    look(videos, film, range(100, 116))
    keyframe, in_the_decoder = 96, 4
    assert 16 <= videos.decoded <= 116 - keyframe + in_the_decoder


def test_what_follows_the_last_read_is_decoded_on_without_a_jump(film):
    videos = Videos()
    for place in range(80):
        look(videos, film, [place])
    assert videos.decoded <= 80 + 4


def test_frames_far_apart_do_not_decode_what_lies_between(film):
    videos = Videos()
    assert shown(look(videos, film, [0, 80, 152])) == [0, 0, 32]
    assert videos.decoded <= 3 * 6


def test_the_table_of_a_file_is_read_without_decoding(film):
    videos = Videos()
    np.testing.assert_allclose(videos.index(film).times, np.arange(160) / 10)
    np.testing.assert_allclose(videos.index(film, exact=True).times, np.arange(160) / 10)
    assert videos.decoded == 0 and videos.index(film).height == 32


def test_no_more_files_stay_open_than_allowed(tmp_path):
    films = [write_film(tmp_path / f"{i}.mp4", 4) for i in range(4)]
    videos = Videos(open_files=2)
    for film in films * 2:
        look(videos, film, [1])
    assert len(videos._idle) == 2
    videos.close()
    assert not videos._idle
    assert shown(look(videos, films[0], [2])) == [2]


def test_threads_read_the_same_file_at_once(film):
    videos = Videos()
    starts = list(np.random.default_rng(0).integers(140, size=24))
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda start: shown(look(videos, film, range(start, start + 8))), starts))
    assert got == [[k % 40 for k in range(start, start + 8)] for start in starts]


def test_a_pickled_reader_opens_its_files_anew(film):
    videos = Videos()
    look(videos, film, [5])
    assert shown(look(pickle.loads(pickle.dumps(videos)), film, [7])) == [7]


def child(videos, film, queue):
    queue.put(shown(look(videos, film, [9, 90])))


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_process_reads_with_decoders_of_its_own(film):
    videos = Videos()
    look(videos, film, [5])
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=child, args=(videos, film, queue))
    process.start()
    assert queue.get(timeout=20) == [9, 10]
    process.join(20)
    assert shown(look(videos, film, [6])) == [6]


def test_a_time_without_a_frame_is_refused_by_file_episode_and_row(film):
    with pytest.raises(DatasetError, match=r"film.mp4, episode 7, row 3: has no frame at 16 s.*last at 15.9 s"):
        look(Videos(), film, [158, 160], episode=7, rows=[1, 3])
    with pytest.raises(DatasetError, match=r"no frame at 0\.55 s"):
        look(Videos(), film, [5.5])


def test_frames_of_another_size_are_refused(film):
    with pytest.raises(DatasetError, match="32 x 48 pixels at 0 s, expected 32 x 40"):
        look(Videos(), film, [0], shape=(3, 32, 40))


def test_a_file_cut_short_is_refused_before_anything_is_decoded(film, tmp_path):
    whole = film.read_bytes()
    for share in (0, 0.3, 0.7, 0.99):
        cut = tmp_path / "cut.mp4"
        cut.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(DatasetError, match=r"cut\.mp4"):
            Videos().index(cut)


def test_a_list_of_other_files_that_calls_itself_a_video_is_not_followed(film, tmp_path):
    for text in (f"ffconcat version 1.0\nfile {film}\n", f"#EXTM3U\n#EXTINF:1,\n{film}\n#EXT-X-ENDLIST\n"):
        (tmp_path / "list.mp4").write_text(text)
        with pytest.raises(DatasetError, match=r"list\.mp4"):
            Videos().index(tmp_path / "list.mp4")
    with pytest.raises(DatasetError, match="known by its name"):
        Videos().index(write_film(tmp_path / "film.ts", 4))


def test_without_its_library_the_extra_is_named(film, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ConfigurationError, match=r"reading video needs av.*worldflux-core\[data\]"):
        Videos().index(film)

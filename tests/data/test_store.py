"""What is kept is whole or not used, is bounded in size, and can be seen and cleared."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from clip_files import smooth_frames, write_video

from lus_lightning.cli import main
from lus_lightning.data import beamspace, cache, probe, store
from lus_lightning.data.beamspace import clip_geometry
from lus_lightning.data.cache import cached_frames, fill_cache
from lus_lightning.data.identity import content_hash
from lus_lightning.data.probe import Files
from lus_lightning.data.store import HEADER_BYTES, bound, files_of, keep, keep_text, kept, kept_text, size_in_bytes, size_in_words, trim
from lus_lightning.errors import UserError

DAMAGES = {
    "zeroed": lambda data: bytes(len(data)),
    "zeroed behind the header": lambda data: data[:HEADER_BYTES] + bytes(len(data) - HEADER_BYTES),
    "cut in half": lambda data: data[: len(data) // 2],
    "cut in the header": lambda data: data[:20],
    "longer": lambda data: data + b"garbage",
    "one bit": lambda data: data[:-5] + bytes([data[-5] ^ 4]) + data[-4:],
    "sides exchanged": lambda data: data[:12] + data[16:20] + data[12:16] + data[20:],
    "of another version": lambda data: b"LUSCACHE" + data[8:],
}


@pytest.fixture
def clip(tmp_path):
    return write_video(tmp_path / "clip.mp4", smooth_frames(9))


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_counts_as_missing(tmp_path, damage):
    array = np.random.default_rng(0).integers(0, 256, (3, 20, 30), np.uint8)
    keep(tmp_path / "a", array)
    keep_text(tmp_path / "b", "a text of some length, longer than the header is long, as a cut shall leave half of it")
    np.testing.assert_array_equal(kept(tmp_path / "a"), array)
    for file in (tmp_path / "a", tmp_path / "b"):
        file.write_bytes(DAMAGES[damage](file.read_bytes()))
        assert kept(file) is None
        assert kept_text(file) is None


@pytest.mark.parametrize("kind", ["identities", "geometries", "probes"])
@pytest.mark.parametrize("damage", ["zeroed behind the header", "cut in half", "longer", "one bit"])
def test_a_damaged_hash_field_of_view_or_fact_is_found_out_again(clip, tmp_path, monkeypatch, kind, damage):
    os.utime(clip, (1, 1))
    monkeypatch.setattr("lus_lightning.data.identity._SETTLED_SECONDS", -1e3)
    ask = {
        "identities": lambda: content_hash(clip, tmp_path),
        "geometries": lambda: clip_geometry(clip, {}, tmp_path),
        "probes": lambda: probe.probe(Files(clip), tmp_path),
    }[kind]
    right = ask()
    (kept,) = files_of(tmp_path / kind)
    kept.file.write_bytes(DAMAGES[damage](kept.file.read_bytes()))
    assert ask() == right
    assert kept_text(kept.file)


def test_a_map_outlives_its_file_as_a_running_process_may_have_it_open(tmp_path):
    keep(tmp_path / "frames" / "a", np.full((4, 5, 6), 7, np.uint8))
    opened = kept(tmp_path / "frames" / "a")
    store.clear(tmp_path)
    assert not (tmp_path / "frames" / "a").exists()
    assert (opened == 7).all()


def test_what_a_killed_writer_left_is_cleared_later_and_what_is_being_written_is_not_touched(tmp_path):
    code = (
        "import os, signal, sys; from pathlib import Path; from lus_lightning.data.identity import write_whole\n"
        "def chunks():\n    yield b'x' * 9_000_000\n    os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_whole(Path(sys.argv[1]) / 'features' / 'a', chunks())"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == -signal.SIGKILL
    (left,) = (tmp_path / "features").iterdir()
    assert not store.clear(tmp_path)
    assert left.exists()
    os.utime(left, (time.time() - 2 * 3600,) * 2)
    assert [item.file for item in store.clear(tmp_path)] == [left]
    assert not left.exists()


def _aged(folder, ages):
    """Files of 100 bytes and their header, last used so many hours ago, in kinds by turns."""
    for i, hours in enumerate(ages):
        file = folder / list(store.KINDS)[i % len(store.KINDS)] / f"{hours}h"
        keep(file, np.zeros((1, 1, 100), np.uint8))
        os.utime(file, (time.time() - 3600 * hours,) * 2)


def _ages(folder):
    return {p.name for p in folder.rglob("*h")}


def test_the_limit_removes_what_was_used_longest_ago(tmp_path):
    _aged(tmp_path, [5, 1, 4, 2, 3, 6])
    removed, left = trim(tmp_path, 3 * (100 + HEADER_BYTES), time.time())
    assert _ages(tmp_path) == {"1h", "2h", "3h"}
    assert [item.file.name for item in removed] == ["6h", "5h", "4h"]
    assert left == 3 * (100 + HEADER_BYTES)


def test_opening_a_file_is_using_it(tmp_path):
    _aged(tmp_path, [5, 1, 4])
    assert kept(tmp_path / "frames" / "5h") is not None
    trim(tmp_path, 2 * (100 + HEADER_BYTES), time.time() + 1)
    assert _ages(tmp_path) == {"5h", "1h"}


def test_a_run_holds_the_limit_but_keeps_what_it_uses_itself_and_says_so_once(tmp_path, monkeypatch, capsys):
    _aged(tmp_path, [5, 1])
    keep(tmp_path / "frames" / "now", np.zeros((1, 1, 100), np.uint8))
    monkeypatch.setenv("LUS_CACHE_LIMIT", "150")
    monkeypatch.setattr(store, "_STARTED", time.time() - 60)
    bound(tmp_path)
    bound(tmp_path)
    assert [item.file.name for item in files_of(tmp_path)] == ["now"]
    assert capsys.readouterr().out.count("holds 164 B, all in use, and its limit is 150 B ($LUS_CACHE_LIMIT)") == 1


def test_filling_the_frame_cache_holds_the_limit(clip, tmp_path, monkeypatch):
    _aged(tmp_path, [5, 1])
    monkeypatch.setenv("LUS_CACHE_LIMIT", "9.5 kb")
    assert not fill_cache([(clip, None)], 32, tmp_path, 1)
    assert _ages(tmp_path) == {"1h"}
    monkeypatch.setattr(cache, "frames_of", lambda path: pytest.fail(f"{path} was decoded again"))
    assert len(cached_frames(clip, 32, tmp_path)) == 9


@pytest.mark.parametrize(("text", "size"), [("20GB", 20 * 10**9), ("1.5 tb", 15 * 10**11), ("300", 300), ("0", 0), ("7KB", 7000)])
def test_sizes_are_read(text, size):
    assert size_in_bytes(text) == size
    assert size_in_bytes(size_in_words(size).removesuffix(" B")) == size


@pytest.mark.parametrize("text", ["", "much", "-1GB", "3 XB", "GB", "1,5GB"])
def test_what_is_no_size_is_told(text):
    with pytest.raises(UserError, match="as in 20GB"):
        size_in_bytes(text)


def _shown(capsys):
    out = capsys.readouterr().out
    return {m[1]: (int(m[2]), m[3]) for m in re.finditer(r"│ (\w+) +│[^│]+│ (\d+) +│ ([\d.]+ \w+) +│", out)}


def test_the_command_shows_clears_and_limits(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LUS_CACHE", str(tmp_path))
    _aged(tmp_path, [5, 1, 4, 2, 3, 6])
    (tmp_path / "simulated" / "study").mkdir(parents=True)
    (tmp_path / "simulated" / "study" / "clip").write_bytes(bytes(2_500_000))
    main(["cache"])
    rest = dict.fromkeys(("features", "geometries", "probes", "identities"), (1, "164 B"))
    assert _shown(capsys) == {"frames": (2, "328 B"), **rest, "simulated": (1, "2.5 MB")}
    main(["cache", "--clear", "features"])
    assert "removed: 1 files, 164 B" in capsys.readouterr().out
    main(["cache", "--limit", "0.4KB"])
    assert _ages(tmp_path) == {"2h", "3h"}
    main(["cache", "--clear"])
    assert not _ages(tmp_path)
    assert (tmp_path / "simulated" / "study" / "clip").exists(), "is no cache"


@pytest.mark.parametrize(("words", "said"), [(["--clear", "simulated"], "delete the folder"), (["--limit", "lots"], "as in 20GB")])
def test_a_kind_or_size_that_is_none_is_refused(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LUS_CACHE", str(tmp_path))
    (tmp_path / "simulated").mkdir()
    with pytest.raises(SystemExit) as ended:
        main(["cache", *words])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_a_field_of_view_of_another_version_is_estimated_again(clip, tmp_path, monkeypatch):
    clip_geometry(clip, {}, tmp_path)
    for name in ("BEAM_VERSION", "READER_VERSION"):
        monkeypatch.setattr(beamspace, name, -1)
        clip_geometry(clip, {}, tmp_path)
    told = [json.loads(kept_text(item.file)) for item in files_of(tmp_path / "geometries")]
    assert len(told) == 3

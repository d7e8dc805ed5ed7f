"""Data roots: folders, URLs through a local file cache, and where the cache is."""

import functools
import http.server
import os
import shutil
import threading
import time
from pathlib import Path

import fsspec
import numpy as np
import pandas as pd
import pytest
from clip_files import edit_index, smooth_frames, state, write_video

from lus_lightning.cli import main
from lus_lightning.data.index import build_index
from lus_lightning.data.readers import read_clip
from lus_lightning.data.roots import cache_folder, local_root, root_name
from lus_lightning.errors import UserError


@pytest.fixture
def served(study):
    """The study over HTTP on this machine."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(study.parent))
    handler.log_message = lambda *args: None
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/study/"
    server.shutdown()
    server.server_close()


@pytest.fixture
def in_memory(study):
    """The study in fsspec's memory file system."""
    memory = fsspec.filesystem("memory")
    memory.put(str(study), "/bucket/study", recursive=True)
    yield "memory://bucket/study"
    memory.rm("/bucket", recursive=True)


def _zipped(study):
    return f"zip://::{shutil.make_archive(str(study.parent / 'packed'), 'zip', study)}"


def _same(index, study):
    pd.testing.assert_frame_equal(index.table, build_index(study).table)


def test_a_local_folder_is_itself_and_is_copied_nowhere(study, tmp_path):
    assert local_root(study, tmp_path / "cache") == study
    assert local_root(f"file://{study}", tmp_path / "cache") == study
    assert not (tmp_path / "cache").exists()


def test_a_zip_is_a_data_root(study, tmp_path):
    _same(build_index(_zipped(study), cache_dir=tmp_path / "cache", strict=True), study)


def test_a_folder_inside_a_zip_is_a_data_root(study, tmp_path):
    archive = shutil.make_archive(str(tmp_path / "packed"), "zip", study.parent, study.name)
    _same(build_index(f"zip://study::{archive}", cache_dir=tmp_path / "cache", strict=True), study)


def test_a_web_address_is_a_data_root(served, study, tmp_path):
    (study / "clips" / "c0.mp4").rename(study / "clips" / "Zoë 1 & 2.mp4")
    edit_index(study, 0, "path", "clips/Zoë 1 & 2.mp4")
    _same(build_index(served, cache_dir=tmp_path / "cache", strict=True), study)


def test_the_command_takes_a_url(in_memory, tmp_path, capsys):
    main(["index", in_memory, "--out", str(tmp_path / "out.csv")])
    assert "study (" in capsys.readouterr().out
    assert len(pd.read_csv(tmp_path / "out.csv")) == 8


def test_a_file_changed_on_the_web_is_fetched_again(served, study, tmp_path):
    build_index(served, cache_dir=tmp_path / "cache")
    edit_index(study, 0, "score", 3)
    os.utime(study / "index.csv", (time.time(), time.time() + 5))  # the web tells times in whole seconds
    _same(build_index(served, cache_dir=tmp_path / "cache"), study)


def test_only_what_is_new_or_changed_is_fetched(in_memory, study, tmp_path, monkeypatch):
    memory = fsspec.filesystem("memory")
    mirror = local_root(in_memory, tmp_path / "cache")
    assert state(mirror).keys() == state(study).keys()
    fetched = []
    get_file, cat_file = type(memory).get_file, type(memory).cat_file
    monkeypatch.setattr(type(memory), "get_file", lambda self, path, *a, **k: (fetched.append(path), get_file(self, path, *a, **k))[1])
    monkeypatch.setattr(type(memory), "cat_file", lambda self, path, *a, **k: (fetched.append(path), cat_file(self, path, *a, **k))[1])
    local_root(in_memory, tmp_path / "cache")
    assert fetched == []
    time.sleep(0.01)
    other = write_video(tmp_path / "other.mp4", 255 - smooth_frames(4))
    memory.put(str(other), "/bucket/study/clips/c0.mp4")
    memory.rm("/bucket/study/clips/c1.mp4")
    mirror = local_root(in_memory, tmp_path / "cache")
    assert {Path(f).name for f in fetched} == {"c0.mp4"}
    np.testing.assert_array_equal(read_clip(mirror / "clips" / "c0.mp4").frames, read_clip(other).frames)
    assert not (mirror / "clips" / "c1.mp4").exists()


def test_a_bad_clip_behind_a_url_is_left_out(study, tmp_path):
    (study / "clips" / "c3.mp4").write_bytes(b"no clip")
    edit_index(study, 4, "path", "clips/gone.mp4")
    index = build_index(_zipped(study), cache_dir=tmp_path / "cache")
    assert index.left_out["path"].tolist() == ["clips/c3.mp4", "clips/gone.mp4"]
    assert len(index.table) == 6


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("memory://nowhere", "holds no files, or does not exist"),
        ("http://127.0.0.1:9/", "cannot be reached"),
        ("zip://::/nowhere.zip", "cannot be reached"),
        ("wonder://land", "is no URL that can be read"),
        ("file:///nowhere/at/all", "there is no folder"),
    ],
)
def test_a_url_that_leads_nowhere_is_one_sentence_and_code_2(url, sentence, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["index", url])
    assert caught.value.code == 2
    assert sentence in capsys.readouterr().err


def test_a_missing_package_for_a_url_is_told(tmp_path, monkeypatch):
    fsspec.register_implementation("lustest", "no_such_package.Files", errtxt="install no_such_package", clobber=True)
    with pytest.raises(UserError, match="needs another package"):
        local_root("lustest://bucket", tmp_path)


def test_the_cache_is_the_argument_or_the_variable_or_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("LUS_CACHE", str(tmp_path / "variable"))
    assert cache_folder(tmp_path / "argument") == tmp_path / "argument"
    assert cache_folder(None) == tmp_path / "variable"
    monkeypatch.delenv("LUS_CACHE")
    assert cache_folder(None) == Path.home() / ".cache" / "lus_lightning"


ROOTS = {
    "/data/blues/": "blues",
    "s3://bucket/blues": "blues",
    "zip://::/data/blues.zip": "blues",
    "zip://a/b::http://x/y.zip": "b",
    "http://x/": "x",
}


@pytest.mark.parametrize("root", ROOTS)
def test_a_root_has_a_name(root):
    assert root_name(root) == ROOTS[root]

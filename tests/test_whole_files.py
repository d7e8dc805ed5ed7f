"""Files are written whole beside their place and renamed: what breaks off in the middle leaves the old file as it was."""

import ast
import errno
import os
import resource
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from command_lines import EXPERIMENTS, words

import lus_lightning
from lus_lightning.callbacks.checkpoint import WholeCheckpointIO
from lus_lightning.callbacks.predictions import gathered
from lus_lightning.cli import main
from lus_lightning.data.identity import write_arrays, write_table, write_whole
from lus_lightning.errors import UserError
from lus_lightning.report.papers.corso_maps import kept_clips, write_film

PACKAGE = Path(lus_lightning.__file__).parent
WRITERS = {"to_csv", "to_parquet", "to_json", "to_pickle", "to_feather", "write_text", "write_bytes", "tofile", "imwrite", "save", "savez",
           "savez_compressed", "savetxt", "savefig", "copy", "copy2", "copyfile", "copytree", "move", "touch"}  # fmt: skip
OWN = {"data/identity.py", "console.py"}
"""Where the writing itself stands, and a mark whose creation is the message."""
SHAPED = {"copy"}
"""Also methods of arrays and tables: a writer only where a module of files has it."""


def direct_writers(source):
    """Lines of calls that write a file under its own name: not to a name that `whole_file` or `renamed` gave."""
    found = []

    def targets(node):
        return {name.id for name in ast.walk(node) if isinstance(name, ast.Name)}

    def look(node, fresh):
        if isinstance(node, ast.With):
            for item in node.items:
                look(item.context_expr, fresh)
                call = item.context_expr
                opener = isinstance(call, ast.Call) and getattr(call.func, "id", "") in ("whole_file", "renamed")
                if item.optional_vars is not None and (opener or targets(call) & fresh):
                    fresh = fresh | targets(item.optional_vars)
            for child in node.body:
                look(child, fresh)
            return
        if isinstance(node, ast.Call) and writes(node) and not targets(node) & fresh:
            found.append(node.lineno)
        for child in ast.iter_child_nodes(node):
            look(child, fresh)

    look(ast.parse(source), frozenset())
    return found


def writes(call):
    """Whether a call writes a file: by its name, or because it opens with a mode that writes."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name == "open":
        modes = [
            c.value for c in [*call.args, *(k.value for k in call.keywords)] if isinstance(c, ast.Constant) and isinstance(c.value, str)
        ]
        return any(set(mode) <= set("rwaxbt+") and set(mode) & set("wax") for mode in modes)
    if name in SHAPED:
        return isinstance(call.func, ast.Attribute) and getattr(call.func.value, "id", "") == "shutil"
    if name in ("to_csv", "to_json"):  # without a path they give text
        return isinstance(call.func, ast.Attribute) and bool(call.args)
    return name in WRITERS and isinstance(call.func, ast.Attribute)


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_writes_a_file_under_its_own_name(path):
    if path.relative_to(PACKAGE).as_posix() not in OWN:
        assert direct_writers(path.read_text()) == []


@pytest.mark.parametrize(
    "line",
    ["table.to_csv(path, index=False)", "path.write_text(text)", "np.savez(path, a=a)", "torch.save(a, path)", "path.open('w')",
     "open(path, mode='ab')", "av.open(path, 'w')", "shutil.copy(a, path)", "figure.savefig(path)", "cv2.imwrite(path, a)"],
)  # fmt: skip
def test_the_test_above_sees_a_new_direct_writer_and_lets_a_whole_one_pass(line):
    assert direct_writers(line) == [1]
    assert direct_writers(f"with whole_file(target) as path:\n    {line}") == []
    assert direct_writers(f"with whole_file(target) as fresh:\n    {line}") == [2]


@contextmanager
def full_disk(limit=4096):
    """No file may grow beyond `limit` bytes, which the system tells as it tells a full disk: an OSError in the middle of the writing."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


NOISE = np.random.default_rng(0).random(20000)
FILM = np.random.default_rng(0).integers(0, 255, (8, 64, 64, 3), np.uint8)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.bin", lambda path: write_whole(path, [NOISE.tobytes()])),
        ("a.csv", lambda path: write_table(path, pd.DataFrame({"a": NOISE}))),
        ("a.parquet", lambda path: write_table(path, pd.DataFrame({"a": NOISE}))),
        ("a.npz", lambda path: write_arrays(path, a=NOISE)),
        ("a.mp4", lambda path: write_film(path, FILM, (64, 64), "")),
        ("a.ckpt", lambda path: WholeCheckpointIO().save_checkpoint({"a": torch.from_numpy(NOISE)}, path)),
    ],
)
def test_a_full_disk_is_a_sentence_and_leaves_the_old_file_and_nothing_else(name, write, tmp_path):
    (tmp_path / name).write_text("old")
    with full_disk(), pytest.raises(UserError, match=f"{tmp_path} cannot be written .*free space"):
        write(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "old"
    write(tmp_path / name)
    assert (tmp_path / name).stat().st_size > 4096
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_process_killed_in_the_middle_of_a_checkpoint_leaves_the_old_one(tmp_path):
    WholeCheckpointIO().save_checkpoint({"step": 1}, tmp_path / "last.ckpt")
    code = (
        "import os, signal, sys, torch\n"
        "from lus_lightning.callbacks.checkpoint import WholeCheckpointIO\n"
        "save = torch.save\n"
        "def half(content, file):\n"
        "    file.write(b'half'); file.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
        "torch.save = half\n"
        "WholeCheckpointIO().save_checkpoint({'step': 2}, sys.argv[1])\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "last.ckpt")], check=False, cwd=PACKAGE.parent)
    assert done.returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 2  # the other is the half of the new one
    assert torch.load(tmp_path / "last.ckpt", weights_only=True) == {"step": 1}
    WholeCheckpointIO().save_checkpoint({"step": 3}, tmp_path / "last.ckpt")
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_file_is_on_the_disk_before_it_takes_its_name(tmp_path, monkeypatch):
    calls, flush, rename = [], os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda number: (calls.append("flushed"), flush(number)))
    monkeypatch.setattr(Path, "replace", lambda path, target: (calls.append("renamed"), rename(path, target)))
    WholeCheckpointIO().save_checkpoint({"step": 1}, tmp_path / "last.ckpt")
    assert calls == ["flushed", "renamed"]


def test_fit_saves_its_checkpoints_whole(tiny_study, tmp_path, monkeypatch, capsys):
    def full(content, file):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    recipe = EXPERIMENTS / "xing.yaml"
    more = ["--model.init_args.networks=[test_resnet]"]
    with pytest.raises(SystemExit) as ended:
        main(["fit", *words(recipe, EXPERIMENTS / "with/quick-xing.yaml", tiny_study, tmp_path / "run"), *more])
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert f"error: {tmp_path}/run/checkpoints cannot be written (No space left on device); free space" in told
    assert "Traceback" not in told
    assert list((tmp_path / "run" / "checkpoints").iterdir()) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_a_disk_that_is_full_during_a_simulation_is_a_sentence_and_the_simulation_goes_on_later(workers, tmp_path, capsys):
    asked = ["simulate", str(tmp_path / "study"), "--study=tiny", "--patients=3", "--frames=4", "--size=64", f"--workers={workers}"]
    with full_disk(2000), pytest.raises(SystemExit) as ended:
        main(asked)
    assert ended.value.code == 2
    assert "cannot be written (File too large); free space" in capsys.readouterr().err
    assert not (tmp_path / "study").exists()
    main(asked)
    assert len(pd.read_csv(tmp_path / "study" / "index.csv")) == 18


def test_a_simulation_into_a_folder_that_cannot_be_made_is_a_sentence(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as ended:
        main(["simulate", str(tmp_path / "file" / "study"), "--study=tiny"])
    assert ended.value.code == 2
    assert f"{tmp_path}/file cannot be written (" in capsys.readouterr().err


def test_a_test_that_broke_off_leaves_no_clips_for_a_page(tmp_path):
    write_arrays(tmp_path / "attention" / "3.npz", a=NOISE)
    assert kept_clips(SimpleNamespace(folder=tmp_path)) == []
    write_table(tmp_path / "attention.parquet", pd.DataFrame({"row": [3]}))
    assert kept_clips(SimpleNamespace(folder=tmp_path)) == [tmp_path / "attention" / "3.npz"]


def test_what_a_killed_pass_of_several_processes_left_is_not_taken_for_this_ones(tmp_path):
    for rank in (0, 1, 2):
        write_table(tmp_path / "predictions.parts" / f"{rank}.parquet", pd.DataFrame({"row": [90 + rank]}))

    def barrier(name):
        if name == "predictions":  # what the second process does before it comes here
            write_table(tmp_path / "predictions.parts" / "1.parquet", pd.DataFrame({"row": [1]}))

    trainer = SimpleNamespace(world_size=2, global_rank=0, is_global_zero=True, strategy=SimpleNamespace(barrier=barrier))
    assert list(gathered(trainer, [pd.DataFrame({"row": [0]})], tmp_path, ["row"])["row"]) == [0, 1]

"""Run folders: what lies in them, and when an old one makes way."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lus_lightning.console import say
from lus_lightning.data.identity import write_whole


def fingerprint(configs: Iterable[Path], words: Iterable[str], roots: Iterable[str | None]) -> str:
    """What was asked for: the content of configuration files, further words, and the data roots with all their files (none: simulated).

    Raises:
        UserError: a data root cannot be read.
    """
    from lus_lightning.data.index import build_index

    parts = [*(config.read_text() for config in configs), *words, *(build_index(root).fingerprint for root in roots if root)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def make_way(folder: Path, mark: str = "config.yaml") -> None:
    """Move a run folder that holds a run (a file or folder named `mark`) to `<folder>.<n>`, n the first free number, and say so."""
    if not (folder / mark).exists():
        return
    n = 1
    while (free := folder.with_name(f"{folder.name}.{n}")).exists():
        n += 1
    say(f"{folder} held another run, which is now {folder.rename(free)}")


def record(folder: Path) -> dict[str, Any]:
    """What `run.json` of a run folder says; empty if there is none yet."""
    path = folder / "run.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def write_record(folder: Path, **entries: Any) -> None:
    """Add entries to `run.json`."""
    path = folder / "run.json"
    write_whole(path, [json.dumps(record(folder) | entries, indent=2).encode()])


def flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as one, keys joined by dots."""
    if not isinstance(tree, dict):
        return {prefix: tree}
    return {key: leaf for name, branch in tree.items() for key, leaf in flat(branch, f"{prefix}.{name}" if prefix else name).items()}


# Where a run happens and what it is fed, not what it does: no change to the recipe.
_SURROUNDINGS = (
    "ckpt_path", "config", "checkpoint", "trainer.default_root_dir", "trainer.logger", "trainer.accelerator", "trainer.devices",
    "trainer.enable_progress_bar", "trainer.log_every_n_steps", "data.init_args.root", "data.init_args.test_root", "data.init_args.adapter",
    "data.init_args.cache_dir", "data.init_args.num_workers",
)  # fmt: skip


def changes(recipe: dict[str, Any], config: dict[str, Any]) -> list[dict[str, Any]]:
    """Where a run's configuration differs from its recipe: `key`, `paper` (the recipe's value) and `here`."""
    paper, here = flat(recipe), flat(config)
    keys = [k for k in paper | here if not k.startswith(_SURROUNDINGS) and paper.get(k) != here.get(k)]
    return [{"key": k, "paper": paper.get(k), "here": here.get(k)} for k in sorted(keys)]


def is_dry(trainer: Any) -> bool:
    """Whether a trainer runs with `fast_dev_run`, which leaves nothing in the run folder."""
    return bool(trainer.fast_dev_run)

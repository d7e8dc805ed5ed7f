"""Recipes, overlays and sweeps, found by name from any folder: `experiments/` of a checkout, or of the installed package."""

from pathlib import Path
from typing import Final

from lus_lightning.errors import UserError

_INSTALLED: Final = Path(__file__).parent / "experiments"
EXPERIMENTS: Final = _INSTALLED if _INSTALLED.is_dir() else Path(__file__).parents[1] / "experiments"
KINDS: Final = {"recipes": "*.yaml", "overlays": "with/*.yaml", "variants": "beside/*/*.yaml", "sweeps": "sweeps/*.yaml"}


def names(kind: str) -> list[str]:
    """Names of the shipped files of a kind (a key of `KINDS`), such as xing or with/quick-xing."""
    return sorted(str(path.relative_to(EXPERIMENTS).with_suffix("").as_posix()) for path in EXPERIMENTS.glob(KINDS[kind]))


def recipe_file(name: str, kind: str = "recipes") -> Path:
    """The file of a recipe, overlay or sweep.

    Args:
        name: a file of your own, else the name of what is shipped: xing, with/quick-xing, experiments/xing.yaml.
        kind: what is meant where the name has no folder, and what the error lists.

    Raises:
        UserError: there is neither such a file nor such a name.
    """
    if Path(name).is_file():
        return Path(name)
    short = name.removeprefix("experiments/").removesuffix(".yaml")
    known = {whole: whole for each in KINDS for whole in names(each)} | {whole.rpartition("/")[2]: whole for whole in names(kind)}
    if short not in known:
        raise UserError(f"there is no {kind.removesuffix('s')} {name}; give a file, or one of {', '.join(names(kind))}")
    return EXPERIMENTS / f"{known[short]}.yaml"


def with_files(words: list[str]) -> list[str]:
    """The words of a command line, each `--config NAME` that is no file replaced by the shipped file of that name."""
    found = list(words)
    for i, word in enumerate(words):
        option, is_one_word, name = word.partition("=")
        if option in ("--config", "-c") and is_one_word:
            found[i] = f"{option}={recipe_file(name)}"
        elif word in ("--config", "-c") and i + 1 < len(words):
            found[i + 1] = str(recipe_file(words[i + 1]))
    return found


def recipe_command(name: str) -> str:
    """Print a recipe, overlay or sweep to edit it (`recipe xing > mine.yaml`), or list them all (`recipe` alone).

    Args:
        name: which to print, such as xing, with/quick-xing or sweeps/xing; `all` lists them.

    Raises:
        UserError: there is none of this name.
    """
    if name != "all":
        return recipe_file(name).read_text(encoding="utf-8").rstrip()
    lines = [f"{kind + ':':<10}{', '.join(names(kind))}" for kind in KINDS]
    lines += ["", "To edit one: lus-lightning recipe xing > mine.yaml", "To train it: lus-lightning fit --config mine.yaml"]
    return "\n".join(lines)

"""The commands that the README and the pages of docs/ tell a user to type."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

_BLOCK = re.compile(r"^```[^\n]*\n(.*?)^```", re.DOTALL | re.MULTILINE)
_INLINE = re.compile(r"`([^`]+)`")
_COMMAND = re.compile(r"(?:\S*python3? -m lus_lightning|lus-lightning|make)(?: |$)")
_PART = re.compile(r"--[\w.+-]+(?:[ =]|$)|[A-Z_]+=")


def commands(text: str) -> list[str]:
    """The `make ...` and `python -m lus_lightning ...` of code blocks and of inline code, each once."""
    lines = [re.sub(r"\s#\s.*", "", line) for block in _BLOCK.findall(text) for line in block.replace("\\\n", " ").splitlines()]
    typed = [part.strip().removeprefix("$ ") for line in lines for part in line.split("&&")]
    return list(dict.fromkeys(" ".join(command.split()) for command in typed + _inline(text) if _COMMAND.match(command)))


def parts(text: str) -> list[str]:
    """Inline code that is a part of a command: `FOLDS=5`, `--trainer.devices=4`; a name without a value only tells what there is."""
    return list(dict.fromkeys(part for part in _inline(text) if _PART.match(part) and not part.endswith("=")))


def _inline(text: str) -> list[str]:
    return [" ".join(code.split()) for code in _INLINE.findall(_BLOCK.sub("", text))]

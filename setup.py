"""Puts `experiments/` into the wheel, beside the package's code; everything else stands in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithRecipes(build_py):
    """`build_py`, and `experiments/` as `lus_lightning/experiments/`; an editable install reads the checkout's."""

    def run(self) -> None:
        """Build, then copy."""
        super().run()
        if not self.editable_mode:
            shutil.copytree("experiments", Path(self.build_lib) / "lus_lightning" / "experiments", dirs_exist_ok=True)


setup(cmdclass={"build_py": BuildWithRecipes})

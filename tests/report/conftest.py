"""A reported run that the report's tests share."""

import pytest
from run_builder import write_run

from lus_lightning.report.html import make_report


@pytest.fixture(scope="session")
def xing_run(tmp_path_factory):
    """A run with its initial run beside it, reported."""
    folder = write_run(tmp_path_factory.mktemp("runs") / "xing-quick")
    write_run(folder / "beside" / "initial", select=False)
    make_report(folder, {"initial": folder / "beside" / "initial"}, replicates=300)
    return folder


@pytest.fixture(scope="session")
def page(xing_run):
    """The report's page as text."""
    return (xing_run / "report" / "index.html").read_text(encoding="utf-8")

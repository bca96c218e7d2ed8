"""Result files in a folder of the test's own."""

from pathlib import Path

import pytest
from result_files import Writer, writer


@pytest.fixture
def write(tmp_path: Path) -> Writer:
    return writer(tmp_path)

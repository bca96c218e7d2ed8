"""Result files in a folder of the test's own, and evaluated networks, with boxes and without."""

from pathlib import Path

import pytest
from result_files import Writer, writer
from two_networks import Settings, evaluate_on_a_folder, evaluate_two_networks


@pytest.fixture
def write(tmp_path: Path) -> Writer:
    return writer(tmp_path)


@pytest.fixture(scope="session")
def settings(tiny_shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Tests must not change what it evaluated."""
    return evaluate_two_networks(tiny_shapes, tmp_path_factory.mktemp("two_networks"))


@pytest.fixture(scope="session")
def pets(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Tests must not change what it evaluated."""
    return evaluate_on_a_folder(tmp_path_factory.mktemp("folder"))

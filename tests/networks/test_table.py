"""The list of networks, computed from the networks."""

from __future__ import annotations

import pytest

from cam_repro.config import CONFIGS, model_names
from cam_repro.networks import network_table
from cam_repro.reporting.paper import TABLE1


@pytest.fixture(scope="module")
def table() -> str:
    return network_table()


def test_the_table_has_a_row_for_every_network(table: str) -> None:
    _, _, *rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]
    by_name = {name: rest for name, *rest in rows}
    assert list(by_name) == model_names()
    assert by_name["alexnet_star_gap"] == ["AlexNet*-GAP", "512×11×11", "227", "4.9", "yes"]
    assert by_name["nin"] == ["NIN", "1000×6×6", "224", "7.6", "yes"]
    assert by_name["alexnet"][:4] == ["AlexNet", "256×13×13", "224", "61.1"]
    assert by_name["alexnet"][4].startswith("no: fully connected layers")


def test_the_papers_networks_carry_the_papers_names(table: str) -> None:
    titles = {line.split(" | ")[0].removeprefix("| "): line.split(" | ")[1] for line in table.splitlines()}
    assert {model: title for model, (title, *_) in TABLE1.items()}.items() <= titles.items()


def test_the_readme_shows_this_table(table: str) -> None:
    assert table in (CONFIGS.parent / "docs/networks.md").read_text()

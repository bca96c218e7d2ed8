"""The list of networks, computed from the networks."""

from __future__ import annotations

import pytest

from cam_repro.config import CONFIGS, model_config, names_in
from cam_repro.localization.cells import connected_cells, drawn_cells
from cam_repro.networks.sizes import on_meta_device, shape_of_maps
from cam_repro.networks.trunks import backbone
from cam_repro.reporting.paper import TABLE1

HEADINGS = ("model=", "network", "maps K×h×w", "at input", "filter", "parameters (M)")
HEADINGS += ("cells drawn every", "connected every (px)", "… and from where they are drawn", "CAM")


@pytest.fixture(scope="module")
def table() -> str:
    """Every network of configs/model/ as a row of a Markdown table.

    For 1000 classes at its own input size.
    """
    rows = [HEADINGS, ["---"] * len(HEADINGS)]
    for name in names_in("model"):
        config = model_config(name)
        first_line, *_ = (CONFIGS / "model" / f"{name}.yaml").read_text().splitlines()
        # Each file opens with "# <title>: <what it is>"
        title, _, _ = first_line.removeprefix("# ").partition(":")
        network = on_meta_device(config)
        shape = shape_of_maps(network, config.input_size)
        maps = "×".join(map(str, shape))
        rows_of_cells, _ = connected_cells(network, config.input_size)
        drawn = drawn_cells(config.input_size, shape[1])
        moved = rows_of_cells.middle(shape[1]) - drawn.middle(shape[1])
        cells = [
            f"{drawn.stride:.1f}",
            f"{rows_of_cells.stride:g}",
            f"{round(moved, 1) + 0.0:+.1f}",
        ]
        millions = sum(parameter.numel() for parameter in network.parameters()) / 1e6
        cam = f"no: {network.cam_obstacle}" if network.cam_obstacle else "yes"
        interpolation = backbone(config.backbone).interpolation()
        size = str(config.input_size)
        rows.append([name, title, maps, size, interpolation, f"{millions:.1f}", *cells, cam])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def test_the_table_has_a_row_for_every_network(table: str) -> None:
    _, _, *rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]
    by_name = {name: rest for name, *rest in rows}
    assert list(by_name) == names_in("model")
    assert by_name["alexnet_star_gap"] == [
        "AlexNet*-GAP",
        "512×11×11",
        "227",
        "bilinear",
        "4.9",
        "20.6",
        "16",
        "-2.0",
        "yes",
    ]
    assert by_name["nin"][:5] == ["NIN", "1000×6×6", "224", "bilinear", "7.6"]
    assert by_name["efficientnet_lite0"][5:8] == ["32.0", "32", "+15.5"]
    assert by_name["resnet18"][5:8] == ["32.0", "32", "-15.5"]
    assert by_name["vgg_gap"][5:8] == ["16.0", "16", "+0.0"]
    assert by_name["alexnet"][:5] == ["AlexNet", "256×13×13", "224", "bilinear", "61.1"]
    assert by_name["efficientnet_lite0"][3] == "bicubic"
    assert by_name["alexnet"][8].startswith("no: fully connected layers")


def test_the_papers_networks_carry_the_papers_names(table: str) -> None:
    titles = {
        line.split(" | ")[0].removeprefix("| "): line.split(" | ")[1] for line in table.splitlines()
    }
    assert {model: title for model, (title, *_) in TABLE1.items()}.items() <= titles.items()


def test_the_docs_show_this_table(table: str) -> None:
    print(table)  # to be put there, where they do not
    assert table in (CONFIGS.parent / "docs/networks.md").read_text()

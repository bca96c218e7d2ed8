"""docs/explain.ipynb from top to bottom, as a reader runs it, without a notebook's machinery."""

import json
from pathlib import Path

import pytest
from conftest import REPOSITORY

NOTEBOOK = REPOSITORY / "docs/explain.ipynb"


def test_the_notebook_runs_from_top_to_bottom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    names: dict[str, object] = {}
    for number, cell in enumerate(json.loads(NOTEBOOK.read_text())["cells"]):
        if cell["cell_type"] == "code":
            assert not cell["outputs"], "kept outputs would hold this machine's paths"
            exec(compile("".join(cell["source"]), f"cell {number}", "exec"), names)
    said = capsys.readouterr().out
    assert "average pooling → classifier" in said and "daisy" in said
    assert "attention of the class token" in said and "AlexNet has no class activation map" in said
    assert len(names["record"]["images"][0]["classes"]) == 5
    assert names["cut"].shape == names["image"].shape

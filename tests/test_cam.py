"""`make cam` on a tiny network: what it prints, and under which names it draws."""

from __future__ import annotations

import csv
import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Settings, composed, write_checkpoint
from PIL import Image

from cam_repro import UserError, cam
from cam_repro.cam import show_images
from cam_repro.config import Config, model_config
from cam_repro.localization.boxes import paper_box
from cam_repro.networks import build_network
from cam_repro.reporting import cam_files

WORDS = {
    "n1": "crane",
    "n2": "crane",
    "n3": "../Größe 1/2: a, b",
    "n4": "!?",
    "n5": "tabby, tabby cat",
}


@pytest.fixture
def config(tmp_path: Path) -> Settings:
    """config("image=…", …) of a network of random weights and five classes, drawn into out/."""
    model = model_config("squeezenet", input_size=64)
    checkpoint = tmp_path / "runs/shapes/squeezenet/checkpoint.pt"
    write_checkpoint(checkpoint, model, build_network(model, 5), list(WORDS))
    mapping = "".join(f"{wnid} {words}\n" for wnid, words in WORDS.items())
    (tmp_path / "LOC_synset_mapping.txt").write_text(mapping)
    places = [f"runs={tmp_path / 'runs'}", f"data.root={tmp_path}", f"out={tmp_path / 'out'}"]
    return lambda *more: composed([*places, "device=cpu", "model=squeezenet", *more])


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of CAT.gif, Cat.png, cat.jpg, a file that is no image, and a Mac's shadow of one."""
    folder = tmp_path / "photos"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (70, 90, 3), np.uint8)
    for name in ("CAT.gif", "Cat.png", "cat.jpg"):
        Image.fromarray(pixels).save(folder / name)
    (folder / "broken.jpg").write_bytes(b"nothing")
    (folder / "._cat.jpg").write_bytes(b"nothing")
    return folder


def test_one_unreadable_image_of_a_folder_is_listed_and_the_others_are_drawn(
    config: Settings, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = f"1 of 4 images cannot be read, .* the other 3 is in {tmp_path / 'out'}"
    with pytest.raises(UserError, match=line):
        show_images(config(f"image={photos}"))
    drawn, unreadable = capsys.readouterr().out.split("cannot be read:\n")
    assert unreadable.count("\n") == 1 and f"{photos / 'broken.jpg'}: cannot identify" in unreadable
    files = sorted((tmp_path / "out").iterdir())
    assert len(files) == 3 and all(str(file) in drawn for file in files)
    assert drawn.count("  box ") == 15


def test_an_unreadable_image_asked_for_by_name_is_one_line(config: Settings, photos: Path) -> None:
    with pytest.raises(UserError, match=f"^image={photos / 'broken.jpg'}: cannot identify"):
        show_images(config(f"image={photos / 'broken.jpg'}"))


def test_images_of_one_name_are_kept_apart(config: Settings, photos: Path) -> None:
    """Also on a file system to which Cat and cat are the same."""
    (photos / "broken.jpg").unlink()
    names = [path.name for path in show_images(config(f"image={photos}", "shown_class=tabby"))]
    assert names == [
        "CAT.tabby.squeezenet.cam.paper.png",
        "Cat.tabby.squeezenet.cam.paper-2.png",
        "cat.tabby.squeezenet.cam.paper-3.png",
    ]


def test_no_call_overwrites_the_drawing_of_another(
    config: Settings,
    photos: Path,
    tmp_path: Path,
) -> None:
    draw = partial(config, f"image={photos / 'cat.jpg'}")
    calls = [
        ["shown_class=n1"],
        ["shown_class=n2"],
        ["shown_class=n5"],
        ["top=3"],
        ["shown_class=n5", "method=gradcam"],
        ["shown_class=n5", "protocol=release"],
        ["shown_class=n5", "protocol.threshold=0.5"],
    ]
    names = [show_images(draw(*options))[0].name for options in calls]
    assert len({*names}) == len(calls) == len([*(tmp_path / "out").iterdir()])
    assert names[0] == "cat.crane-n1.squeezenet.cam.paper.png"  # another class has this name
    assert names[2] == "cat.tabby.squeezenet.cam.paper.png"
    assert "-top3.squeezenet." in names[3]
    assert names[-1] == "cat.tabby.squeezenet.cam.paper-threshold0.5.png"


def test_any_class_words_give_a_file_in_the_folder(
    config: Settings,
    photos: Path,
    tmp_path: Path,
) -> None:
    for wnid, name in (("n3", "Größe-1-2-a"), ("n4", "class-3")):
        (path,) = show_images(config(f"image={photos / 'cat.jpg'}", f"shown_class={wnid}"))
        assert path == tmp_path / f"out/cat.{name}.squeezenet.cam.paper.png" and path.is_file()


def test_the_first_line_says_which_network_answers(
    config: Settings, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    show_images(config(f"image={photos / 'cat.jpg'}", "protocol.size=48"))
    (first,) = (line for line in capsys.readouterr().out.splitlines() if "pixels" in line)
    weights = f"{tmp_path}/runs/shapes/squeezenet/checkpoint.pt"
    assert first.startswith(f"squeezenet, weights={weights}: 5 classes (crane, crane, ")
    assert "48×48 pixels" in first and "method=cam, protocol=paper-size48" in first


def test_boxes_of_a_large_image_are_in_its_own_pixels_to_the_last_one(
    config: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """At a threshold of the maximum itself nothing is kept: the box is the whole image, 125×100."""
    monkeypatch.setattr(cam_files, "LARGEST_SIDE", 64)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.new("RGB", (100, 125), "red").save(tmp_path / "large.png", exif=exif)
    (path,) = show_images(config(f"image={tmp_path / 'large.png'}", "protocol.threshold=1"))
    assert capsys.readouterr().out.count("box 0 0 124 99\n") == 5
    assert Image.open(path).width >= 64


def test_a_class_that_is_asked_for_and_among_the_best_is_told_once(
    config: Settings, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (drawn,) = show_images(config(f"image={photos / 'cat.jpg'}", "shown_class=tabby"))
    out = capsys.readouterr().out
    assert out.count("n5") == 1 and out.count("  box ") == 5  # the network has five classes
    assert drawn.name.startswith("cat.tabby.")


def record_of(config: Config) -> dict[str, Any]:
    """The JSON of a call."""
    (path,) = [path for path in show_images(config) if path.name.endswith(".paper.json")]
    return json.loads(path.read_text())


def test_json_csv_coco_npy_and_masks_say_the_same(
    config: Settings, photos: Path, tmp_path: Path
) -> None:
    formats = "format=[json,csv,coco,npy,mask]"
    record = record_of(config(f"image={photos / 'cat.jpg'}", formats, "top=2"))
    assert record["network"] == "squeezenet" and record["method"] == "cam"
    assert record["protocol"]["threshold"] == 0.2 and len(record["weights"]["sha256"]) == 64
    (image,) = record["images"]
    assert (image["width"], image["height"]) == (90, 70) and len(image["classes"]) == 5
    assert sum(found["probability"] for found in image["classes"]) == pytest.approx(1, abs=1e-4)
    out = tmp_path / "out"
    for number in range(2):
        found = image["classes"][number]
        heatmap = np.load(out / image["written"]["npy"][number])
        assert heatmap.shape == (70, 90) and heatmap.dtype == np.float32
        (first,) = found["boxes"]
        assert tuple(first["box"]) == paper_box(heatmap)
        mask = np.array(Image.open(out / image["written"]["mask"][number]))
        assert mask.mean() == pytest.approx(first["share"])
        assert not mask[heatmap <= 0.2 * heatmap.max()].any()

    with (out / "cat.squeezenet.cam.paper.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    coco = json.loads((out / "cat.squeezenet.cam.paper.coco.json").read_text())
    assert len(lines) == len(coco["annotations"]) == 5
    for line, found, one in zip(lines, image["classes"], coco["annotations"], strict=True):
        box = found["boxes"][0]["box"]
        assert [int(line[corner]) for corner in ("x1", "y1", "x2", "y2")] == box
        assert one["bbox"] == [box[0], box[1], box[2] - box[0] + 1, box[3] - box[1] + 1]
        assert one["category_id"] == found["label"] + 1 and one["score"] == found["probability"]
        assert float(line["probability"]) == found["probability"] and line["name"] == found["name"]
    assert {one["id"] for one in coco["categories"]} == {1, 2, 3, 4, 5}


def test_every_region_has_a_box_the_largest_first(config: Settings, photos: Path) -> None:
    options = [f"image={photos / 'cat.jpg'}", "format=[json]", "method=backprop"]
    boxes = {}
    for which in ("one", "all"):
        (path,) = show_images(config(*options, f"boxes={which}"))
        (image,) = json.loads(path.read_text())["images"]
        boxes[which] = [found["boxes"] for found in image["classes"]]
    for one, every in zip(boxes["one"], boxes["all"], strict=True):
        shares = [box["share"] for box in every]
        assert [every[0]] == one and shares == sorted(shares, reverse=True)
    assert max(map(len, boxes["all"])) > 1


def test_a_folder_in_processes_and_in_this_one_gives_the_same_bytes(
    config: Settings, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (photos / "broken.jpg").unlink()
    options = [f"image={photos}", "format=[json,jpg]", "eval_batch_size=2"]
    here = show_images(config(*options))
    monkeypatch.setattr(cam, "FEW", 1)
    there = show_images(config(*options, f"out={tmp_path / 'there'}", "data.workers=1"))
    assert [path.name for path in here] == [path.name for path in there] and len(here) == 4
    for one, other in zip(here, there, strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_data_alone_leaves_no_drawing_and_the_end_says_what_was_written(
    config: Settings, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "broken.jpg").unlink()
    written = show_images(config(f"image={photos}", "format=[json,npy]"))
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {path.name for path in written} and len(names) == 4
    assert not any(name.endswith(".png") for name in names)
    last = capsys.readouterr().out.splitlines()[-1]
    assert re.fullmatch(r"3 images in [\d.]+ s: photos\.squeezenet\..*json, 3 npy in .*out", last)


@pytest.mark.parametrize("option", ["boxes=all", "format=[mask]"])
def test_regions_are_refused_of_the_release_which_has_several_thresholds(
    config: Settings, photos: Path, option: str
) -> None:
    with pytest.raises(UserError, match="regions above one threshold.*choose protocol=paper"):
        show_images(config(f"image={photos}", "protocol=release", option))

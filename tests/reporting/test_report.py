"""The report page, in a real browser without a network, and what it refuses."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from result_files import Writer
from two_networks import ODD_FILE, ODD_WORD, Settings

from cam_repro import UserError
from cam_repro.config import Config
from cam_repro.data.ilsvrc import IMAGES
from cam_repro.data.views import resize_map
from cam_repro.evaluation.maps import predict_split
from cam_repro.evaluation.spec import open_evaluations
from cam_repro.localization.boxes import LOOSE, TIGHT, paper_box
from cam_repro.localization.failures import KINDS, kind_of_guess
from cam_repro.localization.iou import box_iou
from cam_repro.reporting import gallery, report
from cam_repro.reporting.gallery import Gallery, spread_images
from cam_repro.reporting.report import class_errors, make_report
from cam_repro.reporting.results import (
    Answers,
    class_names,
    confused_pairs,
    confusion_matrix,
    read_results,
)
from scripts.eval_localization import main as evaluate_localization


@pytest.fixture(scope="module")
def released(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The settings, with a copy of the results in which network one has the release's too."""
    copy = tmp_path_factory.mktemp("released") / "results"
    shutil.copytree(settings().results, copy)
    evaluate_localization(settings(f"results={copy}", "name=one", "protocol=release"))
    return lambda *overrides: settings(f"results={copy}", *overrides)


@pytest.fixture
def copied(released: Settings, tmp_path: Path) -> Settings:
    """The settings with a copy of the results, which a test may change."""
    copy = shutil.copytree(released().results, tmp_path / "results")
    return lambda *overrides: released(f"results={copy}", *overrides)


@pytest.fixture(scope="module")
def page(released: Settings) -> Path:
    return make_report(released())


@pytest.fixture(scope="module")
def stored(page: Path) -> dict[str, Any]:
    return content_of(page)


def content_of(page: Path) -> dict[str, Any]:
    """What a page holds; each rule's boxes as an array (images,G+1,stops,4)."""
    text = page.read_text()
    data = json.loads(
        re.search(r'<script type="application/json" id="data">(.*)</script>', text)[1]
    )
    for run in data["runs"]:
        for rule in run["rules"].values():
            corners = np.frombuffer(b64decode(rule["boxes"]), "<u2")
            maps = len(rule["guesses"][0]) + 1
            rule["corners"] = corners.reshape(len(data["images"]), maps, -1, 4)
    return data


def known_boxes(rule: dict[str, Any], stop: int) -> list[np.ndarray]:
    """Of each image the true class's box at a stop."""
    return [boxes[place][stop] for boxes, place in zip(rule["corners"], rule["right"], strict=True)]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium that has no network."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    programs = shutil.which("chromium"), shutil.which("chromedriver")
    if not all(programs):
        pytest.skip("no chromium and chromedriver here: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = programs[0]
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(argument)
    driver = webdriver.Chrome(options, webdriver.ChromeService(programs[1]))
    driver.execute_cdp_cmd("Network.enable", {})
    offline = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
    driver.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
    yield driver
    driver.quit()


@pytest.fixture
def shown(browser: Any, page: Path) -> Any:
    """The page in a window of a desk's size, as opened; no test may leave a message behind."""
    look(browser, 1280, "light")
    browser.get(page.as_uri())
    yield browser
    assert browser.get_log("browser") == []


def look(browser: Any, width: int, theme: str) -> None:
    window = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", window)
    features = [{"name": "prefers-color-scheme", "value": theme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def keys(browser: Any, selector: str, *words: str, times: int = 1) -> None:
    """Keys to an element, and the page's next frame awaited."""
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    browser.find_element(By.CSS_SELECTOR, selector).send_keys(
        *[getattr(Keys, word, word) for word in words] * times
    )
    frame(browser)


def frame(browser: Any) -> None:
    browser.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")


def text(browser: Any, selector: str) -> str:
    return browser.execute_script(
        "return document.querySelector(arguments[0]).textContent", selector
    )


def judged(stored: dict[str, Any], run: dict[str, Any], threshold: int) -> list[tuple[float, str]]:
    """Of each image the IoU of the true class's box at a threshold in percent, and the kind."""
    rule = run["rules"]["paper"]
    said = []
    stop = threshold // stored["step"]
    for image, known in enumerate(known_boxes(rule, stop)):
        truth = stored["images"][image]["boxes"]
        best = rule["corners"][image, 0, stop]
        kind = kind_of_guess(best, rule["right"][image] == 0, truth)
        said.append((box_iou(known, truth).max(), kind))
    return said


def test_the_page_fetches_nothing_and_runs_nothing_of_its_data(shown: Any, page: Path) -> None:
    assert shown.title == "Class activation maps on tree"
    fetched = shown.execute_script(
        "return performance.getEntriesByType('resource').map((entry) => entry.name)"
    )
    assert all(name.startswith("data:") for name in fetched)
    shown.execute_script("document.getElementById('more').click()")
    frame(shown)
    assert ODD_WORD in text(shown, "#cards")
    alts = shown.execute_script(
        "return [...document.querySelectorAll('#cards img')].map((image) => image.alt)"
    )
    assert any(ODD_FILE in alt for alt in alts)
    assert not shown.execute_script(
        "return document.querySelectorAll('#cards script, #cards [onerror]').length"
    )
    assert page.stat().st_size < 20 * 1e5  # 6 MB of 60 images
    for selector, count in (
        ("#curve polyline", 1),
        ("#failures svg", 2),
        ("#errors .point", 4 * 2),
    ):
        assert (
            shown.execute_script("return document.querySelectorAll(arguments[0]).length", selector)
            == count
        )


@pytest.mark.parametrize("side", [1024, 60])
def test_the_boxes_are_those_of_the_evaluations_by_the_paper_and_by_the_release(
    copied: Settings, monkeypatch: pytest.MonkeyPatch, side: int
) -> None:
    """Those of predictions.txt; but for the paper's of large images, which are nearly so."""
    monkeypatch.setattr(gallery, "LARGEST_SIDE", side)
    config = copied("name=one", "report.images=20")
    stored = content_of(make_report(config))
    (run,) = stored["runs"]
    folder = Path(config.results, "tree/one")
    for name, file, stops in (
        ("paper", "predictions.txt", 51),
        ("release", "predictions-cam-release.txt", 2),
    ):
        guesses = np.loadtxt(folder / file).reshape(20, -1, 5)
        boxes = run["rules"][name]["corners"]
        assert boxes.shape[1:] == (guesses.shape[1] + 1, stops, 4)
        shown = boxes[:, :-1, 10 if name == "paper" else LOOSE]
        if name == "release" or side == 1024:
            assert np.array_equal(shown, guesses[..., 1:])
        else:
            assert 0 < np.abs(shown - guesses[..., 1:]).max() < 10


def test_the_slider_moves_box_counts_and_heat_to_what_python_says(
    shown: Any, stored: dict[str, Any], released: Settings
) -> None:
    slide = """const slider = document.querySelector("#bar .threshold");
        slider.value = arguments[0]; slider.dispatchEvent(new Event("input"))"""
    bright = """const canvas = document.querySelector("#large canvas"), { width, height } = canvas;
        const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
        return data.filter((value, at) => at % 4 === 3 && value > 100).length / (width * height)"""
    for threshold in (20, 44, 60):
        shown.execute_script(slide, threshold)
        frame(shown)
        said = [judged(stored, run, threshold) for run in stored["runs"]]
        known = [sum(iou >= 0.5 for iou, _ in of_run) for of_run in said]
        assert text(shown, "#bar .percent") == f"{threshold} %"
        counts = [
            f"{name}, cam: GT-known {known[place]} of 20"
            for place, name in enumerate(("one", "two"))
        ]
        assert all(count in text(shown, "#counts") for count in counts)
        kinds = [kind for _, kind in said[0]]
        for kind, heading in KINDS.items():
            assert f"{heading} {kinds.count(kind)}" in text(shown, "#kinds")
        shown.execute_script("open(3)")
        frame(shown)
        rule = stored["runs"][0]["rules"]["paper"]
        box = known_boxes(rule, threshold // stored["step"])[3]
        assert f"box {' '.join(map(str, box))}" in text(shown, "#large .words")
        heat = np.array(
            Image.open(io.BytesIO(b64decode(rule["heats"][3][rule["right"][3]]))).convert("L")
        )
        assert shown.execute_script(bright) == pytest.approx(
            (heat > 2.55 * threshold).mean(), abs=0.06
        )
        shown.execute_script("document.getElementById('large').close()")


def test_heat_and_boxes_are_the_maps_and_the_kinds_are_the_boxes(
    stored: dict[str, Any], released: Settings
) -> None:
    (evaluation,) = open_evaluations(released("name=one"))
    places = [evaluation.split.path(image).name for image in range(20)]
    images = [places.index(image["name"]) for image in stored["images"]]
    (batch,) = predict_split(
        evaluation.trained.network,
        evaluation.split.subset(images),
        "squash",
        96,
        ["cam"],
        evaluation.world,
    )
    rule = stored["runs"][0]["rules"]["paper"]
    for image, maps in enumerate(batch.maps["cam"][:, 0]):
        for base64, of_class in zip(rule["heats"][image], maps, strict=False):
            heat = np.array(Image.open(io.BytesIO(b64decode(base64))).convert("L"), int)
            enlarged = resize_map(of_class, heat.shape[1], heat.shape[0])
            expected = 255 * np.clip(enlarged / max(enlarged.max(), 1e-12), 0, 1)
            assert np.abs(heat - expected).mean() < 5
    for image, maps in enumerate(batch.maps["cam"][:5, 0]):
        size = stored["images"][image]["width"], stored["images"][image]["height"]
        for place, of_class in enumerate(maps):
            heatmap = resize_map(of_class, *size)
            for threshold in (0, 44, 100):
                box = rule["corners"][image, place, threshold // stored["step"]]
                assert tuple(box) == paper_box(heatmap, threshold / 100)
    for threshold in (20, 60):
        kinds = [kind for _, kind in judged(stored, stored["runs"][0], threshold)]
        assert [[*KINDS].index(kind) for kind in kinds] == [
            int(of[threshold // 2]) for of in rule["kinds"]
        ]


def test_switches_filters_order_and_keyboard(shown: Any, stored: dict[str, Any]) -> None:
    for button, key, percent in (
        ("#bar .threshold", "ARROW_RIGHT", "22 %"),
        ("#reset", "ENTER", "20 %"),
    ):
        keys(shown, button, key)
        assert text(shown, "#bar .percent") == percent
    said = judged(stored, stored["runs"][0], 20)
    release = "return [...document.getElementById('rule').options].map((option) => option.disabled)"
    assert shown.execute_script(release) == [False, True, True]  # two was not evaluated so
    keys(shown, "#network1", "HOME")  # nothing beside it
    assert not shown.execute_script(
        "return document.querySelectorAll('#cards .frame:nth-child(2)').length"
    )
    keys(shown, "#sort", "IoU, worst")
    keys(shown, "#more", "ENTER")
    shown_ious = [float(found) for found in re.findall(r"IoU ([\d.]+)", text(shown, "#cards"))]
    assert shown_ious == [round(iou, 2) for iou in sorted(known for known, _ in said)]
    kind = said[0][1]
    keys(shown, f"#kinds input[value={kind}]", "SPACE")
    kinds = [of for _, of in said]
    assert shown.execute_script("return document.querySelectorAll('.card').length") == kinds.count(
        kind
    )
    keys(shown, "#kinds input:checked", "ARROW_LEFT", times=len(KINDS))
    keys(shown, ".card", "ARROW_RIGHT")
    keys(shown, ".card:nth-child(2)", "ENTER")
    first = text(shown, "#large .words")
    assert shown.execute_script("return document.getElementById('large').open")
    keys(shown, "#next", "ARROW_RIGHT")
    assert text(shown, "#large .words") != first
    keys(shown, "#next", "ESCAPE")
    assert not shown.execute_script("return document.getElementById('large').open")
    keys(shown, "#rule", "release, t")
    assert "20, 100, 110 of 255" in text(shown, "#bar .percent")
    keys(shown, "#shown", "the second")
    box = stored["runs"][0]["rules"]["release"]["corners"][4, 1, TIGHT]
    shown.execute_script("open(4)")
    assert f"box {' '.join(map(str, box))}" in text(shown, "#large .words")


@pytest.mark.parametrize("width", [390, 1280])
def test_it_fits_a_phone_and_a_desk_in_light_and_in_dark(shown: Any, width: int) -> None:
    means = []
    for theme in ("light", "dark"):
        look(shown, width, theme)
        frame(shown)
        assert shown.execute_script("return document.documentElement.scrollWidth <= innerWidth")
        pixels = np.array(Image.open(io.BytesIO(shown.get_screenshot_as_png())).convert("L"))
        assert pixels.std() > 20
        means.append(pixels.mean())
    assert means[0] > means[1] + 60


NOTHING = Gallery([], [], KINDS)


def test_the_paper_stands_on_the_charts_of_all_of_ilsvrc_val_alone(
    tmp_path: Path, write: Writer
) -> None:
    for data, rings in (("ilsvrc", ["51.1%", "67.19%", "52.16%"]), ("shapes", [])):
        write("alexnet_gap", "cam", data=data, images=50_000)
        text = report.localization_page(tmp_path / data, read_results(tmp_path / data), NOTHING)
        assert re.findall(r'class="paper" cx="(.*?)"', text) == rings
        assert re.findall(r'class="point" cx="(.*?)"', text) == ["41.2%", "58.0%", "33.6%", "63.4%"]
        assert '<line class="interval" x1="57.0%" x2="59.0%"' in text
        assert re.findall(r'class="floor(?: lower)?" x1="([\d.]+)%" x2="\1%" y1="-8"', text) == [
            "21.6",
            "8.8",
        ]


def test_what_fewer_than_five_classes_leave_undefined_has_no_point_on_the_charts(
    tmp_path: Path, write: Writer
) -> None:
    write("alexnet_gap", "cam", metrics={"cls_top5_error": None, "loc_top5_error": None})
    text = report.localization_page(tmp_path / "shapes", read_results(tmp_path / "shapes"), NOTHING)
    assert re.findall(r'class="point" cx="(.*?)"', text) == ["41.2%", "58.0%", "63.4%"]


def refusal(config: Config) -> str:
    with pytest.raises(UserError) as caught:
        make_report(config)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_images_are_drawn_by_the_seed_or_listed(copied: Settings, tmp_path: Path) -> None:
    def names(*overrides: str) -> list[str]:
        page = make_report(copied("name=one", *overrides))
        return [image["name"] for image in content_of(page)["images"]]

    drawn = names("report.images=5")
    assert len(drawn) == 5 and drawn == names("report.images=5") != names(
        "report.images=5", "seed=1"
    )
    chosen = tmp_path / "list.txt"
    chosen.write_text(f"{drawn[3]}\n\n{Path(drawn[1]).stem}\n")
    assert names(f"report.images={chosen}") == [drawn[3], drawn[1]]
    chosen.write_text("cat.jpg")
    assert "cat.jpg is no val image; give names, as " in refusal(copied(f"report.images={chosen}"))
    none = "report.images=0: give a number above 0, of the 20 images with a true box"
    assert none in refusal(copied("report.images=0"))
    assert "cannot read few" in refusal(copied("report.images=few"))


def test_results_that_are_not_there_or_of_other_code_or_data_are_refused_by_name(
    copied: Settings,
) -> None:
    nowhere = "no boxes of any network in /nowhere/tree; first: make eval-localization data="
    assert nowhere in refusal(copied("results=/nowhere"))
    assert refusal(copied("report.networks=[one,alexnet_gap]")).startswith(
        "no boxes of alexnet_gap in "
    )
    assert "method=gradcm is unknown; did you mean gradcam?" in refusal(
        copied("report.methods=[gradcm]")
    )

    path = Path(copied().results, "tree/two/localization-cam-paper.json")
    record = json.loads(path.read_text())
    provenance = record["provenance"]
    commit = provenance["commit"][:10]
    for key, said in (
        ("commit", f"{path} are of different code: commit {commit} against 0123456789;"),
        ("data", f"{path} is of other images (0123456789abcdef) than data=tree now has"),
    ):
        changed = {"provenance": provenance | {key: "0123456789abcdef"}}
        path.write_text(json.dumps(record | changed))
        assert said in refusal(copied())


def test_a_damaged_image_and_lost_weights_are_one_line_that_says_why(
    copied: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = Path(copied().results, "tree/one/localization-cam-paper.json")
    line = refusal(copied(f"runs={tmp_path}"))
    assert f"the weights of {result}" in line and "give weights=FILE" in line
    assert f"{tmp_path}/tree/one/checkpoint.pt is not there" in line
    other = Path(copied().runs, "tree/two/checkpoint.pt")
    line = refusal(copied("name=one", f"runs={tmp_path}", f"weights={other}"))
    sha256 = hashlib.sha256(other.read_bytes()).hexdigest()
    assert f"weights={other} has sha256 {sha256[:10]}…" in line
    fingerprint = json.loads(result.read_text())["provenance"]["data"]
    monkeypatch.setattr("cam_repro.data.split.Split.fingerprint", lambda split: fingerprint)
    image = min(Path(copied().data.root, IMAGES, "val").iterdir())
    whole = image.read_bytes()
    image.write_bytes(whole[:300])
    try:
        assert f"corrupt image {image}" in refusal(copied())
    finally:
        image.write_bytes(whole)


def test_a_folder_without_boxes_has_a_page_of_right_and_wrong_answers_and_of_confusions(
    pets: Settings, browser: Any, tmp_path: Path
) -> None:
    results = shutil.copytree(pets().results, tmp_path / "results")
    path = make_report(pets(f"results={results}", "report.images=8"))
    assert path == results / "pets/report.html"
    stored = content_of(path)
    rule = stored["runs"][0]["rules"]["paper"]
    assert rule["corners"].shape == (8, 4, 51, 4) and len(stored["runs"][0]["rules"]) == 1
    answers = np.load(results / "pets/own/classification.npz")
    folders = [bytes(file).decode().split("/") for file in answers["files"]]
    wrong = {
        "/".join(folders[image])
        for image in np.flatnonzero(answers["classes"][:, 0] != answers["labels"])
    }
    chosen = [f"{image['label']}/{image['name']}" for image in stored["images"]]
    assert len(wrong) == 5 and len({*chosen[:4]} & wrong) == 4 and not {*chosen[4:]} & wrong

    look(browser, 1280, "light")
    browser.get(path.as_uri())
    frame(browser)
    assert browser.title == "Class activation maps on pets"
    right = sum(kinds == "0" * 51 for kinds in rule["kinds"])
    assert f"own, cam: {right} of 8 right" in text(browser, "#counts")
    kinds = text(browser, "#kinds")
    assert f"right class {right}" in kinds and f"wrong class {8 - right}" in kinds
    hidden = "return getComputedStyle(document.getElementById(arguments[0]).parentElement).display"
    displays = [browser.execute_script(hidden, name) for name in ("rule", "sort", "shown")]
    assert displays == ["none", "none", "grid"]
    browser.execute_script("open(0)")
    frame(browser)
    box = known_boxes(rule, 10)[0]
    assert f"box {' '.join(map(str, box))}" in text(browser, "#large .words")
    cells = """return [...document.querySelectorAll('.confusion tbody tr')]
        .map((row) => row.innerText.trim())"""
    matrix = np.zeros((3, 3), int)
    np.add.at(matrix, (answers["labels"], answers["classes"][:, 0]), 1)
    counts = [
        [int(number) for number in re.findall(r"\b\d\b", row)]
        for row in browser.execute_script(cells)
    ]
    assert counts == [[count for count in row if count] for row in matrix.tolist()]
    assert browser.execute_script("return document.querySelectorAll('#classes .point').length") == 3
    assert not browser.execute_script("return document.querySelectorAll('main script').length")
    assert browser.get_log("browser") == []


def test_a_classification_without_its_answers_is_refused_and_one_not_made_is_asked_for(
    pets: Settings, tmp_path: Path
) -> None:
    results = shutil.copytree(pets().results, tmp_path / "results")
    answers = results / "pets/own/classification.npz"
    whole = dict(np.load(answers))
    for damage in (
        answers.unlink,
        lambda: np.savez(answers, **whole | {"labels": whole["labels"][::-1]}),
    ):
        damage()
        line = refusal(pets(f"results={results}"))
        assert line.startswith(
            f"{answers}, which class each image was taken for, is not there, damaged or of other"
        )
        assert "evaluate again with force=true" in line
    assert "no classification of other in " in refusal(pets(f"results={results}", "name=other"))
    assert "are too large; choose method=cam" in refusal(
        pets(f"results={results}", "method=backprop")
    )


def test_half_of_the_images_are_wrong_answers_as_far_as_there_are_so_many() -> None:
    right = np.ones(18, bool)
    for wrong, expected in (([], 0), ([3, 5, 7], 3), (range(9), 4), (range(14), 4), (range(18), 8)):
        right[:] = True
        right[list(wrong)] = False
        images = spread_images(8, right, seed=0)
        assert (
            len({*images}) == 8
            and not right[images[:expected]].any()
            and right[images[expected:]].all()
        )
    assert sorted(spread_images(60, right, seed=0)) == [*range(18)]


def test_confusions_are_counted_and_classes_of_one_name_told_apart() -> None:
    names = class_names(["crane, bird", "crane, machine", "dog"], ["n1", "n2", "n3"])
    assert names == ["crane (n1)", "crane (n2)", "dog"]
    answers = Answers(np.array([0, 0, 0, 1]), np.array([[0, 1], [1, 0], [1, 0], [2, 1]]), names)
    matrix = confusion_matrix(answers)
    assert matrix.columns == ["crane (n1)", "crane (n2)", "any other class"]
    assert matrix.rows == [("crane (n1)", [1, 2, 0]), ("crane (n2)", [0, 0, 1])]
    assert confused_pairs(answers)[1:] == [
        ["crane (n1)", "crane (n2)", "2", "66.7 %"],
        ["crane (n2)", "dog", "1", "100.0 %"],
    ]
    second, first = class_errors(answers).rows
    # Wilson's interval of 2 of 3: (p + z²/2n ± z √(p(1−p)/n + z²/4n²)) / (1 + z²/n), z = 1.96
    assert first.name == "crane (n1): 2 of 3"
    assert first[1:4] == pytest.approx((66.7, 20.8, 93.9), abs=0.05)
    assert second[1:4] == pytest.approx((100.0, 20.7, 100.0), abs=0.05)

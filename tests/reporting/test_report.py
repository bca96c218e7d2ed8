"""The report page: whole in a real browser without a network, its boxes those of Python, and what it refuses."""

from __future__ import annotations

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
from cam_repro.localization.boxes import paper_box
from cam_repro.localization.failures import KINDS, kind_of_guess
from cam_repro.localization.iou import box_iou
from cam_repro.reporting import report
from cam_repro.reporting.report import make_report
from cam_repro.reporting.results import read_results


@pytest.fixture(scope="module")
def page(settings: Settings) -> Path:
    return make_report(settings())


@pytest.fixture(scope="module")
def stored(page: Path) -> dict[str, Any]:
    return content_of(page)


def content_of(page: Path) -> dict[str, Any]:
    """What a page holds; each run's maps as an array (pictures,G+1,h,w)."""
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*)</script>', page.read_text())[1])
    for run in data["runs"]:
        values = np.frombuffer(b64decode(run["maps"]), "<f4")
        run["arrays"] = values.reshape(len(data["pictures"]), -1, *run["side"])
    return data


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
    """The page in a window of a desk's size, as it is when opened; no test may leave a message behind."""
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

    browser.find_element(By.CSS_SELECTOR, selector).send_keys(*[getattr(Keys, word, word) for word in words] * times)
    frame(browser)


def frame(browser: Any) -> None:
    browser.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")


def text(browser: Any, selector: str) -> str:
    return browser.execute_script("return document.querySelector(arguments[0]).textContent", selector)


def judged(stored: dict[str, Any], run: dict[str, Any], threshold: float) -> list[tuple[float, float, str]]:
    """Python's word on each picture: IoU of the true class's box and of the best guess's, and why that one fails."""
    said = []
    for picture, maps, right in zip(stored["pictures"], run["arrays"], run["right"], strict=True):
        heats = [resize_map(maps[place], picture["width"], picture["height"]) for place in (right, 0)]  # -1: the last
        known, best = (paper_box(heat, threshold) for heat in heats)
        kind = kind_of_guess(best, right == 0, picture["boxes"])
        said.append((*(box_iou(box, picture["boxes"]).max() for box in (known, best)), kind))
    return said


def test_the_page_fetches_nothing_and_runs_nothing_of_its_data(shown: Any, page: Path) -> None:
    assert shown.title == "Class activation maps on tree"
    fetched = shown.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert all(name.startswith("data:") for name in fetched)
    shown.execute_script("document.getElementById('more').click()")
    frame(shown)
    assert ODD_WORD in text(shown, "#cards")
    alts = shown.execute_script("return [...document.querySelectorAll('#cards img')].map((image) => image.alt)")
    assert any(ODD_FILE in alt for alt in alts)
    assert not shown.execute_script("return document.querySelectorAll('#cards script, #cards [onerror]').length")
    assert page.stat().st_size < 20 * 1e5  # 6 MB of 60 pictures
    for selector, count in (("#curve polyline", 1), ("#failures svg", 2), ("#errors .point", 4 * 2)):
        assert shown.execute_script("return document.querySelectorAll(arguments[0]).length", selector) == count


def test_any_map_and_guess_is_enlarged_boxed_and_sorted_as_in_python(shown: Any) -> None:
    shapes = {(7, 7): (375, 500), (13, 9): (64, 48), (14, 14): (14, 14), (30, 30): (17, 9)}
    rng = np.random.default_rng(0)
    maps = [(rng.normal(size=small).astype(np.float32), large) for small, large in shapes.items()]
    maps += [(np.full((7, 7), value, np.float32), (20, 30)) for value in (0, -1, 2)]
    ask = """const [map, h, w, height, width] = arguments, heat = enlarge(map, h, w, height, width);
        return [Array.from(heat), [0, 0.2, 0.7, 1].map((threshold) => paperBox(heat, height, width, threshold))]"""
    for small, (height, width) in maps:
        heat, boxes = shown.execute_script(ask, small.ravel().tolist(), *small.shape, height, width)
        expected = resize_map(small, width, height)
        assert np.abs(np.array(heat).reshape(height, width) - expected).max() < 1e-5
        assert boxes == [[*paper_box(expected, threshold)] for threshold in (0, 0.2, 0.7, 1)]
    corners = rng.integers(0, 15, (500, 3, 2))
    boxes = np.concatenate([corners, corners + rng.integers(0, 25, (500, 3, 2))], 2).tolist()
    guesses = [(box, bool(number % 2), truth) for number, (box, *truth) in enumerate(boxes)]
    theirs = shown.execute_script("return arguments[0].map((guess) => kindOfGuess(...guess))", guesses)
    assert theirs == [kind_of_guess(*guess) for guess in guesses] and len({*theirs}) == len(KINDS)


def test_the_slider_moves_box_and_counts_to_what_python_says(shown: Any, stored: dict[str, Any]) -> None:
    slide = """const slider = document.querySelector("#bar .threshold");
        slider.value = arguments[0]; slider.dispatchEvent(new Event("input"))"""
    for threshold in (0.2, 0.45, 0.6):
        shown.execute_script(slide, round(100 * threshold))
        frame(shown)
        said = [judged(stored, run, threshold) for run in stored["runs"]]
        known = [sum(iou >= 0.5 for iou, _, _ in of_run) for of_run in said]
        assert text(shown, "#bar .percent") == f"{100 * threshold:.0f} %"
        counts = [f"{name}, cam: GT-known {known[place]} of 20" for place, name in enumerate(("one", "two"))]
        assert all(count in text(shown, "#counts") for count in counts)
        kinds = [kind for _, _, kind in said[0]]
        assert all(f"{heading} {kinds.count(kind)}" in text(shown, "#kinds") for kind, heading in KINDS.items())
        shown.execute_script("open(3)")
        run, picture = stored["runs"][0], stored["pictures"][3]
        heat = resize_map(run["arrays"][3][run["right"][3]], picture["width"], picture["height"])
        box = paper_box(heat, threshold)
        assert f"box {' '.join(map(str, box))}" in text(shown, "#large .words")
        shown.execute_script("document.getElementById('large').close()")


def test_switches_filters_order_and_keyboard(shown: Any, stored: dict[str, Any]) -> None:
    for button, key, percent in (("#bar .threshold", "ARROW_RIGHT", "21 %"), ("#reset", "ENTER", "20 %")):
        keys(shown, button, key)
        assert text(shown, "#bar .percent") == percent
    said = judged(stored, stored["runs"][0], 0.2)
    keys(shown, "#network1", "HOME")  # nothing beside it
    assert not shown.execute_script("return document.querySelectorAll('#cards .frame:nth-child(2)').length")
    keys(shown, "#sort", "IoU, worst")
    keys(shown, "#more", "ENTER")
    shown_ious = [float(found) for found in re.findall(r"IoU ([\d.]+)", text(shown, "#cards"))]
    assert shown_ious == [round(iou, 2) for iou in sorted(known for known, _, _ in said)]
    kind = said[0][2]
    keys(shown, f"#kinds input[value={kind}]", "SPACE")
    kinds = [of for *_, of in said]
    assert shown.execute_script("return document.querySelectorAll('.card').length") == kinds.count(kind)
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
    box = stored["runs"][0]["release"][4][1][1]
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


def test_the_paper_stands_on_the_charts_of_all_of_ilsvrc_val_alone(tmp_path: Path, write: Writer) -> None:
    for data, rings in (("ilsvrc", ["51.1%", "67.19%", "52.16%"]), ("shapes", [])):
        write("alexnet_gap", "cam", data=data, images=50_000)
        text = report.page(read_results(tmp_path / data), [], [])
        assert re.findall(r'class="paper" cx="(.*?)"', text) == rings
        assert re.findall(r'class="point" cx="(.*?)"', text) == ["41.2%", "58.0%", "33.6%", "63.4%"]
        assert '<line class="interval" x1="57.0%" x2="59.0%"' in text
        assert re.findall(r'class="floor(?: lower)?" x1="([\d.]+)%" x2="\1%" y1="-8"', text) == ["21.6", "8.8"]


def test_what_fewer_than_five_classes_leave_undefined_has_no_point_on_the_charts(tmp_path: Path, write: Writer) -> None:
    write("alexnet_gap", "cam", metrics={"cls_top5_error": None, "loc_top5_error": None})
    text = report.page(read_results(tmp_path / "shapes"), [], [])
    assert re.findall(r'class="point" cx="(.*?)"', text) == ["41.2%", "58.0%", "63.4%"]


def refusal(config: Config) -> str:
    with pytest.raises(UserError) as caught:
        make_report(config)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def copied(settings: Settings, tmp_path: Path) -> Settings:
    """The settings with a copy of the results, which a test may change."""
    copy = shutil.copytree(settings().results, tmp_path / "results")
    return lambda *overrides: settings(f"results={copy}", *overrides)


def test_the_pictures_are_drawn_by_the_seed_or_listed_and_large_ones_judged_small(
    copied: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pictures(*overrides: str) -> list[dict[str, Any]]:
        return content_of(make_report(copied("name=one", *overrides)))["pictures"]

    five = [pictures("report.images=5", f"seed={seed}") for seed in (0, 0, 1)]
    drawn, again, others = ([picture["name"] for picture in of_seed] for of_seed in five)
    assert len(drawn) == 5 and drawn == again != others
    chosen = tmp_path / "list.txt"
    chosen.write_text(f"{drawn[3]}\n\n{Path(drawn[1]).stem}\n")
    whole = pictures(f"report.images={chosen}")
    assert [picture["name"] for picture in whole] == [drawn[3], drawn[1]]
    monkeypatch.setattr(report, "LARGEST_SIDE", 100)
    for large, small in zip(whole, pictures(f"report.images={chosen}"), strict=True):
        factor = 100 / max(large["width"], large["height"])
        assert max(small["width"], small["height"]) == 100
        assert np.array(small["boxes"]) == pytest.approx(factor * np.array(large["boxes"]))
    chosen.write_text("cat.jpg")
    assert "cat.jpg is no val image; give names, as " in refusal(copied(f"report.images={chosen}"))
    none = "report.images=0: give a number above 0, of the 20 images with a true box"
    assert none in refusal(copied("report.images=0"))
    assert "cannot read few" in refusal(copied("report.images=few"))


def test_results_that_are_not_there_or_of_other_code_or_data_are_refused_by_name(copied: Settings) -> None:
    nowhere = "no boxes of any network in /nowhere/tree; first: make eval-localization data="
    assert nowhere in refusal(copied("results=/nowhere"))
    assert refusal(copied("report.networks=[one,alexnet_gap]")).startswith("no boxes of alexnet_gap in ")
    assert "method=gradcm is unknown; did you mean gradcam?" in refusal(copied("report.methods=[gradcm]"))

    path = Path(copied().results, "tree/two/localization-cam-paper.json")
    record = json.loads(path.read_text())
    for key, said in (
        ("commit", f"{path} are of different code: commit {record['provenance']['commit'][:10]} against 0123456789;"),
        ("data", f"{path} is of other pictures (0123456789abcdef) than data=tree now has"),
    ):
        path.write_text(json.dumps(record | {"provenance": record["provenance"] | {key: "0123456789abcdef"}}))
        assert said in refusal(copied())


def test_a_damaged_picture_and_lost_weights_are_one_line(
    copied: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = Path(copied().results, "tree/one/localization-cam-paper.json")
    line = refusal(copied(f"runs={tmp_path}"))
    assert f"the weights of {result}" in line and "give weights=FILE" in line
    fingerprint = json.loads(result.read_text())["provenance"]["data"]
    monkeypatch.setattr("cam_repro.data.split.Split.fingerprint", lambda split: fingerprint)
    picture = min(Path(copied().data.root, IMAGES, "val").iterdir())
    whole = picture.read_bytes()
    picture.write_bytes(whole[:300])
    try:
        assert f"corrupt image {picture}" in refusal(copied())
    finally:
        picture.write_bytes(whole)

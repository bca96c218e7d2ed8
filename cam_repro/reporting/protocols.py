"""What the choice of rule is worth: one network's errors, methods down and protocols across.

A section holds one network with one set of weights on one set of images; a column one protocol's settings. A network
whose results no longer belong together, because it was trained again or its data changed, gets the reason instead of
tables; what could only be a mistake is a UserError.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cam_repro.reporting import markdown
from cam_repro.reporting.findings import best_against_centre, rule_against_method
from cam_repro.reporting.paper import LOCALIZATION, row_title
from cam_repro.reporting.records import SWEEP_METRICS, Result, read_result
from cam_repro.reporting.sections import Section, known_cells, reasons, refusal, short_hash, value_of

NONE = "–"  # the protocol has no such number
ERRORS = ("cls_top1_error", "cls_top5_error", "loc_top1_error", "loc_top5_error", "gt_known_loc")


def texts(folder: Path) -> dict[str, str]:
    """File name -> content of protocols.md and .csv of `results/<data>/`; nothing if no network has two results."""
    parts, lines = [], []
    for model in sorted(path for path in folder.iterdir() if path.is_dir()):
        runs = [read_result(path) for path in sorted(model.glob("localization-*.json"))]
        if len(runs) < 2:
            continue
        section = Section(model.name, {(run.method, run.protocol["name"]): run for run in runs})
        if reason := refusal(section):
            parts += [f"## {_title(section)}", "", f"No tables: {reason}.", ""]
        else:
            parts += _section(section)
        lines += _csv_lines(section, reason)
    if not parts:
        return {}
    heading = f"# What the choice of rule is worth: localization by method and protocol, {folder.name}"
    text = "\n".join([heading, "", *parts, *_footer(), ""])
    return {"protocols.md": text, "protocols.csv": markdown.as_csv(lines)}


def _title(section: Section) -> str:
    run = section.any_run
    title = row_title(section.model)
    name = title if title == section.model else f"{title} (`{section.model}`)"
    return f"{name}: {run.data}, split {run.split}, {run.images:,} images"


def _section(section: Section) -> list[str]:
    cells = known_cells(section)
    found = [rule_against_method(cells), best_against_centre(cells)]
    parts = [f"## {_title(section)}", "", " ".join(found), ""]
    for title, rows in (
        ("Top-1 localization error (%), lower is better", _error_rows(section, "loc_top1_error")),
        ("Top-5 localization error (%), lower is better", _error_rows(section, "loc_top5_error")),
        ("GT-known localization (%), higher is better: the true class's box has IoU ≥ 0.5", _known_rows(section)),
        *((f"MaxBoxAcc of {name}: V2 (%), and the best thresholds", _sweep_rows(section, name))
          for name in section.protocols if section.sweeps(name) and section.column(name)),
        ("Classification error (%) of the same forward passes", _classification_rows(section)),
    ):  # fmt: skip
        parts += [f"### {title}", "", *markdown.aligned(rows), ""]
    return [*parts, *markdown.bullets(_notes(section)), ""]


def _cell(section: Section, method: str, protocol: str, show: Callable[[Result], str]) -> str:
    run = section.runs.get((method, protocol))
    return show(run) if run else f"not run [{reasons(section).index(section.gaps[method, protocol]) + 1}]"


def _error_rows(section: Section, metric: str) -> list[list[str]]:
    def show(run: Result) -> str:
        return NONE if run.is_sweep else markdown.metric(run, metric)

    rows = [[method, *(_cell(section, method, name, show) for name in section.protocols)] for method in section.methods]
    return [["method", *section.protocols], *rows]


def _known_rows(section: Section) -> list[list[str]]:
    rows = [["method", *(rule.heading for rule in section.rules)]]
    for method in section.methods:
        shown = [
            _cell(section, method, rule.protocol, lambda run, rule=rule: markdown.metric(run, rule.metric))
            for rule in section.rules
        ]
        rows.append([method, *shown])
    for metric, title in LOCALIZATION.floors.items():
        rows.append([title, *(_floor(section, rule.protocol, metric) for rule in section.rules)])
    return rows


def _floor(section: Section, protocol: str, metric: str) -> str:
    """Of the images of a column, which are the same for all its methods."""
    column = section.column(protocol)
    return markdown.measured(column[0].metrics[metric], None) if column else ""


def _sweep_rows(section: Section, protocol: str) -> list[list[str]]:
    columns: dict[str, Callable[[Result], str]] = {
        "V1: best threshold": lambda run: f"{run.thresholds['v1']:.3f}",
        "V2: best threshold": lambda run: f"{run.thresholds['v2']:.3f}",
        "V2 there": lambda run: markdown.metric(run, "max_box_acc_v2"),
        "V2 at 20 %": lambda run: markdown.metric(run, "max_box_acc_v2_at_20"),
    }
    rows = [["method", *columns]]
    rows += [[m, *(_cell(section, m, protocol, show) for show in columns.values())] for m in section.methods]
    for metric, title in LOCALIZATION.floors.items():
        rows.append([title, "", "", *[_floor(section, protocol, f"{metric}_v2")] * 2])
    return rows


def _classification_rows(section: Section) -> list[list[str]]:
    """By what the network was shown; methods may differ by a rounding of their forward passes."""
    shown: dict[tuple[str, int], list[Result]] = {}
    for run in section.runs.values():
        if not run.is_sweep:
            shown.setdefault((str(run.protocol.get("view")), run.input_size), []).append(run)
    rows = [["view, input", "top-1", "top-5", "of the protocols"]]
    for (view, size), runs in sorted(shown.items()):
        names = {run.protocol["name"] for run in runs}
        errors = [_common(runs, metric) for metric in ("cls_top1_error", "cls_top5_error")]
        rows.append([f"{view}, {size} pixels", *errors, ", ".join(p for p in section.protocols if p in names)])
    return rows


def _common(runs: list[Result], metric: str) -> str:
    found = {value: run for run in runs if (value := value_of(run, metric)) is not None}
    if not found:
        return NONE
    if len(found) == 1:
        return markdown.metric(next(iter(found.values())), metric)
    return f"{min(found):.2f} … {max(found):.2f}"


def _notes(section: Section) -> list[str]:
    runs = list(section.runs.values())
    boxes = [run for run in runs if not run.is_sweep]
    notes = [f"[{number}] not run: {reason}." for number, reason in enumerate(reasons(section), 1)]
    notes += [markdown.settings(section.column(name)[0]) for name in section.protocols if section.column(name)]
    notes.append(markdown.images_scored((boxes or runs)[0]))
    sizes = sorted({run.input_size for run in runs})
    notes.append(f"Network input, pixels a side: {', '.join(map(str, sizes))}.")
    notes.append(f"Weights: `{short_hash(runs[0], 'weights')}`; data fingerprint: `{short_hash(runs[0], 'data')}`.")
    return [*notes, markdown.evaluated_at(runs)]


def _footer() -> list[str]:
    return markdown.bullets(
        [
            f"{markdown.INTERVALS[0].upper()}{markdown.INTERVALS[1:]}.",
            "Protocols differ in view and boxes both; `release_heuristics` differs from `release` in its second to "
            "fifth guess alone, so their top-1 errors and GT-known are the same numbers; its guesses name "
            "three classes, which is no top-5 classification.",
            "`wsol` is MaxBoxAcc (Choe et al. 2020) on 224×224 maps: V1 is the largest contour's, IoU ≥ 0.5; V2 any "
            "contour's, mean over IoU 0.3, 0.5, 0.7. It takes the true class, so it has no top-1 or top-5, and counts "
            "all images, blacklisted ones too. Its best threshold is chosen on these very images; 20 % is the paper's.",
            markdown.GENERATED,
        ]
    )


def _csv_lines(section: Section, refused: str) -> list[dict[str, object]]:
    lines = []
    for way in ((method, protocol) for method in section.methods for protocol in section.protocols):
        run, gap = section.runs.get(way), section.gaps.get(way, "")
        fields = {"model": section.model, "method": way[0], "protocol": way[1], "status": "run" if run else "not run"}
        if refused:
            run, gap, fields["status"] = None, refused, "refused"
        lines.append(fields | {"reason": gap} | _csv_numbers(run))
    return lines


def _csv_numbers(run: Result | None) -> dict[str, object]:
    line: dict[str, object] = {key: run.protocol.get(key) if run else None for key in ("view", "boxes", "guesses")}
    for metric in dict.fromkeys((*ERRORS, *LOCALIZATION.floors, *SWEEP_METRICS)):
        line[metric] = value_of(run, metric) if run else None
        if not metric.startswith("floor"):
            ends = (run.confidence.get(metric) if line[metric] is not None else None) or (None, None)
            line |= {f"{metric}_low": ends[0], f"{metric}_high": ends[1]}
    line |= {f"threshold_{key}": run.thresholds.get(key) if run else None for key in ("v1", "v2")}
    keys = ("input_size", "data", "split", "images", "loc_images", "blacklist")
    line |= {key: getattr(run, key) if run else None for key in keys}
    return line | {key: run.provenance.get(key) if run else None for key in ("commit", "dirty", "weights", "date")}

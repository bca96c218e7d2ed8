"""Table 3 of the paper: what five guesses with loose and tight boxes gain over five loose ones, in top-5 error.

The paper's numbers are of ILSVRC's test split, whose labels are not public; the val split stands in for it.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from cam_repro.reporting import markdown
from cam_repro.reporting.paper import LOCALIZATION, METHODS, TABLE3, row_title
from cam_repro.reporting.records import Facts, Result, of_a_column, read_result, refuse_mixtures

GUESSES = {"release_heuristics": " (heuristics)", "release": ""}  # protocol -> what the paper adds to a row's title
OURS = [row_title("googlenet_gap") + guesses for guesses in GUESSES.values()]  # the paper's rows that can be run here
METRIC = "loc_top5_error"
SUPERVISION = "weakly"  # by the class alone: all that is reproduced here


class Row(NamedTuple):
    title: str
    supervision: str
    published: float | None  # % on ILSVRC test
    run: Result | None

    @property
    def reproduced(self) -> str:
        if self.run:
            return markdown.metric(self.run, METRIC)
        return "not run" if self.title in OURS else "published only"


def texts(folder: Path) -> dict[str, str]:
    """File name -> content of table3.md and table3.csv of `results/<data>/`; nothing where nothing was run for it."""
    names = [f"localization-{method}-{protocol}.json" for method in METHODS for protocol in GUESSES]
    runs = [read_result(path) for name in names for path in sorted(folder.glob(f"*/{name}"))]
    if not runs:
        return {}
    refuse_mixtures(runs, _but_for_the_guesses)
    for model in {run.model for run in runs}:
        refuse_mixtures([run for run in runs if run.model == model], _weights)
    rows = _rows(runs)
    return {"table3.md": _markdown(runs, rows), "table3.csv": _csv(rows)}


def _but_for_the_guesses(run: Result) -> Facts:
    """The rows differ in which boxes are guessed; in nothing else."""
    facts = of_a_column(run)
    return {key: value for key, value in facts.items() if key not in ("protocol.name", "protocol.guesses")}


def _weights(run: Result) -> Facts:
    return {"weights": run.provenance.get("weights")}


def _rows(runs: list[Result]) -> list[Row]:
    """The paper's rows in its order, then whatever else was run: a network's heuristics above its loose boxes."""
    ours = {(_title(run), SUPERVISION): run for run in sorted(runs, key=_order)}
    rows = [Row(*key, error, ours.get(key)) for key, error in TABLE3.items()]
    return rows + [Row(*key, None, run) for key, run in ours.items() if key not in TABLE3]


def _title(run: Result) -> str:
    return row_title(run.model, run.method) + GUESSES[run.protocol["name"]]


def _order(run: Result) -> tuple[int, str, int]:
    return METHODS.index(run.method), run.model, list(GUESSES).index(run.protocol["name"])


def _is_full_val(run: Result) -> bool:
    return run.data == "ilsvrc" and run.split == "val" and run.images in LOCALIZATION.images


def _markdown(runs: list[Result], rows: list[Row]) -> str:
    run, full = runs[0], _is_full_val(runs[0])
    here = "ILSVRC val, standing in for test" if full else f"{run.data} {run.split}"
    header = ["method", "supervision", "paper: ILSVRC test" + ("" if full else " (context only)"), f"here: {here}"]
    body = [[row.title, row.supervision, _published(row), row.reproduced] for row in rows]
    if full:
        header.append("difference")
        body = [[*cells, markdown.signed(_difference(row))] for cells, row in zip(body, rows, strict=True)]
    title = f"# Table 3: top-5 localization error (%), {here}, {run.images:,} images"
    return "\n".join([title, "", *markdown.aligned([header, *body]), "", *_footer(runs), ""])


def _published(row: Row) -> str:
    return "—" if row.published is None else f"{row.published:.1f}"


def _difference(row: Row) -> float | None:
    if row.run is None or row.published is None:
        return None
    return round(row.run.metrics[METRIC] - row.published, 6)


def _footer(runs: list[Result]) -> list[str]:
    protocols = {run.protocol["name"]: markdown.settings(run) for run in runs}
    notes = [
        f"Errors in %, lower is better; {markdown.INTERVALS}.",
        "The paper's column is ILSVRC test, whose labels are not public; the val split stands in for it here, so a "
        "difference is not one on the same images.",
        "(heuristics): the five guesses are class 1 loose and tight, class 2 loose and tight, class 3 loose; without: "
        "the loose box of each of the five best classes.",
        "Published only: trained with boxes (full), or Simonyan et al.'s own number (Backprop).",
        *(protocols[name] for name in sorted(protocols)),
        markdown.images_scored(runs[0]),
        markdown.input_sizes({(run.model, run.method): run for run in runs}.values()),
        markdown.evaluated_at(runs),
        markdown.GENERATED,
    ]
    return markdown.bullets(notes)


def _csv(rows: list[Row]) -> str:
    return markdown.as_csv([_csv_fields(row) for row in rows])


def _csv_fields(row: Row) -> dict[str, object]:
    run = row.run
    low, high = (run.confidence.get(METRIC) if run else None) or (None, None)
    fields: dict[str, object] = {"title": row.title, "supervision": row.supervision}
    fields |= {key: getattr(run, key) if run else "" for key in ("model", "method")}
    fields["status"] = "run" if run else row.reproduced
    fields |= {f"{METRIC}_paper_test": row.published, METRIC: run.metrics[METRIC] if run else None}
    fields |= {f"{METRIC}_low": low, f"{METRIC}_high": high}
    fields[f"{METRIC}_difference"] = _difference(row) if run and _is_full_val(run) else None
    fields |= {key: getattr(run, key) if run else "" for key in ("data", "split", "images")}
    return fields | {"protocol": run.protocol["name"] if run else ""}

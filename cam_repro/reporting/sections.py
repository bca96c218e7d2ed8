"""One network's results by method and protocol: checked to belong side by side, with the reason for every gap."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from cam_repro.reporting.findings import Cells, Known
from cam_repro.reporting.records import Facts, Result, command_for, mixture, of_a_column, refuse_mixtures

METHODS = ("cam", "gradcam", "backprop")
PROTOCOLS = ("paper", "release", "release_tight", "release_heuristics", "wsol")
SWEEPS = ("wsol",)
HEURISTICS = "heuristics"  # the `guesses` of Table 3


class Rule(NamedTuple):
    """A column of the GT-known table: a protocol, of a sweep at one of two thresholds."""

    protocol: str
    metric: str
    heading: str


@dataclass(frozen=True)
class Section:
    """One network's results, all of which may stand side by side."""

    model: str
    runs: dict[tuple[str, str], Result]  # (method, protocol)

    @cached_property
    def methods(self) -> list[str]:
        return _in_order(METHODS, [method for method, _ in self.runs])

    @cached_property
    def protocols(self) -> list[str]:
        return _in_order(PROTOCOLS, [protocol for _, protocol in self.runs])

    @property
    def any_run(self) -> Result:
        return next(iter(self.runs.values()))

    def column(self, protocol: str) -> list[Result]:
        return [self.runs[method, protocol] for method in self.methods if (method, protocol) in self.runs]

    def sweeps(self, protocol: str) -> bool:
        return protocol in SWEEPS or any(run.is_sweep for run in self.column(protocol))

    @cached_property
    def rules(self) -> list[Rule]:
        rules = []
        for name in self.protocols:
            if self.sweeps(name):
                rules.append(Rule(name, "max_box_acc_v1", f"{name}, best threshold"))
                rules.append(Rule(name, "max_box_acc_v1_at_20", f"{name}, at 20 %"))
            else:
                rules.append(Rule(name, "gt_known_loc", name))
        return rules

    @cached_property
    def gaps(self) -> dict[tuple[str, str], str]:
        """(method, protocol) without a result -> why."""
        empty = [(m, p) for m in self.methods for p in self.protocols if (m, p) not in self.runs]
        return {(method, protocol): _reason(self, method) for method, protocol in empty}


def _in_order(known: tuple[str, ...], found: list[str]) -> list[str]:
    return [*known, *sorted(set(found) - set(known))]


def _reason(section: Section, method: str) -> str:
    if method == "cam" and (obstacle := _cam_obstacle(section.model)):
        return f"this network has no class activation map: {obstacle}"
    chosen = "" if method in METHODS else f' args="method={method}"'
    return f"type `make eval-localization data={section.any_run.data} model={section.model} protocol=all{chosen}`"


def _cam_obstacle(model: str) -> str:
    from cam_repro.config import model_names  # torch is loaded only where a cell is empty
    from cam_repro.networks.table import anatomy

    return anatomy(model).cam_obstacle if model in model_names() else ""


def refusal(section: Section) -> str:
    """UserError for results that were never of one kind; the reason for such as are no longer."""
    runs = list(section.runs.values())
    refuse_mixtures(runs, _of_a_split)
    for protocol in section.protocols:
        refuse_mixtures(section.column(protocol), _of_a_protocol)
    if not (found := mixture(runs, _of_a_network)):
        return ""
    first, other, what = found
    return (
        f"`{first.path.name}` and `{other.path.name}` differ in {what}; evaluate the older one again, "
        f"`{command_for(first.path)}` or `{command_for(other.path)}`, or remove it"
    )


def _of_a_split(run: Result) -> Facts:
    return {"data": run.data, "split": run.split, "images": run.images, "blacklist": run.blacklist}


def _of_a_protocol(run: Result) -> Facts:
    return of_a_column(run) | {"input_size": run.input_size}


def _of_a_network(run: Result) -> Facts:
    return {"weights": short_hash(run, "weights"), "data fingerprint": short_hash(run, "data")}


def short_hash(run: Result, key: str) -> str:
    return str(run.provenance.get(key))[:16]


def value_of(run: Result, metric: str) -> float | None:
    """Table 3's five guesses name three classes, so what their file calls top-5 classification error is top-3's."""
    if metric == "cls_top5_error" and run.protocol.get("guesses") == HEURISTICS:
        return None
    return run.metrics.get(metric)


def known_cells(section: Section) -> Cells:
    """GT-known of every box that was drawn, once: Table 3's guesses share the loose box with the plain release."""
    cells: dict[tuple[str, str], Known] = {}
    seen = set()
    for rule in section.rules:
        label = rule.heading.replace(rule.protocol, f"`{rule.protocol}`", 1)
        for run in section.column(rule.protocol):
            drawn = run.method, rule.metric, _settings_of_the_box(run)
            if drawn not in seen:
                seen.add(drawn)
                cells[run.method, label] = _known_cell(run, rule.metric)
    return cells


def _settings_of_the_box(run: Result) -> str:
    settings = {key: value for key, value in run.protocol.items() if key != "name"}
    if settings.get("guesses") == HEURISTICS:
        settings["guesses"] = "loose"
    return json.dumps(settings, sort_keys=True)


def _known_cell(run: Result, metric: str) -> Known:
    return Known(run.metrics[metric], run.confidence.get(metric), run.metrics["floor_centre_box"])


def reasons(section: Section) -> list[str]:
    """Each once, numbered by its place."""
    return list(dict.fromkeys(section.gaps.values()))

"""The paper's tables beside what was reproduced, of one data set, as markdown and CSV."""

from pathlib import Path

from cam_repro import UserError
from cam_repro.advice import typed_data
from cam_repro.command import command
from cam_repro.config import Config


def main(config: Config) -> None:
    from cam_repro.evaluation.record import record_files
    from cam_repro.reporting.leaderboard import write_leaderboard
    from cam_repro.reporting.section4 import write_section4
    from cam_repro.reporting.tables import write_tables

    data = config.data
    results = Path(config.results)
    folder = results / data.name
    if not any(folder.glob("*/*.json")):
        raise UserError(
            f"no results in {folder}; first: make eval-classification {typed_data(config.data)}"
        )
    paths = write_section4(results, data.name)
    if record_files(folder):
        paths += write_tables(results, data.name, config.protocol.name, data.split)
    for path in paths:
        if path.suffix == ".md":
            print(path.read_text(encoding="utf-8"))
    if (path := write_leaderboard(results)) is not None:
        paths.append(path)
    print(*paths, sep="\n")


if __name__ == "__main__":
    command("tables", main)

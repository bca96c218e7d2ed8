"""Top-1/top-5 localization error on the val split, of one network or of every trained one."""

from cam_repro.command import command
from cam_repro.config import Config


def main(config: Config) -> None:
    from cam_repro.evaluation.evaluate import evaluate, evaluations, localization_jobs
    from cam_repro.reporting.results import unchanged, write_outcome

    for evaluation in evaluations(config):
        jobs = [job for job in localization_jobs(evaluation) if not unchanged(evaluation, job)]
        for job, outcome in evaluate(evaluation, jobs):
            write_outcome(evaluation, job, outcome)


if __name__ == "__main__":
    command(main)

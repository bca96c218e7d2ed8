"""Top-1/top-5 classification error on the val split, of one network or of every trained one."""

from cam_repro.command import command
from cam_repro.config import Config


def main(config: Config) -> None:
    from cam_repro.evaluation.evaluate import evaluate
    from cam_repro.evaluation.record import unchanged
    from cam_repro.evaluation.spec import classification_specs, open_evaluations

    for evaluation in open_evaluations(config):
        specs = classification_specs(evaluation)
        evaluate(evaluation, [spec for spec in specs if not unchanged(evaluation, spec)])


if __name__ == "__main__":
    command("eval-classification", main, has_workers=True)

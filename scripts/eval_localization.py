"""Top-1/top-5 localization error on the val split, of one network or of every trained one."""

from cam_repro.command import command
from cam_repro.config import Config


def main(config: Config) -> None:
    from cam_repro.evaluation.evaluate import evaluate
    from cam_repro.evaluation.record import unchanged
    from cam_repro.evaluation.spec import localization_specs, open_evaluations
    from cam_repro.reporting.figures import draw_result

    for evaluation in open_evaluations(config):
        specs = localization_specs(evaluation)
        new = [spec for spec in specs if not unchanged(evaluation, spec)]
        for result in evaluate(evaluation, new):
            draw_result(evaluation, result)


if __name__ == "__main__":
    command("eval-localization", main, has_workers=True)

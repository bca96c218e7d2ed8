"""Get a data set that is not there yet: `python scripts/data.py data=imagenette`."""

from pathlib import Path

from cam_repro import UserError
from cam_repro.command import command
from cam_repro.config import Config


def main(config: Config) -> None:
    data = config.data
    if data.download is not None and data.layout == "tinyimagenet":
        from cam_repro.data.download import make_unpacked

        make_unpacked(data, "wnids.txt")
    elif data.download is not None:
        from cam_repro.data.imagenette import make_imagenette

        make_imagenette(data)
    elif data.generate is not None and data.root is not None:
        from cam_repro.data.shapes import make_shapes

        made = data.generate
        root = make_shapes(Path(data.root), made.seed, made.train, made.val)
        print(f"data={data.name} is there: {root}")
    else:
        raise UserError(f"data={data.name} cannot be downloaded here: {data.get}")


if __name__ == "__main__":
    command("data", main)

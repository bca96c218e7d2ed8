"""Archives from the network, verified by their checksums, and data sets that are one of them."""

from __future__ import annotations

import re
import shutil
import sys
import zipfile
import zlib
from pathlib import Path

import pooch
import requests
from tqdm import tqdm

from cam_repro import UserError
from cam_repro.config import DataConfig
from cam_repro.files import make_folder


def fetch(address: str, checksum: str | None, downloads: Path, advice: str) -> Path:
    """The verified file, downloaded unless the address is a file or folder of this machine.

    Raises UserError, which ends with the advice, where it cannot be had or is another.
    """
    try:
        if re.match("https?://", address):
            name = Path(address).name
            bar = pooch.HTTPDownloader(progressbar=sys.stderr.isatty())
            file = pooch.retrieve(address, checksum, name, downloads, downloader=bar)
            return Path(file)
        local = Path(address)
        if not local.exists():
            raise ValueError("it is not there")
        if local.is_file():
            pooch.hashes.hash_matches(str(local), checksum, strict=True, source=address)
        return local
    # A ValueError is another checksum, or one of an unknown kind.
    except (requests.RequestException, ValueError) as error:
        lost = isinstance(error, (requests.ConnectionError, requests.Timeout))
        reason = "no connection, or it was lost" if lost else error
        raise UserError(f"cannot get {address}: {reason}; run again, or {advice}") from None


def make_unpacked(data: DataConfig, sign: str) -> Path:
    """The data set at data.root, whole or not at all: the zip archive of `data.download`, unpacked.

    sign: a file by which it is known, at the root or in a folder there. What was downloaded waits
    beside the root until it is unpacked. Raises UserError where something else is at the root, or
    the archive cannot be had or is not what it must be.
    """
    if data.root is None or data.download is None:
        raise UserError(
            f"data={data.name} needs data.root= and data.download, as configs/data has them"
        )
    root = Path(data.root).resolve()
    downloads = root.with_name(f"{root.name}.download")
    archive = Path(data.download.images).name
    advice = f"get {archive} another way and add data.download.images=FILE"

    def check_made() -> None:
        if not any((folder / sign).is_file() for folder in (root, *root.glob("*/"))):
            raise UserError(
                f"{root} holds something other than data={data.name}: "
                "move it or give another data.root="
            )

    def unpack(making: Path) -> None:
        archive = fetch(data.download.images, data.download.images_checksum, downloads, advice)
        try:
            with zipfile.ZipFile(archive) as opened:
                members = opened.infolist()
                for member in tqdm(members, f"unpack {archive.name}", leave=False, disable=None):
                    opened.extract(member, making)  # never outside of it
        except (zipfile.BadZipFile, EOFError, zlib.error) as error:
            raise UserError(f"{archive} is not a whole zip archive; get it again") from error

    make_folder(root, check_made, unpack)
    shutil.rmtree(downloads, ignore_errors=True)
    print(f"data={data.name} is there: {root}")
    return root

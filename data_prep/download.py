"""Download of the public CUB archive: resumable, with md5 check and safe extraction."""

from __future__ import annotations

import errno
import hashlib
import http.client
import os
import shutil
import tarfile
import time
import urllib.error
import urllib.request
import zlib
from pathlib import Path
from typing import IO

from tqdm import tqdm

from stackgan.io.files import extract_entry

__all__ = ["CUB_MD5", "CUB_URL", "download", "extract", "fetch_cub"]

CUB_URL = "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz"
CUB_MD5 = "97eceeb196236b17998738112f37df78"

_CHUNK = 1 << 20


def fetch_cub(folder: Path, *, url: str = CUB_URL, md5: str = CUB_MD5, progress: bool = True) -> None:
    """Download the official photos, boxes and labels to `folder`/CUB_200_2011; existing files are kept.

    The archive (1.1 GB) is stored beside it, so that it is downloaded only once.

    Raises:
        ValueError: see `download` and `extract`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    archive = download(url, folder / "CUB_200_2011.tgz", md5=md5, progress=progress)
    extract(archive, folder, "CUB_200_2011", progress=progress)


def download(
    url: str,
    target: Path,
    *,
    md5: str,
    progress: bool = True,
    timeout: float = 60.0,
    attempts: int = 5,
    pause: float = 2.0,
) -> Path:
    """Download `url` to `target`, resuming from `target`.part of an earlier attempt.

    Args:
        url: http or https.
        target: the file to create; it appears only when it is complete and its md5 is correct.
        md5: expected hexadecimal digest of the file.
        progress: show a progress bar on stderr.
        timeout: seconds without data after which the connection is considered lost.
        attempts: maximum number of consecutive connections without new data.
        pause: seconds to wait after such a connection.

    Raises:
        ValueError: the server returns an error, the connection is lost permanently, or the digest differs.
    """
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"{url}: not an http or https address")
    if target.exists():
        _check_md5(target, md5, "delete it and run the same command again")
        return target
    part = target.with_name(target.name + ".part")
    failures = 0
    while True:
        before = _size(part)
        try:
            if _transfer(url, part, progress, timeout):
                break
            reason = "the connection ended early"
        except urllib.error.HTTPError as error:
            reason = f"the server answers {error.code} {error.reason}"
            if error.code < 500:  # 5xx may be temporary
                raise ValueError(f"{url}: {reason}") from None
        except (OSError, http.client.HTTPException) as error:
            if getattr(error, "filename", None) is not None or getattr(error, "errno", 0) == errno.ENOSPC:
                raise  # an error of the disk, not of the network
            reason = str(getattr(error, "reason", None) or error or type(error).__name__)
        failures = 0 if _size(part) > before else failures + 1
        if failures >= attempts:
            kept = f"{_size(part):,} bytes are kept in {part.name}, the same command resumes from there"
            raise ValueError(f"{url}: cannot be downloaded: {reason}; {kept}")
        if failures:
            time.sleep(pause)
    try:
        _check_md5(part, md5, "it is deleted; run the same command again, or name another source")
    except ValueError:
        part.unlink()
        raise
    part.replace(target)
    return target


def _transfer(url: str, part: Path, progress: bool, timeout: float) -> bool:
    """Download over one connection; returns True when the file is complete."""
    have = _size(part)
    headers = {"User-Agent": "stackgan-prepare"} | ({"Range": f"bytes={have}-"} if have else {})
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - the URLs are constants of this package
    try:
        response = urllib.request.urlopen(request, timeout=timeout)  # noqa: S310
    except urllib.error.HTTPError as error:
        if error.code != 416 or not have:
            raise
        # no more data: complete, or a .part of another file
        total = error.headers.get("Content-Range", "").rpartition("/")[2]
        if total == str(have):
            return True
        part.unlink()
        return False
    with response:
        sent = response.headers.get("Content-Range", "")
        resumed = response.status == 206 and sent.startswith(f"bytes {have}-")
        start = have if resumed else 0  # a server without range requests sends the whole file
        length = response.headers.get("Content-Length")
        whole = start + int(length) if length else None
        bar = tqdm(total=whole, initial=start, unit="B", unit_scale=True, desc=part.stem, disable=not progress)
        with bar, part.open("ab" if resumed else "wb") as stream:
            while chunk := response.read(_CHUNK):
                stream.write(chunk)
                bar.update(len(chunk))
    return whole is None or _size(part) == whole


def extract(archive: Path, folder: Path, member: str, *, progress: bool = True) -> Path:
    """Extract one top-level folder of a tar archive to `folder`/`member`; existing files are kept.

    Links, devices and names that lead out of the folder are rejected. The files are extracted to a temporary folder
    and moved, so that an interrupted run leaves no incomplete photo.

    Raises:
        ValueError: the file is not a tar archive, is damaged, lacks that folder, or has a rejected member.
    """
    for left in folder.glob(f".{member}.unpacking-*"):  # by a killed run
        shutil.rmtree(left)
    scratch = folder / f".{member}.unpacking-{os.getpid()}"
    scratch.mkdir()
    try:
        with tarfile.open(archive) as tar, _bar(progress, f"unpacking {archive.name}") as bar:
            for entry in tar:
                if entry.name == member or entry.name.startswith(f"{member}/"):
                    extract_entry(tar, entry, scratch)
                    bar.update()
        if not (scratch / member).is_dir():
            raise ValueError(f"{archive}: has no folder {member}; delete it and run the same command again")
        _merge(scratch / member, folder / member)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise ValueError(f"{archive}: not unpacked: {error}") from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder / member


def _merge(source: Path, target: Path) -> None:
    if not target.exists():
        source.replace(target)
        return
    for path in sorted(source.rglob("*")):
        goal = target / path.relative_to(source)
        if path.is_dir():
            goal.mkdir(exist_ok=True)
        elif not goal.exists():
            path.replace(goal)


def _bar(progress: bool, what: str) -> tqdm:
    return tqdm(unit=" files", desc=what, disable=not progress)


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _check_md5(file: Path, md5: str, remedy: str) -> None:
    with file.open("rb") as stream:
        found = _md5(stream)
    if found != md5.lower():
        raise ValueError(f"{file}: md5 is {found}, expected {md5.lower()}: not the published archive; {remedy}")


def _md5(stream: IO[bytes]) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    while chunk := stream.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest()

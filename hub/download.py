"""Download one file of the Hugging Face Hub: ``python -m hub.download OWNER/REPO REVISION FILE``.

`hub.fetch` starts this program, the only module that imports huggingface_hub. It prints one line of JSON,
``{"path": ...}`` or ``{"error": ...}``; the progress bar and huggingface_hub's warnings go to standard error.

hf_hub_download alone would do, but it does not resume a download and does not check the hash. So the blob is downloaded
here into huggingface_hub's cache, and gets its final name only when it is complete and has the right SHA-256;
hf_hub_download then finds it there and does the rest.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import os
import re
import signal
import sys
from pathlib import Path

import httpx2
from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import HfFileMetadata, http_get, repo_folder_name
from huggingface_hub.utils import WeakFileLock, build_hf_headers

_PR_SET_PDEATHSIG = 1
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class DownloadError(Exception):
    """The file is not available. The message follows "names hf:..., but"."""


def main() -> None:
    """Download the file that the command line names, and print the result."""
    # The parent sends this signal to stop the download. Unwinding the stack lets the progress bar end its line.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))
    # With `stty tostop` a terminal stops background processes that write to it, as the progress bar does.
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    repo, revision, path = sys.argv[1:]
    try:
        result = {"path": download(repo, revision, path)}
    except DownloadError as error:
        result = {"error": str(error)}
    print(json.dumps(result))


def download(repo: str, revision: str, path: str) -> str:
    """Return the path of the file in the cache; download it first if necessary. Raises `DownloadError`."""
    cached = try_to_load_from_cache(repo, path, revision=revision)
    # A commit does not change, so there is nothing to ask the Hub.
    if isinstance(cached, str) and (constants.is_offline_mode() or _COMMIT.fullmatch(revision)):
        return cached
    if constants.is_offline_mode():
        raise DownloadError(f"it is not in {constants.HF_HUB_CACHE}, and HF_HUB_OFFLINE is set: unset it for one start")
    try:
        return _download_current(repo, revision, path)
    except DownloadError:
        raise
    except Exception as error:
        message = explain(error, repo, revision, path)
        if isinstance(cached, str):
            print(f"{message}. The copy in the cache is served.", file=sys.stderr)
            return cached
        raise DownloadError(message) from error


def _download_current(repo: str, revision: str, path: str) -> str:
    metadata = get_hf_file_metadata(hf_hub_url(repo, path, revision=revision))
    if metadata.etag is None or metadata.commit_hash is None:
        raise DownloadError(f"{constants.ENDPOINT} does not answer as the Hub does: check HF_ENDPOINT")
    # The ETag of a large file is its SHA-256. A small file, which is in git itself, is left to hf_hub_download.
    if _SHA256.fullmatch(metadata.etag):
        _fetch_blob(repo, path, metadata.etag, metadata)
    found = hf_hub_download(repo, path, revision=revision)
    if metadata.commit_hash not in Path(found).parts:
        raise DownloadError("it has been replaced during the download: start again")
    return found


def _fetch_blob(repo: str, path: str, sha256: str, metadata: HfFileMetadata) -> None:
    """Download the content of the file into the cache unless it is there; resume an earlier download.

    Raises `DownloadError` for a wrong checksum, and the errors of `http_get` and of the disk.
    """
    cache = Path(constants.HF_HUB_CACHE).expanduser()
    folder = repo_folder_name(repo_id=repo, repo_type="model")
    blob = cache / folder / "blobs" / sha256
    lock = cache / ".locks" / folder / f"{sha256}.lock"
    if blob.exists():
        return
    for file in (blob, lock):
        file.parent.mkdir(parents=True, exist_ok=True)
    # hf_hub_download's own lock: if two servers start at once, one waits for the download of the other.
    with WeakFileLock(lock):
        if blob.exists():
            return
        partial = blob.with_name(f"{sha256}.incomplete")
        _complete(partial, repo, path, metadata)
        with partial.open("rb") as content:
            actual = hashlib.file_digest(content, "sha256").hexdigest()
        if actual != sha256:
            partial.unlink()
            raise DownloadError(
                f"what was downloaded has the SHA-256 {actual} and not {sha256}; it has been removed: start again"
            )
        partial.rename(blob)


def _complete(partial: Path, repo: str, path: str, metadata: HfFileMetadata) -> None:
    """Append the missing rest to ``partial``. Without a terminal there is no progress bar, so a line tells of it."""
    with partial.open("ab") as output:
        held = output.tell()
        if metadata.size is not None and held > metadata.size:
            # It is not a part of this file.
            output.truncate(0)
            held = 0
        if held == metadata.size:
            return
        if not sys.stderr.isatty():
            size = "" if metadata.size is None else f", {metadata.size / 1e6:,.0f} MB"
            begun = f", from {held / 1e6:,.0f} MB on" if held else ""
            print(f"Downloading {path} of {repo}{size}{begun}.", file=sys.stderr, flush=True)
        # The Hub's own URL, not the signed one to which it redirects: that one must not get the token, and
        # huggingface_hub's warnings would show it.
        url = hf_hub_url(repo, path, revision=metadata.commit_hash)
        headers = build_hf_headers()
        http_get(url, output, resume_size=held, headers=headers, expected_size=metadata.size, displayed_filename=path)


def explain(error: Exception, repo: str, revision: str, path: str) -> str:
    """Return one line for ``error`` that says what to do. It leaves out texts that might contain the token."""
    endpoint = constants.ENDPOINT
    match error:
        case GatedRepoError():
            return f"its terms must be accepted at {endpoint}/{repo}, and HF_TOKEN be a token of who did"
        case RepositoryNotFoundError():
            return f"{endpoint} has no repository {repo}, or it is private: check the name, or set HF_TOKEN"
        case RevisionNotFoundError():
            return f"{repo} has no revision {revision}: see {endpoint}/{repo}/commits/main"
        case RemoteEntryNotFoundError():
            return f"{repo} has no file {path} in {revision}: see {endpoint}/{repo}/tree/{revision}"
        case HfHubHTTPError():
            advice = {401: "check HF_TOKEN", 403: "check HF_TOKEN", 404: "check the name"}
            status = error.response.status_code
            return f"{endpoint} answers with status {status}: {advice.get(status, 'try again later')}"
        case httpx2.ConnectError() | httpx2.TimeoutException() | httpx2.ProxyError() | httpx2.UnsupportedProtocol():
            reason = " ".join(str(error).split()) or type(error).__name__
            return f"{endpoint} cannot be reached ({reason}): check the network, or name a mirror with HF_ENDPOINT"
        case OSError() if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return f"there is no space left for it in {constants.HF_HUB_CACHE}: make room, or move it with HF_HOME"
        case OSError() if error.errno is not None:
            place = error.filename or constants.HF_HUB_CACHE
            return f"the cache cannot be used ({place}: {os.strerror(error.errno)}): move it with HF_HOME"
        case _:
            return f"the download failed ({type(error).__name__}): start again to go on from there"


if __name__ == "__main__":
    main()

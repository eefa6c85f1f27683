"""Transfer of folders from and to the model hub of Hugging Face; the only module that imports ``huggingface_hub``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

__all__ = ["first_line", "snapshot", "upload"]


def first_line(error: BaseException) -> str:
    """First line of an error's message that is not empty, or the name of its type."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def snapshot(
    repository: str,
    *,
    allow: Sequence[str],
    ignore: Sequence[str] = (),
    revision: str | None = None,
    cached: bool = False,
) -> Path:
    """Folder in the local hub cache with the files of a repository; missing ones are downloaded.

    Args:
        repository: ``user/name``.
        allow, ignore: patterns of the files, as for ``fnmatch``; no others are downloaded.
        revision: branch, tag or commit; None for ``main``.
        cached: use the cache alone. The folder may then be incomplete.

    Raises:
        FileNotFoundError: not in the cache, no access to the hub, or no such repository or revision. The message is
            the reason alone.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    try:
        folder = snapshot_download(
            repository,
            revision=revision,
            allow_patterns=list(allow),
            ignore_patterns=list(ignore),
            local_files_only=cached,
        )
    except RevisionNotFoundError:
        raise FileNotFoundError(f"it has no revision {revision!r}") from None
    except RepositoryNotFoundError:
        raise FileNotFoundError("no such repository, or a private one without a token: hf auth login") from None
    except Exception as error:  # no network or an invalid name: many types
        raise FileNotFoundError(first_line(error)) from None
    return Path(folder)


def upload(
    folder: Path,
    repository: str,
    *,
    message: str,
    replaced: Sequence[str] = (),
    revision: str | None = None,
    private: bool | None = None,
    token: str | None = None,
) -> str:
    """Commit the files of ``folder`` to a repository of the hub, created if it does not exist; returns its address.

    Args:
        repository: ``user/name``.
        message: of the commit.
        replaced: patterns of the repository's files to delete unless ``folder`` has them.
        revision: branch, created if it does not exist; None for ``main``.
        private: visibility of a new repository; None for the account's default.
        token: with write access; None for the one of ``hf auth login`` or ``HF_TOKEN``.

    Raises:
        ValueError: no network, no write access, or an invalid name.
    """
    from huggingface_hub import HfApi

    api = HfApi(token=token, library_name="stackgan")
    try:
        created = api.create_repo(repository, private=private, exist_ok=True)
        if revision is not None:
            api.create_branch(created.repo_id, branch=revision, exist_ok=True)
        api.upload_folder(
            repo_id=created.repo_id,
            folder_path=folder,
            revision=revision,
            commit_message=message,
            delete_patterns=list(replaced),
        )
    except Exception as error:  # no network, no such account, no write access: many types
        raise ValueError(
            f"{repository}: the upload failed ({first_line(error)}); the name must be user/name, and the token needs "
            "write access: log in with hf auth login"
        ) from None
    return str(created)

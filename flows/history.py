"""A run's results as a commit on a branch, so that the history of that branch is "metrics across runs".

The branch that is checked out, the index and all files stay as they are: somebody may be working here.
"""

import os
import subprocess
import tempfile
import time
from pathlib import Path

from dartune.errors import UserError

PAUSES_S = (0.0, 2.0, 8.0)  # before each attempt to reach a remote
NAME, EMAIL = "dartune", "dartune@localhost"  # where git knows of no author
AUTHOR = {"GIT_AUTHOR_NAME": NAME, "GIT_AUTHOR_EMAIL": EMAIL, "GIT_COMMITTER_NAME": NAME, "GIT_COMMITTER_EMAIL": EMAIL}


def git(*words: str, **environment: str) -> str:
    """Return what `git WORDS` prints. Raises UserError with what it prints when it fails."""
    done = subprocess.run(
        ["git", *words], capture_output=True, text=True, stdin=subprocess.DEVNULL, env=os.environ | environment
    )
    if done.returncode:
        raise UserError(f"git {words[0]}: {' '.join(done.stderr.split())}")
    return done.stdout.strip()


def tip(branch: str) -> str:
    """Return the branch's last commit, "" where there is no such branch yet."""
    try:
        return git("rev-parse", "--verify", "--quiet", f"refs/heads/{branch}^{{commit}}")
    except UserError:
        return ""


def check_branch(branch: str) -> None:
    """Raise UserError for a branch that a run cannot commit on, before anything runs."""
    git("rev-parse", "--verify", "HEAD^{commit}")
    try:
        git("check-ref-format", "--branch", branch)
    except UserError as error:
        raise UserError(f"branch: {branch!r} is no name of a branch; runs is one") from error
    if f"branch refs/heads/{branch}" in git("worktree", "list", "--porcelain").splitlines():
        raise UserError(
            f"branch: {branch} is checked out, and a commit would change it under its owner; name another, such as runs"
        )


def commit(branch: str, message: str, files: list[str]) -> str | None:
    """Commit the tracked files as they are now, and `files`; return the commit, None if the branch has just that.

    Its parents are the branch's last commit and HEAD. Raises UserError where the branch moved meanwhile.
    """
    with tempfile.TemporaryDirectory() as folder:
        index = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
        git("read-tree", "HEAD", **index)
        git("add", "--update", **index)
        git("add", "--", *files, **index)
        tree = git("write-tree", **index)
    last, head = tip(branch), git("rev-parse", "HEAD")
    if last and git("rev-parse", f"{last}^{{tree}}") == tree:
        return None
    is_new = not last or git("merge-base", last, head) == last
    parents = [head] if is_new else [last] if git("merge-base", last, head) == head else [last, head]
    author = {} if has_author() else AUTHOR
    new = git("commit-tree", tree, *(word for parent in parents for word in ("-p", parent)), "-m", message, **author)
    git("update-ref", f"refs/heads/{branch}", new, last or "0" * 40)
    return new


def fast_forward(follow: str) -> None:
    """Bring the branch that is checked out up to REMOTE/BRANCH. Raises UserError where work would be lost by it."""
    remote, _, branch = follow.partition("/")
    if not branch or remote not in git("remote").split():
        raise UserError(
            f"follow: {follow!r} names no branch of a remote; origin/main does, where there is such a remote"
        )
    for attempt, pause in enumerate(PAUSES_S, 1):
        time.sleep(pause)
        try:
            git("fetch", "--quiet", remote, branch)
            break
        except UserError:  # the remote may be away for a moment
            if attempt == len(PAUSES_S):
                raise
    try:
        git("merge", "--ff-only", "--quiet", "FETCH_HEAD")
    except UserError as error:
        raise UserError(
            f"follow: {follow} cannot be reached by fast-forward ({error}); commit or undo what is here"
        ) from error


def has_author() -> bool:
    """Return whether git knows in whose name to commit."""
    try:
        git("var", "GIT_COMMITTER_IDENT")
    except UserError:
        return False
    return True

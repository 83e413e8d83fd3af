"""A run's results as a commit on a branch, so that "metrics across commits" is the history of scheduled runs.

The branch that is checked out, the index and all files stay as they are: somebody may be working here.
"""

import os
import subprocess
import tempfile
import time
from pathlib import Path

from dartune.errors import UserError

PAUSES_S = (0.0, 2.0, 8.0)  # before each try to reach a remote
AUTHOR = {
    f"GIT_{who}_{what}": f"dartune{at}"
    for who in ("AUTHOR", "COMMITTER")
    for what, at in (("NAME", ""), ("EMAIL", "@localhost"))
}


def git(*words: str, **environment: str) -> str:
    done = subprocess.run(
        ["git", *words], capture_output=True, text=True, stdin=subprocess.DEVNULL, env=os.environ | environment
    )
    if done.returncode:
        raise UserError(f"git {words[0]}: {' '.join(done.stderr.split())}")
    return done.stdout.strip()


def tip(branch: str) -> str:
    """The branch's last commit, "" where there is no such branch yet."""
    try:
        return git("rev-parse", "--verify", "--quiet", f"refs/heads/{branch}^{{commit}}")
    except UserError:
        return ""


def refuse(branch: str) -> None:
    """A UserError about a branch that a run cannot commit on, before anything runs."""
    git("rev-parse", "--verify", "HEAD^{commit}")
    try:
        git("check-ref-format", "--branch", branch)
    except UserError as mistake:
        raise UserError(f"branch: {branch!r} is no name of a branch; runs is one") from mistake
    checked_out = [
        line.removeprefix("branch refs/heads/") for line in git("worktree", "list", "--porcelain").splitlines()
    ]
    if branch in checked_out:
        raise UserError(
            f"branch: {branch} is checked out, and a commit would change it under its owner; name another, such as runs"
        )


def commit(branch: str, message: str, files: list[str]) -> str | None:
    """Commit what git tracks as it is now, and these files; None if that is what the branch has.

    Its parents are the branch's last commit and HEAD. A branch that moved meanwhile is left alone, with a UserError.
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
    identity = {} if has_identity() else AUTHOR
    made = git("commit-tree", tree, *(word for parent in parents for word in ("-p", parent)), "-m", message, **identity)
    git("update-ref", f"refs/heads/{branch}", made, last or "0" * 40)
    return made


def fast_forward(follow: str) -> None:
    """Bring the branch that is checked out up to REMOTE/BRANCH. What would be lost by it is a UserError, and stays."""
    remote, _, branch = follow.partition("/")
    if not branch or remote not in git("remote").split():
        raise UserError(
            f"follow: {follow!r} names no branch of a remote; origin/main does, where there is such a remote"
        )
    for pause in PAUSES_S:
        time.sleep(pause)
        try:
            git("fetch", "--quiet", remote, branch)
            break
        except UserError as mistake:  # a remote that is away for a moment
            problem = mistake
    else:
        raise problem
    try:
        git("merge", "--ff-only", "--quiet", "FETCH_HEAD")
    except UserError as mistake:
        raise UserError(
            f"follow: {follow} cannot be reached by fast-forward ({mistake}); commit or undo what is here"
        ) from mistake


def has_identity() -> bool:
    try:
        git("var", "GIT_COMMITTER_IDENT")
    except UserError:
        return False
    return True

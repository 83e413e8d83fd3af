"""Two machines that share git and a DVC remote: a laptop edits the sampling and evaluates, a GPU box trains."""

import asyncio
import getpass
import json
import os
import re
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import asyncssh
import boto3
import pytest
from ruamel.yaml import YAML

from ports import free_port
from project_copy import TASK, commit, copy_project, edit, run, set_params

BUCKET = "dartune"
IN_GIT = ("models/embedded", "metrics/embedded.json", "metrics/summary.json")  # outputs that DVC does not keep
POLICY = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
CLOUDLESS = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null"}  # or it asks around


class Store(NamedTuple):
    """An S3-compatible server that lets in who signs with the key. It checks signatures."""

    url: str
    key: dict[str, str]  # environment variables

    def objects(self) -> set[str]:
        """The hashes of what the remote holds."""
        names = {"aws_access_key_id": "AWS_ACCESS_KEY_ID", "aws_secret_access_key": "AWS_SECRET_ACCESS_KEY"}
        s3 = client("s3", self.url, **{name: self.key[variable] for name, variable in names.items()})
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        return {hashed(row["Key"]) for page in pages for row in page.get("Contents", [])}


class Folder(NamedTuple):
    """A folder as a remote."""

    path: Path
    key: dict[str, str]  # environment variables

    def objects(self) -> set[str]:
        return {hashed(str(file)) for file in self.path.glob("files/md5/*/*")}


def client(service: str, url: str, **key: str) -> Any:
    anybody = {"aws_access_key_id": "anybody", "aws_secret_access_key": "anybody"}
    return boto3.client(service, endpoint_url=url, region_name="us-east-1", **anybody | key)


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    environment = os.environ | {"INITIAL_NO_AUTH_ACTION_COUNT": "3"}  # the three that make the user and its key
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-p", str(port)], env=environment, stderr=subprocess.DEVNULL
    )
    try:
        wait(f"{url}/moto-api/data.json")
        yield Store(url, new_key(url))
    finally:
        server.kill()
        server.wait()


def wait(url: str) -> None:
    for _ in range(600):
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"nothing answers at {url}")


def new_key(url: str) -> dict[str, str]:
    iam = client("iam", url)
    iam.create_user(UserName="team")
    iam.put_user_policy(UserName="team", PolicyName="s3", PolicyDocument=json.dumps(POLICY))
    key = iam.create_access_key(UserName="team")["AccessKey"]
    made = {"aws_access_key_id": key["AccessKeyId"], "aws_secret_access_key": key["SecretAccessKey"]}
    client("s3", url, **made).create_bucket(Bucket=BUCKET)
    return {name.upper(): value for name, value in made.items()}


def hashed(path: str) -> str:
    """The hash that an object's path in a cache or remote stands for: files/md5/ab/cd... is abcd..."""
    return "".join(path.split("/")[-2:])


def cache(folder: Path) -> set[str]:
    return {hashed(str(file)) for file in (folder / ".dvc/cache/files/md5").glob("*/*")}


class Did(NamedTuple):
    ran: list[str]
    fetched: set[str]
    code: int
    said: str


def dvc(folder: Path, key: dict[str, str], *arguments: str, remote: set[str] = frozenset(), is_ok: bool = True) -> Did:
    """One command of DVC. fetched: what is new in the cache and was in the remote before, so was not made here."""
    before = cache(folder)
    site = {"DVC_SITE_CACHE_DIR": f"{folder}.site"}
    variables = [f"{name}={value}" for name, value in (CLOUDLESS | site | key).items()]
    done = run(folder, "env", *variables, "dvc", *arguments, is_ok=is_ok)
    ran = [name.split("@")[0] for name in re.findall(r"Running stage '([^']+)'", done.stdout)]
    return Did(ran, (cache(folder) - before) & remote, done.returncode, done.stdout + done.stderr)


def repro(folder: Path, shared: Store | Folder, *targets: str) -> Did:
    """Reproduce, fetching from the remote what a stage that runs needs, and nothing else."""
    return dvc(folder, shared.key, "repro", "--pull", "--allow-missing", *targets, remote=shared.objects())


def fly(folder: Path, store: Store, *arguments: str) -> Did:
    """The flow, in a server of its own."""
    before, remote = cache(folder), store.objects()
    variables = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    variables |= CLOUDLESS | {"DVC_SITE_CACHE_DIR": f"{folder}.site"} | store.key
    command = [sys.executable, "flows/finetune.py", *arguments]
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True)
    ran = [name.split("@")[0] for name in re.findall(r"^(\S+) +Completed ", done.stdout, re.MULTILINE)]
    return Did(ran, (cache(folder) - before) & remote, done.returncode, done.stdout + done.stderr)


def stage(name: str) -> str:
    return f"{name}@{TASK}"


def outputs(folder: Path, name: str, made_in: Path, within: str = "") -> set[str]:
    """The hashes of a stage's outputs that DVC keeps, with the files of folders, as dvc.lock has them."""
    outs = lock_entry(folder, name)["outs"]
    hashes = {out["md5"] for out in outs if out["path"] not in IN_GIT and out["path"].startswith(within)}
    return hashes | {file["md5"] for md5 in hashes if md5.endswith(".dir") for file in listed(made_in, md5)}


def lock_entry(folder: Path, name: str) -> dict[str, Any]:
    """What dvc.lock has of a stage: its command, deps, params and outs."""
    entry: dict[str, Any] = YAML(typ="safe").load((folder / "dvc.lock").read_text())["stages"][name]
    return entry


def code_hashes(folder: Path, name: str) -> set[str]:
    """The hashes of what a stage depends on of data/modules and data/referee, and of these folders' listings."""
    hashes = set[str]()
    for maker, output in (("modules", "data/modules/"), (stage("referee"), "data/referee/")):
        files = {dep["md5"] for dep in lock_entry(folder, name)["deps"] if dep["path"].startswith(output)}
        hashes |= files | {out["md5"] for out in lock_entry(folder, maker)["outs"] if files}
    return hashes


def listed(folder: Path, listing: str) -> list[dict[str, str]]:
    return json.loads((folder / f".dvc/cache/files/md5/{listing[:2]}/{listing[2:]}").read_text())


def clone(origin: Path, folder: Path) -> Path:
    run(origin.parent, "git", "clone", "-q", str(origin), str(folder))
    run(folder, "git", "config", "user.name", folder.name)
    run(folder, "git", "config", "user.email", f"{folder.name}@example.org")
    return folder


def hand_over(folder: Path, message: str) -> None:
    commit(folder, message)
    run(folder, "git", "push", "-q", "origin", "main")


class Story(NamedTuple):
    laptop: Path
    box: Path
    did: dict[str, Did]
    remotes: dict[str, set[str]]  # what the remote held after each push
    key: dict[str, str]


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory, store: Store) -> Path:
    """A bare repository with tiny parameters, whose committed .dvc/config names the remote and no key."""
    folder = tmp_path_factory.mktemp("team")
    bare, first = folder / "origin.git", folder / "first"
    copy_project(first, [TASK])
    run(first, "dvc", "remote", "add", "-d", "team", f"s3://{BUCKET}/dvc")
    run(first, "dvc", "remote", "modify", "team", "endpointurl", store.url)
    commit(first, "remote")
    run(folder, "git", "clone", "-q", "--bare", str(first), str(bare))
    return bare


@pytest.fixture(scope="module")
def story(origin: Path, store: Store) -> Story:
    """The laptop draws pairs, edits the sampling and draws others; the box trains; the laptop does the rest."""
    did: dict[str, Did] = {}
    remotes: dict[str, set[str]] = {}
    laptop = clone(origin, origin.parent / "laptop")
    did["first pairs"] = dvc(laptop, {}, "repro", stage("pairs"))  # no --pull: nobody has pushed yet
    edit(laptop, "params.yaml", "strategy: dar", "strategy: uniform")
    did["other pairs"] = repro(laptop, store, stage("pairs"))
    did["push of pairs"] = dvc(laptop, store.key, "push", "modules", "base", *map(stage, ("referee", "pool", "pairs")))
    hand_over(laptop, "uniform pairs")
    remotes["pairs"] = store.objects()

    box = clone(origin, origin.parent / "box")
    did["training"] = repro(box, store, stage("train"))
    did["push of model"] = dvc(box, store.key, "push", stage("train"))
    hand_over(box, "trained")
    remotes["model"] = store.objects()

    run(laptop, "git", "pull", "-q")
    did["evaluation"] = repro(laptop, store, stage("evaluate"))
    did["report"] = fly(laptop, store, "--pull")  # the flow leaves the lock that `dvc repro` leaves
    did["last push"] = fly(laptop, store, "--push")
    hand_over(laptop, "evaluated")
    remotes["all"] = store.objects()
    return Story(laptop, box, did, remotes, store.key)


@pytest.fixture(scope="module")
def alone(origin: Path, story: Story) -> Path:
    """A third machine that does everything itself, out of the parameters and the lock that the laptop handed over."""
    folder = clone(origin, origin.parent / "alone")
    start = run(folder, "git", "log", "--format=%H", "--grep=uniform pairs").stdout.strip()
    run(folder, "git", "checkout", "-q", "-b", "alone", start)
    dvc(folder, {}, "repro")
    return folder


def test_an_edit_of_the_sampling_draws_other_pairs_from_the_same_pool(story: Story) -> None:
    assert story.did["first pairs"].ran == ["modules", "base", "referee", "pool", "score", "sample", "pairs"]
    assert story.did["other pairs"].ran == ["modules", "sample", "pairs"]


def test_what_is_pushed_is_what_was_asked_for(story: Story) -> None:
    parts = ("referee", "pool", "pairs")
    assert story.remotes["pairs"] == set().union(
        *(outputs(story.laptop, name, story.laptop) for name in ("modules", "base", *map(stage, parts)))
    )
    trained = outputs(story.laptop, stage("train"), story.box)  # files equal to the base model's are there already
    assert story.remotes["model"] - story.remotes["pairs"] == trained - story.remotes["pairs"]


def test_the_box_only_trains_and_fetches_what_training_reads_but_no_pool(story: Story) -> None:
    pairs, base = (outputs(story.laptop, name, story.laptop) for name in (stage("pairs"), "base"))
    pool = outputs(story.laptop, stage("pool"), story.laptop)
    training = story.did["training"]
    assert training.ran == ["train"]
    assert training.fetched == pairs | base | code_hashes(story.laptop, stage("train"))
    assert pool <= story.remotes["pairs"] and not pool & cache(story.box)
    assert not list((story.box / "data/pool").glob("*.parquet"))
    assert not list((story.box / "data/scored").glob("*.parquet"))


def test_the_laptop_evaluates_what_the_box_trained_fetching_the_model_only(story: Story) -> None:
    evaluation, report = story.did["evaluation"], story.did["report"]
    assert set(evaluation.ran) == {"rounds", "baseline", "evaluate"}
    model = outputs(story.laptop, stage("train"), story.box, within="models/")
    assert evaluation.fetched == model - outputs(story.laptop, "base", story.laptop)
    assert model <= cache(story.box)
    trained = outputs(story.laptop, stage("train"), story.box)
    assert set(report.ran) == {"search", "report"} and report.fetched == trained - model
    assert (story.laptop / "report/index.html").stat().st_size > 10_000


def test_in_the_end_nothing_is_left_to_run_on_either(story: Story, store: Store) -> None:
    assert json.loads(run(story.laptop, "dvc", "status", "--json").stdout) == {}
    again = repro(story.laptop, store)
    assert (again.ran, again.fetched) == ([], set())
    run(story.box, "git", "pull", "-q")
    there = repro(story.box, store, stage("evaluate"), stage("search"))
    assert (there.ran, there.fetched) == ([], set())
    for folder in (story.laptop, story.box):
        assert run(folder, "git", "status", "--porcelain").stdout == ""


def test_the_flow_sends_what_is_new(story: Story) -> None:
    assert story.did["last push"].ran == ["push"]
    tables = outputs(story.laptop, stage("evaluate"), story.laptop) | outputs(
        story.laptop, stage("search"), story.laptop
    )
    assert tables <= story.remotes["all"]
    assert len(tables - story.remotes["model"]) == len(tables) - 1  # no transfer, {}, is also what data/modules has


def test_the_flow_fetches_folders_of_the_report_where_dvc_would_not(story: Story, store: Store) -> None:
    # Of a folder that several stages fill, DVC knows no single output to pull, and the .gitignore makes it exist.
    tables = outputs(story.laptop, stage("evaluate"), story.laptop) | outputs(
        story.laptop, stage("search"), story.laptop
    )
    there = fly(story.box, store, "--pull")
    assert (there.code, there.ran) == (0, []) and there.fetched >= tables, there.said


def test_the_lock_is_what_one_machine_alone_writes(story: Story, alone: Path) -> None:
    assert (alone / "dvc.lock").read_bytes() == (story.laptop / "dvc.lock").read_bytes()
    assert run(alone, "git", "diff", "--name-only", "main", "--", "metrics").stdout == ""


@pytest.mark.parametrize("key", [{}, {"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY": "other"}])
def test_without_the_key_in_the_environment_nothing_is_fetched(origin: Path, story: Story, key, tmp_path: Path) -> None:
    stranger = clone(origin, tmp_path / "stranger")
    done = dvc(stranger, key, "pull", stage("pairs"), is_ok=False)
    assert done.code != 0 and cache(stranger) == set()


def test_the_key_is_in_no_file_and_no_commit_of_either(origin: Path, story: Story, store: Store) -> None:
    for name, value in story.key.items():
        assert places(origin, story, value) == [], name
    assert len(places(origin, story, store.url)) >= 5  # the remote's address: in each .dvc/config and in the commits


def places(origin: Path, story: Story, text: str) -> list[str]:
    """The files below both clones (caches and what git has packed included) and the objects of git that hold a text."""
    needle, folders = text.encode(), [story.laptop, story.box]
    below = [*folders, *(Path(f"{folder}.site") for folder in folders), origin]
    files = [file for folder in below for file in folder.rglob("*") if file.is_file()]
    found = [str(file) for file in files if needle in file.read_bytes()]
    for folder in (*folders, origin):
        objects = ["git", "cat-file", "--batch", "--batch-all-objects"]
        content = subprocess.run(objects, cwd=folder, capture_output=True, check=True).stdout
        found += [f"{folder}: git"] * (needle in content)
    return found


def test_a_folder_does_as_a_remote_too(alone: Path, tmp_path: Path) -> None:
    # no further package: a disk that both see
    remote = tmp_path / "remote"
    check_remote(alone, tmp_path, str(remote), Folder(remote, {}))


def test_a_folder_behind_ssh_does_as_a_remote_too(alone: Path, tmp_path: Path, ssh: tuple[int, Path]) -> None:
    port, home = ssh
    url = f"ssh://{getpass.getuser()}@127.0.0.1:{port}{tmp_path}/remote"
    check_remote(alone, tmp_path, url, Folder(tmp_path / "remote", {"HOME": str(home)}))


def test_without_the_key_for_ssh_nothing_is_sent(alone: Path, tmp_path: Path, ssh: tuple[int, Path]) -> None:
    port, home = ssh
    (home / ".ssh/id_ed25519").unlink()
    point(alone, f"ssh://{getpass.getuser()}@127.0.0.1:{port}{tmp_path}/remote")
    done = dvc(alone, {"HOME": str(home)}, "push", is_ok=False)
    assert done.code != 0 and Folder(tmp_path / "remote", {}).objects() == set(), done.said


def check_remote(alone: Path, folder: Path, url: str, remote: Folder) -> None:
    """Of all that one machine sent, another fetches what its one changed stage needs. remote: what the url leads to."""
    point(alone, url)
    commit(alone, "another remote")
    dvc(alone, remote.key, "push")
    other = clone(alone, folder / "other")
    assert repro(other, remote, stage("evaluate")).ran == [] and cache(other) == set()
    set_params(other, {"evaluate": {"n_samples": 22}})
    done = repro(other, remote, stage("evaluate"))
    assert done.ran == ["modules", "baseline", "evaluate"]
    deps = lock_entry(other, stage("evaluate"))["deps"]
    model = next(dep["md5"] for dep in deps if dep["path"].startswith("models/final"))
    tuned = {model, *(file["md5"] for file in listed(alone, model))}
    hashes = code_hashes(other, stage("evaluate")) | code_hashes(other, stage("baseline"))
    others = outputs(alone, "base", alone) | outputs(alone, "modules", alone) | hashes
    assert tuned <= done.fetched <= tuned | others


def point(folder: Path, url: str) -> None:
    run(folder, "dvc", "remote", "add", "-d", "--force", "team", url)


@pytest.fixture
def ssh(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """(port, home): an SSH server of this machine, and a home folder with the key that it lets in."""
    home = tmp_path / "home"
    folder = home / ".ssh"
    folder.mkdir(parents=True)
    host, own = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    own.write_private_key(str(folder / "id_ed25519"))
    own.write_public_key(str(folder / "id_ed25519.pub"))
    loop = asyncio.new_event_loop()
    lets_in = {"authorized_client_keys": str(folder / "id_ed25519.pub"), "sftp_factory": True}
    server = loop.run_until_complete(asyncssh.listen("127.0.0.1", 0, server_host_keys=[host], **lets_in))
    known = f"[127.0.0.1]:{server.get_port()} {host.export_public_key().decode()}"
    (folder / "known_hosts").write_text(known)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield server.get_port(), home
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.close()
        loop.close()

"""cluster.yaml and its relatives for clouds: Ray takes them, they agree with each other, and none opens a door."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parents[1]
LOCAL = ROOT / "cluster.yaml"
CLOUDS = [ROOT / "jobs" / "clusters" / "aws.yaml", ROOT / "jobs" / "clusters" / "gcp.yaml"]
ALL = [LOCAL, *CLOUDS]
IN_COMMON = ("cluster_name", "file_mounts", "rsync_exclude", "cluster_synced_files", "idle_timeout_minutes")


def load(path: Path) -> dict[str, Any]:
    cluster: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return cluster


def name(path: Path) -> str:
    return path.stem


def starts(cluster: dict[str, Any], kind: str) -> str:
    (command,) = (line for line in cluster[f"{kind}_start_ray_commands"] if "ray start" in line)
    assert isinstance(command, str)
    return command


@pytest.mark.parametrize("path", ALL, ids=name)
def test_ray_takes_it(path: Path) -> None:
    prepared = prepare_config(load(path))
    validate_config(prepared)
    assert prepared["head_node_type"] in prepared["available_node_types"]
    assert prepared["max_workers"] >= 1


def test_the_local_one_is_complete_but_for_its_hosts() -> None:
    """As shipped it names hosts of the range that is kept for examples, so nobody's machine is tried by mistake."""
    provider = load(LOCAL)["provider"]
    hosts = [provider["head_ip"], *provider["worker_ips"]]
    assert all(host.startswith("192.0.2.") for host in hosts)
    assert load(LOCAL)["max_workers"] == load(LOCAL)["min_workers"] == len(provider["worker_ips"])


@pytest.mark.parametrize("path", CLOUDS, ids=name)
def test_a_cloud_has_a_head_without_gpus_and_workers_that_come_and_go(path: Path) -> None:
    cluster = prepare_config(load(path))
    types = cluster["available_node_types"]
    head, gpu = types["head"], types["gpu"]
    assert head["resources"] == {"CPU": 0, "GPU": 0}
    assert (gpu["min_workers"], gpu["max_workers"]) == (0, cluster["max_workers"])
    assert 0 < cluster["idle_timeout_minutes"] <= 15
    spot = {"aws": {"MarketType": "spot"}, "gcp": "SPOT"}[path.stem]
    config = gpu["node_config"]
    assert spot == (config.get("InstanceMarketOptions") or config["scheduling"]["provisioningModel"])


@pytest.mark.parametrize("path", ALL, ids=name)
def test_the_head_takes_no_work(path: Path) -> None:
    assert "--num-cpus=0 --num-gpus=0" in starts(load(path), "head")


@pytest.mark.parametrize("path", ALL, ids=name)
def test_what_a_node_gets_is_there_and_is_all_that_a_job_needs(path: Path) -> None:
    mounts = load(path)["file_mounts"]
    assert all((ROOT / source).exists() for source in mounts.values())
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = {"pyproject.toml", "setup.sh", settings["readme"], *settings["license-files"], "platform", "jobs"}
    assert needed <= set(mounts.values())
    assert mounts == {f"~/reforge/{source}": source for source in mounts.values()}


@pytest.mark.parametrize("path", ALL, ids=name)
def test_the_project_is_installed_by_its_own_setup(path: Path) -> None:
    """setup.sh takes the versions from pyproject.toml, torch before all: a second list would drift away from it."""
    assert "cd ~/reforge && sh setup.sh" in load(path)["setup_commands"]
    assert "==" not in path.read_text(encoding="utf-8")
    assert 'pip install "$torch"' in (ROOT / "setup.sh").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", CLOUDS, ids=name)
def test_the_clouds_are_as_the_local_one_in_all_that_is_not_theirs(path: Path) -> None:
    local, cloud = load(LOCAL), load(path)
    for key in IN_COMMON:
        assert cloud[key] == local[key], key
    assert cloud["setup_commands"][-2:] == local["setup_commands"][-2:]
    assert cloud["head_setup_commands"][-1] == local["head_setup_commands"][-1]
    for kind in ("head", "worker"):
        own = r"export RAY_enable_autoscaler_v2=0; |--node-ip-address=\$(RAY_CLOUD_INSTANCE_ID|\(.*\)) ?"
        assert starts(cloud, kind) == re.sub(own, "", starts(local, kind)).rstrip()


@pytest.mark.parametrize("path", ALL, ids=name)
def test_a_token_is_asked_for_and_in_no_file(path: Path) -> None:
    text, cluster = path.read_text(encoding="utf-8"), load(path)
    assert all("RAY_AUTH_MODE=token" in starts(cluster, kind) for kind in ("head", "worker"))
    assert "RAY_AUTH_TOKEN" not in text
    assert cluster["cluster_synced_files"] == ["~/.ray/auth_token"]
    assert "umask 077 && ~/reforge/.venv/bin/ray get-auth-token --generate > /dev/null" in text
    # Nothing long that has no words in it, no key and no password.
    assert not re.search(r"[0-9a-f]{24,}|[A-Za-z0-9+/]{40,}={0,2}(?![\w/.-])|AKIA[0-9A-Z]{16}|BEGIN [A-Z ]*KEY", text)
    assert not re.search(r"(?i)(password|secret|token)\s*[:=]\s*['\"]?[\w+/-]{8,}", text)


@pytest.mark.parametrize("path", ALL, ids=name)
def test_the_dashboard_stays_on_loopback_and_ray_client_is_off(path: Path) -> None:
    cluster = load(path)
    assert "--dashboard-host=127.0.0.1" in starts(cluster, "head")
    assert cluster["head_start_ray_commands"][-1] == "pkill -f '[r]ay.util.client.server' || true"
    assert "ray-client-server-port" not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", ALL, ids=name)
def test_no_door_is_open_to_the_internet(path: Path) -> None:
    """Ray makes a group that lets everyone try ssh, where none is named; a name that is to be filled in stops it."""
    text = path.read_text(encoding="utf-8")
    assert "0.0.0.0" not in text
    assert "::/0" not in text
    assert "security_group" not in load(path)["provider"]
    if path in CLOUDS:
        for node_type in load(path)["available_node_types"].values():
            config = node_type["node_config"]
            assert "FILL_IN" in str(config.get("SecurityGroupIds") or config["networkInterfaces"])


@pytest.mark.parametrize("path", ALL, ids=name)
def test_shared_storage_is_ready_to_be_mounted(path: Path) -> None:
    """The lines in comments are whole: without their marks they are commands that Ray takes."""
    section = path.read_text(encoding="utf-8").partition("\nsetup_commands:\n")[2].partition("\n\n")[0]
    lines = [line.replace("  # ", "", 1) for line in section.splitlines() if re.match(r"  # (- |  )", line)]
    commands = yaml.safe_load("\n".join(lines))
    assert any("mount -t nfs" in command and "/mnt/shared" in command for command in commands)
    validate_config(prepare_config(load(path) | {"setup_commands": [*commands, *load(path)["setup_commands"]]}))

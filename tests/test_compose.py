"""compose.yaml and deploy/*.json against the image and the package: no container engine runs here."""

import json
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
KEYS = {
    *("build", "cap_drop", "command", "configs", "depends_on", "entrypoint", "environment", "healthcheck", "hostname"),
    *("image", "init", "logging", "networks", "ports", "restart", "security_opt", "stop_grace_period", "stop_signal"),
    "volumes",
}
CONDITIONS = {"service_started", "service_healthy", "service_completed_successfully"}


def test_it_has_what_the_local_stack_has():
    assert set(SERVICES) == {"postgres", "mlflow", "prefect", "deploy", "worker"}


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_service_names_only_what_there_is(name):
    service = SERVICES[name]
    assert set(service) <= KEYS
    for other, condition in service.get("depends_on", {}).items():
        assert condition["condition"] in CONDITIONS
        if condition["condition"] == "service_healthy":
            assert SERVICES[other]["healthcheck"]["test"]
    for volume in service.get("volumes", []):
        source, target = volume.split(":")
        assert source in COMPOSE["volumes"]
        assert target.startswith("/")
    assert set(service["networks"]) <= set(COMPOSE["networks"])
    assert all(config["source"] in COMPOSE["configs"] for config in service.get("configs", []))


def test_no_service_depends_on_itself_by_a_detour():
    def above(name, path=()):
        assert name not in path, path
        return {name}.union(*(above(other, (*path, name)) for other in SERVICES[name].get("depends_on", {})))

    assert above("worker") == set(SERVICES)


def test_ports_are_on_loopback_and_no_password_is_written_down():
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(ports) == 2
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in ports)
    assert "ports" not in SERVICES["postgres"]
    text = (ROOT / "compose.yaml").read_text()
    written = re.findall(r"//recdistill:(.*)@", text)
    assert set(written) == {"${POSTGRES_PASSWORD:?set POSTGRES_PASSWORD}"}


def test_folders_of_volumes_belong_to_the_user_of_the_image():
    (made,) = re.findall(r"install --directory --owner=10001 --group=10001 (.*)", (ROOT / "Dockerfile").read_text())
    targets = {
        volume.split(":")[1] for name in ("mlflow", "deploy", "worker") for volume in SERVICES[name].get("volumes", [])
    }
    assert targets == {f"/app/{folder}" for folder in made.split()}


def test_the_image_has_what_the_services_and_the_deployments_need():
    stages = re.split(r"^FROM ", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    (worker,) = [stage for stage in stages if stage.startswith("${BASE} AS worker")]
    assert "ENTRYPOINT" not in worker
    assert all(f" {name} " in worker for name in ("configs", "flows", "prefect.yaml"))
    assert SERVICES["mlflow"]["build"]["target"] == "worker"
    own = {name for name in SERVICES if name != "postgres"}
    assert {SERVICES[name]["image"] for name in own} == {"recdistill-worker:latest"}


@pytest.mark.parametrize("kind", ["docker", "kubernetes"])
def test_a_pool_s_template_gives_every_variable_that_it_names(kind):
    template = json.loads((ROOT / f"deploy/{kind}.json").read_text())
    variables = template["variables"]["properties"]
    named = set(re.findall(r"{{ (\w+) }}", json.dumps(template["job_configuration"])))
    assert named == set(variables)
    assert variables["image"]["default"] == "recdistill-worker:latest"
    assert variables["env"]["default"]["PREFECT_RESULTS_DEFAULT_SERIALIZER"] == "json"

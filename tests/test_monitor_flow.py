"""The monitoring flow and its parameters; slow: a real Prefect server, whose automation posts an alarm to a webhook."""

import json
import threading
import time
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import yaml
from conftest import make_run
from monitor_world import requests, written
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
from pydantic import ValidationError
from test_deployments import server  # noqa: F401  a fixture

from flows.monitor import NAME, MonitorParameters, alert, looks, main, markdown, monitor
from recdistill.monitor.finding import Finding
from recdistill.problems import BadInput

QUICK = {"draws": 50, "min_rows": 50, "false_alarm_every": 100}


def write_config(root):
    run = make_run(root / "nowhere", root, monitor=QUICK)
    (root / "config.yaml").write_text(yaml.safe_dump(run.model_dump(mode="json")))
    return run, str(root / "config.yaml")


@pytest.mark.parametrize("given", [{}, {"scored": "a"}, {"labels": "b", "server": "http://c"}])
def test_a_look_at_nothing_and_one_file_without_the_other_are_refused(tmp_path, given):
    run, config = write_config(tmp_path)
    with pytest.raises(BadInput, match="monitor: wanted drift_days, scored with labels, or server"):
        looks(run, MonitorParameters(config=config, **given), datetime.now(UTC))


def test_unknown_parameters_are_refused_and_each_look_is_named(tmp_path):
    run, config = write_config(tmp_path)
    with pytest.raises(ValidationError):
        MonitorParameters(config=config, days=3)
    wanted = MonitorParameters(config=config, drift_days=1, scored="a", labels="b", server="http://c")
    assert list(looks(run, wanted, datetime.now(UTC))) == ["drift", "quality", "health"]


def test_the_artifact_has_the_alarms_above_the_tables(tmp_path):
    run, _ = write_config(tmp_path)
    findings = [Finding(kind="drift", found={}, lines=["feature  psi"], alarms=["drift of price"], samples=[])]
    text = markdown(run, findings)
    assert text.index("tiny-student: 1 alarms") < text.index("- drift of price") < text.index("feature  psi")


@pytest.fixture
def webhook():
    """(address, the JSON bodies that were posted to it)."""
    posted = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self):
            posted.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    receiver = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=receiver.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{receiver.server_port}/hook", posted
    receiver.shutdown()
    receiver.server_close()


@pytest.mark.slow
@pytest.mark.usefixtures("server")
def test_an_alarm_reaches_the_webhook_through_a_real_server_once(webhook, tmp_path, capsys):
    address, posted = webhook
    alert("http://127.0.0.1:1/gone")  # made again below, not twice
    assert main(["alert", address, "--model", "tiny-student"]) == 0
    assert capsys.readouterr().out.strip()
    with get_client(sync_client=True) as client:
        assert len(client.read_automations_by_name(NAME)) == 1
    _, config = write_config(tmp_path)
    scored, labels = requests(20, from_day=15, seed=2, blind=True)
    paths = written(tmp_path / "files", scored=scored, labels=labels)
    files = {name: str(path) for name, path in paths.items()}
    asked = MonitorParameters(config=config, textfile=str(tmp_path / "prom"), **files)
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        time.sleep(5)  # the server's triggers learn of an automation a moment later
        found = monitor(asked)
        assert len(found["quality"]) >= 1
        until = time.monotonic() + 60
        while not posted and time.monotonic() < until:
            time.sleep(0.2)
        assert monitor(asked) == {"quality": []}
        state = monitor(MonitorParameters(config=config, scored="none", labels="none"), return_state=True)
    assert (state.name, "readable Parquet" in state.message) == ("Failed", True)
    assert len(posted) == 1
    assert posted[0]["title"] == "tiny-student: alarm"
    assert posted[0]["text"] == "\n".join(found["quality"])
    with get_client(sync_client=True) as client:
        only = ArtifactFilter(key=ArtifactFilterKey(any_=["monitor"]))
        shown = client.read_artifacts(artifact_filter=only)
    assert len(shown) == 2
    assert any(found["quality"][0] in artifact.data for artifact in shown)
    assert len(list((tmp_path / "prom").glob("*.prom"))) == 1

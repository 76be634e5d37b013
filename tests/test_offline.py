"""No library phones home: neither on import nor in use, watched from inside Python and from the kernel."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.flows.repository import environment, make_repository
from tests.offline import explain_missing_namespace, namespace_command, record_connections
from voxflow.offline import QUIET, silence_telemetry

if TYPE_CHECKING:
    from pathlib import Path

namespace_needed = pytest.mark.skipif(bool(explain_missing_namespace()), reason=explain_missing_namespace())

LIBRARIES = ["torch", "monai", "lightning_fabric", "mlflow", "great_expectations", "openvino", "onnxruntime", "prefect"]

USES = {
    "great_expectations": """
import great_expectations as gx, pandas
context = gx.get_context(mode="ephemeral")
asset = context.data_sources.add_pandas("p").add_dataframe_asset("a")
batch = asset.add_batch_definition_whole_dataframe("b").get_batch({"dataframe": pandas.DataFrame({"a": [1, 2]})})
assert batch.validate(gx.expectations.ExpectColumnValuesToNotBeNull(column="a")).success
""",
    "mlflow": """
import mlflow
mlflow.set_tracking_uri("sqlite:///runs.db")
mlflow.set_experiment("e")
with mlflow.start_run(log_system_metrics=True):
    mlflow.log_metric("a", 1.0)
    mlflow.log_text("hello", "hello.txt")
""",
    "distributed": """
import pathlib
from voxflow.cluster import open_executor
with open_executor("local:2") as executor:
    assert sorted(executor.run(abs, [-2, 1], lambda item, reason: item, into=pathlib.Path())) == [(0, 2), (1, 1)]
""",
    "openvino and onnxruntime": """
import numpy, onnx, onnxruntime, openvino
from onnx import TensorProto, helper
value = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [1])
graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [value("x")], [value("y")])
opset = [helper.make_opsetid("", 17)]
onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), "m.onnx")
data = numpy.zeros(1, numpy.float32)
onnxruntime.InferenceSession("m.onnx", providers=["CPUExecutionProvider"]).run(None, {"x": data})
openvino.compile_model(openvino.convert_model("m.onnx"), "CPU")(data)
""",
}


@pytest.fixture
def attempts(tmp_path: Path) -> Path:
    return tmp_path / "connections.txt"


def run(command: list[str], attempts: Path, folder: Path, *, silent: bool = True) -> list[str]:
    """Run a command without a route; the lines say whom it tried to reach.

    Args:
        command: what to run.
        attempts: the file that the lines are written to.
        folder: where it runs, and its home.
        silent: False takes the opt-outs of this process away, to see what a library does without them.
    """
    inherited = {name: value for name, value in environment().items() if name not in QUIET}
    home = {"HOME": str(folder), "PREFECT_HOME": str(folder / "prefect"), "NO_PROXY": "*", "no_proxy": "*"}
    variables = record_connections(attempts, inherited | home)
    result = subprocess.run(
        [*namespace_command(), *command], cwd=folder, env=variables, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0 or not silent, result.stdout + result.stderr
    return attempts.read_text(encoding="utf-8").splitlines() if attempts.exists() else []


@namespace_needed
def test_the_witnesses_see_python_and_native_code(attempts: Path, tmp_path: Path) -> None:
    code = "import socket; socket.create_connection(('192.0.2.1', 80), 1)"
    lines = run([sys.executable, "-c", code], attempts, tmp_path, silent=False)
    assert any(line.startswith("socket.connect ('192.0.2.1', 80)") for line in lines)
    attempts.unlink()
    (line,) = run(["getent", "ahosts", "example.org"], attempts, tmp_path, silent=False)
    assert line.startswith("kernel: ")


@namespace_needed
def test_onnxruntime_without_its_opt_out_would_be_caught(attempts: Path, tmp_path: Path) -> None:
    code = USES["openvino and onnxruntime"].split("openvino.compile_model")[0] + "\nimport time; time.sleep(8)"
    assert run([sys.executable, "-c", code], attempts, tmp_path, silent=False) != []


@namespace_needed
def test_importing_reaches_for_nobody(attempts: Path, tmp_path: Path) -> None:
    code = f"import voxflow, importlib\nfor name in {LIBRARIES}: importlib.import_module(name)"
    assert run([sys.executable, "-c", code], attempts, tmp_path) == []


@namespace_needed
@pytest.mark.parametrize("use", USES)
def test_using_reaches_for_nobody(use: str, attempts: Path, tmp_path: Path) -> None:
    code = f"import voxflow\n{USES[use]}\nimport time; time.sleep(2)"
    assert run([sys.executable, "-c", code], attempts, tmp_path) == []


@namespace_needed
def test_a_flow_with_its_own_server_reaches_for_nobody(attempts: Path, tmp_path: Path) -> None:
    repository = make_repository(tmp_path / "repository")
    (repository / "spleen_demo-killed").touch()
    assert run([sys.executable, "-m", "flows.pipeline", "spleen_demo"], attempts, repository) == []


def test_what_the_user_chose_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GX_ANALYTICS_ENABLED", "true")
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    silence_telemetry()
    assert os.environ["GX_ANALYTICS_ENABLED"] == "true"
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"

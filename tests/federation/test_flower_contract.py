"""What `federation/flower` takes from Flower's inside is there and has the form it relies on; another version fails here."""

import ast
import dataclasses
import inspect
import re
import subprocess
import sys
from pathlib import Path

import flwr
import pytest
from flwr.proto.control_pb2 import ListNodesResponse, RegisterNodeRequest, StartRunRequest, UnregisterNodeRequest
from flwr.proto.node_pb2 import NodeInfo
from flwr.proto.runtime_pb2 import AcquireTaskResponse, PullTaskInputResponse
from flwr.superlink.config_loader import SuperLinkLifespanConfig
from flwr.superlink.grid import HttpGrid
from flwr.supernode import start_client_internal
from flwr.supernode.nodestate import InMemoryNodeState
from flwr.supernode.runtime import run_clientapp

FEDERATION = Path(__file__).parents[2] / "fedseg"

PROMISED = ("flwr.app", "flwr.clientapp", "flwr.serverapp")
"""What Flower documents for apps."""


def test_this_is_the_flower_that_was_studied() -> None:
    assert flwr.__version__.startswith("1.41.")


def test_another_version_is_refused_with_a_sentence() -> None:
    program = "import flwr; flwr.__version__ = '1.42.0'; import fedseg.federation.flower"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "fedseg works with Flower 1.41.*, and this is 1.42.0: install flwr==1.41.*" in done.stderr


def test_flowers_inside_is_known_in_one_package() -> None:
    inside = {
        str(path.relative_to(FEDERATION).parent)
        for path in FEDERATION.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        for name in imported(node)
        if name.split(".")[0] == "flwr" and not name.startswith(PROMISED)
    }
    assert inside == {"federation/flower"}


def imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.ImportFrom):
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return [alias.name for alias in node.names] if isinstance(node, ast.Import) else []


def test_the_link_takes_these_settings_and_no_others() -> None:
    # A new one may open a door: look at what it means before naming it in serve_link.
    assert {field.name for field in dataclasses.fields(SuperLinkLifespanConfig)} == {
        "artifact_provider", "authn_plugin", "certificates", "control_address", "database", "enable_event_log",
        "enable_supernode_auth", "event_log_plugin", "fleet_api_address", "fleet_api_type", "fleet_event_log_plugin",
        "health_server_address", "host", "insecure", "isolation", "port", "runtime_dependency_install", "simulation",
        "ssl_ca_certfile", "ssl_certfile", "ssl_keyfile", "superexec_auth_secret",
    }  # fmt: skip


def test_a_node_is_started_with_these_arguments() -> None:
    names = set(inspect.signature(start_client_internal.start_client_internal).parameters)
    assert {
        "state_factory", "server_address", "node_config", "root_certificates", "insecure", "authentication_keys", "isolation",
    } <= names  # fmt: skip


def test_a_nodes_loop_waits_by_the_time_module_that_we_shorten() -> None:
    source = inspect.getsource(start_client_internal)
    assert "\nimport time\n" in source
    used = set(re.findall(r"\btime\.(\w+)\(", source))
    assert used == {"sleep"}
    assert "time.sleep(3)" in source


def test_what_flower_would_send_of_working_time_is_asked_of_the_state_we_replace() -> None:
    assert "state.get_message_processing_duration(" in inspect.getsource(start_client_internal._push_messages)
    assert list(inspect.signature(InMemoryNodeState.get_message_processing_duration).parameters) == [
        "self",
        "message_id",
    ]
    assert "set_node_id" in inspect.getsource(start_client_internal.start_client_internal)


def test_a_bundle_is_unpacked_by_flowers_own_program_only() -> None:
    assert "install_from_fab" in inspect.getsource(run_clientapp.run_clientapp)
    for used in (run_clientapp.pull_task_input, run_clientapp.push_message, run_clientapp.push_task_output):
        assert "install" not in inspect.getsource(used)
    assert "install_from_fab" not in inspect.getsource(start_client_internal)
    # The one place where a node opens it: replaced, for its settings are the server's and nobody here reads them.
    assert inspect.getsource(start_client_internal).count("fab.content") == 2  # the other is hashed
    assert "run_cfg = get_fused_config_from_fab(fab.content, run_info)" in inspect.getsource(start_client_internal)


def test_the_grid_keeps_its_client_where_we_put_ours() -> None:
    assert "self._client" in inspect.getsource(HttpGrid._connect)
    assert list(inspect.signature(HttpGrid.__init__).parameters)[-1] == "token"


@pytest.mark.parametrize(
    ("message", "fields"),
    [
        (RegisterNodeRequest, {"public_key", "name"}),
        (UnregisterNodeRequest, {"node_id"}),
        (StartRunRequest, {"fab"}),
        (ListNodesResponse, {"nodes_info"}),
        (NodeInfo, {"node_id", "name", "status", "public_key", "last_activated_at", "last_deactivated_at"}),
        (AcquireTaskResponse, {"task", "token"}),
        (PullTaskInputResponse, {"task_id", "run", "context", "fab"}),
    ],
)
def test_the_messages_of_the_interfaces_have_these_fields(message: type, fields: set[str]) -> None:
    assert fields <= {field.name for field in message.DESCRIPTOR.fields}  # type: ignore[attr-defined]

"""The gRPC driver beside other packages that are loaded before it, in separate processes."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest

from distlock_core.testing import Cluster
from tests.support.needs import SALT, missing

USE = """
from distlock_core import connect
realm = connect({endpoints!r}, {prefix!r}, transport="grpc", connect_timeout=30)
with realm.lock("web", "me", ttl=10) as lock:
    assert lock.verify()
    assert realm.list()[0].holders[0].owner == "me"
realm.close()
"""
BEFORE = {
    "nothing": "",
    "protobuf, compiled": """
import google.protobuf
from google.protobuf import descriptor_pb2
from google.protobuf.internal import api_implementation
assert api_implementation.Type() == "upb", api_implementation.Type()
assert int(google.protobuf.__version__.split(".")[0]) >= 4
""",
    "opentelemetry, as in a Salt minion": """
import opentelemetry.proto.trace.v1.trace_pb2
import opentelemetry.exporter.otlp.proto.http.trace_exporter
""",
    "files of the same names in the default pool": """
from google.protobuf import descriptor_pb2, descriptor_pool
for name in ("kv", "auth", "rpc"):
    file = descriptor_pb2.FileDescriptorProto(name=f"{name}.proto", package="neighbour")
    file.message_type.add(name=f"Of{name}")
    descriptor_pool.Default().AddSerializedFile(file.SerializeToString())
""",
    "an import of etcd3 that failed": """
import sys
try:
    import etcd3
except TypeError as error:
    assert "Descriptors cannot be created directly" in str(error)
else:
    raise AssertionError("it works by itself now: etcd3_package is of no use any more")
for name in [name for name in sys.modules if name.partition(".")[0] == "etcd3"]:
    assert name != "etcd3"
""",
    "gRPC": "import grpc; grpc.insecure_channel('127.0.0.1:9')",
}
AFTER = {
    "etcd3 itself works": """
import etcd3
host, port = {endpoints!r}[0].rpartition("/")[2].split(":")
client = etcd3.client(host, int(port))
client.put({prefix!r} + "x", "1")
assert client.get({prefix!r} + "x")[0] == b"1"
assert client.transaction([client.transactions.version({prefix!r} + "x") > 0], [], [])[0]
client.lease(10).revoke()
client.close()
""",
    "a fork is silent": """
import os, subprocess
child = os.fork()
if not child:
    os._exit(0)
os.waitpid(child, 0)
subprocess.run(["true"], preexec_fn=lambda: None)
""",
    "a child that ends as a program does, ends": """
import os, sys
lock = realm.lock("web", "me", ttl=10).acquire()
child = os.fork()
if not child:
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
lock.release()
""",
    "the process ends with a watch open": """
from distlock_core.base.deadline import Patience
watch = realm._etcd.watch([(b"x", None)], 1, Patience.lasting(30))
""",
}


def run(program: str, etcd: Cluster, prefix: str) -> None:
    env = {key: value for key, value in os.environ.items() if not key.startswith(("DISTLOCK_", "GRPC_", "PROTOCOL_"))}
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "ignore",
            "-c",
            program.replace("{endpoints!r}", repr(etcd.endpoints)).replace("{prefix!r}", repr(prefix)),
        ],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("what", BEFORE)
def test_it_works_where_this_is_loaded_already(etcd: Cluster, realm_prefix: str, what: str) -> None:
    if "opentelemetry" in what and importlib.util.find_spec("opentelemetry") is None:
        missing(f"opentelemetry is missing, which comes with Salt. To install it: {SALT}")
    run(BEFORE[what] + USE, etcd, realm_prefix)


@pytest.mark.parametrize("what", AFTER)
def test_a_process_that_has_used_the_driver_works_as_before(etcd: Cluster, realm_prefix: str, what: str) -> None:
    run(USE + AFTER[what], etcd, realm_prefix)

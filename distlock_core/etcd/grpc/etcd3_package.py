"""The package `etcd3`, made importable beside any protobuf.

`etcd3` 0.12.0 brings modules that an old protobuf compiler has written. From 4.21 on protobuf refuses those, unless
its slow implementation was chosen before it was first imported: too late where protobuf is loaded already, as in a
Salt minion. The modules carry their messages' descriptions in serialized form too: read from their source, they are
built anew with what protobuf has for that, under the same names, before `etcd3` looks for them.
"""

from __future__ import annotations

import os
import sys

from distlock_core.errors import ConfigError, EtcdUnavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType
    from typing import Any

INSTALL = "pip install etcd3"
GENERATED = ("kv", "auth", "rpc")  # each needs those before it
BEGIN = "serialized_pb=_b("
SPARE = 12  # file descriptors; gRPC's core takes six for its first connection, and ends the process where it lacks one


def load() -> Any:
    """Import `etcd3` and gRPC, and return `etcd3.etcdrpc`: etcd's messages and stubs.

    Raises `ConfigError` where they are not installed, or do not work, and `EtcdUnavailable` where this process has too
    few descriptors left.
    """
    try:
        if "etcd3.etcdrpc" not in sys.modules:
            check_spare()
            home = _home()
            _import_grpc()
            for module in list(_built(home)):
                sys.modules.setdefault(module.__name__, module)
        import etcd3.etcdrpc as rpc
    except EtcdUnavailable:
        raise
    except Exception as error:
        missing = f"{error.name} is missing" if isinstance(error, ModuleNotFoundError) else _one_line(error)
        raise ConfigError(f"the transport grpc needs the package etcd3: {missing}. To install it: {INSTALL}") from error
    return rpc


def check_spare() -> None:
    """Raise `EtcdUnavailable` unless `SPARE` descriptors are free."""
    held: list[int] = []
    try:
        while len(held) < SPARE:
            held += os.pipe()
    except OSError as error:
        reason = (error.strerror or "").lower()
        raise EtcdUnavailable(f"gRPC cannot be begun: {reason} in this process; see ulimit -n") from error
    finally:
        for descriptor in held:
            os.close(descriptor)


def _home() -> str:
    """The package's folder. Looked for first: gRPC takes long to import, only to find that it is of no use."""
    from importlib.util import find_spec

    spec = find_spec("etcd3")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("no etcd3", name="etcd3")
    return spec.submodule_search_locations[0]


def _import_grpc() -> None:
    """Import gRPC so that it is silent: it has lines of its own for stderr, at every fork for example.

    It reads the variable while it is imported. The command under the lock is not to inherit it.
    """
    if "grpc" in sys.modules or "GRPC_VERBOSITY" in os.environ:
        return  # another's, or the user's own choice
    os.environ["GRPC_VERBOSITY"] = "NONE"
    try:
        import grpc  # noqa: F401
    finally:
        del os.environ["GRPC_VERBOSITY"]


def _built(home: str) -> Iterator[ModuleType]:
    """The generated modules, built anew. None where that is not needed, or there is nothing to build them from."""
    import ast

    try:
        from google.protobuf import descriptor_pool
        from google.protobuf.internal import builder
    except ImportError:
        return  # before 3.20: it takes them as they are
    # A pool of their own: "rpc.proto" and "auth.proto" are names that others have given to files of theirs.
    pool = descriptor_pool.DescriptorPool()
    for name in GENERATED:
        path = os.path.join(home, "etcdrpc", f"{name}_pb2.py")
        try:
            with open(path, encoding="utf-8") as file:
                _, found, rest = file.read().partition(BEGIN)
        except OSError:
            return
        if not found:
            return  # written by a newer compiler: it can be imported
        literal = rest.partition("\n")[0].rpartition(")")[0]
        pool.AddSerializedFile(ast.literal_eval(literal).encode("latin-1"))
        yield _module(f"etcd3.etcdrpc.{name}_pb2", path, pool.FindFileByName(f"{name}.proto"), builder)


def _module(name: str, path: str, described: Any, builder: Any) -> ModuleType:
    import types

    module = types.ModuleType(name)
    module.__file__ = path
    module.__dict__["DESCRIPTOR"] = described
    builder.BuildMessageAndEnumDescriptors(described, module.__dict__)
    builder.BuildTopDescriptorsAndMessages(described, name, module.__dict__)
    return module


def _one_line(error: Exception) -> str:
    return f"it cannot be imported ({type(error).__name__}: {' '.join(str(error).split())[:200]})"

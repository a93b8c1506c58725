"""The settings of one call of Salt, Ansible or Puppet. Every owner here is explicit."""

from __future__ import annotations

from distlock_core.errors import ConfigError
from distlock_core.model.ttl import DEFAULT_TTL
from distlock_core.process.identity import trace_of
from distlock_core.settings.load import checked, load
from distlock_core.settings.readers import read_bool
from distlock_core.settings.table import BY_KEY, TOKEN, Setting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from distlock_core.settings.table import Settings

CONTAINER_TTL = 20
FIRST_PID_NAMESPACE = 0xEFFFFFFC  # its inode on every machine


def read_settings(
    arguments: Mapping[str, object],
    owner: str,
    config: Mapping[str, object] | None = None,
    where: str = "configuration",
) -> Settings:
    """Put the settings together: arguments, then the tool's own `config`, environment and file, then the defaults.

    An argument of None counts as not given. `owner` is the one where nobody has set `id`; who says nothing of a
    timeout does not wait. Raises `ConfigError`, which names the argument, or `where` the config says it.
    """
    said = {key: value for key, value in arguments.items() if value is not None}
    found: dict[str, Any] = {}
    for key, value in (config or {}).items():
        if key not in BY_KEY:
            from distlock_core.base.nearest import did_you_mean

            meant = did_you_mean(str(key), BY_KEY)
            raise ConfigError(f"{where}: unknown key {key!r}{meant}; known are {', '.join(sorted(BY_KEY))}")
        if value is not None and (value != "" or key == "config"):
            found[key] = BY_KEY[key].value(value, f"{where}: {key}")
    if "timeout" in said:
        found.pop("nowait", None)
    found.update({key: BY_KEY[key].value(value, "owner" if key == "id" else key) for key, value in said.items()})
    settings = load(found)
    settings = settings._replace(reach=tuple((key, found[key]) for key in said))
    if settings.id is None:
        settings = settings._replace(id=owner)
    if not settings.given & {"timeout", "nowait"}:
        settings = settings._replace(timeout=0.0)
    return checked(settings)


def explicit_owner(settings: Settings) -> str:
    """The owner, as `read_settings()` has left it: every owner here is explicit."""
    if settings.id is None:
        raise ConfigError("id: no owner is set")
    return settings.id


def read_flag(value: object, word: str) -> bool:
    """An argument that is true or false, and no setting. Raises `ConfigError`: 'False' in quotes is not true."""
    return bool(Setting(word, word, read_bool, False).value(value, word))


def read_token(value: object) -> int | None:
    """A fencing token, None where none is given. Raises `ConfigError`."""
    return None if value is None else int(TOKEN.value(value, TOKEN.key))


def run_ttl() -> int:
    """Seconds that a lock which ends with a run is leased for, unless told.

    Shorter in a container: when its first process ends, the kernel kills all others, and the keeper cannot release it.
    """
    return CONTAINER_TTL if in_container() else DEFAULT_TTL


def in_container() -> bool:
    """True where the first process's end is that of all others: in a pid namespace that is not the machine's own."""
    namespace = trace_of().get("ns")
    return namespace is not None and namespace != FIRST_PID_NAMESPACE

"""The settings of one call of Salt, Ansible or Puppet. Every owner here is explicit."""

from __future__ import annotations

from distlock_core.errors import ConfigError, DistlockError
from distlock_core.model.ttl import DEFAULT_TTL
from distlock_core.model.wording import are, listed
from distlock_core.process.identity import trace_of
from distlock_core.settings.load import checked, load
from distlock_core.settings.options import BY_KEY, TOKEN, Setting
from distlock_core.settings.readers import BETWEEN_NAMES, read_bool, read_names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, TypeVar

    Step = TypeVar("Step", bound=Callable[..., Any])

    from distlock_core.settings.options import Settings

LOCK_NAMES = "lock_names"  # the argument that names several locks
CONTAINER_TTL = 20
CONTRADICT = "slots and shared contradict each other: the number of shared holders has no limit"
FIRST_PID_NAMESPACE = 0xEFFFFFFC  # inode of the initial pid namespace, the same on every machine


def read_settings(
    arguments: Mapping[str, object],
    owner: str,
    config: Mapping[str, object] | None = None,
    where: str = "configuration",
) -> Settings:
    """Merge the settings: arguments, then the tool's `config`, then environment and file, then the defaults.

    An argument of None counts as not given. `owner` is the default of `id`; the default of `timeout` is not to wait.
    A call that can take several locks has the argument `lock_names`, a list or None. Raises `ConfigError`, which names
    the argument, or `where` in the config the value is.
    """
    takes_several = LOCK_NAMES in arguments
    said = {key: value for key, value in arguments.items() if value is not None}
    several = said.pop(LOCK_NAMES, None)
    if several is not None:
        said["lockname"] = _read_lock_names(several, said.get("lockname"))
    found: dict[str, Any] = {}
    for key, value in (config or {}).items():
        if key not in BY_KEY:
            from distlock_core.base.nearest import did_you_mean

            meant = did_you_mean(str(key), BY_KEY) or f"; known keys: {', '.join(sorted(BY_KEY))}"
            raise ConfigError(f"{where}: unknown key {key!r}{meant}")
        if value is not None and (value != "" or key == "config"):
            found[key] = BY_KEY[key].value(value, f"{where}: {key}")
    if "timeout" in said:
        found.pop("nowait", None)
    found.update({key: BY_KEY[key].value(value, "owner" if key == "id" else key) for key, value in said.items()})
    names = {key: "owner" if key == "id" else key if key in said else f"{where}: {key}" for key in found}
    if several is not None:
        names["lockname"] = LOCK_NAMES
    settings = load(found, names=names)
    if several is None:
        settings = _with_one_name(settings, takes_several, is_said="lockname" in said)
    if settings.shared and "slots" in said:
        raise ConfigError(CONTRADICT)
    settings = settings._replace(realm_arguments=tuple((key, found[key]) for key in said))
    if settings.id is None:
        settings = settings._replace(id=owner)
    if not settings.given & {"timeout", "nowait"}:
        settings = settings._replace(timeout=0.0)
    of_a_gate = [key for key in said if key.startswith("gate_")]
    if of_a_gate and settings.gate is None:
        raise ConfigError(f"{of_a_gate[0]} is about a gate: it goes with gate")
    return checked(settings)


def check_settles(settings: Settings) -> None:
    """Raise `ConfigError` if the gate of these settings cannot be green in time after the work."""
    if settings.gate is not None and "after" in settings.gate_at and settings.gate_for >= settings.gate_timeout:
        raise ConfigError("gate_for must be shorter than gate_timeout, or no gate is green in time")


def _with_one_name(settings: Settings, takes_several: bool, *, is_said: bool) -> Settings:
    """The settings for a call without `lock_names`. Raises `ConfigError` if it has given a list as the name."""
    instead = f"name several with {LOCK_NAMES}" if takes_several else "only one is possible here"
    if settings.lockname.startswith("['") and settings.lockname.endswith("']"):
        # Ansible converts a list into such a text.
        raise ConfigError(f"name: {settings.lockname} is a list, and a name is a string: {instead}")
    if len(settings.lock_names) > 1:
        if is_said:
            raise ConfigError(f"lockname: {are(settings.lock_names)} named: {instead}")
        if not takes_several:
            return settings._replace(lockname="")  # those of a file are not those of this call
    return settings


def _read_lock_names(names: object, name: object) -> str:
    """The locks of the argument `lock_names`, as the setting has them. Raises `ConfigError`."""
    if name is not None:
        raise ConfigError(f"name and {LOCK_NAMES}: the locks are named twice: use one of the two")
    if not isinstance(names, (list, tuple)) or not names or "" in names:
        raise ConfigError(f"{LOCK_NAMES}: expected a list of names, found {ascii(names)[:60]}")
    return str(Setting("lockname", LOCK_NAMES, read_names, "").value(list(names), LOCK_NAMES))


def names_of(value: object, word: str = "name") -> tuple[str, ...]:
    """The locks that an argument names: one, or a list of them; none if it is not given. Raises `ConfigError`."""
    if value is None:
        return ()
    names = str(Setting("lockname", word, read_names, "").value(value, word))
    return (names,) if isinstance(value, str) else tuple(names.split(BETWEEN_NAMES))


def shown_name(settings: Settings) -> str:
    """The name of the lock, or of several, for a message."""
    return listed(settings.lock_names)


def explicit_owner(settings: Settings) -> str:
    """The owner in settings from `read_settings()`, which is always explicit."""
    if settings.id is None:
        raise ConfigError("id: no owner is set")
    return settings.id


def read_flag(value: object, word: str) -> bool:
    """A boolean argument that is no setting. Raises `ConfigError`, so that a quoted 'False' does not count as true."""
    return bool(Setting(word, word, read_bool, False).value(value, word))


def read_token(value: object) -> int | None:
    """A fencing token, None if none is given. Raises `ConfigError`."""
    return None if value is None else int(TOKEN.value(value, TOKEN.key))


def run_ttl() -> int:
    """The default ttl, in seconds, of a lock that ends with a run.

    It is shorter in a container: when its first process ends, the kernel kills the keeper before it can release.
    """
    return CONTAINER_TTL if in_container() else DEFAULT_TTL


def in_container() -> bool:
    """True in a pid namespace other than the machine's initial one: all processes end with its first process."""
    namespace = trace_of().get("ns")
    return namespace is not None and namespace != FIRST_PID_NAMESPACE


def reaching(function: Step) -> Step:
    """Decorator: errors of a step carry the settings needed to reach the same realm again."""
    from functools import wraps

    @wraps(function)
    def call(settings: Settings, *arguments: Any, **named: Any) -> Any:
        try:
            return function(settings, *arguments, **named)
        except DistlockError as error:
            error.realm_settings = dict(settings.realm_arguments)
            raise

    return call  # type: ignore[return-value]

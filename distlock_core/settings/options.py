"""All settings, one line each: name, type, reader, default and help.

`settings/load.py` fills in `Settings`. The table `SETTINGS`, from which options, variables, config keys and `--help`
are derived, is made from the same lines.
"""

from __future__ import annotations

from distlock_core.base.value import Value
from distlock_core.errors import ConfigError
from distlock_core.model.keys import DEFAULT_MUTEX, DEFAULT_PREFIX, DEFAULT_RANK, LAST_RANK
from distlock_core.model.ttl import kill_after_of
from distlock_core.settings.readers import (
    BETWEEN_NAMES,
    read_beat,
    read_bool,
    read_bool_or_path,
    read_choice,
    read_endpoints,
    read_go_duration,
    read_line,
    read_names,
    read_password,
    read_path,
    read_seconds,
    read_span,
    read_span_or_none,
    read_text,
    read_user,
    read_whole,
    read_whole_seconds,
    read_windows,
    utf8,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, TypeVar

    Read = TypeVar("Read")
    Default = TypeVar("Default")

DEFAULT_FILE = "/etc/distlock/distlock.yaml"
IN_FILE = "config file "  # before the path, in the origin of a setting
KILL_AFTER = 5.0  # seconds from SIGTERM to SIGKILL without a ttl


class Setting(Value):
    """One line of the table. `key` is the key in the config file and, in capitals, the variable's name.

    The value of a `secret` setting is never shown, not even if it is wrong.
    """

    key: str
    option: str
    read: Callable[[object], Any]
    default: Any
    help: str = ""
    flag: bool = False
    scope: str = "option env file"
    placeholder: str = ""
    secret: bool = False

    @property
    def variable(self) -> str:
        return "DISTLOCK_" + self.key.upper()

    def as_utf8(self, text: str) -> str:
        """An argument or a variable, decoded by `utf8()`. Names of files stay as the system gives them."""
        return text if self.read in (read_path, read_bool_or_path) else utf8(text)

    def value(self, found: object, where: str) -> Any:
        """Read one value. Raises `ConfigError` with its place, what was expected and what was found."""
        try:
            return self.read(found)
        except ConfigError as expected:
            shown = "something else" if self.secret else _shown(found)
            raise ConfigError(f"{where}: expected {expected}, found {shown}") from None


def _shown(value: object) -> str:
    try:
        return ascii(value)[:60]
    except ValueError:
        return "a number of thousands of digits"


class _Line(tuple):  # type: ignore[type-arg]
    """A line of the table, before the name of its field is known."""


def setting(
    read: Callable[[object], Read],
    default: Default,
    help_text: str = "",
    *,
    option: str = "",
    flag: bool = False,
    scope: str = "option env file",
    placeholder: str = "",
    secret: bool = False,
) -> Read | Default:
    """A line of the table. To a type checker it is the value that `read` returns, or the default."""
    line: Any = _Line((option, read, default, help_text, flag, scope, placeholder, secret))
    return line  # type: ignore[no-any-return]


class Settings(Value):
    """The values of all settings. Immutable: `_replace(ttl=60)` returns a changed copy.

    `given` has the keys that are set by any source. `warnings` are lines for the user about settings that are valid but
    risky.
    """

    # Of several locks, one name a line: see `lock_names`.
    lockname: str = setting(
        read_names,
        "",
        "name of the lock; several are taken together or not at all",
        placeholder="NAME",
        option="lock-name",
    )
    reason: str = setting(read_text, "", "why the lock is taken; shown to all waiters", placeholder="TEXT")
    value: str | None = setting(
        read_text, None, "value that the lock carries, for others to --get and --watch", placeholder="TEXT"
    )
    timeout: float = setting(read_seconds, -1.0, "longest wait; 0: do not wait, -1: forever", placeholder="SECONDS")
    nowait: bool = setting(read_bool, False, "do not wait; the same as --timeout=0", flag=True)
    endpoints: list[str] | None = setting(read_endpoints, None, "etcd members, separated by commas", placeholder="URLS")
    discovery_srv: str = setting(
        read_text, "", "DNS domain whose SRV records name the etcd members", placeholder="DOMAIN"
    )
    transport: str = setting(
        read_choice("auto", "http", "grpc"),
        "auto",
        "how to talk to etcd: its JSON gateway (http), or gRPC through the package etcd3",
        placeholder="auto|http|grpc",
    )
    cacert: str | None = setting(
        read_path, None, "CA bundle for etcd's certificate; default the system's authorities", placeholder="FILE"
    )
    cert: str | None = setting(read_path, None, "client certificate for etcd", placeholder="FILE")
    key: str | None = setting(
        read_path, None, "private key of the client certificate, if in a separate file", placeholder="FILE"
    )
    tls_server_name: str | None = setting(
        read_text, None, "name that etcd's certificate must have; default the endpoint's host", placeholder="NAME"
    )
    user: str | None = setting(
        read_user, None, "etcd user, if etcd has authentication enabled", placeholder="NAME", secret=True
    )
    password: str | None = setting(read_password, None, scope="env file", secret=True)
    password_file: str | None = setting(
        read_path, None, "file that contains only that user's password", placeholder="FILE"
    )
    prefix: str = setting(read_text, DEFAULT_PREFIX, "the realm: prefix of all its keys in etcd", placeholder="TEXT")
    raw_prefix: bool = setting(
        read_bool, False, "accept a prefix that does not begin and end with one /, as the Go original does", flag=True
    )
    id: str | None = setting(
        read_text,
        None,
        "owner; the same owner can enter its own lock again, and --unlock refuses another's",
        placeholder="OWNER",
    )
    slots: int = setting(read_whole(1, 1000), 1, "number of simultaneous holders allowed", placeholder="N")
    rank: int = setting(
        read_whole(0, LAST_RANK),
        DEFAULT_RANK,
        f"place in the queue: waiters with a lower rank (0 to {LAST_RANK}) are served first, within a rank in the "
        "order of arrival",
        placeholder="N",
    )
    shared: bool = setting(
        read_bool,
        False,
        "share the lock with any number of other shared holders, but with no exclusive one",
        flag=True,
    )
    busy_exit_code: int = setting(
        read_whole(0, 255), 1, "exit code when the lock is held by another, or the wait timed out", placeholder="N"
    )
    unreachable_exit_code: int = setting(
        read_whole(0, 255), 1, "exit code when no etcd answers, before a command has run", placeholder="N"
    )
    ttl: int | None = setting(
        read_whole_seconds,
        None,
        "lease the lock: it expires this long after its holder is gone, and a lost lock ends the command",
        placeholder="SECONDS",
    )
    refresh: float | None = setting(
        read_span, None, "interval between renewals of the lease; default a third of the ttl", placeholder="SECONDS"
    )
    kill_after: float | None = setting(
        read_span,
        None,
        "time from SIGTERM to SIGKILL when the lock is lost; default a sixth of the ttl, or 5",
        placeholder="SECONDS",
    )
    on_loss: str | None = setting(
        read_choice("kill", "continue"),
        None,
        "what to do with the command when the lock is lost; default kill with a ttl, else continue",
        placeholder="kill|continue",
    )
    on_failure: str = setting(
        read_choice("release", "keep", "freeze"),
        "release",
        "what happens to the lock if the command fails. keep: it stays taken; freeze: it is released, but nobody can "
        "acquire it. Both last until a person ends them",
        placeholder="release|keep|freeze",
    )
    record_arguments: bool = setting(
        read_bool,
        False,
        "also put the command's arguments into the reason that --on-failure leaves in etcd",
        flag=True,
    )
    wait_for: str = setting(
        read_choice("command", "tree"),
        "command",
        "tree: hold the lock until everything that the command started has ended",
        placeholder="command|tree",
    )
    cooldown: int | None = setting(
        read_whole_seconds, None, "time that the lock stays taken after success", placeholder="SECONDS"
    )
    only_if: str | None = setting(
        read_line,
        None,
        "run only if this line of shell exits with 0; checked before the lock is acquired, and again once it is held",
        placeholder="CMD",
    )
    unless: str | None = setting(
        read_line,
        None,
        "do not run if this line of shell exits with 0; checked like --only-if",
        placeholder="CMD",
    )
    window: str | None = setting(
        read_windows,
        None,
        "times outside of which the lock is not acquired, such as 'Mon-Fri 22:00-04:00 Europe/Berlin, !Sat'; "
        "in UTC unless a time zone is named",
        placeholder="TIMES",
    )
    expect: int | None = setting(
        read_whole_seconds,
        None,
        "time that the hold is expected to take; after it, the hold is shown as OVERDUE",
        placeholder="SECONDS",
    )
    gate: str | None = setting(
        read_line,
        None,
        "line of shell that exits with 0 if the cluster is healthy: before that, the lock is not acquired, and after "
        "the command not released",
        placeholder="CMD",
    )
    gate_timeout: float = setting(
        read_span,
        600.0,
        "longest wait for a green gate after the command; then the lock is kept. Also the longest that one answer may "
        "take",
        placeholder="SECONDS",
    )
    gate_every: float = setting(read_span, 5.0, "pause between two questions to the gate", placeholder="SECONDS")
    gate_for: float = setting(
        read_span_or_none, 0.0, "time for which the gate must have been green", placeholder="SECONDS"
    )
    gate_at: str = setting(
        read_choice("before,after", "before", "after"),
        "before,after",
        "when the gate is asked: before the lock is acquired, after the command",
        placeholder="before,after",
    )
    on_acquired: str | None = setting(
        read_line,
        None,
        "line of shell that is run when the lock has been acquired, beside the command",
        placeholder="CMD",
    )
    on_lost: str | None = setting(
        read_line,
        None,
        "line of shell that is run when the lock is lost, beside the end of the command",
        placeholder="CMD",
    )
    on_released: str | None = setting(
        read_line,
        None,
        "line of shell that is run when the lock has been released",
        placeholder="CMD",
    )
    hook_timeout: float = setting(
        read_span,
        10.0,
        "time after which a hook is ended, with all that it has started",
        placeholder="SECONDS",
    )
    heartbeat: float | None = setting(
        read_span,
        None,
        "longest time without a sign of life (sd_notify's WATCHDOG=1, or --node) before the command is killed",
        placeholder="SECONDS",
    )
    beat: int | None = setting(
        read_beat,
        None,
        "interval of signs of life for a lock without a ttl; --show reports them from any machine",
        placeholder="SECONDS",
    )
    node: bool = setting(read_bool, False, "the command is a Node.js module, which is pinged over IPC", flag=True)
    while_pid: int | None = setting(
        read_whole(1, 2**31 - 1), None, "with --lock: keep the lock while this process lives", placeholder="PID"
    )
    log_file: str | None = setting(
        read_path, None, "log file of the --while-pid keeper; default syslog", placeholder="FILE"
    )
    state_dir: str | None = setting(
        read_path,
        None,
        "directory for this machine's notes of the locks that it holds under an --id, which let it enter them again "
        "after a reboot; default /var/lib/distlock, for users $XDG_STATE_HOME/distlock",
        placeholder="FOLDER",
    )
    connect_timeout: float = setting(
        read_span, 5.0, "time limit for the first contact with etcd", placeholder="SECONDS"
    )
    release_timeout: float = setting(
        read_span, 30.0, "how long to retry a release while etcd is away", placeholder="SECONDS"
    )
    max_answer: int = setting(
        read_whole(1, 4096), 64, "largest response from etcd that is read, in MiB", placeholder="MIB"
    )
    json: bool = setting(read_bool, False, "print results and errors as JSON", flag=True)
    quiet: bool = setting(read_bool, False, "print only errors", flag=True)
    verbose: bool = setting(read_bool, False, "report what is done", flag=True)
    config: str = setting(read_path, DEFAULT_FILE, "config file", scope="option env", placeholder="FILE")
    internallock: str = setting(read_text, DEFAULT_MUTEX, scope="file")
    maxtime: float | None = setting(read_go_duration, None, scope="file")

    given: frozenset[str] = frozenset()
    warnings: tuple[str, ...] = ()
    origins: Mapping[str, str] = {}  # by key: the option, variable or file that has set it
    realm_arguments: tuple[tuple[str, Any], ...] = ()  # those of an adapter, which lead to this realm again

    def by_key(self, key: str) -> Any:
        """The value of a setting whose key is known only at run time. Raises `KeyError` for an unknown key."""
        return getattr(self, BY_KEY[key].key)

    @property
    def lock_names(self) -> tuple[str, ...]:
        """The names of all locks that are named."""
        return tuple(self.lockname.split(BETWEEN_NAMES)) if self.lockname else ()

    @property
    def time_to_end(self) -> float:
        """Seconds from SIGTERM to SIGKILL when the lock is lost: `kill_after`, or its default with this ttl."""
        if self.kill_after is not None:
            return self.kill_after
        return KILL_AFTER if self.ttl is None else kill_after_of(self.ttl)

    @property
    def has_hooks(self) -> bool:
        return self.on_acquired is not None or self.on_lost is not None or self.on_released is not None

    @property
    def kills_on_loss(self) -> bool:
        """True if the command is ended when the lock is lost: `on_loss`, or its default with this ttl."""
        return self.ttl is not None if self.on_loss is None else self.on_loss == "kill"

    def __repr__(self) -> str:
        shown = [f"{one.key}={'***' if value and one.secret else repr(value)}" for one, value in zip(SETTINGS, self)]
        return f"Settings({', '.join(shown)})"


def _table() -> tuple[Setting, ...]:
    """The settings with the names of their fields. Leaves the plain defaults in the class."""
    defaults = Settings._field_defaults
    lines = [(key, line) for key, line in defaults.items() if isinstance(line, _Line)]
    table = tuple(Setting(key, option or key.replace("_", "-"), *rest) for key, (option, *rest) in lines)
    defaults.update((one.key, one.default) for one in table)
    return table


SETTINGS = _table()
BY_KEY = {one.key: one for one in SETTINGS}
TOKEN = Setting("token", "token", read_whole(1, 2**63 - 1), None, placeholder="N")
# Options that belong to one call of the command, so no file or variable has them.
OF_ONE_CALL = {
    "force": Setting("force", "force", read_bool, False, flag=True),
    "token": TOKEN,
    "older-than": Setting("older_than", "older-than", read_span, None, placeholder="AGE"),
    "for": Setting("for", "for", read_whole_seconds, None, placeholder="SECONDS"),
    "clear": Setting("clear", "clear", read_bool, False, flag=True),
    "dry-run": Setting("dry_run", "dry-run", read_bool, False, flag=True),
    "since": Setting("since", "since", read_span, None, placeholder="AGE"),
    "follow": Setting("follow", "follow", read_bool, False, flag=True),
    "yes": Setting("yes", "yes", read_bool, False, flag=True),
    "until": Setting("until", "until", read_choice("free", "idle", "thawed"), "free", placeholder="free|idle|thawed"),
    "plot": Setting("plot", "plot", read_text, None, placeholder="FILE"),
}

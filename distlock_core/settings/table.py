"""Every setting there is: its option, environment variable and config key, how its text is read, its default."""

from __future__ import annotations

from collections.abc import Callable

from distlock_core.base.value import Value
from distlock_core.errors import ConfigError
from distlock_core.model.keys import DEFAULT_MUTEX, DEFAULT_PREFIX
from distlock_core.model.ttl import LONGEST_TTL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DEFAULT_FILE = "/etc/distlock/distlock.yaml"
LONGEST = 10**9  # seconds; beyond it a number is a slip
LONGEST_DIGITS = 100
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}  # seconds


def read_seconds(text: object) -> float:
    """A number of seconds, or with a unit (10m, 2h, 1d); fractions are fine, a negative one means for ever."""
    number = _decimal(*_unit(text))
    if number is None or abs(number) > LONGEST:
        raise ConfigError("a number of seconds")
    return number


def read_span(text: object) -> float:
    """A number of seconds above 0."""
    number = read_seconds(text)
    if number <= 0:
        raise ConfigError("a number of seconds above 0")
    return number


def _unit(text: object) -> tuple[object, int]:
    """A value without its unit, and how many seconds that is."""
    if not isinstance(text, str) or text.strip()[-1:] not in UNITS:
        return text, 1
    return text.strip()[:-1], UNITS[text.strip()[-1]]


def _decimal(text: object, factor: float = 1) -> float | None:
    """A number as people write it. Not 010, 0x10, 1_000 or nan: what reads them does not agree on what they are."""
    if isinstance(text, str):
        digits = text.strip()
        if not digits or not set(digits) <= set("0123456789.eE+-") or _has_leading_zero(digits):
            return None
    elif isinstance(text, bool) or not isinstance(text, (int, float)):
        return None
    try:
        number = float(text) * factor
    except (ValueError, OverflowError):
        return None
    return None if number != number else number


def _has_leading_zero(digits: str) -> bool:
    unsigned = digits.lstrip("+-")
    return unsigned[:1] == "0" and unsigned[1:2].isdigit()


def read_go_duration(text: object) -> float:
    """A duration as Go writes it, `5s` or `500ms`; a bare integer counts nanoseconds, as it does there."""
    if isinstance(text, str) and text.isascii() and text.isdigit() and len(text) <= LONGEST_DIGITS:
        text = 0 if _has_leading_zero(text) else int(text)
    if isinstance(text, int) and not isinstance(text, bool) and 0 < text <= LONGEST * 10**9:
        return text / 1e9
    for unit, factor in (("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0)):
        if isinstance(text, str) and text.endswith(unit):
            seconds = _decimal(text[: -len(unit)], factor)
            if seconds is not None and 0 < seconds <= LONGEST:
                return seconds
            break
    raise ConfigError("a duration like 5s")


def read_whole(low: int, high: int) -> Callable[[object], int]:
    def read(text: object) -> int:
        number = _whole(text)
        if number is None or not low <= number <= high:
            raise ConfigError(f"a whole number from {low} to {high}")
        return number

    return read


def read_whole_seconds(text: object) -> int:
    """A whole number of seconds, or with a unit (10m, 2h, 1d), up to a year."""
    digits, factor = _unit(text)
    number = _whole(digits)
    if number is None or not 1 <= number * factor <= LONGEST_TTL:
        raise ConfigError(f"a whole number of seconds from 1 to {LONGEST_TTL}")
    return number * factor


def _whole(text: object) -> int | None:
    if isinstance(text, bool) or not isinstance(text, (str, int)):
        return None
    if isinstance(text, int):
        return text
    digits = text.strip()
    # Python itself refuses to read a number of thousands of digits.
    fine = digits.isascii() and digits.isdigit() and len(digits) <= LONGEST_DIGITS and not _has_leading_zero(digits)
    return int(digits) if fine else None


def read_bool(text: object) -> bool:
    word = str(text).strip().lower()
    if word in ("true", "t", "1", "yes", "on"):
        return True
    if word in ("false", "f", "0", "no", "off"):
        return False
    raise ConfigError("true or false")


def read_text(text: object) -> str:
    """A text. Not a number: what was written as 010, 1.10 or 1_000 is another one by the time YAML has read it."""
    if not isinstance(text, str):
        number = isinstance(text, (int, float)) and not isinstance(text, bool)
        raise ConfigError("a string, in quotes (YAML may have rewritten it)" if number else "a string")
    return text


def read_path(text: object) -> str:
    """The name of a file."""
    path = read_text(text)
    if "\0" in path:
        raise ConfigError("the name of a file")
    return path


def absolute(path: str, what: str) -> str:
    """Return the whole path. Raises `ConfigError` for a relative one, where the current directory is gone."""
    import os

    try:
        return os.path.abspath(path)
    except OSError:
        raise ConfigError(
            f"{what} {path}: it is relative, and the current directory is there no more; name it from / on"
        ) from None


def read_endpoints(text: object) -> list[str]:
    items = text.split(",") if isinstance(text, str) else text
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise ConfigError("a list of URLs, or URLs separated by commas")
    return [item.strip() for item in items if item.strip()]


def read_choice(*words: str) -> Callable[[object], str]:
    def read(text: object) -> str:
        if text not in words:
            raise ConfigError(" or ".join(words))
        return str(text)

    return read


def read_password(text: object) -> str:
    """A password. Not a number: 0123 without quotes is 83 to YAML."""
    if not isinstance(text, str):
        raise ConfigError("a string, in quotes")
    return text


def read_user(text: object) -> str:
    """A user of etcd's. Not `name:password`, as etcdctl takes it: an option is seen in the process list."""
    name = read_text(text)
    if ":" in name:
        raise ConfigError("a user's name alone (its password: DISTLOCK_PASSWORD, or a key of the config file)")
    return name


class Setting(Value):
    """One setting. `key` is its word in the config file and, in capitals, in the environment.

    What is given for a `secret` one is never shown, not even where it is wrong.
    """

    option: str
    key: str
    read: Callable[[object], Any]
    default: Any
    help: str
    flag: bool = False
    scope: str = "option env file"
    placeholder: str = ""
    secret: bool = False

    @property
    def variable(self) -> str:
        return "DISTLOCK_" + self.key.upper()


# fmt: off
SETTINGS = (
    Setting("lock-name", "lockname", read_text, "", "name of the lock", placeholder="NAME"),
    Setting("reason", "reason", read_text, "", "why the lock is taken; shown to all waiters", placeholder="TEXT"),
    Setting("value", "value", read_text, None, "value that the lock carries, for others to --get and --watch",
            placeholder="TEXT"),
    Setting("timeout", "timeout", read_seconds, -1.0, "longest wait; 0: do not wait, -1: forever",
            placeholder="SECONDS"),
    Setting("nowait", "nowait", read_bool, False, "do not wait; the same as --timeout=0", flag=True),
    Setting("endpoints", "endpoints", read_endpoints, None, "etcd members, separated by commas", placeholder="URLS"),
    Setting("discovery-srv", "discovery_srv", read_text, "",
            "DNS domain whose SRV records name the etcd members", placeholder="DOMAIN"),
    Setting("transport", "transport", read_choice("auto", "http", "grpc"), "auto",
            "how to talk to etcd: its JSON gateway (http), or gRPC through the package etcd3",
            placeholder="auto|http|grpc"),
    Setting("cacert", "cacert", read_path, None, "CA bundle for etcd's certificate; default the system's authorities",
            placeholder="FILE"),
    Setting("cert", "cert", read_path, None, "client certificate for etcd", placeholder="FILE"),
    Setting("key", "key", read_path, None, "private key of the client certificate, if in a separate file",
            placeholder="FILE"),
    Setting("tls-server-name", "tls_server_name", read_text, None,
            "name that etcd's certificate must have; default the endpoint's host", placeholder="NAME"),
    Setting("user", "user", read_user, None, "etcd user, if etcd has authentication enabled", placeholder="NAME",
            secret=True),
    Setting("password", "password", read_password, None, "", scope="env file", secret=True),
    Setting("password-file", "password_file", read_path, None, "file that contains only that user's password",
            placeholder="FILE"),
    Setting("prefix", "prefix", read_text, DEFAULT_PREFIX, "the realm: prefix of all its keys in etcd",
            placeholder="TEXT"),
    Setting("raw-prefix", "raw_prefix", read_bool, False,
            "accept a prefix that does not begin and end with one /, as the Go original does", flag=True),
    Setting("id", "id", read_text, None,
            "owner; the same owner can enter its own lock again, and --unlock refuses another's", placeholder="OWNER"),
    Setting("slots", "slots", read_whole(1, 1000), 1, "number of simultaneous holders allowed", placeholder="N"),
    Setting("busy-exit-code", "busy_exit_code", read_whole(0, 255), 1,
            "exit code when the lock is held by another, or the wait timed out", placeholder="N"),
    Setting("ttl", "ttl", read_whole_seconds, None,
            "lease the lock: it expires this long after its holder is gone, and a lost lock ends the command",
            placeholder="SECONDS"),
    Setting("refresh", "refresh", read_span, None, "interval between renewals of the lease; default a third of the ttl",
            placeholder="SECONDS"),
    Setting("kill-after", "kill_after", read_span, None,
            "time from SIGTERM to SIGKILL when the lock is lost; default a sixth of the ttl, or 5",
            placeholder="SECONDS"),
    Setting("on-loss", "on_loss", read_choice("kill", "continue"), None,
            "what to do with the command when the lock is lost; default kill with a ttl, else continue",
            placeholder="kill|continue"),
    Setting("on-failure", "on_failure", read_choice("release", "keep"), "release",
            "keep: leave the lock taken when the command fails, until a person has looked", placeholder="release|keep"),
    Setting("record-arguments", "record_arguments", read_bool, False,
            "also put the command's arguments into the reason that --on-failure=keep leaves in etcd", flag=True),
    Setting("wait-for", "wait_for", read_choice("command", "tree"), "command",
            "tree: hold the lock until everything that the command started has ended", placeholder="command|tree"),
    Setting("cooldown", "cooldown", read_whole_seconds, None,
            "time that the lock stays taken after success", placeholder="SECONDS"),
    Setting("heartbeat", "heartbeat", read_span, None,
            "longest time without a sign of life (sd_notify's WATCHDOG=1, or --node) before the command is killed",
            placeholder="SECONDS"),
    Setting("node", "node", read_bool, False, "the command is a Node.js module, which is pinged over IPC", flag=True),
    Setting("while-pid", "while_pid", read_whole(1, 2**31 - 1), None,
            "with --lock: keep the lock while this process lives", placeholder="PID"),
    Setting("log-file", "log_file", read_path, None, "log file of the --while-pid keeper; default syslog",
            placeholder="FILE"),
    Setting("state-dir", "state_dir", read_path, None,
            "directory where this machine notes the locks that it holds under an --id, to go on after a reboot; "
            "default /var/lib/distlock, for users $XDG_STATE_HOME/distlock", placeholder="FOLDER"),
    Setting("connect-timeout", "connect_timeout", read_span, 5.0, "time limit for the first contact with etcd",
            placeholder="SECONDS"),
    Setting("release-timeout", "release_timeout", read_span, 30.0, "how long to retry a release while etcd is away",
            placeholder="SECONDS"),
    Setting("max-answer", "max_answer", read_whole(1, 4096), 64, "largest response from etcd that is read, in MiB",
            placeholder="MIB"),
    Setting("json", "json", read_bool, False, "print results and errors as JSON", flag=True),
    Setting("quiet", "quiet", read_bool, False, "print only errors", flag=True),
    Setting("verbose", "verbose", read_bool, False, "report what is done", flag=True),
    Setting("config", "config", read_path, DEFAULT_FILE, "config file", scope="option env", placeholder="FILE"),
    Setting("internallock", "internallock", read_text, DEFAULT_MUTEX, "", scope="file"),
    Setting("maxtime", "maxtime", read_go_duration, None, "", scope="file"),
)
# fmt: on
TOKEN = Setting("token", "token", read_whole(1, 2**63 - 1), None, "")  # of one call, and so in no file or variable

"""Which options go with which operation, and which contradict each other."""

from __future__ import annotations

from distlock_core.base.text import printable
from distlock_core.errors import DistlockError
from distlock_core.model.wording import are

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from distlock_core.settings.options import Settings

OPERATIONS = (
    *("lock", "unlock", "break", "list", "show", "explain", "get", "watch", "update", "verify", "freeze", "thaw"),
    *("policy", "prune", "history", "metrics", "wait", "doctor", "help", "version"),
)
# Without --lock-name these are about a realm, the first of them whatever file and environment say.
OF_A_REALM = ("list", "freeze", "thaw", "policy", "history", "metrics", "doctor")
WITHOUT_A_LOCK = (*OF_A_REALM, "watch", "prune", "help", "version")
# May be given several --lock-name.
WITH_SEVERAL = ("run", "lock", "unlock", "list", "show", "verify", "prune", "history", "metrics", "wait", "doctor")


class UsageError(DistlockError):
    """The command line contradicts itself, or has an unknown word."""

    kind = "usage"


def check_operation(operations: Sequence[str], options: Mapping[str, Any], command: Sequence[str]) -> None:
    if len(operations) > 1:
        raise UsageError(f"--{operations[0]} and --{operations[1]} are mutually exclusive: use one of them")
    if operations and command:
        advice = "leave out one of them"
        if operations[0] == "wait":
            advice = "a command waits for its lock by itself, and then holds it: leave out --wait"
        elif "lock-name" not in options and len(command) == 1:
            advice = f"a lock is named with --lock-name={printable(command[0])}"
        if operations[0] == "metrics" and len(command) == 1:
            advice = f"a file is named with --metrics={printable(command[0])}"
        raise UsageError(f"--{operations[0]} runs no command, but {command[0]!a} is given: {advice}")
    if options.get("nowait") and options.get("timeout", 0) > 0:
        raise UsageError("--nowait and --timeout contradict each other: use one of them")
    if options.get("quiet") and options.get("verbose"):
        raise UsageError("--quiet and --verbose contradict each other: use one of them")
    if not operations and not command:
        raise UsageError(
            "nothing to do: give a command to run under the lock, or one of --lock, --unlock, --break, --list, --show, "
            "--explain, --get, --watch, --update, --verify, --freeze, --thaw, --policy, --prune, --history, --metrics, "
            "--wait, --doctor. "
            "See: distlock --help"
        )


# The reasons for which an option goes with an operation, by operation.
_REACH = dict.fromkeys(
    ("run", *OPERATIONS[:-2]), "says which etcd and realm the operation is about, and how to talk to it"
)
_OUTPUT = dict.fromkeys(_REACH, "says how the operation reports")
_CLAIM = {"run": "is about the acquisition, before the command", "lock": "is about the acquisition"}
_COMMAND = {"run": "is about the command under the lock"}
_LEASE = {**_COMMAND, "lock": "is about the lease that a keeper renews: with --while-pid"}
_GATE = {**_CLAIM, "unlock": "is about the gate that is asked before the release"}
_KEEPER = {"lock": "is about the keeper of the lock"}
_HOOK = {"run": "is a hook of the acquisition", "lock": "is a hook of the acquisition"}
_RELEASE_HOOK = {**_HOOK, "unlock": "is a hook of the release"}
_POLICY = {**_CLAIM, "policy": "is a rule that a policy can have"}
_EXPLAINED = {**_POLICY, "explain": "is how the lock would be acquired"}
_DOCTOR = "is compared with etcd's election timeout"
_ORIGINAL = "has no effect, and is accepted because the Go original accepts it"
_LIKE_THE_ORIGINAL = {"unlock": _ORIGINAL, "list": _ORIGINAL}
_WAIT = {**_CLAIM, "wait": "is how long the condition is waited for", **_LIKE_THE_ORIGINAL}
_AWAITED = "is how the lock would be acquired once it is free"

# All options, and the operations that each goes with: with others it is refused.
GOES_WITH: dict[str, dict[str, str]] = {
    **dict.fromkeys(("endpoints", "discovery-srv", "transport", "prefix", "raw-prefix", "config"), _REACH),
    **dict.fromkeys(("cacert", "cert", "key", "tls-server-name", "user", "password-file"), _REACH),
    **dict.fromkeys(("connect-timeout", "max-answer"), _REACH),
    **dict.fromkeys(("json", "quiet", "verbose"), _OUTPUT),
    "lock-name": {name: "names the lock" for name in _REACH if name != "prune"},
    "reason": {
        **_CLAIM,
        "update": "is what an update can change",
        "break": "says why the hold is broken",
        "freeze": "is shown to all who want to acquire",
        "policy": "is shown with the rules that are set",
        **_LIKE_THE_ORIGINAL,
    },
    "value": {**_CLAIM, "update": "is what an update can change"},
    **dict.fromkeys(("timeout", "nowait"), _WAIT),
    "id": {
        **_CLAIM,
        "unlock": "is the owner whose hold is released",
        "break": "is who breaks the hold",
        "explain": "is the owner who would be let in, or not",
        "update": "is the owner whose hold is changed",
        "freeze": "is the owner of the freeze",
        "policy": "is shown with the rules that are set",
    },
    "token": {
        **dict.fromkeys(("run", "lock"), "names the step of the owner that is entered: with --id"),
        "unlock": "names the hold that is released",
        "break": "names the hold that is broken",
        "update": "names the hold that is changed",
        "verify": "is what is looked for",
    },
    "force": {"unlock": "also releases another owner's hold", "freeze": "replaces a freeze"},
    "state-dir": {
        **_CLAIM,
        "unlock": "has the notes that tell whether a hold's process is gone",
        "break": "has the notes that tell whether a hold's process is gone",
        **dict.fromkeys(("show", "explain"), "has the notes that tell whether a hold's process is gone"),
    },
    "unreachable-exit-code": {name: "is the exit code if no etcd answers" for name in _REACH if name != "doctor"},
    "rank": {**_CLAIM, "explain": _EXPLAINED["explain"], "wait": _AWAITED},
    "shared": {**_CLAIM, "explain": _EXPLAINED["explain"], "wait": _AWAITED},
    "busy-exit-code": {
        **_CLAIM,
        "explain": "is the exit code if this owner would not be let in",
        "wait": "is the exit code if the condition is not met in time",
    },
    "release-timeout": {
        "run": "limits the release after the command",
        "lock": "limits the undoing of an attempt, and the release by a keeper",
        **dict.fromkeys(("unlock", "break"), "limits the release"),
        "prune": "limits the deletion",
    },
    "ttl": {**_CLAIM, "doctor": _DOCTOR},
    **{name: {**_EXPLAINED, "wait": _AWAITED} for name in ("slots", "window")},
    "expect": _POLICY,
    "cooldown": {**_COMMAND, "unlock": "leaves the lock taken for that time", "policy": _POLICY["policy"]},
    "refresh": {**_LEASE, "doctor": _DOCTOR},
    "kill-after": {**_LEASE, "doctor": _DOCTOR},
    "on-loss": _LEASE,
    **dict.fromkeys(("while-pid", "log-file"), _KEEPER),
    **dict.fromkeys(("on-failure", "record-arguments", "wait-for", "heartbeat", "node", "only-if", "unless"), _COMMAND),
    "beat": {"run": "says that distlock is alive while the command runs"},
    **dict.fromkeys(("gate", "gate-timeout", "gate-every", "gate-for", "gate-at"), _GATE),
    **dict.fromkeys(("on-acquired", "on-lost"), _HOOK),
    **dict.fromkeys(("on-released", "hook-timeout"), _RELEASE_HOOK),
    "older-than": {"prune": "is the age from which on notes are deleted"},
    "dry-run": {
        **dict.fromkeys(("run", "lock"), "only says whether the lock would be acquired"),
        **dict.fromkeys(("unlock", "break", "freeze", "policy", "prune"), "only says what would be changed"),
    },
    "yes": {"break": "breaks the hold without asking"},
    "for": {"freeze": "is the time after which the freeze ends"},
    "clear": {"policy": "removes the rules of a policy"},
    "since": {"history": "leaves out what ended before that time"},
    "plot": {"history": "is the file of a picture of it"},
    "until": {"wait": "is the condition that is waited for"},
    "follow": {"history": "goes on with what happens from now on"},
}


def check_that_they_go(operation: str, options: Mapping[str, Any]) -> None:
    """Refuse options without meaning for this operation. `=false` of a flag asks for nothing."""
    for name, value in options.items():
        if operation not in GOES_WITH[name] and value is not False:
            from distlock_core.cli.misplaced import misplaced

            wanted = [one for one, reason in GOES_WITH[name].items() if reason is not _ORIGINAL]
            raise UsageError(misplaced(name, operation, wanted))


def check_together(operation: str, options: Mapping[str, Any], settings: Settings, token: int | None) -> None:
    """Refuse options without effect beside the others. Settings of file and environment may be for other calls."""
    bound = operation == "lock" and settings.while_pid is not None
    for name in ("kill-after", "on-loss"):
        if name in options and operation == "lock" and not bound:
            raise UsageError(f"--{name} goes with -- COMMAND or --while-pid: nothing looks after this lock")
    if "refresh" in options and settings.ttl is None:
        raise UsageError("--refresh applies to a lease: it goes with --ttl")
    if "beat" in options and settings.ttl is not None:
        where = settings.origins.get("ttl", "--ttl")
        raise UsageError(f"--beat is for a lock without a lease: that of {where} ends it if distlock is gone")
    _check_gate(operation, options, settings)
    _check_hooks(operation, options, settings)
    if "slots" in options and settings.shared and operation != "policy":
        where = settings.origins.get("shared", "--shared")
        raise UsageError(f"--slots and {where} contradict each other: the number of shared holders has no limit")
    if token is not None and operation in ("run", "lock") and settings.id is None:
        raise UsageError("--token=N names the --lock to enter, and only its owner may enter it: add --id")
    if operation == "update" and settings.value is None and "reason" not in settings.given:
        raise UsageError("--update needs --value=TEXT or --reason=TEXT")
    if "refresh" in options and operation == "lock" and not bound:
        raise UsageError("--refresh goes with -- COMMAND or --while-pid: nothing renews this lease")
    if "log-file" in options and not bound:
        raise UsageError("--log-file is the log of the keeper: it needs --lock --while-pid")
    if settings.node and operation == "run" and settings.ttl is None and settings.heartbeat is None:
        raise UsageError("--node needs a time limit for the command's answer: use --ttl or --heartbeat")


def check_until(until: str, options: Mapping[str, Any]) -> None:
    """Refuse options without a meaning for what `--wait` waits for."""
    for name in ("slots", "shared", "window", "rank") if until != "free" else ():
        if name in options and options[name] is not False:
            raise UsageError(f"--{name} is about a lock that is free: it goes with --until=free")


def _check_gate(operation: str, options: Mapping[str, Any], settings: Settings) -> None:
    for name in ("gate-timeout", "gate-every", "gate-for", "gate-at"):
        if name in options and settings.gate is None:
            raise UsageError(f"--{name} is about a gate: it goes with --gate=CMD")
    if operation == "lock" and "gate-at" in options and "before" not in settings.gate_at:
        raise UsageError("--gate-at=after goes with -- COMMAND: --lock asks the gate before")
    if operation == "unlock" and "gate-at" in options and "after" not in settings.gate_at:
        raise UsageError("--gate-at=before goes with -- COMMAND or --lock: --unlock asks the gate after the work")
    if operation in ("run", "unlock") and settings.gate_for >= settings.gate_timeout and settings.gate is not None:
        raise UsageError("--gate-for must be shorter than --gate-timeout, or no gate is green in time")


def _check_hooks(operation: str, options: Mapping[str, Any], settings: Settings) -> None:
    if "hook-timeout" in options and not settings.has_hooks:
        raise UsageError("--hook-timeout is about a hook: it goes with --on-acquired, --on-lost or --on-released")
    if operation == "lock" and settings.while_pid is None:
        if "on-lost" in options:
            raise UsageError("--on-lost goes with -- COMMAND or --while-pid: nothing looks after this lock")
        if "on-released" in options:
            raise UsageError("--on-released goes with -- COMMAND or --while-pid, or with the --unlock of this lock")


def check_plot(plot: str | None, options: Mapping[str, Any], *, follow: bool) -> None:
    """Refuse a picture that cannot be drawn, before etcd is asked."""
    if plot is None:
        return
    for name, given in (("follow", follow), ("json", options.get("json"))):
        if given:
            raise UsageError(f"--plot draws a picture, and --{name} prints entries: use one of them")
    if plot != "-":
        from distlock_core.cli.plot_file import check_that_it_can_be_drawn, kind_of

        kind_of(plot)
        check_that_it_can_be_drawn()


def check_names(operation: str, settings: Settings) -> None:
    names = settings.lock_names
    if operation not in WITHOUT_A_LOCK and not names:
        raise UsageError("no lock is named: --lock-name=NAME is required")
    if len(names) > 1 and operation not in WITH_SEVERAL:
        raise UsageError(f"--{operation} is about one lock, but {are(names)} named")
    if len(names) > 1 and operation == "unlock" and settings.gate is not None:
        raise UsageError(f"--unlock --gate is about one lock, but {are(names)} named")


def check_policy(options: Mapping[str, Any], settings: Settings, *, clear: bool, dry_run: bool) -> None:
    changes = [name for name in ("slots", "cooldown", "window", "expect") if name in options]
    if (changes or clear) and not settings.lockname:
        raise UsageError(
            f"--policy --{changes[0] if changes else 'clear'} changes one lock: name it with --lock-name=NAME"
        )
    for name in ("reason", "id"):
        if name in options and not changes:
            raise UsageError(f"--{name} goes with a policy to be set: with --slots, --cooldown, --window or --expect")
    if dry_run and not changes and not clear:
        raise UsageError(
            "--dry-run goes with a policy to be changed: with --slots, --cooldown, --window, --expect or --clear"
        )

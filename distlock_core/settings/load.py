"""Loading of the settings, in order of precedence: defaults < config file < environment < command line."""

from __future__ import annotations

import os

from distlock_core.errors import ConfigError
from distlock_core.model.checks import check_names, check_owner, check_plain, check_prefix, check_text
from distlock_core.model.ttl import check_ttl
from distlock_core.process.nesting import HOOK_FACTS
from distlock_core.settings.options import BY_KEY, DEFAULT_FILE, IN_FILE, SETTINGS, Settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

BY_VARIABLE = {setting.variable: setting for setting in SETTINGS if "env" in setting.scope}
# Variables that are no settings: those of a command under a lock, and for distlock-puppet the certname, and how the run
# around it has gone.
OTHER_VARIABLES = ("DISTLOCK_TOKEN", "DISTLOCK_HELD", "DISTLOCK_LEASE", "DISTLOCK_CERTNAME", "DISTLOCK_PUPPET_RUN")
OF_KUBERNETES = ("DISTLOCK_SERVICE_", "DISTLOCK_PORT")  # set in pods beside a service named distlock
LOOPBACK = ("127.", "localhost", "[::1]")  # nothing leaves this machine


def load(
    options: Mapping[str, Any],
    environ: Mapping[str, str] | None = None,
    names: Mapping[str, str] | None = None,
    *,
    check: bool = True,
) -> Settings:
    """Merge all sources into the settings. `options` are those of the command line, by key, already read.

    An empty environment variable counts as unset; an empty `config` option means no file. `names` has what each
    option is called by whoever has given it. Raises `ConfigError`, which names the variable, or the file and the key.
    `check` is False for a caller that checks what the types do not rule out.
    """
    environ = os.environ if environ is None else environ
    variables = _from_environment(environ)
    above = {**variables, **options}
    path = above.get("config", "" if _is_absent(DEFAULT_FILE) else DEFAULT_FILE)
    found, problem = _from_file(path, above) if path else ({}, "")
    in_file = path if "password" in found else ""
    origins = dict.fromkeys(found, f"{IN_FILE}{path}")
    origins.update((key, BY_KEY[key].variable) for key in variables)
    origins.update(names or dict(zip(options, options)))
    for layer in (variables, options):
        # Two forms of one setting: the higher layer decides.
        if "timeout" in layer:
            found.pop("nowait", None)
        if "password_file" in layer:
            found.pop("password", None)
        if "password" in layer:
            found.pop("password_file", None)
        found.update(layer)
    given = frozenset(found)
    if "maxtime" in found:
        found.setdefault("connect_timeout", found["maxtime"])
    if found.get("nowait"):
        found["timeout"] = 0.0
    if found.get("password"):
        found["password_file"] = None  # both are set in one layer
    settings = Settings(**found, given=given, origins=origins)
    if check:
        checked(settings)
    warnings = (problem, *unknown_variables(environ), *_too_open(settings, path, in_file), _in_clear(settings))
    return settings._replace(warnings=tuple(filter(None, warnings)))


def checked(settings: Settings) -> Settings:
    """Return the settings. Raises `ConfigError` for a wrong value that its type alone does not rule out."""
    check_names(settings.lock_names, settings.internallock)
    if settings.id is not None:
        check_owner(settings.id)
    check_text(settings.reason, "reason")
    check_text(settings.value or "", "value")
    check_prefix(settings.prefix, raw=settings.raw_prefix)
    check_plain(settings.internallock, "internallock")
    check_plain(settings.tls_server_name or "", "tls_server_name")
    check_plain(settings.discovery_srv, "discovery_srv")
    try:
        _check_access(settings)
        if settings.ttl is not None:
            check_ttl(settings.ttl, settings.refresh, settings.time_to_end)
    except ConfigError as error:
        from distlock_core.settings.origin import with_origins

        raise with_origins(error, settings) from None
    return settings


def _check_access(settings: Settings) -> None:
    if settings.key and not settings.cert:
        raise ConfigError("a key is set, and no certificate for it: set cert too", about=["key"])
    has_password = settings.password or settings.password_file
    if has_password and not settings.user:
        raise ConfigError("a password is set, and no user for it: set user too", about=["password", "password_file"])
    for text, what in ((settings.user, "user"), (settings.password, "password")):
        try:
            check_text(text or "", what)
        except ConfigError:
            raise ConfigError(f"the {what} is not valid UTF-8") from None
    if settings.user and not has_password:
        raise ConfigError(
            "a user is set, and no password: put it into the config file, DISTLOCK_PASSWORD, or a file that "
            "password_file names",
            about=["user"],
        )
    if settings.password_file:
        from distlock_core.etcd.auth.password_file import read_password_file

        read_password_file(settings.password_file)


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    # In the order of the table, so that of several wrong ones the first is named.
    given = {name: environ[name] for name in environ if name.startswith("DISTLOCK_")}
    found = {}
    for name, setting in BY_VARIABLE.items() if given else ():
        text = given.get(name, "")
        if text:
            found[setting.key] = setting.value(setting.as_utf8(text), name)
    return found


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """A warning for each unknown DISTLOCK_* variable: a misspelt one may mean another lock."""
    unknown = [
        name
        for name in environ
        if name[:9].upper() == "DISTLOCK_" and name not in BY_VARIABLE and name not in OTHER_VARIABLES
    ]
    if HOOK_FACTS[0] in environ:  # only there: DISTLOCK_LOCK_NAME alone is a misspelt DISTLOCK_LOCKNAME
        unknown = [name for name in unknown if name not in HOOK_FACTS]
    warnings = []
    for name in sorted(unknown):
        if name.startswith(OF_KUBERNETES):
            continue
        from distlock_core.base.nearest import did_you_mean

        line = f"unknown variable {ascii(name)[1:-1]} is ignored"
        if name in {setting.variable for setting in SETTINGS}:
            line += f": {name[9:].lower()} goes into the config file"
        warnings.append(line + did_you_mean(name[9:], [one[9:] for one in BY_VARIABLE], "DISTLOCK_{}"))
    return warnings


def _too_open(settings: Settings, path: str, in_file: str) -> list[str]:
    """Warnings about the permissions of the config file and of files named in settings."""
    key, trusted = settings.key or "", (settings.cacert or "", settings.cert or "")
    password = in_file or settings.password_file or ""
    if not any((path, password, key, *trusted)):
        return []  # without loading the module for it
    from distlock_core.settings.trusted_files import too_open

    return list(too_open(path, password, key, trusted))


def _in_clear(settings: Settings) -> str:
    """A warning if a secret leaves this machine over an unencrypted connection, else ""."""
    secret = settings.password or settings.password_file
    of_tls = [key for key in ("cacert", "cert", "tls_server_name") if settings.by_key(key)]
    if not secret and not of_tls:
        return ""
    lowered = [one.lower() for one in settings.endpoints or ()]
    plain = [one for one in lowered if one.startswith("http://") and "@" not in one]
    shown = [ascii(one)[1:-1] for one in plain if not one.removeprefix("http://").startswith(LOOPBACK)]
    if not shown:
        return ""
    what = "the password goes there in clear text" if secret else f"{of_tls[0]} is not used there"
    return f"{', '.join(shown)} is plain http: {what}. Where etcd speaks TLS: https://"


def _is_absent(path: str) -> bool:
    try:
        os.stat(path)
    except FileNotFoundError:
        return True
    except OSError:
        pass  # reported when the file is read
    return False


def _from_file(path: str, above: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """The settings in the file, and a warning if it cannot be read and that does no harm."""
    from distlock_core.settings import config_file

    named = "config" in above
    try:
        document = config_file.read(path)
    except FileNotFoundError:
        raise ConfigError(f"config file {path}: does not exist") from None
    except config_file.Unreadable as error:
        # Nobody has named the default file: it may be another user's.
        if not named and above.keys() & {"endpoints", "discovery_srv"} and "prefix" in above:
            return {}, f"{error.message}. It is left out, since endpoints and prefix are given in another way"
        if not named:
            error.message += ". To go on without it, set endpoints and prefix in another way, or config to '' (no file)"
        raise
    known = sorted(setting.key for setting in SETTINGS if "file" in setting.scope)
    found = {}
    for key, value in document.items():
        if key not in known:
            from distlock_core.base.nearest import did_you_mean

            # Up to a colon only: `password:secret` without a blank is a key too.
            shown = key.partition(":")[0]
            meant = did_you_mean(shown, known) or f"; known keys: {', '.join(known)}"
            raise ConfigError(f"config file {path}: unknown key {shown!a}{meant}")
        if value is not None and (value != "" or key == "prefix"):
            found[key] = BY_KEY[key].value(value, f"config file {path}: {key}")
    return found, ""

"""The examination: everything is asked, within bounds of time, and judged. Nothing is changed in etcd.

A part that fails becomes a finding, so that the others are there all the same.
"""

from __future__ import annotations

import time

from distlock_core.base.deadline import Patience
from distlock_core.doctor import certificates, clocks, config_files, lease_times, local_files, locks, members, rights
from distlock_core.doctor.asking_rights import ask_rights
from distlock_core.doctor.finding import BAD, OK, WARN, Examination, Finding, skipped
from distlock_core.errors import AccessDenied, Cancelled, DistlockError
from distlock_core.etcd.auth.rights import client_of
from distlock_core.etcd.probing import Probing
from distlock_core.model.keys import Keys, freeze_key
from distlock_core.settings.origin import origin

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from distlock_core.base.deadline import Cancel
    from distlock_core.doctor.finding import EffectiveSetting
    from distlock_core.doctor.locks import RealmFacts
    from distlock_core.etcd.auth.access import Access
    from distlock_core.etcd.client import Etcd
    from distlock_core.etcd.facts import EndpointFacts
    from distlock_core.settings.options import Settings

AGAIN = 1.0  # seconds that the second look at all endpoints may take
WITH_USERS = "while auth is on"  # in the reason of a gateway that refuses a certificate with a common name
NO_PREFIX = "which realm is meant is unknown, as the settings are wrong or cannot be read"
NO_READS = "no endpoint serves reads"


class Asking:
    """One examination of a realm."""

    def __init__(
        self,
        etcd: Etcd,
        prefix: str,
        mutex: str,
        names: Sequence[str],
        timeout: float,
        read_realm: Callable[[Callable[[], Patience]], RealmFacts],
        cancel: Cancel | None = None,
    ) -> None:
        """`timeout` (seconds) is for each endpoint, and for each later call. `read_realm` reads the locks."""
        self._etcd = etcd
        self._prefix = prefix
        self._mutex = mutex
        self._names = names
        self._timeout = timeout
        self._read_realm = read_realm
        self._cancel = cancel

    def run(self, settings: Settings | None, problems: Sequence[str] = (), *, knows_realm: bool = True) -> Examination:
        """Ask everything. `settings` are the caller's, `problems` what is wrong with them. Raises `Cancelled`."""
        found, known = _of_settings(settings, problems)
        probing = Probing(self._etcd.site)
        try:
            facts = probing.look(freeze_key(self._prefix), self._patience())
            # Newer versions tell their status only to a user whom they accept.
            serving = any(one.reads == "" or (one.status is None and one.wants_user) for one in facts)
            why = "" if serving else NO_READS
            why = why if knows_realm else NO_PREFIX
            user = _part("rights", lambda: [skipped("rights", why)] if why else self._rights(facts))
            realm = _part("locks", lambda: [skipped("locks", why)] if why else self._realm())
            facts = probing.look_again(facts, self._patience().within(AGAIN))
        finally:
            probing.close()
        found += _part("endpoint", lambda: members.judge_members(facts, probing.why_no_endpoint))
        found += _part("clock", lambda: clocks.judge_clocks(facts))
        found += _part("server_certificate", lambda: certificates.judge_server_certificates(facts, time.time()))
        found += _part("client_certificate", lambda: _certificate_files(self._etcd.site.access))
        found += user
        if settings is not None:
            found += _part("ttl", lambda: [lease_times.judge_ttl(settings, facts)])
        found += realm
        return Examination(self._prefix, int(time.time()), tuple(found), known)

    def _rights(self, facts: Sequence[EndpointFacts]) -> list[Finding]:
        access = self._etcd.site.access
        who = client_of(access)
        # A client certificate with a common name is a user of its own, whom only gRPC takes.
        has_users = any(one.wants_user or WITH_USERS in one.no_gateway for one in facts)
        try:
            granted = ask_rights(self._etcd, self._prefix, self._keys(), self._patience)
        except AccessDenied as denied:
            advice = "set user and password for a user of etcd, see docs/security.md"
            return [Finding("user", BAD, denied.message, "", advice), skipped("rights", "etcd refuses this client")]
        if has_users or access is None or not access.user:
            words = f"{who} is accepted" if has_users else "etcd asks for no user"
            user = Finding("user", OK, words, facts={"auth": has_users})
        else:
            message = f"{who} is not needed: etcd's authentication is off, and anybody who reaches it may do everything"
            user = Finding(
                "user", WARN, message, "", "etcdctl auth enable, see docs/security.md", facts={"auth": False}
            )
        return [user, *rights.judge_rights(who, self._prefix, granted, self._names)]

    def _realm(self) -> list[Finding]:
        try:
            facts = self._read_realm(self._patience)
        except AccessDenied as denied:
            return [skipped("locks", denied.message)]
        except Cancelled:
            raise
        except DistlockError as error:
            return [Finding("locks", BAD, error.message)]
        return list(locks.judge_realm(self._prefix, self._mutex, facts, time.time()))

    def _keys(self) -> list[Keys]:
        return [Keys(self._prefix, name, self._mutex) for name in self._names]

    def _patience(self) -> Patience:
        return Patience.lasting(self._timeout, self._cancel)


def examine_settings(prefix: str, settings: Settings, problems: Sequence[str]) -> Examination:
    """The part of an examination that needs no etcd: where it is unknown which one is meant."""
    found, known = _of_settings(settings, problems)
    why = "which etcd is meant is unknown, as the settings are wrong or cannot be read"
    found += [skipped(check, why) for check in ("endpoint", "rights", "locks")]
    return Examination(prefix, int(time.time()), tuple(found), known)


def _of_settings(
    settings: Settings | None, problems: Sequence[str]
) -> tuple[list[Finding], tuple[EffectiveSetting, ...]]:
    if settings is None:
        return [], ()
    found: list[Finding] = []
    found += config_files.judge_problems(problems)
    found += _part("config_file", lambda: map(config_files.judge_file, local_files.files_of(settings, settings.config)))
    found += config_files.judge_warnings(settings.warnings)
    places = [(key, origin(settings, key)) for key in settings.given | {"config"} if key in settings.origins]
    if "maxtime" in settings.given and "connect_timeout" not in settings.given:
        places.append(("connect_timeout", origin(settings, "maxtime")))
    if settings.nowait and "timeout" not in settings.given:
        places.append(("timeout", origin(settings, "nowait")))
    known = config_files.effective(settings, places)
    found += _part("settings", lambda: [config_files.judge_sources(known)])
    return found, known


def _certificate_files(access: Access | None) -> list[Finding]:
    named = [] if access is None else [(certificates.CLIENT, access.cert), (certificates.AUTHORITY, access.cacert)]
    return [
        certificates.judge_file(kind, path, *local_files.content_of(path), time.time()) for kind, path in named if path
    ]


def _part(check: str, make: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """The findings of one part. One that fails unexpectedly is a finding too."""
    found: list[Finding] = []
    try:
        for one in make():
            found.append(one)  # noqa: PERF402 - those before an error stay
    except Cancelled:
        raise
    except Exception as error:  # noqa: BLE001 - a diagnosis ends with a line for it, not with a traceback
        message = f"this check failed, a bug in distlock: {type(error).__name__}: {error}"
        found.append(Finding(check, BAD, message, advice="report it, with the version of distlock and of etcd"))
    return found

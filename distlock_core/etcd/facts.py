"""Facts about the members behind the endpoints of a cluster, as an examination finds them. Pure values."""

from __future__ import annotations

from distlock_core.base.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from distlock_core.etcd.auth.access import Access
    from distlock_core.etcd.endpoints import Endpoints

GATEWAY, GRPC = "gateway", "grpc"


class Site(Value):
    """What leads a client to its cluster. `transport` is auto, http or grpc."""

    endpoints: Endpoints
    access: Access | None
    transport: str


class MemberStatus(Value):
    """A member's own view of itself and of its cluster. Ids are those of etcd; a `leader` of 0 is none."""

    version: str
    cluster: int
    member: int
    leader: int
    term: int
    log_index: int  # of the last entry in the member's raft log
    applied: int  # of the last entry that it has applied
    db_size: int  # bytes
    db_in_use: int  # bytes; 0 if this etcd does not say
    quota: int  # bytes; 0 if this etcd does not say
    is_learner: bool
    errors: tuple[str, ...]  # alarms, and others, in etcd's words


class ListedMember(Value):
    """A member as the cluster's list has it. The name is empty until it has started once."""

    member: int
    name: str
    urls: tuple[str, ...]
    is_learner: bool


class Counters(Value):
    """Figures from a member's metrics; None if it has no such metric."""

    leader_changes: float | None
    started: float | None  # Unix time, by the member's clock
    quota: float | None  # bytes


class EndpointFacts(Value):
    """All that one endpoint has answered. Texts are reasons, "" where there is nothing wrong."""

    url: str
    status: MemberStatus | None = None
    failure: str = ""  # why there is no status
    is_strange: bool = False  # something answers, but not as etcd does for this client
    via: str = ""  # gateway or grpc
    no_gateway: str = ""  # why its gateway does not serve this client
    seconds: float = 0.0  # that its status took
    members: tuple[ListedMember, ...] = ()
    reads: str | None = None  # why it serves no linearizable read; None if it was not asked
    wants_user: bool = False  # it refuses a client without a user
    counters: Counters | None = None
    election_ms: int | None = None  # its election timeout, if its command line shows it
    # Bounds of its clock's lead over this machine's, in seconds; None without a Date in its answers.
    lead: tuple[float, float] | None = None
    chain: tuple[bytes, ...] | None = None  # its certificate, and what it sends with it (DER); None if not seen
    no_chain: str = ""  # why it was not seen
    up_seconds: float | None = None  # since it has started
    later: MemberStatus | None = None  # a second status, at the end of the examination

/*
 * How one lock is acquired, waited for, resolved after a lost reply, and released: the rules of lock/snapshot.py,
 * lock/claim.py, lock/queue.py and lock/release.py, small enough to try every order of events.
 *
 * Transactions of etcd are atomic. A request may be applied while its reply is lost, or later than its sender waits for
 * it, or never. There is no time: where a deadline puts one event before another, the model requires that order.
 * Waiters do not read again by the clock, so that a watch that misses something leaves them stuck.
 *
 * -DWITHOUT_NAME leaves one clause of the protocol out. test_protocol.py checks that the whole protocol violates no
 * assertion and gets stuck nowhere, and that it does without any one of its clauses.
 *
 * CLIENTS are ours, up to 3, and acquire the lock ATTEMPTS times each. Those in the bit mask SHARED acquire it shared,
 * those in the bit mask URGENT with a lower rank than the others. GO: a client of the Go original takes part, once.
 *
 * What goes wrong at most: LOSSES replies are lost, CRASHES clients end without a release, HANDS keys are deleted by
 * hand, GIVE_UPS waiters give up, FREEZES times the lock is frozen and thawed again. FULL: etcd may be full, so that it
 * refuses to put a key, while a lost reply is resolved.
 */

#ifndef CLIENTS
#define CLIENTS 2
#endif
#ifndef ATTEMPTS
#define ATTEMPTS 1
#endif
#ifndef SHARED
#define SHARED 0
#endif
#ifndef URGENT
#define URGENT 0
#endif
#ifndef GO
#define GO 0
#endif
#ifndef LOSSES
#define LOSSES 0
#endif
#ifndef CRASHES
#define CRASHES 0
#endif
#ifndef HANDS
#define HANDS 0
#endif
#ifndef GIVE_UPS
#define GIVE_UPS 0
#endif
#ifndef FREEZES
#define FREEZES 0
#endif
#ifndef FULL
#define FULL 0
#endif

#define MOST 3                               /* clients of ours */
#define RUNS (MOST * ATTEMPTS + 1)
#define GO_RUN (MOST * ATTEMPTS)
#define NOBODY RUNS
#define CLIENT_OF(r) ((r) / ATTEMPTS)        /* MOST for the Go original */
#define IS_SHARED(c) ((SHARED >> (c)) & 1)
#define IS_URGENT(c) ((URGENT >> (c)) & 1)

/* What is in etcd. A revision counts writes; 0 stands for a key that is absent. */
byte revision;
byte hold = NOBODY;                          /* the run in the record of the exclusive holder */
bool hold_shared[RUNS];                      /* the records of shared holders */
byte shared_holders;
byte ticket[MOST];                           /* create_revision */
byte lease[MOST];                            /* of the ticket: its number, 0 once it is revoked */
byte note;                                   /* mod_revision of __last */
bool mutex;                                  /* of the Go original */
bool frozen;

/* What is true of each run, for the assertions. */
bool working[RUNS];                          /* under the lock */
bool broken[RUNS];                           /* its hold was deleted by hand: the documented exception */
bool over[RUNS];                             /* its attempt has ended, so it must never get the lock */
bool crashed[MOST];

/* A request of each client whose reply was lost, and that may be applied at any later time. */
mtype = { nothing, claiming, releasing, joining };
typedef Request {
    mtype kind = nothing;
    byte of_run;
    byte ticket;                             /* claiming: as known; joining: the lease */
    byte note;
};
Request late[MOST];

byte losses = LOSSES;
byte crashes = CRASHES;
byte hands = HANDS;
byte give_ups = GIVE_UPS;

/* The ticket of j is ahead of a claim by c: one of a lower rank, or an older one of the same rank. A claim without a
   ticket (0) has all of its rank ahead. Shared waiters of one rank do not wait for each other. */
#define OUTRANKED(c, j) (ticket[j] != 0 && IS_URGENT(j) && !IS_URGENT(c))
#define OLDER(c, mine, j) (ticket[j] != 0 && (j) != (c) && IS_URGENT(j) == IS_URGENT(c) \
    && !(IS_SHARED(c) && IS_SHARED(j)) && ((mine) == 0 || ticket[j] < (mine)))
#define SOMEBODY_OUTRANKS(c) (OUTRANKED(c, 0) || OUTRANKED(c, 1) || OUTRANKED(c, 2))
#define SOMEBODY_IS_OLDER(c, mine) (OLDER(c, mine, 0) || OLDER(c, mine, 1) || OLDER(c, mine, 2))
#define HOLDS(r) (hold == (r) || hold_shared[r])

/* The conditions of a claim: claim_conditions() in lock/snapshot.py. */
#ifdef WITHOUT_FREE_SLOT
#define FREE_SLOT true
#else
#define FREE_SLOT (hold == NOBODY)
#endif
#ifdef WITHOUT_NO_SHARED_HOLDER
#define NO_SHARED_HOLDER(c) true
#else
#define NO_SHARED_HOLDER(c) (IS_SHARED(c) || shared_holders == 0)
#endif
#ifdef WITHOUT_NO_LOWER_RANK
#define NO_LOWER_RANK(c) true
#else
#define NO_LOWER_RANK(c) (!SOMEBODY_OUTRANKS(c))
#endif
#ifdef WITHOUT_NONE_OLDER
#define NONE_OLDER(c, mine) true
#else
#define NONE_OLDER(c, mine) (!SOMEBODY_IS_OLDER(c, mine))
#endif
#ifdef WITHOUT_TICKET_AS_KNOWN
#define TICKET_AS_KNOWN(c, mine) true
#else
#define TICKET_AS_KNOWN(c, mine) ((mine) == 0 || ticket[c] == (mine))
#endif
#ifdef WITHOUT_FREE_MUTEX
#define FREE_MUTEX true
#else
#define FREE_MUTEX (!mutex)
#endif
#ifdef WITHOUT_NOT_FROZEN
#define NOT_FROZEN true
#else
#define NOT_FROZEN (!frozen)
#endif
#ifdef WITHOUT_NOTE_AS_READ
#define NOTE_AS_READ(seen) true
#else
#define NOTE_AS_READ(seen) (note == (seen))
#endif
#define CONDITIONS(c, mine, seen) (FREE_SLOT && NO_SHARED_HOLDER(c) && NO_LOWER_RANK(c) && NONE_OLDER(c, mine) \
    && TICKET_AS_KNOWN(c, mine) && FREE_MUTEX && NOT_FROZEN && NOTE_AS_READ(seen))

/* A release compares the run in the record: lock/release.py. */
#ifdef WITHOUT_OWN_HOLD
#define OWN_HOLD(r) (hold != NOBODY)
#else
#define OWN_HOLD(r) (hold == (r))
#endif

inline nobody_else_works(r) {
    i = 0;
    do
    :: i < RUNS ->
        assert(i == r || !working[i] || broken[i]
            || (r != GO_RUN && i != GO_RUN && IS_SHARED(CLIENT_OF(r)) && IS_SHARED(CLIENT_OF(i))));
        i++
    :: else -> break
    od;
    i = 0
}

inline apply_claim(c, r, known, seen) {
    if
    :: CONDITIONS(c, known, seen) ->
        assert(!over[r]);                    /* what was resolved as refused is never acquired later */
        assert(!frozen);
        assert(!SOMEBODY_OUTRANKS(c) && !SOMEBODY_IS_OLDER(c, known)); /* by rank, and in order of arrival */
        assert(!HOLDS(r));
        nobody_else_works(r);
        revision++;
        if
        :: IS_SHARED(c) -> hold_shared[r] = true; shared_holders++
        :: else -> hold = r
        fi;
        if
        :: known != 0 -> ticket[c] = 0
        :: else
        fi
    :: else
    fi
}

inline apply_release(r) {
    if
    :: hold_shared[r] -> hold_shared[r] = false; shared_holders--; revision++; note = revision
    :: !hold_shared[r] && OWN_HOLD(r) ->
        assert(hold == r);                   /* nobody releases what is another's */
        hold = NOBODY;
        revision++;
        note = revision
    :: else
    fi
}

inline apply_join(c, of_lease) {
    if
    :: ticket[c] == 0 && lease[c] == of_lease -> revision++; ticket[c] = revision
    :: else
    fi
}

/* What a client has read allows it a claim. (In a process, Spin takes no condition of several lines.) */
#define LOOKS_FREE(c) (nearest == MOST && seen_hold == NOBODY && (IS_SHARED(c) || seen_shared == 0) \
    && !seen_frozen && !seen_mutex)

proctype Client(byte c) {
    byte attempt;
    byte this_run;
    byte mine;                               /* the ticket as it is known, 0 for none */
    byte leases;
    byte seen_note;
    byte seen_hold;
    byte seen_shared;
    bool seen_frozen;
    bool seen_mutex;
    byte nearest;                            /* whose ticket is just ahead, MOST for nobody's */
    byte seen_nearest;
    bool won;
    byte i;

    do
    :: attempt == ATTEMPTS -> break
    :: else ->
        this_run = c * ATTEMPTS + attempt;

look:   skip;
        d_step {
            seen_note = note;
            seen_hold = hold;
            seen_shared = shared_holders;
            seen_frozen = frozen;
            seen_mutex = mutex;
            nearest = MOST;
            seen_nearest = 0;
            i = 0;
            do
            :: i < MOST ->
                if
                :: OLDER(c, mine, i) && ticket[i] > seen_nearest -> nearest = i; seen_nearest = ticket[i]
                :: OUTRANKED(c, i) && nearest == MOST -> nearest = i; seen_nearest = ticket[i]
                :: else
                fi;
                i++
            :: else -> break
            od;
            i = 0;
            won = (mine != 0 && ticket[c] != mine)
        };
        if
        :: won -> d_step { won = false; mine = 0; lease[c] = 0 }; goto look  /* its place in the queue is lost */
        :: else
        fi;
        if
        :: LOOKS_FREE(c) -> goto claim
        :: else
        fi;
        if
        :: mine == 0 -> d_step { leases++; lease[c] = leases }; goto join
        :: else -> goto wait
        fi;

join:   if
        :: atomic { d_step { apply_join(c, lease[c]); mine = ticket[c] }; goto look }
        :: atomic {
            losses > 0 && late[c].kind == nothing ->
                losses--; late[c].kind = joining; late[c].ticket = lease[c]; goto join
           }
        fi;

wait:   if
        :: atomic {
            (
                ticket[c] != mine ||
#ifndef WITHOUT_WATCH_OF_TICKET_AHEAD
                (nearest != MOST && ticket[nearest] != seen_nearest) ||
#endif
#ifndef WITHOUT_WATCH_OF_HOLDS
                (nearest == MOST && (hold != seen_hold || shared_holders != seen_shared)) ||
#endif
#ifndef WITHOUT_WATCH_OF_FREEZE
                (nearest == MOST && frozen != seen_frozen) ||
#endif
#ifndef WITHOUT_WATCH_OF_MUTEX
                (nearest == MOST && mutex != seen_mutex) ||
#endif
                false) -> goto look
           }
        :: atomic { give_ups > 0 -> give_ups--; goto leave }
        :: atomic { crashes > 0 -> crashes--; crashed[c] = true; goto dead }
        fi;

claim:  if
        :: atomic { d_step { apply_claim(c, this_run, mine, seen_note); won = HOLDS(this_run) }; goto told }
        :: atomic {
            losses > 0 && late[c].kind == nothing ->
                losses--;
                late[c].kind = claiming; late[c].of_run = this_run; late[c].ticket = mine; late[c].note = seen_note;
#ifdef WITHOUT_RESOLVING
                goto leave
#else
                goto resolve
#endif
           }
        :: atomic { crashes > 0 -> crashes--; crashed[c] = true; goto dead }
        fi;

resolve:                                     /* resolve_once() in lock/claim.py */
        if
        :: atomic {
            d_step {
                if
#ifndef WITHOUT_REWRITE_OF_NOTE
                :: note == seen_note -> revision++; note = revision
#endif
                :: else
                fi;
                won = HOLDS(this_run)
            };
            goto told
           }
        :: atomic {                          /* applied, and the reply lost again */
            losses > 0 ->
                losses--;
                if
                :: note == seen_note -> revision++; note = revision
                :: else
                fi;
                goto resolve
           }
#if FULL
        :: atomic {                          /* a full etcd accepts deletes: _void_in_a_full_etcd() */
            mine != 0 ->
                d_step {
                    if
                    :: ticket[c] == mine -> ticket[c] = 0; revision++
                    :: else
                    fi;
                    won = HOLDS(this_run)
                };
                goto told
           }
#endif
        fi;

told:   if
        :: won -> goto work
        :: !won && give_ups > 0 -> give_ups--; goto leave
        :: !won -> goto look
        fi;

work:   skip;
        d_step { won = false; mine = 0; working[this_run] = true };
#ifndef WITHOUT_REVOKE_OF_TICKET
        lease[c] = 0;
        ticket[c] = 0;
#endif
        if
        :: skip
        :: atomic {                          /* a crash, or the end of its work at the deadline of its lease */
            crashes > 0 -> crashes--; working[this_run] = false; over[this_run] = true; crashed[c] = true; goto dead
           }
        fi;

release:
        working[this_run] = false;
        if
        :: atomic { d_step { apply_release(this_run); over[this_run] = true }; goto next }
        :: atomic {
            losses > 0 && late[c].kind == nothing ->
                losses--; late[c].kind = releasing; late[c].of_run = this_run; goto release
           }
        fi;

leave:  skip;
        d_step {
            over[this_run] = true;
            mine = 0;
            lease[c] = 0;
            if
            :: ticket[c] != 0 -> ticket[c] = 0; revision++
            :: else
            fi
        };

next:   attempt++
    od;
dead:   skip
}

/* What becomes of requests that nobody waits for any more. */
proctype Network() {
    byte c;
    byte i;
end:    do
    :: atomic {
        if
        :: late[0].kind != nothing -> c = 0
        :: late[1].kind != nothing -> c = 1
        :: late[2].kind != nothing -> c = 2
        fi;
        if
        :: late[c].kind == claiming -> d_step { apply_claim(c, late[c].of_run, late[c].ticket, late[c].note) }
        :: late[c].kind == releasing -> d_step { apply_release(late[c].of_run) }
        :: late[c].kind == joining -> d_step { apply_join(c, late[c].ticket) }
        :: skip                              /* never applied */
        fi;
        d_step { late[c].kind = nothing; late[c].of_run = 0; late[c].ticket = 0; late[c].note = 0; c = 0 }
       }
    od
}

/* Leases of clients that have ended expire, and what was persistent is broken by a person who has looked. */
proctype Expiry() {
    byte r;
end:    do
#ifndef WITHOUT_LEASE_OF_TICKET
    :: atomic { crashed[0] && ticket[0] != 0 -> ticket[0] = 0; lease[0] = 0; revision++ }
    :: atomic { crashed[1] && ticket[1] != 0 -> ticket[1] = 0; lease[1] = 0; revision++ }
    :: atomic { crashed[2] && ticket[2] != 0 -> ticket[2] = 0; lease[2] = 0; revision++ }
#endif
    :: atomic {
        hold != NOBODY && hold != GO_RUN &&
#ifdef WITHOUT_END_BEFORE_EXPIRY
            (crashed[CLIENT_OF(hold)] || (crashes > 0 && working[hold])) ->
#else
            crashed[CLIENT_OF(hold)] ->
#endif
            hold = NOBODY; revision++; note = revision
       }
    :: atomic {
        shared_holders > 0 ->
            r = 0;
            do
            :: r < GO_RUN && !(hold_shared[r] && crashed[CLIENT_OF(r)]) -> r++
            :: else -> break
            od;
            if
            :: r < GO_RUN -> hold_shared[r] = false; shared_holders--; revision++
            :: else
            fi;
            r = 0;
            /* nothing to do: wait for a change, instead of looking for ever */
            !(shared_holders > 0 && !crashed[0] && !crashed[1] && !crashed[2])
       }
    od
}

proctype Hands() {
    byte i;
end:    do
    :: atomic {
        hands > 0 && hold != NOBODY && hold != GO_RUN ->
            hands--; broken[hold] = true; hold = NOBODY; revision++
       }
    :: atomic { hands > 0 && ticket[0] != 0 -> hands--; ticket[0] = 0; revision++ }
    :: atomic { hands > 0 && ticket[1] != 0 -> hands--; ticket[1] = 0; revision++ }
    od
}

proctype Freezer() {
    byte left = FREEZES;
    do
    :: left > 0 -> frozen = true; frozen = false; left--
    :: else -> break
    od
}

/* The Go original: it looks and writes inside its mutex, without a transaction, and knows no queue. */
proctype Original() {
    bool free;
    byte i;
    mutex = true;
    free = (hold == NOBODY && shared_holders == 0);
    if
    :: free ->
        d_step { nobody_else_works(GO_RUN); hold = GO_RUN; revision++; working[GO_RUN] = true };
        mutex = false;
        mutex = true;
        d_step { working[GO_RUN] = false; hold = NOBODY; revision++ }
    :: else
    fi;
    mutex = false
}

init {
    byte c;
    atomic {
        do
        :: c < CLIENTS -> run Client(c); c++
        :: else -> break
        od;
        if
        :: LOSSES > 0 -> run Network()
        :: else
        fi;
        if
        :: CRASHES > 0 -> run Expiry()
        :: else
        fi;
        if
        :: HANDS > 0 -> run Hands()
        :: else
        fi;
        if
        :: FREEZES > 0 -> run Freezer()
        :: else
        fi;
        if
        :: GO -> run Original()
        :: else
        fi
    }
}

/* One height with view changes (PROTOCOL 6.4 - 6.6): n = 4, f = 1, q = 3, one Byzantine delegate.
 *
 * Messages are facts that were signed; whoever acts may have received any of them or none, in any order, so loss,
 * delay, duplication and crashes need no state of their own. The Byzantine delegate needs none either: whatever it
 * could sign counts as signed. docs/simulation/model.md says what stands for what, and what is left out.
 *
 *   -DVIEWS=3      views 0 .. VIEWS-1 (2 to 5)
 *   -DLIAR=0       the Byzantine delegate: primary of view LIAR; 3 with three views is primary of none
 *   -DBUG_...      a planted bug: the check must fail
 *   -DREACH_...    a claim that something never happens: the check must fail, else the model is empty
 */

#ifndef VIEWS
#define VIEWS 3
#endif
#ifndef LIAR
#define LIAR 0
#endif

#define N 4
#define F 1
#define Q (N - F)

#ifdef BUG_QUORUM
#define QUORUM (Q - 1)      /* q - 1 instead of q, for prepared certificates and decisions */
#else
#define QUORUM Q
#endif
#ifdef BUG_NEW_VIEW_QUORUM
#define NEW_VIEW_QUORUM (Q - 1)
#else
#define NEW_VIEW_QUORUM Q
#endif

#define PRIMARY(v) ((v) % N)

/* A block is named by the view in which it was first proposed; a Byzantine primary has two of them, x = 0 and 1. */
#define FRESH(v, x) (1 + 2 * (v) + (x))
#define ORIGIN(d) (((d) - 1) / 2)

/* What a view-change carries: nothing signed, no certificate, or the certificate of a view. */
#define NOTHING 0
#define NO_CERTIFICATE 1
#define CERTIFICATE(u) (2 + (u))

byte floor[N];                  /* nothing of a lower view is signed any more */
byte proposed[VIEWS];           /* the block that an honest primary pre-prepared; 0 is none */
byte prepares[N * VIEWS];       /* the block that an honest delegate prepared, per view */
bool commits[N * VIEWS];        /* whether an honest delegate signed commit; of a view's certified block */
byte view_changes[N * VIEWS];   /* what an honest delegate's view-change for a view carries */
byte certified[VIEWS];          /* the block with a prepared certificate, per view */
byte decided;                   /* the block with q commits of one view */

#define AT(i, v) ((i) * VIEWS + (v))

/* ------------------------------------------------------------------ what can be shown to others */

#define PREPARED_BY(i, v, d) (prepares[AT(i, v)] == (d))
#define PREPARES(v, d) (PREPARED_BY(0, v, d) + PREPARED_BY(1, v, d) + PREPARED_BY(2, v, d) + PREPARED_BY(3, v, d) \
                        + (LIAR != PRIMARY(v)))
#define COMMITS(v) (commits[AT(0, v)] + commits[AT(1, v)] + commits[AT(2, v)] + commits[AT(3, v)])
#define MAY_BE_DECIDED(v) (COMMITS(v) + 1 >= QUORUM)
#define IS_CARRIED(c) ((c) == NO_CERTIFICATE || certified[(c) - 2] != 0)

/* 6.6: the highest certificate among q view-changes is c. The Byzantine one shows whatever certificate there is. */
#ifdef BUG_LOWEST
#define BEARS(i, w, c) (view_changes[AT(i, w)] != NOTHING && ((c) == NO_CERTIFICATE \
                        -> view_changes[AT(i, w)] == NO_CERTIFICATE \
                        : view_changes[AT(i, w)] == NO_CERTIFICATE || view_changes[AT(i, w)] >= (c)))
#else
#define BEARS(i, w, c) (view_changes[AT(i, w)] != NOTHING && view_changes[AT(i, w)] <= (c))
#endif
#define CHOICE(w, c) (IS_CARRIED(c) \
                      && BEARS(0, w, c) + BEARS(1, w, c) + BEARS(2, w, c) + BEARS(3, w, c) + 1 >= NEW_VIEW_QUORUM)
#ifdef BUG_UNCHECKED_NEW_VIEW
#define MAY_BE_FRESH(w) ((w) == 0 || PRIMARY(w) == LIAR || CHOICE(w, NO_CERTIFICATE))
#else
#define MAY_BE_FRESH(w) ((w) == 0 || CHOICE(w, NO_CERTIFICATE))
#endif

#ifdef BUG_FLOOR
#define MAY_VOTE(i, v) true         /* votes of lower views after a view-change */
#else
#define MAY_VOTE(i, v) (floor[i] <= (v))
#endif

#define RAISE(i, v) if :: floor[i] < (v) -> floor[i] = (v) :: else fi

/* ------------------------------------------------------------------ what must hold */

byte k;

/* S5: what may be decided in a view is what every honest delegate accepts in later views. */
inline check_accepted(v, d)
{
    k = 0;
    do
    :: k < v -> assert(!(certified[k] != 0 && MAY_BE_DECIDED(k)) || certified[k] == d); k++
    :: else -> break
    od;
    k = 0
}

/* A block of an earlier view has a certificate of an earlier view: nobody makes up what is carried over. */
inline check_carried(v, d)
{
    if
    :: ORIGIN(d) == v
    :: else ->
        assert(ORIGIN(d) < v);
        k = ORIGIN(d);
        do
        :: k < v && certified[k] != d -> k++
        :: else -> break
        od;
        assert(k < v);
        k = 0
    fi
}

inline check_later(v)
{
    k = v + 1;
    do
    :: k < VIEWS && MAY_BE_DECIDED(v) ->
        assert(proposed[k] == 0 || proposed[k] == certified[v]);
        assert(prepares[AT(0, k)] == 0 || prepares[AT(0, k)] == certified[v]);
        assert(prepares[AT(1, k)] == 0 || prepares[AT(1, k)] == certified[v]);
        assert(prepares[AT(2, k)] == 0 || prepares[AT(2, k)] == certified[v]);
        assert(prepares[AT(3, k)] == 0 || prepares[AT(3, k)] == certified[v]);
        k++
    :: else -> break
    od;
    k = 0
}

/* ------------------------------------------------------------------ what an honest delegate does */

/* Pre-prepare of its own view: fresh, or what the new-view makes it propose again. */
#define PROPOSE(me, v, c, d) \
    :: d_step { PRIMARY(v) == me && proposed[v] == 0 && floor[me] <= (v) \
                && ((v) == 0 || (view_changes[AT(me, v)] != NOTHING && CHOICE(v, c))) -> \
        proposed[v] = d; RAISE(me, v); check_accepted(v, d); check_carried(v, d) }

/* Prepare: at most one block a view; the primary's, under a new-view that everybody recomputes. */
#define PREPARE(me, v, c, d) \
    :: d_step { PRIMARY(v) != me && prepares[AT(me, v)] == 0 && MAY_VOTE(me, v) && (d) != 0 \
                && (PRIMARY(v) == LIAR -> ((c) == NO_CERTIFICATE -> MAY_BE_FRESH(v) : CHOICE(v, c)) \
                                        : proposed[v] == (d)) -> \
        prepares[AT(me, v)] = d; RAISE(me, v); check_accepted(v, d); check_carried(v, d); note_certificate(v, d) }

inline note_certificate(v, d)
{
    if
    :: PREPARES(v, d) >= QUORUM - 1 ->
        assert(certified[v] == 0 || certified[v] == d);     /* never two certificates of one view */
        certified[v] = d
    :: else
    fi
}

/* Commit: on a prepared certificate, whether it prepared itself or not. */
#define COMMIT(me, v) \
    :: d_step { certified[v] != 0 && !commits[AT(me, v)] && MAY_VOTE(me, v) -> \
        commits[AT(me, v)] = true; RAISE(me, v); note_commit(v) }

/* Late commit (6.4): one that decides without having committed signs for the deciding view, whatever its own is. */
#define COMMIT_LATE(me, v) \
    :: d_step { certified[v] != 0 && !commits[AT(me, v)] && floor[me] > (v) && COMMITS(v) + 1 >= QUORUM \
                && decided == certified[v] -> \
        commits[AT(me, v)] = true }

inline note_commit(v)
{
    check_later(v);
    if
    :: MAY_BE_DECIDED(v) ->
        assert(decided == 0 || decided == certified[v]);    /* S1: one block a height */
        decided = certified[v];
#ifdef REACH_DECIDED
        assert(v != VIEWS - 1);
#endif
#ifdef REACH_CARRIED
        assert(v < ORIGIN(decided) + 2);                    /* carried over two views, then decided */
#endif
#ifdef REACH_LIAR
        assert(ORIGIN(decided) != LIAR || ORIGIN(decided) == v);
#endif
    :: else
    fi
}

/* View-change: carries its highest prepared certificate, at least that of its own last commit. */
#ifdef BUG_LOST_CERTIFICATE
#define MUST_CARRY(me, u, w) false
#else
#define MUST_CARRY(me, u, w) ((u) < (w) && commits[AT(me, u)])
#endif
#if VIEWS > 4
#define MUST_CARRY_ABOVE(me, c, w) ((MUST_CARRY(me, 0, w) && (c) < 2) || (MUST_CARRY(me, 1, w) && (c) < 3) \
    || (MUST_CARRY(me, 2, w) && (c) < 4) || (MUST_CARRY(me, 3, w) && (c) < 5))
#elif VIEWS > 3
#define MUST_CARRY_ABOVE(me, c, w) ((MUST_CARRY(me, 0, w) && (c) < 2) || (MUST_CARRY(me, 1, w) && (c) < 3) \
    || (MUST_CARRY(me, 2, w) && (c) < 4))
#else
#define MUST_CARRY_ABOVE(me, c, w) ((MUST_CARRY(me, 0, w) && (c) < 2) || (MUST_CARRY(me, 1, w) && (c) < 3))
#endif

#define CHANGE_VIEW(me, w, c) \
    :: d_step { floor[me] < (w) && IS_CARRIED(c) && !MUST_CARRY_ABOVE(me, c, w) -> \
        view_changes[AT(me, w)] = c; floor[me] = w }

#define IN_VIEW_0(me) \
    PROPOSE(me, 0, NO_CERTIFICATE, FRESH(0, 0)) \
    PREPARE(me, 0, NO_CERTIFICATE, FRESH(0, 0)) \
    PREPARE(me, 0, NO_CERTIFICATE, FRESH(0, 1)) \
    COMMIT(me, 0) COMMIT_LATE(me, 0)
#define IN_VIEW(me, v) \
    CHANGE_VIEW(me, v, NO_CERTIFICATE) \
    PROPOSE(me, v, NO_CERTIFICATE, FRESH(v, 0)) \
    PREPARE(me, v, NO_CERTIFICATE, FRESH(v, 0)) \
    PREPARE(me, v, NO_CERTIFICATE, FRESH(v, 1)) \
    COMMIT(me, v) COMMIT_LATE(me, v)
/* In view w with the certificate of view u < w. */
#define CARRYING(me, u, w) \
    CHANGE_VIEW(me, w, CERTIFICATE(u)) \
    PROPOSE(me, w, CERTIFICATE(u), certified[u]) \
    PREPARE(me, w, CERTIFICATE(u), certified[u])

proctype delegate(byte me)
{
end:
    do
    IN_VIEW_0(me)
    IN_VIEW(me, 1) CARRYING(me, 0, 1)
#if VIEWS > 2
    IN_VIEW(me, 2) CARRYING(me, 0, 2) CARRYING(me, 1, 2)
#endif
#if VIEWS > 3
    IN_VIEW(me, 3) CARRYING(me, 0, 3) CARRYING(me, 1, 3) CARRYING(me, 2, 3)
#endif
#if VIEWS > 4
    IN_VIEW(me, 4) CARRYING(me, 0, 4) CARRYING(me, 1, 4) CARRYING(me, 2, 4) CARRYING(me, 3, 4)
#endif
    od
}

init
{
    atomic {
#if LIAR != 0
        run delegate(0);
#endif
#if LIAR != 1
        run delegate(1);
#endif
#if LIAR != 2
        run delegate(2);
#endif
#if LIAR != 3
        run delegate(3);
#endif
    }
}

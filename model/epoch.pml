/* The set change at an epoch boundary (PROTOCOL 6.3, 7.2, 9.1, 10.1): sets of n = 4, f = 1, q = 3.
 *
 * Six members. The set {0, 1, 2, 3} decides heights 1 and 2; block 1 names the set of height 3, block 2 may replace a
 * seat at height 4: the state after block h holds C(h + 1) and C(h + 2). Members 0 and 4 are Byzantine, at most one of
 * them in any set; a key without a seat at a height may be stolen and sign anything there. One height is a box here:
 * an honest delegate commits at most one block in it, which height.pml shows to be enough.
 *
 *   -DHEIGHTS=4    2 to 5
 *   -DBUG_...      a planted bug: the check must fail
 *   -DREACH_...    a claim that something never happens: the check must fail, else the model is empty
 */

#ifndef HEIGHTS
#define HEIGHTS 4
#endif

#define MEMBERS 6
#define Q 3

#define BYZANTINE(m) ((m) == 0 || (m) == 4)

/* Sets, a bit a member. */
#define OLD_SET 15              /* 0 1 2 3 */
#define NEW_SET 60              /* 2 3 4 5: elected */
#define KEPT_SET 46             /* 1 2 3 5: the other outcome, one seat replaced */
#define NEW_SET_RECOUNTED 58    /* 1 3 4 5: 2 lost its seat to 1 */
#define KEPT_SET_RECOUNTED 45   /* 0 2 3 5: 1 lost its seat to 0 */

/* C(h), from what blocks 1 and 2 say (1 or 2 each). */
#define SET(h, first, second) ((h) < 3 -> OLD_SET : ((h) == 3 || (second) == 1 \
    -> ((first) == 1 -> NEW_SET : KEPT_SET) : ((first) == 1 -> NEW_SET_RECOUNTED : KEPT_SET_RECOUNTED)))
#define SEATED(m, set) (((set) >> (m)) & 1)

byte votes[MEMBERS * (HEIGHTS + 2)];    /* the block an honest delegate committed at a height: 0 is none */
byte chain[MEMBERS * (HEIGHTS + 2)];    /* the blocks that an honest member applied */
byte applied[MEMBERS];                  /* the height of the last of them */
byte truth[HEIGHTS + 2];                /* what was decided first, by anybody */

#define AT(i, h) ((i) * (HEIGHTS + 2) + (h))

/* ------------------------------------------------------------------ what a member takes for the set of a height */

#define LEDGER_SET(i, h) SET(h, chain[AT(i, 1)], chain[AT(i, 2)])
#define TRUE_SET(h) SET(h, truth[1], truth[2])

#if defined(BUG_EARLY)
/* The new set one block early: C(h + 1) decides h. */
#define SET_FOR(i, h) LEDGER_SET(i, (h) + 1)
#elif defined(BUG_UNDECIDED)
/* The set that the block one voted for names, decided or not. */
#define SET_FOR(i, h) SET(h, (votes[AT(i, 1)] != 0 -> votes[AT(i, 1)] : chain[AT(i, 1)]), chain[AT(i, 2)])
#else
#define SET_FOR(i, h) LEDGER_SET(i, h)
#endif

#if defined(BUG_OLD_SET)
/* A member that catches up checks every certificate against the set it knew at first. */
#define CHECKED_AGAINST(i, h) OLD_SET
#elif defined(BUG_LAST_COMMIT)
/* The last-commit in block h + 1 is checked against the set that decides h + 1. */
#define CHECKED_AGAINST(i, h) LEDGER_SET(i, (h) + 1)
#else
#define CHECKED_AGAINST(i, h) SET_FOR(i, h)
#endif

/* ------------------------------------------------------------------ certificates */

/* Whether a signature of m for block x of height h can be shown: signed, or by a Byzantine or stolen key. */
#define SHOWN(m, h, x) (votes[AT(m, h)] == (x) || BYZANTINE(m) || !SEATED(m, TRUE_SET(h)))
#define COUNTS(m, h, x, set) (SEATED(m, set) && SHOWN(m, h, x))
#define SIGNATURES(h, x, set) (COUNTS(0, h, x, set) + COUNTS(1, h, x, set) + COUNTS(2, h, x, set) \
                               + COUNTS(3, h, x, set) + COUNTS(4, h, x, set) + COUNTS(5, h, x, set))
#ifdef BUG_QUORUM
#define IS_CERTIFIED(h, x, set) (SIGNATURES(h, x, set) >= Q - 1)
#else
#define IS_CERTIFIED(h, x, set) (SIGNATURES(h, x, set) >= Q)
#endif

/* ------------------------------------------------------------------ what an honest member does */

#define COMMIT(me, h, x) \
    :: d_step { applied[me] == (h) - 1 && votes[AT(me, h)] == 0 && SEATED(me, SET_FOR(me, h)) -> \
        assert(SEATED(me, TRUE_SET(h)));                        /* S11: nobody votes without a seat */ \
        votes[AT(me, h)] = x }

/* Apply the next block on a certificate: from commits, from a peer's answer, from the next block's last-commit. */
#define APPLY(me, h, x) \
    :: d_step { applied[me] == (h) - 1 && IS_CERTIFIED(h, x, CHECKED_AGAINST(me, h)) -> \
        assert(truth[h] == 0 || truth[h] == (x));               /* S1: one block a height */ \
        assert(SIGNATURES(h, x, TRUE_SET(h)) >= Q);             /* S3: by q of its own set */ \
        assert(SET_FOR(me, h) == TRUE_SET(h));                  /* S11: the set that the ledger says */ \
        truth[h] = x; chain[AT(me, h)] = x; applied[me] = h; reached(me, h) }

inline reached(me, h)
{
#ifdef REACH_END
    assert(h < HEIGHTS);
#endif
#ifdef REACH_JOINER
    assert(!(me == 5 && h == 3 && votes[AT(5, 3)] != 0));       /* a new delegate takes part in deciding */
#endif
#ifdef REACH_OUTVOTED
    assert(!(h == 3 && votes[AT(me, 1)] != 0 && votes[AT(me, 1)] != truth[1]));
#endif
    skip
}

#define HEIGHT(me, h) COMMIT(me, h, 1) COMMIT(me, h, 2) APPLY(me, h, 1) APPLY(me, h, 2)

proctype member(byte me)
{
end:
    do
    HEIGHT(me, 1)
    HEIGHT(me, 2)
#if HEIGHTS > 2
    HEIGHT(me, 3)
#endif
#if HEIGHTS > 3
    HEIGHT(me, 4)
#endif
#if HEIGHTS > 4
    HEIGHT(me, 5)
#endif
    od
}

init
{
    atomic { run member(1); run member(2); run member(3); run member(5) }
}

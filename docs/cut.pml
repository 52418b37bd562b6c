/*
 * cut.pml - the coordinated cut (DESIGN: rules 1-8; code: runtime/coord/cut.c, cut_rank.c) for spin
 *
 * Three ranks, two communicators (c0: all, c1: ranks 1 and 2). Each rank's program is a decimal number,
 * first operation in the last digit: 1 barrier on c0, 2 barrier on c1, 3 broadcast on c0 whose root
 * (rank 0) leaves early, 4 eager message 0 -> 2, 5 rendezvous message 0 -> 2. EPOCHS intents one after
 * the other; releases at any moment a rank holds, RELEASES of them, then the cut is given up; with
 * -DGIVE_UP it may also be given up at any moment.
 *
 * Checked: no invalid end state (every rank ends its program, whatever cuts do to it), and at WRITE
 * (assertions) all are parked and nobody is inside, E is equal in all members, nothing is in flight.
 * Programs, epochs and releases are finite and each step uses some of them up, so that no run goes on
 * for ever: without an invalid end state there is no hang of any kind.
 *
 * tests/check-cut-model runs it on programs that cross point-to-point with holds. With -DBREAK=n one
 * rule is left out, and the script checks that spin then finds a counterexample:
 *     1 no release   2 entries are not reported before they happen   3 a cut without equal E
 *     4 a cut while somebody is inside   5 images before all have drained
 *     6 a rendezvous send that is deaf to control messages
 *
 * Abstracted: the store-fence-load handshake between a rank and its own agent (rank and agent are one
 * process here, a control message is handled between two steps of the rank wherever it waits).
 */
#ifndef P0
#define P0 43
#define P1 32
#define P2 324
#endif
#ifndef EPOCHS
#define EPOCHS 1
#endif
#ifndef RELEASES
#define RELEASES 2
#endif
#ifndef BREAK
#define BREAK 0
#endif

#define N 3
#define MEMBER(c, r) ((c) == 0 || (r) > 0)
#define NO_ROOM 255

mtype = { INTENT, ARM, RAISE, STOP, DRAIN, WRITE, RESUME, CANCEL,
          ACK, ARMED, ENTER, LEAVE, HOLD, STOPPED, DRAINED, WRITTEN };

/* type, epoch, two numbers (of c0 and c1, or communicator and number), inside. Each rank has a stream
 * of its own in both directions, as in the code: nothing is said of the order between two ranks. */
chan down0 = [7] of { mtype, byte, byte, byte };
chan down1 = [7] of { mtype, byte, byte, byte };
chan down2 = [7] of { mtype, byte, byte, byte };
chan up0 = [7] of { mtype, byte, byte, byte, byte };
chan up1 = [7] of { mtype, byte, byte, byte, byte };
chan up2 = [7] of { mtype, byte, byte, byte, byte };

#define BARRIER0 1
#define BARRIER1 2
#define BCAST0   3
#define EAGER    4
#define RENDEZ   5

/* The truth, which only the assertions and MPI's own semantics look at. */
byte E[6];      /* E[c * 3 + r] */
bool inside[N];
bool parked[N];
byte sent, taken, queued; /* messages 0 -> 2: sent, off the network, drained and not yet received */
bool coordinator_done;

#define ENTERED(c, r) E[(c) * 3 + (r)]
#define COLLECTIVE(op)  (op >= BARRIER0 && op <= BCAST0)
#define COMM(op)        ((op) == BARRIER1 -> 1 : 0)

/* May rank r leave the collective it is in? Its own E says which one. */
#define ALL0(n) (ENTERED(0, 0) >= (n) && ENTERED(0, 1) >= (n) && ENTERED(0, 2) >= (n))
#define ALL1(n) (ENTERED(1, 1) >= (n) && ENTERED(1, 2) >= (n))
#define MAY_LEAVE(op, r)                                                                           \
    (((op) == BARRIER0 && ALL0(ENTERED(0, r))) || ((op) == BARRIER1 && ALL1(ENTERED(1, r))) ||     \
     ((op) == BCAST0 && ((r) == 0 || ENTERED(0, 0) >= ENTERED(0, r))))

proctype Rank(byte r; int program; chan down; chan up)
{
    xr down;
    xs up;
    byte epoch, e, a, b, T[2];
    byte stage;   /* 0 free, 1 asked, 2 armed */
    bool started; /* the present operation: entered, or sent */
    bool held;
    byte expected;
    bool draining;
    mtype type;

#define OP       (program % 10)
#define NEXT     program = program / 10
#define RUNS     (program && !parked[r])
#define BEHIND   (ENTERED(0, r) < T[0] || (r > 0 && ENTERED(1, r) < T[1]))
#define MAY_HOLD (stage == 2 && !BEHIND)
#define DEAF     (BREAK == 6 && RUNS && OP == RENDEZ && r == 0 && started)

    do
    /* ---- control messages, wherever the rank waits */
    :: atomic { !DEAF && nempty(down) ->
        down?type,e,a,b;
        if
        :: type == INTENT ->
            epoch = e; stage = 1; T[0] = ENTERED(0, r); T[1] = ENTERED(1, r);
            up!ACK,epoch,T[0],T[1],inside[r]
        :: type != INTENT && e != epoch -> skip
        :: else ->
            if
            :: type == ARM ->
                stage = 2;
                T[0] = (a > T[0] -> a : T[0]); T[1] = (b > T[1] -> b : T[1]);
                up!ARMED,epoch,0,0,0
            :: type == RAISE -> T[a] = (b > T[a] -> b : T[a])
            :: type == STOP ->
                parked[r] = true;
                up!STOPPED,epoch,(r == 0 -> sent : 0),0,0
            :: type == DRAIN -> draining = true; expected = a
            :: type == WRITE -> up!WRITTEN,epoch,0,0,0
            :: type == RESUME || type == CANCEL ->
                stage = 0; parked[r] = false; draining = false; held = false;
                T[0] = 0; T[1] = 0; expected = 0
            fi
        fi;
        type = INTENT; e = 0; a = 0; b = 0 }

    /* ---- draining */
    :: atomic { draining && r == 2 && taken < expected -> taken++; queued++ }
    :: atomic { draining && (r != 2 || taken == expected) ->
        draining = false; expected = 0; up!DRAINED,epoch,0,0,0 }

    /* ---- the program */
    :: atomic { RUNS && COLLECTIVE(OP) && !started && MAY_HOLD && !held ->
        held = true; up!HOLD,epoch,COMM(OP),ENTERED(COMM(OP), r),0 }
    :: atomic { RUNS && COLLECTIVE(OP) && !started && !MAY_HOLD ->
        ENTERED(COMM(OP), r)++;
        started = true; held = false; inside[r] = true;
        if
        :: stage && BREAK != 2 -> up!ENTER,epoch,COMM(OP),ENTERED(COMM(OP), r),0
        :: else
        fi;
        if
        :: stage && ENTERED(COMM(OP), r) > T[COMM(OP)] -> T[COMM(OP)] = ENTERED(COMM(OP), r)
        :: else
        fi }
    :: atomic { RUNS && COLLECTIVE(OP) && started && MAY_LEAVE(OP, r) ->
        inside[r] = false; started = false;
        if
        :: stage && BREAK == 2 -> up!ENTER,epoch,COMM(OP),ENTERED(COMM(OP), r),0
        :: else
        fi;
        if
        :: stage -> up!LEAVE,epoch,COMM(OP),0,0
        :: else
        fi;
        NEXT }
    :: atomic { RUNS && OP == EAGER && r == 0 -> sent++; NEXT }
    :: atomic { RUNS && OP == RENDEZ && r == 0 && !started -> sent++; started = true }
    :: atomic { RUNS && OP == RENDEZ && r == 0 && started && taken == sent ->
        started = false; NEXT }
    :: atomic { RUNS && OP >= EAGER && r == 2 && queued > 0 -> queued--; NEXT }
    :: atomic { RUNS && OP >= EAGER && r == 2 && queued == 0 && taken < sent -> taken++; NEXT }

    /* ---- the end */
    :: atomic { program == 0 && coordinator_done && stage == 0 && !parked[r] -> break }
    od
}

inline send_all(type, a, b)
{
    down0!type,epoch,a,b; down1!type,epoch,a,b; down2!type,epoch,a,b
}

/* T[c] = v, told to the members except one. */
inline raise(c, v, except)
{
    T[c] = v;
    if
    :: phase >= 2 ->
        if :: except != 0 && MEMBER(c, 0) -> down0!RAISE,epoch,c,v :: else fi;
        if :: except != 1 && MEMBER(c, 1) -> down1!RAISE,epoch,c,v :: else fi;
        if :: except != 2 && MEMBER(c, 2) -> down2!RAISE,epoch,c,v :: else fi
    :: else
    fi
}

proctype Coordinator()
{
    byte epoch, phase; /* 1 acking, 2 arming, 3 gathering, 4 stopping, 5 draining, 6 writing */
    byte T[2], known[6], in[N], answers, releases, r, a, b, c, e;
    byte sent_said;
    byte hold[N]; /* communicator + 1, by rank */
    byte held_at[N];
    mtype type;
    xs down0; xs down1; xs down2;
    xr up0; xr up1; xr up2;

#define KNOWN(c, r) known[(c) * 3 + (r)]
#define EVEN                                                                                       \
    (KNOWN(0, 0) == T[0] && KNOWN(0, 1) == T[0] && KNOWN(0, 2) == T[0] && KNOWN(1, 1) == T[1] &&   \
     KNOWN(1, 2) == T[1])
#define NOBODY_IN (!in[0] && !in[1] && !in[2])
/* Whose report may be handled next. While all that counts is that everybody has answered, the order
 * in which they do makes no difference: rank 0 first, then 1, then 2. */
#define TAKES(r) (phase == 2 || phase == 3 || r <= answers)
#define CUT ((EVEN || BREAK == 3) && (NOBODY_IN || BREAK == 4))

next_epoch:
    atomic {
        phase = 1; answers = 0; releases = 0; sent_said = 0;
        T[0] = 0; T[1] = 0;
        type = ACK; e = 0; a = 0; b = 0; c = 0;
        r = 0;
        do
        :: r < N -> KNOWN(0, r) = 0; KNOWN(1, r) = 0; in[r] = 0; hold[r] = 0; held_at[r] = 0; r++
        :: else -> break
        od;
        r = 0;
        if
        :: epoch == EPOCHS -> goto finished
        :: else
        fi;
        epoch++;
        send_all(INTENT, 0, 0)
    }
    do
    :: atomic { (nempty(up0) && TAKES(0)) || (nempty(up1) && TAKES(1)) || (nempty(up2) && TAKES(2)) ->
        if
        :: nempty(up0) && TAKES(0) -> up0?type,e,a,b,c; r = 0
        :: nempty(up1) && TAKES(1) -> up1?type,e,a,b,c; r = 1
        :: nempty(up2) && TAKES(2) -> up2?type,e,a,b,c; r = 2
        fi;
        if
        :: e != epoch -> skip
        :: e == epoch && type == ACK ->
            KNOWN(0, r) = a; KNOWN(1, r) = b; in[r] = c; answers++;
            T[0] = (a > T[0] -> a : T[0]);
            if :: r > 0 && b > T[1] -> T[1] = b :: else fi;
            if
            :: answers == N -> phase = 2; answers = 0; send_all(ARM, T[0], T[1])
            :: else
            fi
        :: e == epoch && type == ARMED ->
            answers++;
            if :: answers == N -> phase = 3; answers = 0 :: else fi
        :: e == epoch && type == ENTER ->
            KNOWN(a, r) = b; in[r] = 1; hold[r] = 0;
            if :: b > T[a] -> raise(a, b, r) :: else fi
        :: e == epoch && type == LEAVE -> in[r] = 0
        :: e == epoch && type == HOLD -> hold[r] = a + 1; held_at[r] = b
        :: e == epoch && type == STOPPED ->
            answers++;
            if :: r == 0 -> sent_said = a :: else fi;
            if
            :: answers == N ->
                phase = 5; answers = 0; send_all(DRAIN, sent_said, 0)
            :: else
            fi
        :: e == epoch && type == DRAINED ->
            answers++;
            if
            :: answers == N || BREAK == 5 ->
                phase = 6; answers = 0;
                assert(parked[0] && parked[1] && parked[2]);
                assert(!inside[0] && !inside[1] && !inside[2]);
                assert(ENTERED(0, 0) == ENTERED(0, 1) && ENTERED(0, 1) == ENTERED(0, 2));
                assert(ENTERED(1, 1) == ENTERED(1, 2));
                assert(sent == taken);
                send_all(WRITE, 0, 0)
            :: else
            fi
        :: e == epoch && type == WRITTEN ->
            answers++;
            if
            :: answers == N -> send_all(RESUME, 0, 0); goto next_epoch
            :: else
            fi
        fi;
        type = ACK; e = 0; a = 0; b = 0; c = 0; r = 0 }

    :: atomic { phase == 3 && CUT -> phase = 4; answers = 0; send_all(STOP, 0, 0) }

    /* a release: of any hold, at any moment */
    :: atomic { BREAK != 1 && phase == 3 && releases < RELEASES && (hold[0] || hold[1] || hold[2]) ->
        if
        :: hold[0] -> r = 0
        :: hold[1] -> r = 1
        :: hold[2] -> r = 2
        fi;
        releases++;
        a = hold[r] - 1; b = held_at[r] + 1; hold[r] = 0;
        if :: b > T[a] -> raise(a, b, NO_ROOM) :: else -> raise(a, T[a], NO_ROOM) fi;
        a = 0; b = 0; r = 0 }

    /* too many releases */
    :: atomic { BREAK != 1 && phase == 3 && releases == RELEASES ->
        send_all(CANCEL, 0, 0); goto next_epoch }
#ifdef GIVE_UP
    /* a rank was lost to the cut, somebody was unable, time is over */
    :: atomic { phase < 6 -> send_all(CANCEL, 0, 0); goto next_epoch }
#endif
    od;

finished:
    coordinator_done = true;
    /* late reports of the last epoch */
end:
    do
    :: up0?_,_,_,_,_
    :: up1?_,_,_,_,_
    :: up2?_,_,_,_,_
    od
}

init {
    atomic {
        run Rank(0, P0, down0, up0); run Rank(1, P1, down1, up1); run Rank(2, P2, down2, up2);
        run Coordinator()
    }
}

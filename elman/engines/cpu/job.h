/* One recurrence over a batch of sequences, forward and backward, from the equations of one cell.
 *
 * Above this text stand vector.h and what was generated from the cell:
 *     G_IN, G_HID    gates fed by W x + b and by R h + b
 *     INNER          gates whose product the step asks for itself
 *     STATES         parts of the state, h first
 *     UNITS, SUMS    values per unit that rows meet, and their gradients
 *     SAVED          values per row and unit that backward needs from forward; SAVED_ROW: per row
 *     COLS           different gradients of gates; COL_IN, COL_HID say which gate has which
 *     PHASES         parts of a step, between which the units of a row must know of each other
 *     step, step_back, and of rows: step_row, step_back_row
 *
 * B rows are taken in the order of falling length, so that at every step the first ones are at work.
 * Threads share the work by rows, by units, or both: those of one group have the same rows, different
 * units, and wait for each other after every phase of a step.
 */

typedef struct { /* mirrored in library.py */
    i64 B, T, D, H, heads, threads, amx;            /* heads: blocks of R along its diagonal; the rest is 0 */
    i64 x_b, x_t, y_b, y_t, dy_b, dy_t, dx_b, dx_t; /* strides, in items */
    const i64 *order, *lengths;                     /* rows by falling length, their lengths so ordered; or 0 */
    const uint8_t *resets;                          /* (B, T), or 0 */
    const item *x;
    const real *w_ih, *w_hh, *b_ih, *b_hh;          /* (G_IN H, D), ((G_HID + INNER) H, H), biases or 0 */
    const real *units;                              /* (UNITS, H) */
    const real *mask;                               /* (B, H) or 0 */
    const real *state0[STATES];                     /* (B, H) */
    const real *zone[STATES];                       /* (B, T, H) or 0 */
    real rate[STATES];
    item *y;
    real *state1[STATES];
    item *saved;                                    /* (T, Hp / VL, B, SAVED, VL), (T, B, SAVED_ROW, VL); or 0 */
    const void *packed_ih, *packed_hh;              /* weights, packed before; or 0 */
    const real *scale_ih, *scale_hh;                /* if packed as int8: see int8.h; else 0 */
    i64 bfloat16;                                   /* whether packed as bfloat16: see half.h */
    /* backward */
    const item *dy;                                 /* or 0 */
    const real *dstate1[STATES];
    item *dx;                                       /* or 0 */
    real *dstate0[STATES], *dw_ih, *dw_hh, *db, *dunits;    /* db (COLS, Hp), dunits (SUMS, Hp) */
    Source source;
} Job;

INLINE int by_amx(const Job *job) { return DEEP > 1 && job->amx; } /* whether products run in the matrix unit */

/* parts of one block of memory, one after the other */
typedef struct { char *at; } Arena;
static void *part(Arena *arena, size_t bytes) {
    void *here = arena->at;
    arena->at += (bytes + 63) & ~(size_t)63;
    return here;
}

/* ---- threads ---- */

typedef struct {
    _Atomic int arrived, round, asleep;
    _Atomic i64 slept; /* nanoseconds, of all threads */
    char apart[104];
} Barrier;

static i64 nanoseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * (i64)1000000000 + now.tv_nsec;
}
#define SPINS 2000 /* looks before a thread gives up its core: some 40 microseconds, as long as to wake it takes */

/* The last to come wakes the others. They look for a while; then the core goes to whoever wants it, perhaps to the
   very thread that is waited for. */
static void wait_for(Barrier *barrier, i64 threads) {
    if (threads == 1) return;
    const int round = atomic_load_explicit(&barrier->round, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&barrier->arrived, 1, memory_order_acq_rel) == threads - 1) {
        atomic_store_explicit(&barrier->arrived, 0, memory_order_relaxed);
        atomic_store(&barrier->round, round + 1);
#if defined(__linux__)
        if (atomic_load(&barrier->asleep)) syscall(SYS_futex, &barrier->round, FUTEX_WAKE_PRIVATE, INT_MAX, 0, 0, 0);
#endif
        return;
    }
    for (int spins = 0; spins < SPINS; spins++) {
        if (atomic_load_explicit(&barrier->round, memory_order_acquire) != round) return;
#if defined(__x86_64__)
        __builtin_ia32_pause();
#elif defined(__aarch64__)
        __asm__ volatile("yield");
#endif
    }
    const i64 began = nanoseconds();
#if defined(__linux__)
    atomic_fetch_add(&barrier->asleep, 1);
    while (atomic_load(&barrier->round) == round)
        syscall(SYS_futex, &barrier->round, FUTEX_WAIT_PRIVATE, round, 0, 0, 0);
    atomic_fetch_sub(&barrier->asleep, 1);
#else
    while (atomic_load(&barrier->round) == round) sched_yield();
#endif
    atomic_fetch_add_explicit(&barrier->slept, nanoseconds() - began, memory_order_relaxed);
}

/* Threads that share every step wait for each other, so that one whose core is wanted by another process holds up all.
   Where they have slept for so long that one thread alone would have been faster, one thread works alone for a while:
   for longer and longer, as long as it goes on like that. */
static _Atomic i64 alone_until, alone_for;
#define ALONE_LEAST ((i64)20000000) /* nanoseconds */
#define ALONE_MOST ((i64)1000000000)

static int crowded(void) {
    const i64 until = atomic_load_explicit(&alone_until, memory_order_relaxed);
    return until && nanoseconds() < until;
}
static void note_sleep(i64 took, i64 slept, i64 threads) {
    if (2 * slept > (threads - 1) * took) {
        i64 span = 2 * atomic_load_explicit(&alone_for, memory_order_relaxed);
        span = span < ALONE_LEAST ? ALONE_LEAST : span > ALONE_MOST ? ALONE_MOST : span;
        atomic_store_explicit(&alone_for, span, memory_order_relaxed);
        atomic_store_explicit(&alone_until, nanoseconds() + span, memory_order_relaxed);
    } else { /* a call that went well may have been lucky */
        const i64 span = atomic_load_explicit(&alone_for, memory_order_relaxed);
        if (span) atomic_store_explicit(&alone_for, span - span / 16 - 1, memory_order_relaxed);
    }
}

/* a share of n things, in whole multiples of `grain` */
INLINE void share(i64 n, i64 grain, i64 who, i64 of, i64 *from, i64 *to) {
    i64 grains = up(n, grain);
    *from = least(n, grains * who / of * grain);
    *to = least(n, grains * (who + 1) / of * grain);
}

typedef struct Team {
    const Job *job;
    i64 row_groups, unit_groups, threads;
    i64 Hp, K_h, K_d;     /* padded units; elems of h and of x in a product, padded */
    i64 *active;          /* (T + 1): rows at work at each step */
    Barrier *barriers;    /* one a row group, then one for all */
    const elem *r, *w;    /* packed weights; those of inner gates behind r */
    const real *raw_ih, *raw_hh; /* forward: W and R as they lie in memory, where they are not packed */
    real *b_in, *b_hid;   /* packed biases */
    item *h;              /* forward: (2, B, Hp), h on its way into R h */
    item *inner;          /* what inner gates multiply: forward (INNER, B, Hp), backward (rows, INNER Hp) */
    real *totals;         /* (B, totals, unit groups): of the units of each */
    real *carry;          /* (STATES, B, Hp) */
    item *h0;             /* backward: (B, Hp), the first h */
    item *dg[2];          /* gradients of the gates of two chunks of steps: (rows, ldg) */
    elem *dg_pairs;       /* the same by pairs of rows, for bfloat16; with AMX: (columns, elems, 16 columns, 16 elems) */
    i64 ldg, chunk_rows, K_rows;
    const item **x_rows, **h_rows, **inner_rows;
    const real **h_masks;
    elem *x_panels, *h_panels; /* (1 + INNER of h) */
    real *sums;           /* (row groups, 2, SUMS, Hp) */
    char *scratch;        /* of each thread */
    size_t scratch_size;
    _Atomic int failed;
    void (*work)(struct Team *team, i64 thread);
} Team;

typedef struct { /* what one thread is in charge of */
    i64 group, row0, row_step, unit, unit_groups;
    Barrier *barrier;
} Place;

INLINE Place place_of(const Team *team, i64 thread) {
    i64 group = thread / team->unit_groups;
    return (Place){group, group, team->row_groups, thread % team->unit_groups, team->unit_groups,
                   team->barriers + group};
}
INLINE i64 rows_at(const Team *team, const Place *place, i64 t) { /* of this group, at work at step t */
    i64 n = t < team->job->T ? team->active[t] : 0;
    return n > place->row0 ? up(n - place->row0, place->row_step) : 0;
}
/* the elems of h that the units from j on, or up to j, can see: those of their own heads */
INLINE i64 head_start(const Job *job, i64 j) { return j / (job->H / job->heads) * (job->H / job->heads) / PER / DEEP * DEEP; }
INLINE i64 head_end(const Job *job, i64 j) {
    const i64 size = job->H / job->heads;
    return depth(up(least(j, job->H), size) * size);
}
/* how values of units are gathered: see vector.h */
INLINE V gathered_from(const int how) { return all(how == MOST ? -INFINITY : how == LEAST ? INFINITY : 0); }
INLINE real gather(const int how, real a, real b) {
    if (how != MOST && how != LEAST) return a + b;
    if (a != a || b != b) return NAN;
    return (how == MOST) == (a > b) ? a : b;
}
/* the values of a row, that of each total in all lanes: gathered from groups of units; unit: the own one */
INLINE void get_totals(const Team *team, i64 i, i64 unit, i64 count, const int *at, const int *how, const int phase,
                       V *total) {
    for (i64 r = 0; r < count; r++)
        if (at[r] == phase) {
            real value = gathered_from(how[r])[0];
            for (i64 g = 0; g < (how[r] == BEFORE ? unit : team->unit_groups); g++)
                value = gather(how[r], value, team->totals[(i * count + r) * team->unit_groups + g]);
            total[r] = all(value);
        }
}
/* the totals over the units of one group that are wanted in the next phase */
INLINE void put_totals(const Team *team, i64 i, i64 unit, i64 count, const int *at, const int *how, const int phase,
                       const V *total) {
    for (i64 r = 0; r < count; r++)
        if (at[r] == phase + 1) {
            real value = total[r][0];
            for (i64 k = 1; k < VL; k++) value = gather(how[r], value, total[r][k]);
            team->totals[(i * count + r) * team->unit_groups + unit] = value;
        }
}
INLINE item *saved_of_row(const Job *job, i64 t, i64 i) {
    return job->saved + job->T * padded(job->H) * job->B * SAVED + (t * job->B + i) * SAVED_ROW * VL;
}
INLINE i64 row_of(const Job *job, i64 i) { return job->order ? job->order[i] : i; }
INLINE int is_reset(const Job *job, i64 b, i64 t) { return job->resets && t < job->T && job->resets[b * job->T + t]; }

/* Whether no number of threads leaves one of them with a single row of several: it would add in another order. */
INLINE int few_or_many(const Job *job) { return job->B == 1 || (!job->lengths && job->B >= 2 * job->threads); }

/* How to share the work: by rows where a core can hold all of R, else by units. `steady`: the numbers are the same to the
   last bit for any number of threads, so that it may depend on what else goes on. */
static void plan(const Job *job, Team *team, i64 limit, int steady) {
    double step = 2.0 * job->B * (G_IN * (double)job->D + (G_HID + INNER) * (double)job->H) * job->H;
    /* to wake a thread for one step costs as much as to read a megabyte of weights */
    const int small = job->T == 1 ? step < 5e5 : step * job->T < 2e5;
    i64 P = small || (steady && crowded()) ? 1 : most(1, least(job->threads, limit));
    i64 unit_panels = least(panels(job->H), wide(job->H));
    size_t bytes = (size_t)((G_HID + INNER) * job->H * job->H) * sizeof(item);
    i64 units = 1;
    while (P > 1) { /* the fewest unit groups with which R fits and rows suffice */
        for (units = 1; units <= P; units++)
            if (P % units == 0 && (units == P || (bytes / (size_t)units <= 640 << 10 && job->B >= 4 * (P / units))))
                break;
        if (units <= unit_panels && (units == 1 || step / units > 1e5) && P / units <= most(1, job->B)) break;
        P--;
    }
    if (P == 1) units = 1;
    team->threads = P, team->unit_groups = units, team->row_groups = P / units;
}

static void thread_main(void *argument) {
    Team *team = argument;
    i64 thread = team->threads == 1 ? 0 : team->job->source.thread_number();
    if (team->threads > 1 && team->job->source.thread_count() != team->threads) {
        atomic_store(&team->failed, 1); /* fewer threads than asked for: nobody must wait for the others */
        return;
    }
    team->work(team, thread);
}

static int run(Team *team) {
    if (team->threads == 1) {
        team->work(team, 0);
        return 0;
    }
    const i64 began = nanoseconds();
    team->job->source.parallel(thread_main, team, (unsigned)team->threads, 0);
    i64 slept = 0;
    for (i64 k = 0; k <= team->row_groups; k++) slept += team->barriers[k].slept;
    if (team->unit_groups > 1) note_sleep(nanoseconds() - began, slept, team->threads);
    return atomic_load(&team->failed);
}

static void count_active(const Job *job, i64 *active) {
    i64 n = job->B;
    for (i64 t = 0; t <= job->T; t++) {
        while (job->lengths && n > 0 && job->lengths[n - 1] <= t) n--;
        active[t] = t < job->T ? n : 0;
    }
}


/* One recurrence over a batch of sequences, forward and backward, from the equations of one cell.
 *
 * Above this text stand vector.h and what was generated from the cell:
 *     G_IN, G_HID    gates fed by W x + b and by R h + b
 *     STATES         parts of the state, h first
 *     UNITS, SUMS    values per unit that rows meet, and their gradients
 *     SAVED          values per row and unit that backward needs from forward
 *     COLS           different gradients of gates; COL_IN, COL_HID say which gate has which
 *     step, step_back
 *
 * B rows are taken in the order of falling length, so that at every step the first ones are at work.
 * Threads share the work by rows, by units, or both: those of one group have the same rows, different
 * units, and wait for each other after every step.
 */

#define UNIT_VECTORS (G_MAX >= 4 ? 1 : G_MAX == 3 ? 1 : G_MAX == 2 ? 2 : 4)
#define U ((i64)UNIT_VECTORS)  /* vectors of units in a panel, all gates of them side by side */
#define NV_X (G_IN * UNIT_VECTORS)
#define NV_H (G_HID * UNIT_VECTORS)
#define NV_N 4                 /* vectors of columns in a panel of the backward products */

#define ROWS(nv) (REGISTERS / (nv) > 12 ? 12 : REGISTERS / (nv) < 1 ? 1 : REGISTERS / (nv))

typedef struct { /* where threads and memory come from; this struct and Job are mirrored in library.py */
    void (*parallel)(void (*)(void *), void *, unsigned, unsigned);
    int (*thread_number)(void);
    int (*thread_count)(void);
    void *(*take)(size_t);
    void (*give)(void *);
} Source;

typedef struct {
    i64 B, T, D, H, heads, threads;                 /* heads: blocks of R along its diagonal; the rest is 0 */
    i64 x_b, x_t, y_b, y_t, dy_b, dy_t, dx_b, dx_t; /* strides, in items */
    const i64 *order, *lengths;                     /* rows by falling length, their lengths so ordered; or 0 */
    const uint8_t *resets;                          /* (B, T), or 0 */
    const item *x;
    const real *w_ih, *w_hh, *b_ih, *b_hh;          /* (G_IN H, D), (G_HID H, H), biases or 0 */
    const real *units;                              /* (UNITS, H) */
    const real *mask;                               /* (B, H) or 0 */
    const real *state0[STATES];                     /* (B, H) */
    const real *zone[STATES];                       /* (B, T, H) or 0 */
    real rate[STATES];
    item *y;
    real *state1[STATES];
    item *saved;                                    /* (T, Hp / VL, B, SAVED, VL), or 0 */
    const void *packed_ih, *packed_hh;              /* weights, packed before; or 0 */
    const real *scale_ih, *scale_hh;                /* if packed as int8: (panels of columns); else 0 */
    real sample;                                    /* of the weights when they were packed */
    /* backward */
    const item *dy;                                 /* or 0 */
    const real *dstate1[STATES];
    item *dx;                                       /* or 0 */
    real *dstate0[STATES], *dw_ih, *dw_hh, *db, *dunits;    /* db (COLS, Hp), dunits (SUMS, Hp) */
    Source source;
} Job;

INLINE i64 up(i64 a, i64 b) { return (a + b - 1) / b; }
INLINE i64 least(i64 a, i64 b) { return a < b ? a : b; }
INLINE i64 most(i64 a, i64 b) { return a > b ? a : b; }
INLINE i64 padded(i64 H) { return up(H, VL) * VL; }
INLINE i64 panels(i64 H) { return up(up(H, VL), U); }
INLINE i64 wide(i64 N) { return up(N, NV_N * VL); }

/* ---- products: c (R, NV vectors) += a b, a by rows or by columns, b (K, NV vectors) ---- */

#if defined(BFLOAT16) && defined(__AVX512BF16__)
INLINE V dot(V c, E a, E b) { return (V)_mm512_dpbf16_ps((__m512)c, (__m512bh)a, (__m512bh)b); }
INLINE E spread(elem a) { return a - (E){0}; }
#elif defined(BFLOAT16)
INLINE V dot(V c, E a, E b) {
    c += (V)(a << 16) * (V)(b << 16);
    return c + (V)(a & 0xffff0000) * (V)(b & 0xffff0000);
}
INLINE E spread(elem a) { return a - (E){0}; }
#else
INLINE V dot(V c, E a, E b) { return c + a * b; }
INLINE E spread(elem a) { return all(a); }
#endif

typedef void Tile(i64 K, const elem *a, i64 lda, const elem *b, real *c, i64 ldc);

#define TILE(name, R, NV, AT)                                                                     \
    static void name(i64 K, const elem *a, i64 lda, const elem *b, real *c, i64 ldc) {            \
        V sum[R][NV];                                                                             \
        for (i64 i = 0; i < R; i++)                                                               \
            for (i64 j = 0; j < NV; j++) sum[i][j] = get(c + i * ldc + j * VL);                   \
        for (i64 k = 0; k < K; k++) {                                                             \
            E right[NV];                                                                          \
            _Pragma("GCC unroll 16") for (i64 j = 0; j < NV; j++)                                 \
                right[j] = *(const E *)(b + (k * NV + j) * VL);                                   \
            _Pragma("GCC unroll 16") for (i64 i = 0; i < R; i++) {                                \
                E left = spread(AT);                                                              \
                _Pragma("GCC unroll 16") for (i64 j = 0; j < NV; j++)                             \
                    sum[i][j] = dot(sum[i][j], left, right[j]);                                   \
            }                                                                                     \
        }                                                                                         \
        for (i64 i = 0; i < R; i++)                                                               \
            for (i64 j = 0; j < NV; j++) put(c + i * ldc + j * VL, sum[i][j]);                    \
    }

/* one row: four sums at a time, because a sum must wait for its last addition */
#define TILE_1(name, NV)                                                                          \
    static void name(i64 K, const elem *a, i64 lda, const elem *b, real *c, i64 ldc) {            \
        V sum[4][NV];                                                                             \
        for (i64 j = 0; j < NV; j++) {                                                            \
            sum[0][j] = get(c + j * VL);                                                          \
            sum[1][j] = sum[2][j] = sum[3][j] = (V){0};                                           \
        }                                                                                         \
        i64 k = 0;                                                                                \
        for (; k + 4 <= K; k += 4)                                                                \
            _Pragma("GCC unroll 4") for (i64 i = 0; i < 4; i++) {                                 \
                E left = spread(a[k + i]);                                                        \
                _Pragma("GCC unroll 16") for (i64 j = 0; j < NV; j++)                             \
                    sum[i][j] = dot(sum[i][j], left, *(const E *)(b + ((k + i) * NV + j) * VL));  \
            }                                                                                     \
        for (; k < K; k++)                                                                        \
            for (i64 j = 0; j < NV; j++)                                                          \
                sum[0][j] = dot(sum[0][j], spread(a[k]), *(const E *)(b + (k * NV + j) * VL));    \
        for (i64 j = 0; j < NV; j++)                                                              \
            put(c + j * VL, (sum[0][j] + sum[1][j]) + (sum[2][j] + sum[3][j]));                   \
        (void)lda, (void)ldc;                                                                     \
    }

#define BY_ROW a[i * lda + k]
#define BY_COLUMN a[k * lda + i]

//TILES

/* all rows: blocks of as many as stay in registers, as even as can be */
INLINE void product(Tile *const *tiles, i64 most_rows, i64 rows, i64 K, const elem *a, i64 lda, const elem *b,
                    real *c, i64 ldc) {
    for (i64 left = rows; left > 0;) {
        i64 n = up(left, up(left, most_rows));
        tiles[n](K, a, lda, b, c, ldc);
        a += n * lda, c += n * ldc, left -= n;
    }
}

#if PER == 1
/* The same with weights in int8, a scale for each column: a row at a time, as when a model is run step by step. */
typedef int8_t Bytes __attribute__((vector_size(BYTES / sizeof(real)), may_alias, aligned(1)));
#define TILE_8(name, NV)                                                                                  \
    static void name(i64 K, const real *a, const int8_t *b, const real *scale, real *c) {                 \
        V sum[2][NV];                                                                                     \
        for (i64 j = 0; j < NV; j++) sum[0][j] = sum[1][j] = (V){0};                                      \
        i64 k = 0;                                                                                        \
        for (; k + 2 <= K; k += 2)                                                                        \
            _Pragma("GCC unroll 2") for (i64 i = 0; i < 2; i++)                                           \
                _Pragma("GCC unroll 16") for (i64 j = 0; j < NV; j++)                                     \
                    sum[i][j] += a[k + i] * widened(b + ((k + i) * NV + j) * VL);                         \
        for (; k < K; k++)                                                                                \
            for (i64 j = 0; j < NV; j++) sum[0][j] += a[k] * widened(b + (k * NV + j) * VL);              \
        for (i64 j = 0; j < NV; j++)                                                                      \
            put(c + j * VL, get(c + j * VL) + get(scale + j * VL) * (sum[0][j] + sum[1][j]));             \
    }
INLINE V widened(const int8_t *p) {
#if defined(__AVX512F__) && !defined(FLOAT64)
    return (V)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const void *)p)));
#elif defined(__AVX2__) && !defined(FLOAT64)
    return (V)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const void *)p)));
#else
    return __builtin_convertvector(__builtin_convertvector(*(const Bytes *)p, M), V);
#endif
}
TILE_8(tile_8_x, NV_X)
#if G_HID
TILE_8(tile_8_h, NV_H)
#endif
#endif

/* ---- memory ---- */

/* parts of one block of memory, one after the other */
typedef struct { char *at; } Arena;
static void *part(Arena *arena, size_t bytes) {
    void *here = arena->at;
    arena->at += (bytes + 63) & ~(size_t)63;
    return here;
}

/* ---- threads ---- */

typedef struct {
    _Atomic i64 arrived, round;
    char apart[112];
} Barrier;

static void wait_for(Barrier *barrier, i64 threads) {
    if (threads == 1) return;
    i64 round = atomic_load_explicit(&barrier->round, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&barrier->arrived, 1, memory_order_acq_rel) == threads - 1) {
        atomic_store_explicit(&barrier->arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&barrier->round, round + 1, memory_order_release);
        return;
    }
    for (i64 spins = 0; atomic_load_explicit(&barrier->round, memory_order_acquire) == round; spins++) {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#elif defined(__aarch64__)
        __asm__ volatile("yield");
#endif
        if (spins > 4000) sched_yield(); /* someone else has our core */
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
    i64 Hp, K_h, K_d;     /* padded units; elems of h and of x in a product */
    i64 *active;          /* (T + 1): rows at work at each step */
    Barrier *barriers;    /* one a row group, then one for all */
    const elem *r, *w;    /* packed weights */
    real *b_in, *b_hid;   /* packed biases */
    item *h;              /* forward: (2, B, Hp), h on its way into R h */
    real *carry;          /* (STATES, B, Hp) */
    item *h0;             /* backward: (B, Hp), the first h */
    item *dg[2];          /* gradients of the gates of two chunks of steps: (rows, ldg) */
    elem *dg_pairs;       /* the same by pairs of rows, for bfloat16 */
    i64 ldg, chunk_rows, K_rows;
    const item **x_rows, **h_rows;
    const real **h_masks;
    elem *x_panels, *h_panels;
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
INLINE i64 head_start(const Job *job, i64 j) { return j / (job->H / job->heads) * (job->H / job->heads) / PER; }
INLINE i64 head_end(const Job *job, i64 j) {
    const i64 size = job->H / job->heads;
    return up(up(least(j, job->H), size) * size, PER);
}
INLINE i64 row_of(const Job *job, i64 i) { return job->order ? job->order[i] : i; }
INLINE int is_reset(const Job *job, i64 b, i64 t) { return job->resets && t < job->T && job->resets[b * job->T + t]; }

/* How to share the work: by rows where a core can hold all of R, else by units. */
static void plan(const Job *job, Team *team, i64 limit) {
    double step = 2.0 * job->B * (G_IN * (double)job->D + G_HID * (double)job->H) * job->H;
    /* to wake a thread for one step costs as much as to read a megabyte of weights */
    const int small = job->T == 1 ? step < 5e5 : step * job->T < 2e5;
    i64 P = small ? 1 : most(1, least(job->threads, limit));
    i64 unit_panels = least(panels(job->H), wide(job->H));
    size_t bytes = (size_t)(G_HID * job->H * job->H) * sizeof(item);
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
    team->job->source.parallel(thread_main, team, (unsigned)team->threads, 0);
    return atomic_load(&team->failed);
}

static void count_active(const Job *job, i64 *active) {
    i64 n = job->B;
    for (i64 t = 0; t <= job->T; t++) {
        while (job->lengths && n > 0 && job->lengths[n - 1] <= t) n--;
        active[t] = t < job->T ? n : 0;
    }
}

/* ---- packing ---- */

/* of R or W for the forward product: panel, elem, gate, vector, lane */
static void pack(elem *to, const real *from, i64 gates, i64 H, i64 N, i64 p0, i64 p1) {
    i64 K = up(N, PER), nv = gates * U;
    for (i64 p = p0; p < p1; p++)
        for (i64 g = 0; g < gates; g++)
            for (i64 u = 0; u < U; u++)
                for (i64 k0 = 0; k0 < K; k0 += 16)
                    for (i64 lane = 0; lane < VL; lane++) {
                        i64 j = (p * U + u) * VL + lane, end = least(K, k0 + 16);
                        elem *d = to + ((p * K + k0) * nv + g * U + u) * VL + lane;
                        const real *s = from + (g * H + j) * N;
                        for (i64 k = k0; k < end; k++, d += nv * VL) {
#ifdef BFLOAT16
                            *d = j < H ? pair(item_of(s[2 * k]), 2 * k + 1 < N ? item_of(s[2 * k + 1]) : 0) : 0;
#else
                            *d = j < H ? s[k] : 0;
#endif
                        }
                    }
}
/* of R or W for the backward product: panel of columns, gate, elem of units, vector, lane */
static void pack_transposed(elem *to, const real *from, i64 gates, i64 H, i64 N, i64 p0, i64 p1) {
    i64 K = up(H, PER);
    for (i64 p = p0; p < p1; p++)
        for (i64 g = 0; g < gates; g++)
            for (i64 k = 0; k < K; k++)
                for (i64 v = 0; v < NV_N; v++) {
                    elem *d = to + (((p * gates + g) * K + k) * NV_N + v) * VL;
                    i64 n = (p * NV_N + v) * VL;
                    const real *s = from + (g * H + k * PER) * N + n;
#ifdef BFLOAT16
                    E low = rounded(get_some(s, N - n)) >> 16;
                    E high = {0};
                    if (2 * k + 1 < H) high = rounded(get_some(s + N, N - n)) & 0xffff0000;
                    *(E *)d = low | high;
#else
                    put(d, get_some(s, N - n));
#endif
                }
}
static void pack_bias(real *to, const real *from, i64 gates, i64 H, i64 p0, i64 p1) {
    for (i64 p = p0; p < p1; p++)
        for (i64 g = 0; g < gates; g++)
            for (i64 u = 0; u < U; u++) {
                i64 j = (p * U + u) * VL;
                put(to + ((p * gates + g) * U + u) * VL, from ? get_some(from + g * H + j, H - j) : (V){0});
            }
}
/* rows of items, two for a pair, as the right side of a product over rows: panel of columns, elem, lane */
static void pack_rows(elem *to, const item **rows, const real **masks, i64 count, i64 K, i64 N, i64 k0, i64 k1) {
    for (i64 k = k0; k < k1; k++)
        for (i64 n = 0; n < N; n += VL) {
            elem *d = to + ((n / (NV_N * VL) * K + k) * NV_N + n / VL % NV_N) * VL;
            V one = load_some(rows[k * PER] + n, N - n);
            if (masks && masks[k * PER]) one *= get_some(masks[k * PER] + n, N - n);
#ifdef BFLOAT16
            V two = {0};
            if (2 * k + 1 < count) {
                two = load_some(rows[2 * k + 1] + n, N - n);
                if (masks && masks[2 * k + 1]) two *= get_some(masks[2 * k + 1] + n, N - n);
            }
            *(E *)d = rounded(one) >> 16 | (rounded(two) & 0xffff0000);
#else
            (void)count;
            put(d, one);
#endif
        }
}

/* ---- forward ---- */

#ifndef X_CHUNK
#define X_CHUNK ((i64)96)         /* rows of x (of several steps, if few) that are multiplied by W at a time, at least */
#endif
#define X_BYTES ((i64)256 << 10)  /* and so many bytes of gates at most, where that is more */

static i64 x_steps(const Team *team) { /* steps whose W x is made at a time */
    const Job *job = team->job;
    i64 rows = up(job->B, team->row_groups), share_ = up(panels(job->H), team->unit_groups) * NV_X * VL;
    i64 fit = X_BYTES / (rows * share_ * (i64)sizeof(real));
    return most(1, least(job->T, most(fit, X_CHUNK / rows)));
}

static void forward_thread(Team *team, i64 thread) {
    const Job own = *team->job, *job = &own; /* a copy, that no store can be thought to change */
    real *const carry = team->carry;
    const i64 T = job->T, D = job->D, H = job->H, B = job->B, Hp = team->Hp;
    const i64 K_d = team->K_d, K_h = team->K_h, P = panels(H);
    Place place = place_of(team, thread);
    const i64 step_rows = place.row_step;
    Barrier *everyone = team->barriers + team->row_groups;
    i64 p0, p1;

    share(P, 1, thread, team->threads, &p0, &p1); /* packing is shared by all */
    if (!job->packed_ih) pack((elem *)team->w, job->w_ih, G_IN, H, D, p0, p1);
    pack_bias(team->b_in, job->b_ih, G_IN, H, p0, p1);
#if G_HID
    if (!job->packed_hh) pack((elem *)team->r, job->w_hh, G_HID, H, H, p0, p1);
    pack_bias(team->b_hid, job->b_hh, G_HID, H, p0, p1);
#endif
    wait_for(everyone, team->threads);

    share(P, 1, place.unit, place.unit_groups, &p0, &p1);
    const i64 rows0 = rows_at(team, &place, 0);
    for (i64 i = place.row0; i < B; i += step_rows)
        for (i64 j = p0 * U * VL; j < least(p1 * U * VL, Hp); j += VL) {
            i64 b = row_of(job, i);
            V s[STATES];
            for (i64 k = 0; k < STATES; k++) {
                s[k] = get_some(job->state0[k] + b * H + j, H - j);
                if (rows0 > (i - place.row0) / step_rows && is_reset(job, b, 0)) s[k] = (V){0};
                put(carry + (k * B + i) * Hp + j, s[k]);
            }
            if (job->mask) s[0] *= get_some(job->mask + b * H + j, H - j);
            store(team->h + i * Hp + j, s[0]);
        }
    wait_for(place.barrier, place.unit_groups);

    const i64 steps = x_steps(team), most_rows = up(B, step_rows);
    Arena arena = {team->scratch + thread * team->scratch_size};
    item *xs = part(&arena, (size_t)(steps * most_rows * K_d * PER) * sizeof(item));
    real *in = part(&arena, (size_t)((p1 - p0) * steps * most_rows * NV_X * VL) * sizeof(real));
    real *hid = part(&arena, (size_t)(ROWS(NV_H + !NV_H) * NV_H * VL) * sizeof(real));
    (void)hid;

    for (i64 t0 = 0; t0 < T; t0 += steps) {
        const i64 t1 = least(T, t0 + steps);
        /* W x + b for the rows of these steps */
        i64 m = 0;
        for (i64 t = t0; t < t1; t++)
            for (i64 q = 0, n = rows_at(team, &place, t); q < n; q++, m++) {
                item *row = xs + m * K_d * PER;
                memcpy(row, job->x + row_of(job, place.row0 + q * step_rows) * job->x_b + t * job->x_t,
                       (size_t)D * sizeof(item));
                if (K_d * PER > D) row[D] = 0;
            }
        for (i64 p = p0; p < p1; p++) {
            real *c = in + (p - p0) * steps * most_rows * NV_X * VL;
            for (i64 r = 0; r < m; r++) memcpy(c + r * NV_X * VL, team->b_in + p * NV_X * VL, NV_X * VL * sizeof(real));
#if PER == 1
            for (i64 r = 0; job->scale_ih && r < m; r++)
                tile_8_x(K_d, xs + r * K_d, (const int8_t *)team->w + p * K_d * NV_X * VL, job->scale_ih + p * NV_X * VL,
                         c + r * NV_X * VL);
            if (job->scale_ih) continue;
#endif
            product(tiles_x, ROWS(NV_X), m, K_d, (elem *)xs, K_d, team->w + p * K_d * NV_X * VL, c, NV_X * VL);
        }
        m = 0;
        for (i64 t = t0; t < t1; t++) {
            const i64 n = rows_at(team, &place, t);
            const item *now = team->h + (t & 1) * B * Hp;
            item *next = team->h + (~t & 1) * B * Hp;
            for (i64 p = p0; p < p1; p++) {
                V w[U][UNITS + 1];
                for (i64 u = 0; u < U; u++)
                    for (i64 k = 0; k < UNITS; k++) {
                        i64 j = (p * U + u) * VL;
                        w[u][k] = j < H ? get_some(job->units + k * H + j, H - j) : (V){0};
                    }
                for (i64 q = 0; q < n;) {
                    const i64 count = NV_H ? up(n - q, up(n - q, ROWS(NV_H + !NV_H))) : n - q;
#if G_HID
                    const i64 k0 = head_start(job, p * U * VL), k1 = head_end(job, (p + 1) * U * VL);
                    for (i64 r = 0; r < count; r++)
                        memcpy(hid + r * NV_H * VL, team->b_hid + p * NV_H * VL, NV_H * VL * sizeof(real));
#if PER == 1
                    for (i64 r = 0; job->scale_hh && r < count; r++)
                        tile_8_h(k1 - k0, now + (place.row0 + (q + r) * step_rows) * Hp + k0,
                                 (const int8_t *)team->r + (p * K_h + k0) * NV_H * VL, job->scale_hh + p * NV_H * VL,
                                 hid + r * NV_H * VL);
                    if (!job->scale_hh)
#endif
                        tiles_h[count](k1 - k0, (const elem *)(now + (place.row0 + q * step_rows) * Hp) + k0,
                                       step_rows * Hp / PER, team->r + (p * K_h + k0) * NV_H * VL, hid, NV_H * VL);
#else
                    (void)now;
#endif
                    for (i64 r = 0; r < count; r++, q++) {
                        const i64 i = place.row0 + q * step_rows, b = row_of(job, i);
                        const int reset = is_reset(job, b, t + 1);
                        const real *xg = in + ((p - p0) * steps * most_rows + m + q) * NV_X * VL;
                        const real *hg = hid + r * NV_H * VL;
                        (void)hg;
                        for (i64 u = 0; u < U; u++) {
                            const i64 j = (p * U + u) * VL;
                            if (j >= H) break;
                            V x[G_IN], h[G_HID + 1], s[STATES], new[STATES], keep[SAVED + 1];
                            for (i64 g = 0; g < G_IN; g++) x[g] = get(xg + (g * U + u) * VL);
                            for (i64 g = 0; g < G_HID; g++) h[g] = get(hg + (g * U + u) * VL);
                            for (i64 k = 0; k < STATES; k++) s[k] = get(carry + (k * B + i) * Hp + j);
                            step(x, h, s, w[u], new, keep);
                            if (job->saved)
                                for (i64 k = 0; k < SAVED; k++)
                                    store(job->saved + (((t * Hp + j) * B + i * VL) * SAVED + k * VL), keep[k]);
                            for (i64 k = 0; k < STATES; k++) {
                                if (job->zone[k])
                                    new[k] = mix(new[k], s[k], get_some(job->zone[k] + (b * T + t) * H + j, H - j));
                                else if (job->rate[k] != 0)
                                    new[k] = mix(new[k], s[k], all(job->rate[k]));
                                put(carry + (k * B + i) * Hp + j, reset ? (V){0} : new[k]);
                            }
                            store_some(job->y + b * job->y_b + t * job->y_t + j, new[0], H - j);
                            V out = new[0];
                            if (job->mask) out *= get_some(job->mask + b * H + j, H - j);
                            store(next + i * Hp + j, reset ? (V){0} : first(out, H - j));
                        }
                    }
                }
            }
            m += n;
#if G_HID
            wait_for(place.barrier, place.unit_groups);
#endif
        }
    }
    for (i64 i = place.row0; i < B; i += step_rows) { /* the end */
        const i64 b = row_of(job, i);
        for (i64 j = p0 * U * VL; j < least(p1 * U * VL, H); j += VL)
            for (i64 k = 0; k < STATES; k++)
                put_some(job->state1[k] + b * H + j, get(team->carry + (k * B + i) * Hp + j), H - j);
        if (job->lengths && place.unit == 0)
            for (i64 t = job->lengths[i]; t < T; t++) {
                memset(job->y + b * job->y_b + t * job->y_t, 0, (size_t)H * sizeof(item));
                for (i64 j = 0; job->saved && j < Hp; j += VL)
                    memset(job->saved + ((t * Hp + j) * B + i * VL) * SAVED, 0, (size_t)(SAVED * VL) * sizeof(item));
            }
    }
}

const int saved_values = SAVED;
i64 lanes(void) { return VL; }
i64 padded_units(i64 H) { return padded(H); }
i64 packed_size(i64 gates, i64 H, i64 N) { return panels(H) * up(N, PER) * gates * U * VL * (i64)sizeof(elem); }

/* W or R, packed for `forward` once and for all */
void pack_weights(elem *to, const real *from, i64 gates, i64 H, i64 N) { pack(to, from, gates, H, N, 0, panels(H)); }
#if PER == 1
/* the same in int8: the weights must be whole multiples of their row's scale (H gates) */
void pack_int8(int8_t *to, real *scales, const real *from, const real *scale, i64 gates, i64 H, i64 N) {
    const i64 nv = gates * U;
    for (i64 p = 0; p < panels(H); p++)
        for (i64 g = 0; g < gates; g++)
            for (i64 u = 0; u < U; u++)
                for (i64 lane = 0; lane < VL; lane++) {
                    const i64 j = (p * U + u) * VL + lane, column = (g * U + u) * VL + lane;
                    scales[p * nv * VL + column] = j < H ? scale[g * H + j] : 0;
                    for (i64 k = 0; k < N; k++)
                        to[(p * N + k) * nv * VL + column] =
                            j < H ? (int8_t)lrint(from[(g * H + j) * N + k] / scale[g * H + j]) : 0;
                }
}
#endif

/* A number that changes, almost surely, when weights do: by it packed ones are known to be stale. */
real sample_weights(const real *w_ih, const real *w_hh, i64 D, i64 H) {
    real sum = 0;
    const i64 n = G_IN * H * D, m = G_HID * H * H;
    for (i64 k = 0; k < 16; k++) {
        sum += w_ih[k * (n - 1) / 15] * (real)(k + 1);
        if (m) sum += w_hh[k * (m - 1) / 15] * (real)(k + 17);
    }
    return sum;
}

int forward(const Job *job) {
    if (job->packed_ih) {
        const real now = sample_weights(job->w_ih, job->w_hh, job->D, job->H);
        if (memcmp(&now, &job->sample, sizeof now)) return 3;
    }
    for (i64 limit = job->threads;; limit = 1) {
        Team team = {.job = job, .Hp = padded(job->H), .K_h = up(job->H, PER), .K_d = up(job->D, PER)};
        team.work = forward_thread;
        plan(job, &team, limit);
        const i64 P = panels(job->H), steps = x_steps(&team), rows = up(job->B, team.row_groups);
        const i64 own = up(P, team.unit_groups);
        team.scratch_size = (size_t)(steps * rows * (team.K_d * PER * (i64)sizeof(item) + own * NV_X * VL * (i64)sizeof(real)) +
                                     ROWS(NV_H + !NV_H) * NV_H * VL * (i64)sizeof(real) + 256);
        team.scratch_size = (team.scratch_size + 4095) & ~(size_t)4095;
        const size_t w_size = job->packed_ih ? 0 : (size_t)packed_size(G_IN, job->H, job->D);
        const size_t r_size = job->packed_hh || !G_HID ? 0 : (size_t)packed_size(G_HID, job->H, job->H);
        char *memory = job->source.take(w_size + r_size + (size_t)(P * (NV_X + NV_H) * VL) * sizeof(real) +
                            (size_t)(2 * job->B * team.Hp) * sizeof(item) +
                            (size_t)(STATES * job->B * team.Hp) * sizeof(real) + (size_t)(job->T + 1) * sizeof(i64) +
                            (size_t)(team.row_groups + 1) * sizeof(Barrier) +
                            (size_t)team.threads * team.scratch_size + 1024);
        if (!memory) return 2;
        Arena arena = {memory};
        team.barriers = part(&arena, (size_t)(team.row_groups + 1) * sizeof(Barrier));
        memset(team.barriers, 0, (size_t)(team.row_groups + 1) * sizeof(Barrier));
        team.active = part(&arena, (size_t)(job->T + 1) * sizeof(i64));
        count_active(job, team.active);
        team.w = job->packed_ih ? job->packed_ih : part(&arena, w_size);
        team.r = job->packed_hh ? job->packed_hh : part(&arena, r_size);
        team.b_in = part(&arena, (size_t)(P * NV_X * VL) * sizeof(real));
        team.b_hid = part(&arena, (size_t)(P * NV_H * VL) * sizeof(real));
        team.h = part(&arena, (size_t)(2 * job->B * team.Hp) * sizeof(item));
        team.carry = part(&arena, (size_t)(STATES * job->B * team.Hp) * sizeof(real));
        team.scratch = part(&arena, (size_t)team.threads * team.scratch_size);
        const int failed = run(&team);
        job->source.give(memory);
        if (!failed) return 0;
    }
}

/* ---- backward ---- */

#ifndef CHUNK_ROWS
#define CHUNK_ROWS ((i64)512) /* rows whose gradients are gathered before the products over rows */
#endif

static i64 chunk_start(const Team *team, i64 end) { /* the first step of the chunk that ends before `end` */
    i64 rows = 0, t = end;
    while (t > 0 && (t == end || rows + team->active[t - 1] <= team->chunk_rows)) rows += team->active[--t];
    return t;
}

/* the gradients of one step's gates, for this thread's rows and units */
static void backward_step(Team *team, const Place *place, i64 t, i64 p0, i64 p1, const item *dg_after, item *dg,
                          real *after) {
    const Job own = *team->job, *job = &own; /* a copy, that no store can be thought to change */
    real *const carry = team->carry;
    const item *const h0 = team->h0;
    const i64 T = job->T, H = job->H, B = job->B, Hp = team->Hp, ldg = team->ldg, step_rows = place->row_step;
    const i64 n = t < 0 ? rows_at(team, place, 0) : rows_at(team, place, t), n1 = rows_at(team, place, t + 1);
    for (i64 p = p0; p < p1; p++) {
#if G_HID
        /* R^T of the gradients of the step after, for the rows that were at work then */
        memset(after, 0, (size_t)(n1 * NV_N * VL) * sizeof(real));
        const i64 k0 = head_start(job, p * NV_N * VL), k1 = head_end(job, (p + 1) * NV_N * VL);
        for (i64 g = 0; g < G_HID && n1; g++)
            product(tiles_n, ROWS(NV_N), n1, k1 - k0,
                    (const elem *)(dg_after + place->row0 * ldg + COL_HID[g] * Hp) + k0, step_rows * ldg / PER,
                    team->r + ((p * G_HID + g) * team->K_h + k0) * NV_N * VL, after, NV_N * VL);
#endif
        for (i64 v = 0; v < NV_N; v++) {
            const i64 j = (p * NV_N + v) * VL;
            if (j >= H) break;
            V w[UNITS + 1], sums[SUMS + 1];
            for (i64 k = 0; k < UNITS; k++) w[k] = get_some(job->units + k * H + j, H - j);
            for (i64 k = 0; k < SUMS; k++) sums[k] = (V){0};
            for (i64 q = 0; q < n; q++) {
                const i64 i = place->row0 + q * step_rows, b = row_of(job, i);
                V d[STATES], s[STATES], keep[SAVED + 1], gates[COLS], ds[STATES], sum[SUMS + 1];
                for (i64 k = 0; k < STATES; k++) d[k] = get(carry + (k * B + i) * Hp + j);
#if G_HID
                if (q < n1 && !is_reset(job, b, t + 1)) {
                    V back = get(after + (q * NV_N + v) * VL);
                    if (job->mask) back *= get_some(job->mask + b * H + j, H - j);
                    d[0] += back;
                }
#endif
                if (t < 0) { /* before the first step: the gradient of the initial state */
                    put(carry + i * Hp + j, d[0]);
                    continue;
                }
                if (job->dy) d[0] += load_some(job->dy + b * job->dy_b + t * job->dy_t + j, H - j);
                V old[STATES];
                for (i64 k = 0; k < STATES; k++) {
                    old[k] = (V){0};
                    if (job->zone[k] || job->rate[k] != 0) {
                        V rate = job->zone[k] ? get_some(job->zone[k] + (b * T + t) * H + j, H - j) : all(job->rate[k]);
                        old[k] = rate * d[k];
                        d[k] -= old[k];
                    }
                }
                const item *saved = job->saved + ((t * Hp + j) * B + i * VL) * SAVED;
                for (i64 k = 0; k < SAVED; k++) keep[k] = load(saved + k * VL);
                const int reset = is_reset(job, b, t);
                s[0] = reset    ? (V){0}
                       : t == 0 ? load(h0 + i * Hp + j)
                                : load_some(job->y + b * job->y_b + (t - 1) * job->y_t + j, H - j);
                step_back(keep, s, w, d, gates, ds, sum);
                for (i64 k = 0; k < COLS; k++)
                    store(dg + i * ldg + k * Hp + j, first(gates[k], H - j));
                for (i64 k = 0; k < STATES; k++)
                    put(carry + (k * B + i) * Hp + j, reset ? (V){0} : first(ds[k] + old[k], H - j));
                for (i64 k = 0; k < SUMS; k++) sums[k] += sum[k];
            }
            for (i64 k = 0; k < SUMS; k++) {
                real *to = team->sums + ((place->group * 2) * SUMS + k) * Hp + j;
                put(to, get(to) + sums[k]);
            }
        }
    }
}

/* c (rows of W or R) += gradients^T x over the rows of a chunk, for this thread's gates of one column */
static void weight_gradient(const Team *team, i64 column, i64 gate, i64 j0, i64 j1, const elem *dg, const elem *panels_,
                            i64 K, i64 N, real *to, i64 heads) {
    const i64 H = team->job->H, size = H / heads;
    real edge[ROWS(NV_N) * NV_N * BYTES / sizeof(real)] __attribute__((aligned(64)));
    for (i64 p = 0; p * NV_N * VL < N; p++) {
        const i64 n = p * NV_N * VL, width = least(NV_N * VL, N - n);
        for (i64 j = j0; j < j1;) {
            const i64 rows = up(j1 - j, up(j1 - j, ROWS(NV_N)));
            if (heads > 1 && (n >= up(j + rows, size) * size || n + width <= j / size * size)) { /* of other heads */
                j += rows;
                continue;
            }
            const elem *a = dg + column * team->Hp + j, *b = panels_ + p * team->K_rows * NV_N * VL;
            real *c = to + (gate * H + j) * N + n;
            if (width == NV_N * VL)
                tiles_w[rows](K, a, team->ldg, b, c, N);
            else {
                memset(edge, 0, sizeof edge);
                tiles_w[rows](K, a, team->ldg, b, edge, NV_N * VL);
                for (i64 r = 0; r < rows; r++)
                    for (i64 k = 0; k < width; k++) c[r * N + k] += edge[r * NV_N * VL + k];
            }
            j += rows;
        }
    }
}

static void backward_thread(Team *team, i64 thread) {
    const Job *job = team->job;
    const i64 T = job->T, D = job->D, H = job->H, B = job->B, Hp = team->Hp, K_h = team->K_h, ldg = team->ldg;
    const i64 threads = team->threads;
    Place place = place_of(team, thread);
    const i64 step_rows = place.row_step;
    Barrier *everyone = team->barriers + team->row_groups;
    i64 p0, p1, m0, m1, j0, j1;

#if G_HID
    share(wide(H), 1, thread, threads, &p0, &p1);
    pack_transposed((elem *)team->r, job->w_hh, G_HID, H, H, p0, p1);
#endif
    if (job->dx) {
        share(wide(D), 1, thread, threads, &p0, &p1);
        pack_transposed((elem *)team->w, job->w_ih, G_IN, H, D, p0, p1);
    }
    share(wide(H), 1, place.unit, place.unit_groups, &p0, &p1);
    const i64 from = p0 * NV_N * VL, to = least(p1 * NV_N * VL, Hp);
    for (i64 i = place.row0; i < B; i += step_rows)
        for (i64 j = from; j < to; j += VL) {
            const i64 b = row_of(job, i);
            for (i64 k = 0; k < STATES; k++)
                put(team->carry + (k * B + i) * Hp + j, get_some(job->dstate1[k] + b * H + j, H - j));
            store(team->h0 + i * Hp + j, get_some(job->state0[0] + b * H + j, H - j));
        }
    for (i64 k = 0; k < 2 * SUMS; k++)
        for (i64 j = from; j < to; j += VL) put(team->sums + (place.group * 2 * SUMS + k) * Hp + j, (V){0});
    wait_for(everyone, threads);

    Arena arena = {team->scratch + thread * team->scratch_size};
    real *after = part(&arena, (size_t)(up(B, step_rows) * NV_N * VL) * sizeof(real));
    real *dx = part(&arena, (size_t)((up(team->chunk_rows, threads) + 2) * NV_N * VL) * sizeof(real));

    i64 end = T, chunk = 0;
    const item *dg_after = 0;
    for (; end > 0; chunk++) {
        const i64 start = chunk_start(team, end);
        item *base = team->dg[chunk & 1];
        i64 rows = 0;
        for (i64 t = start; t < end; t++) rows += team->active[t];
        item *dg = base + rows * ldg;
        for (i64 t = end - 1; t >= start; t--) {
            dg -= team->active[t] * ldg;
            backward_step(team, &place, t, p0, p1, dg_after, dg, after);
            dg_after = dg;
#if G_HID
            wait_for(place.barrier, place.unit_groups);
#endif
        }
        for (i64 k = 0; k < SUMS; k++) /* sums of sums keep more digits than one long sum */
            for (i64 j = from; j < to; j += VL) {
                real *part_sum = team->sums + (place.group * 2 * SUMS + k) * Hp + j, *total = part_sum + SUMS * Hp;
                put(total, get(total) + get(part_sum));
                put(part_sum, (V){0});
            }
        /* the rows of the chunk: x, and h before the step */
        const i64 K = up(rows, PER);
        share(rows, PER, thread, threads, &m0, &m1);
        for (i64 t = start, m = 0; t < end; m += team->active[t++])
            for (i64 i = most(0, m0 - m); i < least(team->active[t], m1 - m); i++) {
                const i64 b = row_of(job, i);
                team->x_rows[m + i] = job->x + b * job->x_b + t * job->x_t;
#if G_HID
                team->h_rows[m + i] = is_reset(job, b, t) ? team->h0 + B * Hp /* zeros */
                                      : t == 0            ? team->h0 + i * Hp
                                                          : job->y + b * job->y_b + (t - 1) * job->y_t;
                team->h_masks[m + i] = job->mask ? job->mask + b * H : 0;
#endif
            }
        wait_for(everyone, threads); /* all gradients of the chunk, all row addresses */
        const i64 k0 = m0 / PER, k1 = up(m1, PER);
        if (job->dw_ih) pack_rows(team->x_panels, team->x_rows, 0, rows, team->K_rows, D, k0, k1);
#if G_HID
        if (job->dw_hh) pack_rows(team->h_panels, team->h_rows, team->h_masks, rows, team->K_rows, H, k0, k1);
#endif
#ifdef BFLOAT16
        const elem *dg_k = team->dg_pairs;
        for (i64 k = k0; k < k1; k++)
            for (i64 j = 0; j < COLS * Hp; j += VL) {
                E low = (E)load(base + 2 * k * ldg + j) >> 16;
                E high = {0};
                if (2 * k + 1 < rows) high = (E)load(base + (2 * k + 1) * ldg + j);
                *(E *)(team->dg_pairs + k * ldg + j) = low | high;
            }
#else
        const elem *dg_k = base;
#endif
        /* dx = dg W, for this thread's rows */
        for (i64 p = 0; job->dx && p < wide(D); p++) {
            const i64 n = p * NV_N * VL;
            memset(dx, 0, (size_t)((m1 - m0) * NV_N * VL) * sizeof(real));
            for (i64 g = 0; g < G_IN; g++)
                product(tiles_n, ROWS(NV_N), m1 - m0, K_h, (const elem *)(base + m0 * ldg + COL_IN[g] * Hp), ldg / PER,
                        team->w + (p * G_IN + g) * K_h * NV_N * VL, dx, NV_N * VL);
            for (i64 t = start, m = 0; t < end; m += team->active[t++])
                for (i64 i = most(0, m0 - m); i < least(team->active[t], m1 - m); i++) {
                    item *row = job->dx + row_of(job, i) * job->dx_b + t * job->dx_t + n;
                    for (i64 v = 0; v < NV_N && n + v * VL < D; v++)
                        store_some(row + v * VL, get(dx + ((m + i - m0) * NV_N + v) * VL), D - n - v * VL);
                }
        }
        wait_for(everyone, threads);
        /* dW += dg^T x, dR += dg^T h, db += sum of dg, for this thread's gates */
        share(H, VL, thread, threads, &j0, &j1);
        for (i64 g = 0; end == T && g < G_IN; g++)
            if (job->dw_ih) memset(job->dw_ih + (g * H + j0) * D, 0, (size_t)((j1 - j0) * D) * sizeof(real));
        for (i64 g = 0; end == T && g < G_HID; g++)
            if (job->dw_hh) memset(job->dw_hh + (g * H + j0) * H, 0, (size_t)((j1 - j0) * H) * sizeof(real));
        for (i64 g = 0; job->dw_ih && g < G_IN; g++)
            weight_gradient(team, COL_IN[g], g, j0, j1, dg_k, team->x_panels, K, D, job->dw_ih, 1);
#if G_HID
        for (i64 g = 0; job->dw_hh && g < G_HID; g++)
            weight_gradient(team, COL_HID[g], g, j0, j1, dg_k, team->h_panels, K, H, job->dw_hh, job->heads);
#endif
        for (i64 c = 0; job->db && c < COLS; c++)
            for (i64 j = j0; j < j1; j += VL) {
                V sum = {0};
                for (i64 m = 0; m < rows; m++) sum += load(base + m * ldg + c * Hp + j);
                put(job->db + c * Hp + j, get(job->db + c * Hp + j) + sum);
            }
        wait_for(everyone, threads);
        end = start;
    }
    backward_step(team, &place, -1, p0, p1, dg_after, 0, after); /* into the initial state */
    for (i64 i = place.row0; i < B; i += step_rows) {
        const i64 b = row_of(job, i);
        for (i64 j = from; j < least(to, H); j += VL)
            for (i64 k = 0; k < STATES; k++)
                put_some(job->dstate0[k] + b * H + j, get(team->carry + (k * B + i) * Hp + j), H - j);
        if (job->dx && job->lengths && place.unit == 0)
            for (i64 t = job->lengths[i]; t < T; t++)
                memset(job->dx + b * job->dx_b + t * job->dx_t, 0, (size_t)D * sizeof(item));
    }
    wait_for(everyone, threads);
    share(SUMS * Hp, VL, thread, threads, &j0, &j1);
    for (i64 j = j0; j < j1; j += VL) {
        V sum = {0};
        for (i64 g = 0; g < team->row_groups; g++) sum += get(team->sums + (g * 2 + 1) * SUMS * Hp + j);
        put(job->dunits + j, sum);
    }
}

int backward(const Job *job) {
    for (i64 limit = job->threads;; limit = 1) {
        Team team = {.job = job, .Hp = padded(job->H), .K_h = up(job->H, PER)};
        const i64 B = job->B, H = job->H, D = job->D;
        team.work = backward_thread;
        plan(job, &team, limit);
        team.chunk_rows = most(B, CHUNK_ROWS);
        if (team.chunk_rows > B * job->T) team.chunk_rows = B * job->T;
        team.K_rows = up(team.chunk_rows, PER);
        team.ldg = COLS * team.Hp + 64 / (i64)sizeof(item); /* not a power of two: rows must not share a cache set */
        team.scratch_size = (size_t)(up(B, team.row_groups) + up(team.chunk_rows, team.threads) + 2) * NV_N * VL * sizeof(real) + 256;
        team.scratch_size = (team.scratch_size + 4095) & ~(size_t)4095;
        const size_t rows = (size_t)team.chunk_rows;
        const size_t w_size = job->dx ? (size_t)(wide(D) * G_IN * team.K_h * NV_N * VL) * sizeof(elem) : 0;
        const size_t r_size = (size_t)(wide(H) * G_HID * team.K_h * NV_N * VL) * sizeof(elem);
        const size_t x_size = (size_t)(wide(D) * team.K_rows * NV_N * VL) * sizeof(elem);
        const size_t h_size = G_HID ? (size_t)(wide(H) * team.K_rows * NV_N * VL) * sizeof(elem) : 0;
        const size_t dg_size = rows * (size_t)team.ldg * sizeof(item);
        const size_t pairs_size = PER == 2 ? (size_t)(team.K_rows * team.ldg) * sizeof(elem) : 0;
        const size_t sums_size = (size_t)(team.row_groups * 2 * SUMS * team.Hp) * sizeof(real);
        const size_t barriers_size = (size_t)(team.row_groups + 1) * sizeof(Barrier);
        char *memory = job->source.take(w_size + r_size + x_size + h_size + 2 * dg_size + pairs_size + sums_size + barriers_size +
                            (size_t)(STATES * B * team.Hp) * sizeof(real) + (size_t)((B + 1) * team.Hp) * sizeof(item) +
                            (size_t)(job->T + 1) * sizeof(i64) + 3 * rows * sizeof(void *) +
                            (size_t)team.threads * team.scratch_size + 2048);
        if (!memory) return 2;
        Arena arena = {memory};
        team.barriers = part(&arena, barriers_size);
        memset(team.barriers, 0, barriers_size);
        team.active = part(&arena, (size_t)(job->T + 1) * sizeof(i64));
        count_active(job, team.active);
        team.w = part(&arena, w_size);
        team.r = part(&arena, r_size);
        team.x_panels = part(&arena, x_size);
        team.h_panels = part(&arena, h_size);
        team.dg[0] = part(&arena, dg_size);
        team.dg[1] = part(&arena, dg_size);
        team.dg_pairs = part(&arena, pairs_size);
        team.sums = part(&arena, sums_size);
        team.carry = part(&arena, (size_t)(STATES * B * team.Hp) * sizeof(real));
        team.h0 = part(&arena, (size_t)((B + 1) * team.Hp) * sizeof(item));
        memset(team.h0 + B * team.Hp, 0, (size_t)team.Hp * sizeof(item));
        team.x_rows = part(&arena, rows * sizeof(void *));
        team.h_rows = part(&arena, rows * sizeof(void *));
        team.h_masks = part(&arena, rows * sizeof(void *));
        team.scratch = part(&arena, (size_t)team.threads * team.scratch_size);
        const int failed = run(&team);
        job->source.give(memory);
        if (!failed) return 0;
    }
}

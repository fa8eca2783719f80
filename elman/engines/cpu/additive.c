/* Scores of additive attention, e[t][s] = sum over a of v[a] tanh(q[t][a] + k[s][a]), and their gradients.
 *
 * Above this text stands vector.h.
 *
 * The hidden units are stored nowhere. With E = e^2q and F = e^2k, tanh(q + k) = n / (n + 2) for n = E F - 1, so that
 * exponentials are needed once for each q and each k only. The absolute error is that of rounding near 1. A unit whose
 * q and k are all small keeps its digits with n = (E - 1) F + (F - 1), which has the same form, x F + y. Where a
 * product might overflow, or where an exponential would serve one query only, tanh is computed directly.
 *
 * Items of work depend on the sizes alone, and each writes its own results: they are the same for any number of
 * threads.
 */

typedef struct { /* mirrored in additive.py */
    i64 B, T, S, A, threads;
    i64 q_b, q_t, k_b, k_s;    /* strides */
    const real *q, *k, *v;     /* (B, T, A), (B, S, A), (A) */
    real *e;                   /* (B, T, S) */
    const real *de;            /* the same; backward only, as all below */
    real *dq, *dk, *dv;        /* contiguous; or 0 */
    real *dv_rows;             /* (B, A): dv of each row */
    Source source;
} Job;

typedef struct {
    const Job *job;
    i64 items, claim;          /* items of work, and how many a thread takes at a time */
    _Atomic i64 next;
    _Atomic int failed;
} Team;

#define LIMIT 20.0f /* e^2q e^2k and its inverse are finite up to here */
#define SMALL 0.5f
#define QUERIES 32  /* of a forward item, at most */
#define SOURCES 8   /* positions at a time forward: one accumulator each */
#define TILE_T 4    /* queries at a time backward */
#define TILE_S 128  /* positions of a block backward */

INLINE i64 up(i64 a, i64 b) { return (a + b - 1) / b; }
INLINE i64 least(i64 a, i64 b) { return a < b ? a : b; }
INLINE V larger_size(V most, V x) { /* of the absolute values; NaN does not count */
    V size = (V)((M)x & 0x7fffffff);
#if defined(__AVX512F__)
    return (V)_mm512_max_ps((__m512)size, (__m512)most);
#else
    return choose(size > most, size, most);
#endif
}
INLINE int beyond(V most, real limit) {
    int any = 0;
    for (i64 k = 0; k < VL; k++) any |= most[k] > limit;
    return any;
}
INLINE V inverse(V x) { /* of x from 1 to e^84, to the last bit or two */
#if defined(__AVX512F__)
    V y = (V)_mm512_rcp14_ps((__m512)x);
    return y + y * (1 - x * y);
#else
    return 1 / x;
#endif
}
INLINE real sum_of(V x) {
#if defined(__AVX512F__)
    return _mm512_reduce_add_ps((__m512)x);
#else
    real part[BYTES / sizeof(real)];
    put(part, x);
    for (i64 half = VL / 2; half; half /= 2)
        for (i64 k = 0; k < half; k++) part[k] += part[k + half];
    return part[0];
#endif
}

/* e^2x and e^2x - 1, for |x| up to LIMIT */
typedef struct { V exp, less_one; } Power;
INLINE Power power(V x) {
    Pieces e = pieces(x * 2.0f);
    V two = times_power_of_two(all(1), e.n);
    return (Power){two * (e.rest + (e.r + 1.0f)), two * (e.rest + e.r) + (two - 1.0f)};
}
INLINE V of_query(int direct, M small, V q) {
    if (direct) return q;
    Power e = power(q);
    return choose(small, e.less_one, e.exp);
}
INLINE void of_key(int direct, M small, V k, V *to) {
    if (direct) {
        to[1] = k;
        return;
    }
    Power e = power(k);
    to[0] = e.exp;
    to[1] = choose(small, e.less_one, all(-1));
}
INLINE V unit(const int direct, V q, V k0, V k1) {
    if (direct) return v_tanh(q + k1);
    V n = q * k0 + k1;
    return n * inverse(n + 2.0f);
}

/* ---- forward: an item is up to QUERIES queries of a row ---- */

INLINE void scores(const int direct, const i64 count, i64 P, const V *q, const V *k, const V *v, real *e) {
    V sum[SOURCES];
    for (i64 j = 0; j < count; j++) sum[j] = (V){0};
    for (i64 p = 0; p < P; p++, k += 2 * count) {
        const V x = q[p], w = v[p];
        _Pragma("GCC unroll 8") for (i64 j = 0; j < count; j++) sum[j] += w * unit(direct, x, k[2 * j], k[2 * j + 1]);
    }
    for (i64 j = 0; j < count; j++) e[j] = sum_of(sum[j]);
}

static void scores_of(int direct, i64 count, i64 P, const V *q, const V *k, const V *v, real *e) {
    if (direct) {
        scores(1, count, P, q, k, v, e);
        return;
    }
    switch (count) {
#define COUNT(n) case n: scores(0, n, P, q, k, v, e); break;
    COUNT(1) COUNT(2) COUNT(3) COUNT(4) COUNT(5) COUNT(6) COUNT(7) COUNT(8)
#undef COUNT
    }
}

INLINE size_t forward_memory(const Job *job) {
    return (size_t)(up(job->A, VL) * (least(job->T, QUERIES) + 2 * SOURCES + 2)) * sizeof(V);
}
INLINE i64 chunks(const Job *job) { return up(job->T, QUERIES); }

static void forward_item(const Job *job, i64 item, V *memory) {
    const i64 S = job->S, A = job->A, P = up(A, VL), b = item / chunks(job), part = item % chunks(job);
    const i64 t0 = job->T * part / chunks(job), t1 = job->T * (part + 1) / chunks(job);
    const real *q = job->q + b * job->q_b, *k = job->k + b * job->k_b;
    V *v = memory, *most = v + P, *x = most + P, *y = x + P * (t1 - t0);
    int direct = t1 - t0 < 2;
    for (i64 p = 0; p < P; p++) v[p] = get_some(job->v + p * VL, A - p * VL), most[p] = (V){0};
    for (i64 t = t0; t < t1; t++)
        for (i64 p = 0; p < P; p++) most[p] = larger_size(most[p], get_some(q + t * job->q_t + p * VL, A - p * VL));
    for (i64 s = 0; s < S && !direct; s++)
        for (i64 p = 0; p < P; p++) most[p] = larger_size(most[p], get_some(k + s * job->k_s + p * VL, A - p * VL));
    for (i64 p = 0; p < P; p++) direct |= beyond(most[p], LIMIT);
    for (i64 t = t0; t < t1; t++)
        for (i64 p = 0; p < P; p++)
            x[(t - t0) * P + p] = of_query(direct, most[p] <= SMALL, get_some(q + t * job->q_t + p * VL, A - p * VL));
    const i64 blocks = up(S, SOURCES);
    for (i64 block = 0; block < blocks; block++) {
        const i64 s0 = S * block / blocks, count = S * (block + 1) / blocks - s0;
        for (i64 j = 0; j < count; j++)
            for (i64 p = 0; p < P; p++)
                of_key(direct, most[p] <= SMALL, get_some(k + (s0 + j) * job->k_s + p * VL, A - p * VL),
                       y + 2 * (p * count + j));
        for (i64 t = t0; t < t1; t++)
            scores_of(direct, count, P, x + (t - t0) * P, y, v, job->e + (b * job->T + t) * S + s0);
    }
}

/* ---- backward: an item is one vector of units of a row ---- */

INLINE void gradients(const int direct, const i64 count, i64 n, const V *q, const V *k, const real *de, i64 S, V *dq,
                      V *dk, V *dv) {
    V x[TILE_T], dx[TILE_T], dw[TILE_T];
    for (i64 i = 0; i < count; i++) x[i] = q[i], dx[i] = dq[i], dw[i] = (V){0};
    for (i64 s = 0; s < n; s++) {
        const V k0 = k[2 * s], k1 = k[2 * s + 1];
        V dy = dk[s];
        _Pragma("GCC unroll 4") for (i64 i = 0; i < count; i++) {
            const V h = unit(direct, x[i], k0, k1), g = all(de[i * S + s]), gh = g * h, d = g - gh * h;
            dw[i] += gh;
            dx[i] += d;
            dy += d;
        }
        dk[s] = dy;
    }
    for (i64 i = 0; i < count; i++) dq[i] = dx[i], *dv += dw[i];
}

static void gradients_of(int direct, i64 count, i64 n, const V *q, const V *k, const real *de, i64 S, V *dq, V *dk,
                         V *dv) {
    if (direct) {
        gradients(1, count, n, q, k, de, S, dq, dk, dv);
        return;
    }
    switch (count) {
#define COUNT(c) case c: gradients(0, c, n, q, k, de, S, dq, dk, dv); break;
    COUNT(1) COUNT(2) COUNT(3) COUNT(4)
#undef COUNT
    }
}

INLINE size_t backward_memory(const Job *job) {
    return (size_t)(2 * job->T + 3 * least(job->S, TILE_S)) * sizeof(V);
}

static void backward_item(const Job *job, i64 item, V *memory) {
    const i64 T = job->T, S = job->S, A = job->A, P = up(A, VL), b = item / P, a = item % P * VL, left = A - a;
    const real *q = job->q + b * job->q_b + a, *k = job->k + b * job->k_b + a, *de = job->de + b * T * S;
    V *x = memory, *dx = x + T, *y = dx + T, *dy = y + 2 * least(S, TILE_S);
    V most = {0}, dv = {0};
    const V v = get_some(job->v + a, left);
    for (i64 t = 0; t < T; t++) most = larger_size(most, get_some(q + t * job->q_t, left));
    for (i64 s = 0; s < S; s++) most = larger_size(most, get_some(k + s * job->k_s, left));
    const int direct = T < 2 || beyond(most, LIMIT);
    const M small = most <= SMALL;
    for (i64 t = 0; t < T; t++) x[t] = of_query(direct, small, get_some(q + t * job->q_t, left)), dx[t] = (V){0};
    for (i64 s0 = 0; s0 < S; s0 += TILE_S) {
        const i64 n = least(S - s0, TILE_S);
        for (i64 s = 0; s < n; s++) of_key(direct, small, get_some(k + (s0 + s) * job->k_s, left), y + 2 * s), dy[s] = (V){0};
        for (i64 t = 0; t < T; t += TILE_T)
            gradients_of(direct, least(T - t, TILE_T), n, x + t, y, de + t * S + s0, S, dx + t, dy, &dv);
        for (i64 s = 0; job->dk && s < n; s++) put_some(job->dk + (b * S + s0 + s) * A + a, v * dy[s], left);
    }
    for (i64 t = 0; job->dq && t < T; t++) put_some(job->dq + (b * T + t) * A + a, v * dx[t], left);
    if (job->dv) put_some(job->dv_rows + b * A + a, dv, left);
}

/* ---- threads ---- */

INLINE void take_items(Team *team, void (*run)(const Job *, i64, V *), size_t size) {
    V *memory = team->job->source.take(size);
    if (!memory) {
        atomic_store(&team->failed, 1);
        return;
    }
    for (;;) {
        const i64 first_ = atomic_fetch_add(&team->next, team->claim), end = least(team->items, first_ + team->claim);
        if (first_ >= team->items) break;
        for (i64 item = first_; item < end; item++) run(team->job, item, memory);
    }
    team->job->source.give(memory);
}
static void forward_work(void *team) { take_items(team, forward_item, forward_memory(((Team *)team)->job)); }
static void backward_work(void *team) { take_items(team, backward_item, backward_memory(((Team *)team)->job)); }

static int run(const Job *job, void (*work)(void *), i64 items, i64 claim) {
    Team team = {job, items, claim, 0, 0};
    const i64 threads = least(job->threads, up(items, claim));
    if (threads > 1)
        job->source.parallel(work, &team, (unsigned)threads, 0);
    else
        work(&team);
    return atomic_load(&team.failed);
}

int forward(const Job *job) { return run(job, forward_work, job->B * chunks(job), 1); }

int backward(const Job *job) {
    if (run(job, backward_work, job->B * up(job->A, VL), 4)) return 1;
    for (i64 a = 0; job->dv && a < job->A; a++) job->dv[a] = 0;
    for (i64 b = 0; job->dv && b < job->B; b++)
        for (i64 a = 0; a < job->A; a++) job->dv[a] += job->dv_rows[b * job->A + a];
    return 0;
}

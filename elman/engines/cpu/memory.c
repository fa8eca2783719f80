/* Runs a cell with a matrix memory over time: the heads of all rows are independent items of work.
 *
 * Above this text stand vector.h and what memory.py generates: the sizes U, K, UP, KP, GATES, PARTS, the tables of gates
 * and parts, and the functions step and step_back. UP and KP are U and K, rounded up to whole vectors.
 *
 * Inside a head a value of units has UP numbers, one of keys KP, one of the head VL equal ones, and a memory K rows of
 * UP: a vector holds the values of neighbouring units under one key. The tensors outside have U and K.
 *
 * For backward, forward keeps the state before every CHUNK-th step. Backward computes the states of a chunk again.
 */

#define CHUNK 32

typedef struct { /* mirrored in memory.py */
    i64 B, T, heads, threads;
    const real *gates;            /* (B, T, sum of the sizes of the gates) */
    const i64 *lengths;           /* (B) or 0 */
    const uint8_t *resets;        /* (B, T) or 0 */
    const real *state0[PARTS];
    real *state1[PARTS];
    real *y;                      /* (B, T, heads U) */
    real *saved;                  /* (B heads, chunks, STATE), or 0 */
    const real *dy;               /* the same as y; backward only, as all below */
    const real *dstate1[PARTS];
    real *dgates, *dstate0[PARTS];
    Source source;
} Job;

typedef struct {
    const Job *job;
    void (*run)(const Job *, i64 item, real *memory);
    i64 size; /* of the memory of a thread, in bytes */
    _Atomic i64 next;
    _Atomic int failed;
} Team;

INLINE i64 chunks(const Job *j) { return (j->T + CHUNK - 1) / CHUNK; }
INLINE i64 steps(const Job *j, i64 b) { return j->lengths ? j->lengths[b] : j->T; }
INLINE int reset(const Job *j, i64 b, i64 t) { return j->resets && j->resets[b * j->T + t]; }

/* between a value in a tensor and the same inside a head */
static void load_value(real *to, const real *from, int units, int keys) {
    if (units && keys) {
        for (i64 k = 0; k < K; k++)
            for (i64 u = 0; u < U; u++) to[k * UP + u] = from[u * K + k];
    } else if (units || keys) {
        memcpy(to, from, (size_t)(units ? U : K) * sizeof(real));
    } else
        put(to, all(*from));
}
static void store_value(real *to, const real *from, int units, int keys) {
    if (units && keys) {
        for (i64 k = 0; k < K; k++)
            for (i64 u = 0; u < U; u++) to[u * K + k] = from[k * UP + u];
    } else
        memcpy(to, from, (size_t)(units ? U : keys ? K : 1) * sizeof(real));
}
static void load_gates(const Job *j, i64 b, i64 t, i64 head, real *x) {
    const real *row = j->gates + (b * j->T + t) * j->heads * GATE_SIZE;
    for (int g = 0; g < GATES; g++) {
        const Place p = GATE[g];
        load_value(x + p.inside, row + j->heads * p.outside + head * p.size, p.units, p.keys);
    }
}
static void store_gates(const Job *j, i64 b, i64 t, i64 head, const real *x) {
    real *row = j->dgates + (b * j->T + t) * j->heads * GATE_SIZE;
    for (int g = 0; g < GATES; g++) {
        const Place p = GATE[g];
        store_value(row + j->heads * p.outside + head * p.size, x + p.inside, p.units, p.keys);
    }
}
static void load_state(const Job *j, const real *const *from, i64 item, real *s) {
    (void)j;
    for (int k = 0; k < PARTS; k++)
        load_value(s + PART[k].inside, from[k] + item * PART[k].size, PART[k].units, PART[k].keys);
}
static void store_state(const Job *j, real *const *to, i64 item, const real *s) {
    (void)j;
    for (int k = 0; k < PARTS; k++)
        store_value(to[k] + item * PART[k].size, s + PART[k].inside, PART[k].units, PART[k].keys);
}

static void forward_item(const Job *j, i64 item, real *memory) {
    const i64 b = item / j->heads, head = item % j->heads, n = steps(j, b), width = j->heads * U;
    real *s = memory, *next = memory + STATE, *x = memory + 2 * STATE, *keep = x + GATES_INSIDE;
    load_state(j, j->state0, item, s);
    real *y = j->y + b * j->T * width + head * U;
    for (i64 t = 0; t < n; t++) {
        if (reset(j, b, t)) memset(s, 0, STATE * sizeof(real));
        if (j->saved && t % CHUNK == 0)
            memcpy(j->saved + (item * chunks(j) + t / CHUNK) * STATE, s, STATE * sizeof(real));
        load_gates(j, b, t, head, x);
        step(x, s, next, keep);
        real *old = s;
        s = next, next = old;
        memcpy(y + t * width, s, U * sizeof(real));
    }
    for (i64 t = n; t < j->T; t++) memset(y + t * width, 0, U * sizeof(real));
    store_state(j, j->state1, item, s);
}

static void backward_item(const Job *j, i64 item, real *memory) {
    const i64 b = item / j->heads, head = item % j->heads, n = steps(j, b), width = j->heads * U;
    real *states = memory, *x = states + (CHUNK + 1) * STATE, *dx = x + CHUNK * GATES_INSIDE;
    real *d = dx + GATES_INSIDE, *before = d + STATE, *keep = before + STATE;
    load_state(j, j->dstate1, item, d);
    const real *dy = j->dy ? j->dy + b * j->T * width + head * U : 0;
    memset(dx, 0, GATES_INSIDE * sizeof(real));
    for (i64 t = j->T - 1; t >= n; t--) store_gates(j, b, t, head, dx);
    for (i64 first = (n - 1) / CHUNK * CHUNK; n > 0 && first >= 0; first -= CHUNK) {
        const i64 end = first + CHUNK < n ? first + CHUNK : n;
        memcpy(states, j->saved + (item * chunks(j) + first / CHUNK) * STATE, STATE * sizeof(real));
        for (i64 t = first; t < end; t++) {
            real *s = states + (t - first) * STATE;
            if (reset(j, b, t)) memset(s, 0, STATE * sizeof(real));
            load_gates(j, b, t, head, x + (t - first) * GATES_INSIDE);
            step(x + (t - first) * GATES_INSIDE, s, s + STATE, keep + (t - first) * KEPT);
        }
        for (i64 t = end - 1; t >= first; t--) {
            for (i64 u = 0; dy && u < U; u++) d[u] += dy[t * width + u];
            const i64 k = t - first;
            step_back(x + k * GATES_INSIDE, states + k * STATE, keep + k * KEPT, d, dx, before);
            if (reset(j, b, t)) memset(before, 0, STATE * sizeof(real));
            store_gates(j, b, t, head, dx);
            real *after = d;
            d = before, before = after;
        }
    }
    store_state(j, j->dstate0, item, d);
}

static void work(void *given) {
    Team *team = given;
    real *memory = team->job->source.take((size_t)team->size);
    if (!memory) {
        atomic_store(&team->failed, 1);
        return;
    }
    memset(memory, 0, (size_t)team->size); /* what stands between U and UP is finite */
    const i64 items = team->job->B * team->job->heads;
    for (i64 item; (item = atomic_fetch_add(&team->next, 1)) < items;) team->run(team->job, item, memory);
    team->job->source.give(memory);
}

static int run(const Job *job, void (*item)(const Job *, i64, real *), i64 size) {
    Team team = {job, item, size * (i64)sizeof(real), 0, 0};
    const i64 items = job->B * job->heads, threads = job->threads < items ? job->threads : items;
    if (threads > 1)
        job->source.parallel(work, &team, (unsigned)threads, 0);
    else
        work(&team);
    return atomic_load(&team.failed);
}

i64 state_size(void) { return STATE; }
int forward(const Job *job) { return run(job, forward_item, 2 * STATE + GATES_INSIDE + KEPT); }
int backward(const Job *job) {
    return run(job, backward_item, (CHUNK + 3) * STATE + (CHUNK + 1) * GATES_INSIDE + CHUNK * KEPT);
}

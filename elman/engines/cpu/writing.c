/* Write: token after token, each chosen from the output of a network that has read the one before.
 *
 *     x = embedding of the last token               (B, E)
 *     y = recurrent layers (x)                      (B, H)
 *     logits = the linear layers on top (y)         (B, V)
 *     token = chosen from softmax(logits / temperature)
 *
 * The law is elman/decoding/sampling.py: the same seed gives the same tokens.
 *
 * Above this text stand vector.h and layers.c.
 */

typedef struct { /* mirrored in writing.py */
    Layers net;
    i64 V, linears;
    const real *embedding;     /* (V, E) */
    const Linear *linear;
    real **states[2];          /* the parts of all states, before a step and after it, in turn */
    const real *banned;        /* (V): 0, or -infinity for what is never written */
    uint8_t *seen, *ended;     /* (B, V) or 0, what is penalised; (B) or 0, who has written the end */
    i64 end, top_k, greedy;    /* top_k 0: all tokens */
    real temperature, penalty, top_p;
    const uint64_t *seeds;     /* (B) */
    i64 *last;                 /* (B): the last token of each row */
    i64 written, turn;         /* tokens so far, of each row; which of the states is the last one */
    real *logits;              /* (B, V) */
    double *order;             /* (V): to choose in */
} Job;

/* the logits after the last tokens */
static int read_last(Job *job) {
    const Layers *net = &job->net;
    const i64 E = net->D;
    for (i64 b = 0; b < net->B; b++)
        memcpy(net->x + b * E, job->embedding + job->last[b] * E, (size_t)E * sizeof(real));
    const int failed = run_layers(net, job->states[job->turn], job->states[!job->turn]);
    if (failed) return failed;
    job->turn = !job->turn;
    real *from = net->x, *to = net->y;
    for (i64 k = 0; k < job->linears; k++) {
        apply(net, job->linear + k, from, k + 1 == job->linears ? job->logits : to);
        real *swap = from;
        from = to, to = swap;
    }
    return 0;
}

/* ---- sampling ---- */

static uint64_t mixed(uint64_t z) {
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}
/* SplitMix64; Steele et al. 2014 */
static double draw(uint64_t seed, i64 number) {
    const uint64_t step = 0x9E3779B97F4A7C15u;
    return (double)(mixed(mixed(seed + step) + ((uint64_t)number + 1) * step) >> 11) * 0x1p-53;
}

/* the k-th largest of n numbers */
static real kth_largest(const real *from, i64 n, i64 k, double *work) {
    for (i64 v = 0; v < n; v++) work[v] = from[v];
    i64 low = 0, high = n - 1;
    while (low < high) { /* Hoare's selection */
        const double pivot = work[low + (high - low) / 2];
        i64 i = low, j = high;
        while (i <= j) {
            while (work[i] > pivot) i++;
            while (work[j] < pivot) j--;
            if (i <= j) {
                const double swap = work[i];
                work[i++] = work[j], work[j--] = swap;
            }
        }
        if (k - 1 <= j) high = j;
        else if (k - 1 >= i) low = i;
        else break;
    }
    return (real)work[k - 1];
}

typedef struct { real value; int32_t id; } Ranked;
static int by_rank(const void *a, const void *b) {
    const Ranked *x = a, *y = b;
    return x->value != y->value ? (x->value < y->value) - (x->value > y->value) : (x->id > y->id) - (x->id < y->id);
}
/* what is not among the most probable tokens that reach top_p becomes -infinity */
static void keep_nucleus(const Job *job, real *logits) {
    Ranked *ranked = (Ranked *)job->order;
    double total = 0, before = 0;
    i64 n = 0;
    for (i64 v = 0; v < job->V; v++)
        if (logits[v] > -INFINITY) ranked[n++] = (Ranked){logits[v], (int32_t)v}, total += exp(logits[v]);
    qsort(ranked, (size_t)n, sizeof(Ranked), by_rank);
    for (i64 k = 0; k < n; k++) {
        if (before >= job->top_p * total) logits[ranked[k].id] = -INFINITY;
        before += exp(ranked[k].value);
    }
}

/* the next token of a row; -1 if a logit is no number */
static i64 chosen(const Job *job, i64 b) {
    real *logits = job->logits + b * job->V, top = -INFINITY;
    const uint8_t *seen = job->seen ? job->seen + b * job->V : 0;
    i64 first = 0, bad = 0;
    for (i64 v = 0; v < job->V; v++) {
        real x = logits[v] + job->banned[v];
        if (seen && seen[v]) x = x > 0 ? x / job->penalty : x * job->penalty;
        logits[v] = x;
        bad |= x != x || x == INFINITY;
        if (x > top) top = x, first = v;
    }
    if (bad || top == -INFINITY) return -1;
    if (job->greedy) return first;
    for (i64 v = 0; v < job->V; v++) logits[v] = (logits[v] - top) / job->temperature;
    if (job->top_k && job->top_k < job->V) {
        const real least_ = kth_largest(logits, job->V, job->top_k, job->order);
        for (i64 v = 0; v < job->V; v++)
            if (logits[v] < least_) logits[v] = -INFINITY;
    }
    if (job->top_p < 1) keep_nucleus(job, logits);
    double total = 0;
    for (i64 v = 0; v < job->V; v += VL) {
        real part[BYTES / sizeof(real)];
        const V x = get_some(logits + v, job->V - v);
        put(part, choose(x < -104.0f, all(0), v_exp(x)));
        for (i64 k = 0; k < least(VL, job->V - v); k++) job->order[v + k] = total += part[k];
    }
    const double wanted = draw(job->seeds[b], job->written) * total;
    for (i64 v = 0; v < job->V; v++)
        if (job->order[v] > wanted) return v;
    return first; /* the product was rounded to the total */
}

static int all_ended(const Job *job) {
    i64 b = 0;
    while (job->ended && b < job->net.B && job->ended[b]) b++;
    return b == job->net.B;
}

/* Write up to n tokens of each row, (n, B), until all rows have ended: return how many, or what is below 0 if that fails. */
i64 write_tokens(Job *job, i64 n, i64 *out) {
    i64 t = 0;
    for (; t < n && !all_ended(job); t++) {
        if (read_last(job)) return -1;
        for (i64 b = 0; b < job->net.B; b++) {
            i64 id = chosen(job, b);
            if (id < 0) return -2;
            if (job->ended) {
                job->ended[b] |= id == job->end;
                if (job->ended[b]) id = job->end;
            }
            if (job->seen && id != job->end) job->seen[b * job->V + id] = 1;
            out[t * job->net.B + b] = job->last[b] = id;
        }
        job->written++;
    }
    return t;
}

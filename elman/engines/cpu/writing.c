/* Write: token after token, each chosen from the output of a network that has read the one before.
 *
 *     x_1 = embedding of the last token             (B, E)
 *     y_k, state_k = kernel of layer k (x_k)        (B, H)
 *     x_{k+1} = y_k and x_k as they are connected
 *     logits = the linear layers on top             (B, V)
 *     token = chosen from softmax(logits / temperature)
 *
 * The law is elman/decoding/sampling.py: the same seed gives the same tokens.
 *
 * Above this text stands vector.h.
 */

typedef struct { /* the structs are mirrored in writing.py */
    void (*parallel)(void (*)(void *), void *, unsigned, unsigned);
    int (*thread_number)(void);
    int (*thread_count)(void);
    void *(*take)(size_t);
    void (*give)(void *);
} Source;

typedef struct {               /* y = W x + b */
    i64 N, K;
    const real *weight, *bias; /* (N, K), (N) or 0 */
} Linear;

typedef struct {
    int (*forward)(void *job); /* of the cell's kernel, and its job of one step */
    void *job;
    const real **x, **state0;  /* where the job has these pointers */
    real **y, **state1;
    i64 states, D, H;
    real *state[2];            /* each (states, B, H): before a step and after it, in turn */
    Linear carry;              /* of a highway connection */
} Layer;

enum { PLAIN, RESIDUAL, DENSE, HIGHWAY };

typedef struct {
    i64 B, V, E, layers, linears, threads, connection, width; /* width: the largest number of features anywhere */
    const real *embedding;     /* (V, E) */
    const Layer *layer;
    const Linear *linear;
    const real *banned;        /* (V): 0, or -infinity for what is never written */
    uint8_t *seen, *ended;     /* (B, V) or 0, what is penalised; (B) or 0, who has written the end */
    i64 end, top_k, greedy;    /* top_k 0: all tokens */
    real temperature, penalty, top_p;
    const uint64_t *seeds;     /* (B) */
    i64 *last;                 /* (B): the last token of each row */
    i64 written, turn;         /* tokens so far, of each row; which of the states is the last one */
    real *features[2], *logits; /* (B, width), (B, V) */
    double *order;              /* (V): to choose in */
    Source source;
} Job;

INLINE i64 least(i64 a, i64 b) { return a < b ? a : b; }
INLINE real sum_of(V x) {
    real part[BYTES / sizeof(real)];
    put(part, x);
    for (i64 half = VL / 2; half; half /= 2)
        for (i64 k = 0; k < half; k++) part[k] += part[k + half];
    return part[0];
}

/* ---- products ---- */

typedef struct {
    const Linear *linear;
    const real *x;
    real *y;
    i64 B;
    const Source *source;
} Product;

static void multiply(const Product *p, i64 n0, i64 n1) {
    const i64 N = p->linear->N, K = p->linear->K;
    for (i64 n = n0; n < n1; n++) {
        const real *w = p->linear->weight + n * K;
        for (i64 b = 0; b < p->B; b++) {
            const real *x = p->x + b * K;
            V sum[4] = {0};
            i64 k = 0;
            for (; k + 4 * VL <= K; k += 4 * VL)
                for (i64 j = 0; j < 4; j++) sum[j] += get(w + k + j * VL) * get(x + k + j * VL);
            for (; k < K; k += VL) sum[0] += get_some(w + k, K - k) * get_some(x + k, K - k);
            p->y[b * N + n] = sum_of((sum[0] + sum[1]) + (sum[2] + sum[3])) + (p->linear->bias ? p->linear->bias[n] : 0);
        }
    }
}
static void multiply_share(void *given) {
    Product *p = given;
    const i64 who = p->source->thread_number(), of = p->source->thread_count(), N = p->linear->N;
    multiply(p, N * who / of, N * (who + 1) / of);
}
static void apply(const Job *job, const Linear *linear, const real *x, real *y) {
    Product p = {linear, x, y, job->B, &job->source};
    if (job->threads > 1 && linear->N * linear->K > 1 << 18) /* to wake a thread costs as much as to read a megabyte */
        job->source.parallel(multiply_share, &p, (unsigned)job->threads, 0);
    else
        multiply(&p, 0, linear->N);
}

/* ---- the network ---- */

/* the input of layer k + 1, from the input x and the output y of layer k: in `x` */
static void join(const Job *job, const Layer *layer, i64 k, real *x, const real *y, real *gate) {
    const i64 D = layer->D, H = layer->H;
    if (job->connection == DENSE) {
        for (i64 b = job->B - 1; b >= 0; b--) { /* from the end, as rows grow in place */
            memmove(x + b * (D + H), x + b * D, (size_t)D * sizeof(real));
            memcpy(x + b * (D + H) + D, y + b * H, (size_t)H * sizeof(real));
        }
        return;
    }
    if (job->connection == PLAIN || !k) {
        memcpy(x, y, (size_t)(job->B * H) * sizeof(real));
        return;
    }
    if (job->connection == HIGHWAY) apply(job, &layer->carry, x, gate);
    for (i64 n = 0; n < job->B * H; n += VL) {
        const i64 left = job->B * H - n;
        V old = get_some(x + n, left), new = get_some(y + n, left);
        V t = job->connection == HIGHWAY ? v_sigmoid(get_some(gate + n, left)) : all(1);
        put_some(x + n, job->connection == HIGHWAY ? t * new + (1 - t) * old : new + old, left);
    }
}

/* the features (B, ...) of the last layer, in features[0] */
static int read_last(Job *job) {
    real *x = job->features[0], *y = job->features[1], *gate = job->features[1] + job->B * job->width;
    for (i64 b = 0; b < job->B; b++)
        memcpy(x + b * job->E, job->embedding + job->last[b] * job->E, (size_t)job->E * sizeof(real));
    for (i64 k = 0; k < job->layers; k++) {
        const Layer *layer = job->layer + k;
        *layer->x = x, *layer->y = y;
        for (i64 s = 0; s < layer->states; s++) {
            layer->state0[s] = layer->state[job->turn] + s * job->B * layer->H;
            layer->state1[s] = layer->state[!job->turn] + s * job->B * layer->H;
        }
        const int failed = layer->forward(layer->job);
        if (failed) return failed;
        if (k + 1 < job->layers || job->connection != DENSE)
            join(job, layer, k, x, y, gate);
        else
            memcpy(x, y, (size_t)(job->B * layer->H) * sizeof(real));
    }
    job->turn = !job->turn;
    for (i64 k = 0; k < job->linears; k++) {
        const int last = k + 1 == job->linears;
        apply(job, job->linear + k, job->features[k & 1], last ? job->logits : job->features[~k & 1]);
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
    while (job->ended && b < job->B && job->ended[b]) b++;
    return b == job->B;
}

/* Write up to n tokens of each row, (n, B), until all rows have ended: return how many, or what is below 0 if that fails. */
i64 write_tokens(Job *job, i64 n, i64 *out) {
    i64 t = 0;
    for (; t < n && !all_ended(job); t++) {
        if (read_last(job)) return -1;
        for (i64 b = 0; b < job->B; b++) {
            i64 id = chosen(job, b);
            if (id < 0) return -2;
            if (job->ended) {
                job->ended[b] |= id == job->end;
                if (job->ended[b]) id = job->end;
            }
            if (job->seen && id != job->end) job->seen[b * job->V + id] = 1;
            out[t * job->B + b] = job->last[b] = id;
        }
        job->written++;
    }
    return t;
}

/* Recurrent layers, one step at a time: kernels of cells, and what connects them.
 *
 *     y_k, state_k = kernel of layer k (x_k)        (B, H)
 *     x_{k+1} = y_k and x_k as they are connected
 *
 * Above this text stand vector.h, int8.h and half.h.
 */

typedef struct {               /* y = W x + b; this struct and the next are mirrored in layers.py */
    i64 N, K;
    const void *weight;        /* (N, K), or packed */
    const real *bias, *scale;  /* (N) or 0; if packed as int8: see int8.h, else 0 */
    i64 bfloat16;              /* whether packed as bfloat16: see half.h */
} Linear;

typedef struct {
    int (*forward)(void *job); /* of the cell's kernel, and its job of one step */
    void *job;
    const real **x, **state0;  /* where the job has these pointers */
    real **y, **state1;
    i64 states, D, H;
    Linear carry;              /* of a highway connection */
} Layer;

enum { PLAIN, RESIDUAL, DENSE, HIGHWAY };

typedef struct {
    i64 B, D, layers, threads, connection, width; /* D: features of the first x; width: the most features anywhere */
    const Layer *layer;
    real *x, *y, *gate;        /* (B, width) each */
    char *digits;              /* of B vectors, in int8 */
    Source source;
} Layers;

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
    const char *digits;
    const Source *source;
} Product;

#define NV_L ((i64)4) /* vectors of columns in a packed panel */

static void multiply_packed(const Product *p, i64 from, i64 to) { /* panels */
    const Linear *linear = p->linear;
    const i64 N = linear->N, K = linear->K;
    for (i64 panel = from; panel < to; panel++)
        for (i64 b = 0; b < p->B; b++) {
            real sum[4 * BYTES / sizeof(real)] = {0};
            const i64 n = panel * NV_L * VL, some = least(NV_L * VL, N - n);
            if (linear->bias) memcpy(sum, linear->bias + n, (size_t)some * sizeof(real));
            if (linear->bfloat16)
                product_16(NV_L, 0, K, p->x + b * K, (const uint32_t *)linear->weight + n * twos(K), sum);
            else
                product_8(NV_L, 0, K, p->digits + b * digits_size(K), K, (const int8_t *)linear->weight + n * fours(K),
                          linear->scale + 2 * n, sum);
            memcpy(p->y + b * N + n, sum, (size_t)some * sizeof(real));
        }
}
static void multiply(const Product *p, i64 n0, i64 n1) {
    const i64 N = p->linear->N, K = p->linear->K;
    for (i64 n = n0; n < n1; n++) {
        const real *w = (const real *)p->linear->weight + n * K;
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
INLINE int is_packed(const Linear *linear) { return linear->scale || linear->bfloat16; }
INLINE i64 panels_of(i64 N) { return (N + NV_L * VL - 1) / (NV_L * VL); }
static void multiply_share(void *given) {
    Product *p = given;
    const i64 who = p->source->thread_number(), of = p->source->thread_count();
    const i64 n = is_packed(p->linear) ? panels_of(p->linear->N) : p->linear->N;
    (is_packed(p->linear) ? multiply_packed : multiply)(p, n * who / of, n * (who + 1) / of);
}
static void apply(const Layers *net, const Linear *linear, const real *x, real *y) {
    Product p = {linear, x, y, net->B, net->digits, &net->source};
    const i64 size = linear->N * linear->K * (linear->scale ? 1 : linear->bfloat16 ? 2 : 4);
    for (i64 b = 0; linear->scale && b < net->B; b++)
        to_digits(net->digits + b * digits_size(linear->K), x + b * linear->K, linear->K);
    if (net->threads > 1 && size > 1 << 20) /* to wake a thread costs as much as to read a megabyte */
        net->source.parallel(multiply_share, &p, (unsigned)net->threads, 0);
    else if (is_packed(linear))
        multiply_packed(&p, 0, panels_of(linear->N));
    else
        multiply(&p, 0, linear->N);
}

/* Pack a matrix (N, K) for `Linear`, as int8 or as bfloat16; return whether it has been rounded to that. */
i64 linear_columns(i64 N) { return panels_of(N) * NV_L * VL; }
int pack_linear_int8(int8_t *to, real *scales, const real *from, i64 N, i64 K) {
    return pack_8(to, scales, from, 1, NV_L, N, K);
}
int pack_linear_bfloat16(uint32_t *to, const real *from, i64 N, i64 K) { return pack_16(to, from, 1, NV_L, N, K); }
i64 digits_bytes(i64 K) { return digits_size(K); }

/* ---- layers ---- */

/* the input of layer k + 1, from the input x and the output y of layer k: in `x` */
static void join(const Layers *net, i64 k) {
    const Layer *layer = net->layer + k;
    const i64 B = net->B, D = layer->D, H = layer->H;
    real *x = net->x, *y = net->y, *gate = net->gate;
    if (net->connection == DENSE && k + 1 < net->layers) {
        for (i64 b = B - 1; b >= 0; b--) { /* from the end, as rows grow in place */
            memmove(x + b * (D + H), x + b * D, (size_t)D * sizeof(real));
            memcpy(x + b * (D + H) + D, y + b * H, (size_t)H * sizeof(real));
        }
        return;
    }
    if (net->connection == PLAIN || net->connection == DENSE || !k) {
        memcpy(x, y, (size_t)(B * H) * sizeof(real));
        return;
    }
    if (net->connection == HIGHWAY) apply(net, &layer->carry, x, gate);
    for (i64 n = 0; n < B * H; n += VL) {
        const i64 left = B * H - n;
        V old = get_some(x + n, left), new = get_some(y + n, left);
        V t = net->connection == HIGHWAY ? v_sigmoid(get_some(gate + n, left)) : all(1);
        put_some(x + n, net->connection == HIGHWAY ? t * new + (1 - t) * old : new + old, left);
    }
}

/* what is in net->x (B, D) through all layers, in place; `old` and `new` have the parts of the states of all of them */
static int run_layers(const Layers *net, real *const *old, real *const *new) {
    for (i64 k = 0; k < net->layers; k++) {
        const Layer *layer = net->layer + k;
        *layer->x = net->x, *layer->y = net->y;
        for (i64 s = 0; s < layer->states; s++) layer->state0[s] = *old++, layer->state1[s] = *new++;
        const int failed = layer->forward(layer->job);
        if (failed) return failed;
        join(net, k);
    }
    return 0;
}

/* one step: x (B, D) to y (B, H) */
int step_layers(const Layers *net, const real *x, real *y, real *const *old, real *const *new) {
    memcpy(net->x, x, (size_t)(net->B * net->D) * sizeof(real));
    const int failed = run_layers(net, old, new);
    if (!failed) memcpy(y, net->x, (size_t)(net->B * net->layer[net->layers - 1].H) * sizeof(real));
    return failed;
}

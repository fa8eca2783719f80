
/* Gradients of weights: products over the rows of a chunk. */

#ifdef BFLOAT16
/* pairs k0 to k1 of the rows of a chunk of gradients: (pairs, ldg); with AMX in blocks (columns, pairs, 16, 16) */
static const elem *gradient_pairs(const Team *team, const item *base, i64 rows, i64 k0, i64 k1) {
    const i64 ldg = team->ldg;
    const int blocks = by_amx(team->job);
    for (i64 k = k0; k < k1; k += VL)
        for (i64 j = 0; j < COLS * team->Hp; j += VL) {
            E block[BYTES / sizeof(elem)];
            for (i64 q = 0; q < least(VL, k1 - k); q++) {
                const i64 m = 2 * (k + q);
                const item *row = base + m * ldg + j;
                block[q] = (E){0};
                if (m < rows) block[q] = halves(row);
                if (m + 1 < rows) block[q] |= halves(row + ldg) << 16;
                if (!blocks) *(E *)(team->dg_pairs + (k + q) * ldg + j) = block[q];
            }
            if (!blocks) continue;
            transpose(block);
            memcpy(team->dg_pairs + (j * team->K_rows + k * VL), block, sizeof block);
        }
    return team->dg_pairs;
}
#else
static const elem *gradient_pairs(const Team *team, const item *base, i64 rows, i64 k0, i64 k1) {
    (void)team, (void)rows, (void)k0, (void)k1;
    return base;
}
#endif

#ifdef AMX
/* weight_gradient in the matrix unit: 32 units and 32 columns of x at a time */
static void amx_gradient(const Team *team, i64 column, i64 gate, i64 j0, i64 j1, const elem *panels_, i64 K, i64 N,
                         real *to, i64 heads) {
    const i64 H = team->job->H, size = H / heads;
    real sums[32 * 32] __attribute__((aligned(64))); /* of the chunk alone: a long sum loses digits */
    amx_begin(16, 16);
    for (i64 p = 0; p * NV_N * VL < N; p++)
        for (i64 j = j0, rows; j < j1; j += rows) {
            rows = least(32, j1 - j);
            const i64 from = p * NV_N * VL, end = least(N, from + NV_N * VL);
            if (heads > 1 && (from >= up(j + rows, size) * size || end <= j / size * size)) continue; /* other heads */
            AmxSides sides = {.a = team->dg_pairs + (column * team->Hp + j) * team->K_rows, .lda = 16, .next = 256,
                              .below = 16 * team->K_rows, .K = K, .parts = 1};
            for (i64 n = from; n < end; n += 32) {
                real *c = to + (gate * H + j) * N + n;
                sides.b = panels_ + (p * team->K_rows * NV_N + (n - from) / 16) * VL;
                if (rows > 16)
                    amx_blocks(1, up(least(32, end - n), 16), NV_N, &sides, 0, sums, 32, 16 * 32);
                else
                    amx_blocks(0, up(least(32, end - n), 16), NV_N, &sides, 0, sums, 32, 0);
                for (i64 r = 0; r < rows; r++)
                    for (i64 k = 0; k < least(32, end - n); k += 16) {
                        real *at = c + r * N + k;
                        put_some(at, get_some(at, end - n - k) + get(sums + r * 32 + k), end - n - k);
                    }
            }
        }
}
#endif

/* c (rows of W or R) += gradients^T x over the rows of a chunk, for this thread's gates of one column */
static void weight_gradient(const Team *team, i64 column, i64 gate, i64 j0, i64 j1, const elem *dg, const elem *panels_,
                            i64 K, i64 N, real *to, i64 heads) {
#ifdef AMX
    if (by_amx(team->job)) {
        amx_gradient(team, column, gate, j0, j1, panels_, K, N, to, heads);
        return;
    }
#endif
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

/* db += sums of the gradients of this thread's units */
static void bias_gradient(const Team *team, const item *base, i64 rows, i64 j0, i64 j1) {
    const i64 ldg = team->ldg;
    for (i64 c = 0; c < COLS; c++)
        for (i64 j = j0; j < j1; j += 4 * VL) {
            const i64 n = least(4, up(j1 - j, VL));
            V sum[4] = {{0}};
            for (i64 m = 0; m < rows; m++) {
                const item *row = base + m * ldg + c * team->Hp + j;
                if (n == 4)
                    _Pragma("GCC unroll 4") for (i64 v = 0; v < 4; v++) sum[v] += load(row + v * VL);
                else
                    _Pragma("GCC unroll 3") for (i64 v = 0; v < 3; v++)
                        if (v < n) sum[v] += load(row + v * VL);
            }
            for (i64 v = 0; v < n; v++) {
                real *to = team->job->db + c * team->Hp + j + v * VL;
                put(to, get(to) + sum[v]);
            }
        }
}

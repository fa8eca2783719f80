/* Products of small blocks that stay in registers, and the order in which they read their right side.
 *
 * Above this text stand vector.h and what was generated from the cell.
 */

#define UNIT_VECTORS (G_MAX >= 4 ? 1 : G_MAX == 3 ? 1 : G_MAX == 2 ? 2 : 4)
#define U ((i64)UNIT_VECTORS)  /* vectors of units in a panel, all gates of them side by side */
#define NV_X (G_IN * UNIT_VECTORS)
#define NV_H (G_HID * UNIT_VECTORS)
#define NV_N 4                 /* vectors of columns in a panel of the backward products */

#define ROWS(nv) (REGISTERS / (nv) > 12 ? 12 : REGISTERS / (nv) < 1 ? 1 : REGISTERS / (nv))

INLINE i64 up(i64 a, i64 b) { return (a + b - 1) / b; }
INLINE i64 least(i64 a, i64 b) { return a < b ? a : b; }
INLINE i64 most(i64 a, i64 b) { return a > b ? a : b; }
INLINE i64 depth(i64 N) { return up(up(N, PER), DEEP) * DEEP; } /* elems k of a product over N items */
INLINE i64 padded(i64 H) { return up(H, most(VL, DEEP * PER)) * most(VL, DEEP * PER); }
INLINE i64 panels(i64 H) { return up(up(H, VL), U); }
INLINE i64 wide(i64 N) { return up(N, NV_N * VL); }

/* c (R, NV vectors) += a b, a by rows or by columns, b (K, NV vectors) */

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

/* The shorter side of a step k stays in registers, the other comes by one at a time. Where there are 16 registers,
   the compiler is kept from reading a vector again for every product: two loads a cycle would not be enough. */
#if defined(__AVX__) && !defined(__AVX512F__)
#define IN_REGISTER(v) __asm__("" : "+x"(v))
#else
#define IN_REGISTER(v)
#endif

#define TILE(name, R, NV, AT)                                                                     \
    static void name(i64 K, const elem *a, i64 lda, const elem *b, real *c, i64 ldc) {            \
        V sum[R][NV];                                                                             \
        for (i64 i = 0; i < R; i++)                                                               \
            for (i64 j = 0; j < NV; j++) sum[i][j] = (V){0};                                      \
        for (i64 k = 0; k < K; k++) {                                                             \
            E left[R], right[NV];                                                                 \
            if (R < NV) {                                                                         \
                _Pragma("GCC unroll 16") for (i64 i = 0; i < R; i++) left[i] = spread(AT);        \
                _Pragma("GCC unroll 16") for (i64 j = 0; j < NV; j++) {                           \
                    E one = *(const E *)(b + (k * NV + j) * VL);                                  \
                    IN_REGISTER(one);                                                             \
                    _Pragma("GCC unroll 16") for (i64 i = 0; i < R; i++)                          \
                        sum[i][j] = dot(sum[i][j], left[i], one);                                 \
                }                                                                                 \
            } else {                                                                              \
                _Pragma("GCC unroll 16") for (i64 j = 0; j < NV; j++) {                           \
                    right[j] = *(const E *)(b + (k * NV + j) * VL);                               \
                    IN_REGISTER(right[j]);                                                        \
                }                                                                                 \
                _Pragma("GCC unroll 16") for (i64 i = 0; i < R; i++) {                            \
                    E one = spread(AT);                                                           \
                    _Pragma("GCC unroll 16") for (i64 j = 0; j < NV; j++)                         \
                        sum[i][j] = dot(sum[i][j], one, right[j]);                                \
                }                                                                                 \
            }                                                                                     \
        }                                                                                         \
        for (i64 i = 0; i < R; i++)                                                               \
            for (i64 j = 0; j < NV; j++)                                                          \
                put(c + i * ldc + j * VL, get(c + i * ldc + j * VL) + sum[i][j]);                 \
    }

/* one row: four sums at a time, because a sum must wait for its last addition */
#define TILE_1(name, NV)                                                                          \
    static void name(i64 K, const elem *a, i64 lda, const elem *b, real *c, i64 ldc) {            \
        V sum[4][NV];                                                                             \
        for (i64 i = 0; i < 4; i++)                                                               \
            for (i64 j = 0; j < NV; j++) sum[i][j] = (V){0};                                      \
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
            put(c + j * VL, get(c + j * VL) + ((sum[0][j] + sum[1][j]) + (sum[2][j] + sum[3][j]))); \
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

/* ---- packing ---- */

/* lanes of two vectors, in turns: for each lane k, of `a` where k & d is 0 and of `b` where not; of `low` the halves
   that stand d to the left, of `high` those that stand d to the right */
#if !defined(__clang__)
INLINE void mixed(E a, E b, const i64 d, E *low, E *high) {
    M left, right;
    _Pragma("GCC unroll 16") for (i64 k = 0; k < VL; k++) left[k] = k & d ? VL + k - d : k, right[k] = k & d ? VL + k : k + d;
    *low = __builtin_shuffle(a, b, left), *high = __builtin_shuffle(a, b, right);
}
#endif

/* VL vectors of VL elems, turned round */
INLINE void transpose(E *v) {
#if defined(__clang__)
    elem t[VL][VL], *from = (elem *)v;
    for (i64 i = 0; i < VL; i++)
        for (i64 k = 0; k < VL; k++) t[k][i] = from[i * VL + k];
    memcpy(v, t, sizeof t);
#else
    /* swap the blocks beside the diagonal, of half the size each time */
    _Pragma("GCC unroll 4") for (i64 d = VL / 2; d; d /= 2)
        _Pragma("GCC unroll 16") for (i64 i = 0; i < VL; i++)
            if (!(i & d)) mixed(v[i], v[i + d], d, &v[i], &v[i + d]);
#endif
}
/* the elems from elem k on of a row of N numbers: one, or for bfloat16 a pair in each; 0 beyond its end */
INLINE E elems(const real *row, i64 k, i64 N) {
#ifdef BFLOAT16
    real both[2 * BYTES / sizeof(real)];
    put(both, get_some(row + 2 * k, N - 2 * k));
    put(both + VL, get_some(row + 2 * k + VL, N - 2 * k - VL));
    item pairs[2 * BYTES / sizeof(real)];
    store(pairs, get(both));
    store(pairs + VL, get(both + VL));
    return *(const E *)pairs;
#else
    return get_some(row + k, N - k);
#endif
}
#if PER == 1
/* ---- products with weights as they lie in memory ----
 *
 * To pack weights costs as much as to multiply them a few times. Where they meet few rows, each row of them is
 * multiplied where it is: VL rows of weights, one for each lane of the result.
 */

/* the totals of VL vectors, each in its lane */
INLINE V totals_of(V *v) {
#if defined(__clang__)
    V sum = {0};
    for (i64 i = 0; i < VL; i++)
        for (i64 k = 0; k < VL; k++) sum[i] += v[i][k];
    return sum;
#else
    _Pragma("GCC unroll 4") for (i64 d = VL / 2; d; d /= 2)
        _Pragma("GCC unroll 8") for (i64 i = 0; i < d; i++) {
            V low, high;
            mixed(v[i], v[i + d], d, &low, &high);
            v[i] = low + high;
        }
    return v[0];
#endif
}

/* c (R rows, ldc apart) += the products of R rows of v with VL rows of w, of which the first `some` are real; LANES of
   them at a time, each as SUMS_OF sums, because a sum must wait for its last addition */
#define DOTS(R, LANES, SUMS_OF)                                                                          \
    static void dots_##R(i64 K, const real *v, i64 ldv, const real *w, i64 ldw, i64 some, real *c, i64 ldc) { \
        V total[R][BYTES / sizeof(real)];                                                                \
        for (i64 lane = 0; lane < VL; lane += LANES) {                                                   \
            const real *row[LANES];                                                                      \
            V sum[R][LANES][SUMS_OF];                                                                    \
            _Pragma("GCC unroll 8") for (i64 l = 0; l < LANES; l++) {                                    \
                row[l] = w + least(lane + l, some - 1) * ldw;                                            \
                _Pragma("GCC unroll 4") for (i64 r = 0; r < R; r++)                                      \
                    _Pragma("GCC unroll 2") for (i64 s = 0; s < SUMS_OF; s++) sum[r][l][s] = (V){0};     \
            }                                                                                            \
            i64 k = 0;                                                                                   \
            for (; k + SUMS_OF * VL <= K; k += SUMS_OF * VL)                                             \
                _Pragma("GCC unroll 8") for (i64 s = 0; s < SUMS_OF; s++) {                              \
                    V x[R];                                                                              \
                    _Pragma("GCC unroll 4") for (i64 r = 0; r < R; r++) x[r] = get(v + r * ldv + k + s * VL); \
                    _Pragma("GCC unroll 8") for (i64 l = 0; l < LANES; l++) {                            \
                        const V weights = get(row[l] + k + s * VL);                                      \
                        _Pragma("GCC unroll 4") for (i64 r = 0; r < R; r++) sum[r][l][s] += x[r] * weights; \
                    }                                                                                    \
                }                                                                                        \
            for (; k < K; k += VL)                                                                       \
                _Pragma("GCC unroll 8") for (i64 l = 0; l < LANES; l++) {                                \
                    const V weights = get_some(row[l] + k, K - k);                                       \
                    _Pragma("GCC unroll 4") for (i64 r = 0; r < R; r++)                                  \
                        sum[r][l][0] += get_some(v + r * ldv + k, K - k) * weights; \
                }                                                                                        \
            _Pragma("GCC unroll 8") for (i64 l = 0; l < LANES; l++)                                      \
                _Pragma("GCC unroll 4") for (i64 r = 0; r < R; r++) {                                    \
                    total[r][lane + l] = sum[r][l][0];                                                   \
                    _Pragma("GCC unroll 2") for (i64 s = 1; s < SUMS_OF; s++) total[r][lane + l] += sum[r][l][s];                \
                }                                                                                        \
        }                                                                                                \
        for (i64 r = 0; r < R; r++) put(c + r * ldc, get(c + r * ldc) + first(totals_of(total[r]), some)); \
    }
#define FOUR (BYTES / 8 < 4 ? 2 : 4)       /* lanes, if there are as many */
#define FEW (REGISTERS < 24 ? 2 : FOUR)    /* lanes whose sums stay in registers, of three or four rows */
DOTS(1, FOUR, 2)
DOTS(2, FOUR, 1)
DOTS(3, FEW, 1)
DOTS(4, FEW, 1)

/* the same for any number of rows, and for all gates of panel p: c (rows, gates, U, VL), w (gates H, N) from elem k0 on */
static void direct(i64 rows, i64 k0, i64 k1, const real *v, i64 ldv, const real *w, i64 gates, i64 H, i64 N, i64 p, real *c) {
    static void (*const dots[])(i64, const real *, i64, const real *, i64, i64, real *, i64) = {0, dots_1, dots_2, dots_3, dots_4};
    for (i64 g = 0; g < gates; g++)
        for (i64 u = 0; u < U; u++) {
            const i64 j = (p * U + u) * VL;
            if (j >= H) break;
            for (i64 q = 0, n; q < rows; q += n) {
                n = up(rows - q, up(rows - q, 4));
                dots[n](k1 - k0, v + q * ldv + k0, ldv, w + (g * H + j) * N + k0, N, least(VL, H - j),
                        c + (q * gates * U + g * U + u) * VL, gates * U * VL);
            }
        }
}
#endif

/* of R or W for the forward product: panel, elem, gate, vector, lane */
static void pack(elem *to, const real *from, i64 gates, i64 H, i64 N, i64 p0, i64 p1) {
    const i64 K = depth(N), nv = gates * U;
    for (i64 p = p0; p < p1; p++)
        for (i64 g = 0; g < gates; g++)
            for (i64 u = 0; u < U; u++)
                for (i64 k0 = 0; k0 < K; k0 += VL) {
                    E block[BYTES / sizeof(real)];
                    for (i64 lane = 0; lane < VL; lane++) {
                        const i64 j = (p * U + u) * VL + lane;
                        block[lane] = (E){0};
                        if (j < H) block[lane] = elems(from + (g * H + j) * N, k0, N);
                    }
                    transpose(block);
                    for (i64 k = 0; k < least(VL, K - k0); k++)
                        *(E *)(to + ((p * K + k0 + k) * nv + g * U + u) * VL) = block[k];
                }
}
/* all of R: the hidden gates together, then each inner gate by itself; nothing for from = 0 */
static void pack_hidden(elem *to, const real *from, i64 H, i64 p0, i64 p1) {
    const i64 one = panels(H) * depth(H) * U * VL;
    if (from && G_HID) pack(to, from, G_HID, H, H, p0, p1);
    for (i64 g = 0; from && g < INNER; g++) pack(to + (G_HID + g) * one, from + (G_HID + g) * H * H, 1, H, H, p0, p1);
}
/* of R or W for the backward product: panel of columns, gate, elem of units, vector, lane */
static void pack_transposed(elem *to, const real *from, i64 gates, i64 H, i64 N, i64 p0, i64 p1) {
    const i64 K = depth(H);
    for (i64 p = p0; p < p1; p++)
        for (i64 g = 0; g < gates; g++)
            for (i64 k = 0; k < K; k++)
                for (i64 v = 0; v < NV_N; v++) {
                    elem *d = to + (((p * gates + g) * K + k) * NV_N + v) * VL;
                    i64 n = (p * NV_N + v) * VL;
                    const real *s = from + (g * H + k * PER) * N + n;
#ifdef BFLOAT16
                    V low = {0}, high = {0};
                    if (2 * k < H) low = get_some(s, N - n);
                    if (2 * k + 1 < H) high = get_some(s + N, N - n);
                    *(E *)d = pairs_of(low, high);
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
#ifdef BFLOAT16
            if (2 * k + 1 < count && N - n >= VL && !(masks && masks[2 * k])) {
                *(E *)d = halves(rows[2 * k] + n) | halves(rows[2 * k + 1] + n) << 16;
                continue;
            }
#endif
            V one = {0};
            if (k * PER < count) one = load_some(rows[k * PER] + n, N - n);
            if (k * PER < count && masks && masks[k * PER]) one *= get_some(masks[k * PER] + n, N - n);
#ifdef BFLOAT16
            V two = {0};
            if (2 * k + 1 < count) {
                two = load_some(rows[2 * k + 1] + n, N - n);
                if (masks && masks[2 * k + 1]) two *= get_some(masks[2 * k + 1] + n, N - n);
            }
            *(E *)d = pairs_of(one, two);
#else
            put(d, one);
#endif
        }
}


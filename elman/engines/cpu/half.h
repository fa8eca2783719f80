/* Products with weights in bfloat16, in float32: they are widened, which is exact.
 *
 * Weights are packed as panel of columns, two k, vector, lane: the even k in the lower half of 32 bits.
 *
 * Above this text stand vector.h and int8.h.
 */
#ifdef NARROW

INLINE i64 twos(i64 K) { return (K + 1) / 2; }

/* c (n vectors) += v (from k0 to k1, the former even) times n of the nv vectors of a panel */
INLINE void block_16(const i64 n, i64 nv, i64 k0, i64 k1, const real *v, const uint32_t *panel, real *c) {
    V even[2][4], odd[2][4];
    _Pragma("GCC unroll 4") for (i64 j = 0; j < n; j++) even[0][j] = even[1][j] = odd[0][j] = odd[1][j] = (V){0};
    i64 k = k0 / 2;
    for (; k + AHEAD <= k1 / 2; k += AHEAD)
        _Pragma("GCC unroll 2") for (i64 a = 0; a < AHEAD; a++)
            _Pragma("GCC unroll 4") for (i64 j = 0; j < n; j++) {
                const Unsigned pairs = (Unsigned)get((const real *)panel + ((k + a) * nv + j) * VL);
                even[a][j] += (V)(pairs << 16) * v[2 * (k + a)];
                odd[a][j] += (V)(pairs & 0xffff0000) * v[2 * (k + a) + 1];
            }
    for (; k < twos(k1); k++)
        _Pragma("GCC unroll 4") for (i64 j = 0; j < n; j++) {
            const Unsigned pairs = (Unsigned)get((const real *)panel + (k * nv + j) * VL);
            even[0][j] += (V)(pairs << 16) * v[2 * k];
            if (2 * k + 1 < k1) odd[0][j] += (V)(pairs & 0xffff0000) * v[2 * k + 1];
        }
    _Pragma("GCC unroll 4") for (i64 j = 0; j < n; j++) {
        V sum = even[0][j] + odd[0][j];
        if (AHEAD > 1) sum += even[1][j] + odd[1][j];
        put(c + j * VL, get(c + j * VL) + sum);
    }
}
/* c (nv vectors) += v (from k0 to k1) times a panel; weights before k0 in its pair are 0 */
INLINE void product_16(i64 nv, i64 k0, i64 k1, const real *v, const void *packed, real *c) {
    const uint32_t *panel = packed;
    i64 j = 0;
    for (; j + 4 <= nv; j += 4) block_16(4, nv, k0, k1, v, panel + j * VL, c + j * VL);
    for (; j + 3 <= nv; j += 3) block_16(3, nv, k0, k1, v, panel + j * VL, c + j * VL);
    for (; j < nv; j++) block_16(1, nv, k0, k1, v, panel + j * VL, c + j * VL);
}

/* Pack weights (gates H, N): panels of `units` vectors of units, all gates side by side. Return whether all are numbers
   of bfloat16. */
static int pack_16(uint32_t *to, const real *from, i64 gates, i64 units, i64 H, i64 N) {
    const i64 columns = gates * units * VL, width = units * VL;
    uint32_t more = 0;
    for (i64 j0 = 0; j0 < H; j0 += width, to += twos(N) * columns) {
        if (H - j0 < width) memset(to, 0, (size_t)(twos(N) * columns) * sizeof *to);
        for (i64 c = 0; c < columns && !(more & 0xffff); c++) {
            const i64 j = j0 + c % width;
            const uint32_t *row = (const uint32_t *)from + (c / width * H + j) * N;
            for (i64 k = 0; j < H && k < N; k += 2) {
                const uint32_t low = row[k], high = k + 1 < N ? row[k + 1] : 0;
                more |= low | high;
                to[k / 2 * columns + c] = low >> 16 | (high & 0xffff0000);
            }
        }
    }
    return !(more & 0xffff);
}
#endif

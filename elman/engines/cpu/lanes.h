/* Combines the lanes of vectors. Above this text stands vector.h, and K is the number of keys. */

INLINE V among(V v, i64 from, i64 n, real other) { /* v; other in the lanes that are not before n */
    if (from + VL <= n) return v;
    for (i64 k = 0; k < VL; k++) v[k] = from + k < n ? v[k] : other;
    return v;
}
INLINE real lanes_sum(V v) {
    real sum = 0;
    for (i64 k = 0; k < VL; k++) sum += v[k];
    return sum;
}
INLINE real lanes_most(V v) {
    real most = v[0];
    for (i64 k = 1; k < VL; k++) most = v[k] > most || v[k] != v[k] ? v[k] : most;
    return most;
}

#if defined(__AVX512F__) && !defined(FLOAT64)
INLINE V halves(V a, V b, const int s) { /* in groups of 2 s lanes: the sums of both halves of a, then those of b */
    int low[16], high[16];
    for (int k = 0; k < 16; k++) low[k] = k / (2 * s) * (2 * s) + k % s + (k / s % 2) * 16, high[k] = low[k] + s;
    const __m512 first = _mm512_permutex2var_ps((__m512)a, _mm512_loadu_si512(low), (__m512)b);
    return (V)first + (V)_mm512_permutex2var_ps((__m512)a, _mm512_loadu_si512(high), (__m512)b);
}
#endif
INLINE void lanes_sums(const V *v, real *sums) { /* of each of K vectors */
    i64 k = 0;
#if defined(__AVX512F__) && !defined(FLOAT64)
    for (; k + 16 <= K; k += 16) {
        V a[8], b[4];
        for (int i = 0; i < 8; i++) a[i] = halves(v[k + 2 * i], v[k + 2 * i + 1], 1);
        for (int i = 0; i < 4; i++) b[i] = halves(a[2 * i], a[2 * i + 1], 2);
        put(sums + k, halves(halves(b[0], b[1], 4), halves(b[2], b[3], 4), 8));
    }
#endif
    for (; k < K; k++) sums[k] = lanes_sum(v[k]);
}
INLINE void lanes_mosts(const V *v, real *most) {
    for (i64 k = 0; k < K; k++) most[k] = lanes_most(v[k]);
}

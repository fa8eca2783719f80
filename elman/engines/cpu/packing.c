/* W or R, packed for `forward` once and for all. */

i64 packed_size(i64 gates, i64 H, i64 N) { return panels(H) * depth(N) * gates * U * VL * (i64)sizeof(elem); }
void pack_input(elem *to, const real *from, i64 H, i64 D) { pack(to, from, G_IN, H, D, 0, panels(H)); }
void pack_recurrent(elem *to, const real *from, i64 H, i64 D) {
    pack_hidden(to, from, H, 0, panels(H));
    (void)D;
}
#ifdef NARROW
INLINE i64 before_inner(i64 H, i64 g) { return panels(H) * (G_HID + g) * U * VL; } /* columns before one */

/* in int8: return whether the weights are whole multiples of their row's scale */
i64 packed_size_int8(i64 gates, i64 H, i64 N) { return panels(H) * fours(N) * gates * U * VL; }
int pack_input_int8(int8_t *to, real *scales, const real *from, i64 H, i64 D) {
    return pack_8(to, scales, from, G_IN, U, H, D);
}
int pack_recurrent_int8(int8_t *to, real *scales, const real *from, i64 H, i64 D) {
    int fits = pack_8(to, scales, from, G_HID, U, H, H);
    for (i64 g = 0; g < INNER; g++) {
        const i64 at = before_inner(H, g);
        fits &= pack_8(to + at * fours(H), scales + 2 * at, from + (G_HID + g) * H * H, 1, U, H, H);
    }
    (void)D;
    return fits;
}

/* in bfloat16: return whether the weights are such numbers */
i64 packed_size_bfloat16(i64 gates, i64 H, i64 N) { return panels(H) * twos(N) * gates * U * VL * 4; }
int pack_input_bfloat16(uint32_t *to, const real *from, i64 H, i64 D) { return pack_16(to, from, G_IN, U, H, D); }
int pack_recurrent_bfloat16(uint32_t *to, const real *from, i64 H, i64 D) {
    int fits = pack_16(to, from, G_HID, U, H, H);
    for (i64 g = 0; g < INNER; g++)
        fits &= pack_16(to + before_inner(H, g) * twos(H), from + (G_HID + g) * H * H, 1, U, H, H);
    (void)D;
    return fits;
}
#endif


/* Products of bfloat16 in the matrix unit of the processor (Intel AMX), where it has one and Linux permits its use.
 *
 * A register of it, a tile, is 16 rows of 64 bytes. The right side is packed as the vectors read it: 16 elems k of one
 * vector are a tile. All sides are padded with zeros to whole tiles of elems k, and rows are left out by the shape of
 * the tiles. The order in which a number is summed depends on K alone, not on the rows beside it.
 */
#if defined(AMX)

/* tiles 0 to 3: sums; 4 and 5: rows of the left side; 6 and 7: of the right side. Above: 0, 1, 4; below: 2, 3, 5. */
#define AMX_ROWS ((i64)32)
typedef struct {
    uint8_t palette, start_row, reserved[14];
    uint16_t bytes[16];
    uint8_t rows[16];
} AmxShape;
static _Thread_local i64 amx_shape; /* rows above and below, as configured; 0: not */

#define AMX_LOAD(tile, from, step) \
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #tile : : "r"(from), "r"((i64)(step)) : "memory")
#define AMX_STORE(tile, to, step) \
    __asm__ volatile("tilestored %%tmm" #tile ", (%0,%1,1)" : : "r"(to), "r"((i64)(step)) : "memory")
#define AMX_ZERO(tile) __asm__ volatile("tilezero %%tmm" #tile : : : "memory")
#define AMX_DOT(sum, left, right) \
    __asm__ volatile("tdpbf16ps %%tmm" #right ", %%tmm" #left ", %%tmm" #sum : : : "memory")

static void amx_begin(i64 above, i64 below) { /* this costs as much as to load 20 tiles */
    if (amx_shape == (above << 8 | below)) return;
    amx_shape = above << 8 | below;
    AmxShape shape = {.palette = 1};
    for (i64 k = 0; k < 8; k++) {
        shape.bytes[k] = 64;
        shape.rows[k] = (uint8_t)(k >= 6 ? 16 : k == 2 || k == 3 || k == 5 ? below : above);
    }
    __asm__ volatile("ldtilecfg %0" : : "m"(shape) : "memory");
}
static void amx_end(void) { /* others use tiles on the same threads, and a thread without them is switched faster */
    if (amx_shape) __asm__ volatile("tilerelease" : : : "memory");
    amx_shape = 0;
}

typedef struct { /* each row of the left side has `parts` pieces of K elems; on the right they follow each other */
    const elem *a;
    i64 lda, next, below; /* elems to the next row, to the next 16 elems k, and to the rows below */
    const elem *b;
    i64 K, parts, piece;  /* piece: elems of a whole piece of the right side */
    const i64 *at;        /* where in a row of a the pieces are, in units of `unit` elems; or 0 for one at its start */
    i64 unit;
} AmxSides;

/* c = bias + a b, or a b for bias = 0: the rows above and, if `two`, those below; n vectors of nv, at most two of them
   if `two`, else four */
INLINE void amx_block(const int two, const i64 n, i64 nv, const AmxSides *s, const real *bias, real *c, i64 ldc,
                      i64 below) {
    const i64 size = (i64)sizeof(real), lda = s->lda * size, ldb = nv * VL * size;
    if (bias) {
        AMX_LOAD(0, bias, 0);
        if (two) AMX_LOAD(2, bias, 0);
        if (n > 1) AMX_LOAD(1, bias + VL, 0);
        if (two && n > 1) AMX_LOAD(3, bias + VL, 0);
        if (!two && n > 2) AMX_LOAD(2, bias + 2 * VL, 0);
        if (!two && n > 3) AMX_LOAD(3, bias + 3 * VL, 0);
    } else {
        AMX_ZERO(0);
        AMX_ZERO(1);
        AMX_ZERO(2);
        AMX_ZERO(3);
    }
    for (i64 q = 0; q < s->parts; q++) {
        const elem *a = s->a + (s->at ? s->at[q] * s->unit : 0), *b = s->b + q * s->piece;
        for (i64 k = 0; k < s->K; k += 16, a += s->next, b += 16 * nv * VL) {
            AMX_LOAD(4, a, lda);
            AMX_LOAD(6, b, ldb);
            AMX_DOT(0, 4, 6);
            if (two) {
                AMX_LOAD(5, a + s->below, lda);
                AMX_DOT(2, 5, 6);
            }
            if (n > 1) {
                AMX_LOAD(7, b + VL, ldb);
                AMX_DOT(1, 4, 7);
            }
            if (two && n > 1) AMX_DOT(3, 5, 7);
            if (!two && n > 2) {
                AMX_LOAD(6, b + 2 * VL, ldb);
                AMX_DOT(2, 4, 6);
            }
            if (!two && n > 3) {
                AMX_LOAD(7, b + 3 * VL, ldb);
                AMX_DOT(3, 4, 7);
            }
        }
    }
    AMX_STORE(0, c, ldc * size);
    if (n > 1) AMX_STORE(1, c + VL, ldc * size);
    if (two) AMX_STORE(2, c + below, ldc * size);
    if (two && n > 1) AMX_STORE(3, c + below + VL, ldc * size);
    if (!two && n > 2) AMX_STORE(2, c + 2 * VL, ldc * size);
    if (!two && n > 3) AMX_STORE(3, c + 3 * VL, ldc * size);
}

/* the same for any `wide`, so that the compiler knows which tiles there are */
INLINE void amx_blocks(const int two, i64 wide, i64 nv, const AmxSides *s, const real *bias, real *c, i64 ldc,
                       i64 below) {
    if (wide == 1) amx_block(two, 1, nv, s, bias, c, ldc, below);
    if (wide == 2) amx_block(two, 2, nv, s, bias, c, ldc, below);
    if (!two && wide == 3) amx_block(0, 3, nv, s, bias, c, ldc, below);
    if (!two && wide == 4) amx_block(0, 4, nv, s, bias, c, ldc, below);
}

/* c (rows, nv vectors) = bias + a b; bias (nv vectors) or 0 */
static void amx_product(i64 rows, i64 nv, AmxSides s, const real *bias, real *c, i64 ldc) {
    const elem *const b = s.b;
    s.next = 16, s.parts = s.at ? s.parts : 1;
    for (i64 left = rows; left > 0;) {
        const i64 n = up(left, up(left, AMX_ROWS)), two = n > 16, above = two ? up(n, 2) : n;
        amx_begin(above, two ? n - above : above);
        s.below = above * s.lda;
        for (i64 v = 0, wide; v < nv; v += wide) {
            const real *from = bias ? bias + v * VL : 0;
            wide = least(nv - v, two ? 2 : 4);
            s.b = b + v * VL;
            if (two)
                amx_blocks(1, wide, nv, &s, from, c + v * VL, ldc, above * ldc);
            else
                amx_blocks(0, wide, nv, &s, from, c + v * VL, ldc, 0);
        }
        s.a += n * s.lda, c += n * ldc, left -= n;
    }
}
#else
#define AMX_ROWS ((i64)1)
#define amx_end() ((void)0)
#endif

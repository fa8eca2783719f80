/* Forward: every row through all its steps. */

#ifndef X_CHUNK
#define X_CHUNK ((i64)96)         /* rows of x (of several steps, if few) that are multiplied by W at a time, at least */
#endif
#define X_BYTES ((i64)256 << 10)  /* and so many bytes of gates at most, where that is more */

static i64 x_steps(const Team *team) { /* steps whose W x is made at a time */
    const Job *job = team->job;
    i64 rows = up(job->B, team->row_groups), share_ = panels(job->H) * NV_X * VL; /* the same for any number of threads */
    i64 fit = X_BYTES / (rows * share_ * (i64)sizeof(real));
    i64 least_rows = job->D * share_ * (i64)sizeof(item) > 4 << 20 ? 3 * X_CHUNK : X_CHUNK; /* W is beyond the cache */
    return most(1, least(job->T, most(fit, least_rows / rows)));
}

#define HID_ROWS most(AMX_ROWS, ROWS(NV_H + !NV_H)) /* rows that are multiplied at a time */
#define INNER_ROWS most(AMX_ROWS, ROWS(UNIT_VECTORS))
typedef struct { /* what a thread has for itself */
    i64 p0, p1;      /* its panels of units */
    i64 most_rows, steps;
    item *xs;        /* (steps * rows, D): x */
    real *in;        /* (panels, steps * rows, NV_X): W x + b */
    real *hid;       /* (HID_ROWS, NV_H) or (INNER, INNER_ROWS, U): products */
    V *temp;         /* (units, rows, TEMPS): for later phases */
    char *digits;    /* of x, then of h or of what inner gates multiply, in int8 */
    V *total;        /* (rows, TOTALS) */
    V *scalar;       /* (rows, SCALARS) */
} Own;

/* R v for some rows of one panel, with biases: of the hidden gates together, or of an inner gate. `at`: the vectors of
   columns before them; digits: of v, in int8 */
INLINE void gates_of(const Job *job, const Team *team, Tile *const *tiles, const i64 nv, i64 count, i64 k0, i64 k1,
                     const item *v, i64 row_size, const char *digits, i64 at, const real *raw, i64 p, const real *bias,
                     real *to) {
    const elem *const r = team->r + at * team->K_h * VL;
#ifdef AMX
    if (by_amx(job)) {
        const AmxSides sides = {.a = (const elem *)v + k0, .lda = row_size / PER, .b = r + k0 * nv * VL, .K = k1 - k0};
        amx_product(count, nv, sides, bias, to, nv * VL);
        return;
    }
#endif
    for (i64 q = 0; q < count; q++) memcpy(to + q * nv * VL, bias, (size_t)(nv * VL) * sizeof(real));
#if PER == 1
    if (raw) {
        direct(count, k0, k1, v, row_size, raw, nv / U, job->H, job->H, p, to);
        return;
    }
#endif
#ifdef NARROW
    if (job->scale_hh) {
        const int8_t *panel = (const int8_t *)team->r + at * fours(job->H) * VL;
        for (i64 q = 0; q < count; q++)
            product_8(nv, k0, k1, digits + q * digits_size(job->H), job->H, panel, job->scale_hh + 2 * at * VL,
                      to + q * nv * VL);
        return;
    }
    if (job->bfloat16) {
        const uint32_t *panel = (const uint32_t *)team->r + at * twos(job->H) * VL;
        for (i64 q = 0; q < count; q++) product_16(nv, k0 & ~1, k1, v + q * row_size, panel, to + q * nv * VL);
        return;
    }
#endif
    (void)job, (void)digits, (void)raw, (void)p;
    tiles[count](k1 - k0, (const elem *)v + k0, row_size / PER, r + k0 * nv * VL, to, nv * VL);
}

/* In int8, the digits of what R is multiplied with in a phase; return the size of a row of them. */
INLINE i64 hidden_digits(const Team *team, const Place *place, const Own *own, const int phase, i64 n, const item *now) {
#ifdef NARROW
    const Job *job = team->job;
    if (!job->scale_hh) return 0;
    const i64 size = digits_size(job->H);
    for (i64 q = 0; q < n; q++) {
        const i64 i = place->row0 + q * place->row_step;
        if (phase == 0 && G_HID) to_digits(own->digits + q * size, now + i * team->Hp, job->H);
        for (i64 g = 0; g < INNER; g++)
            if (INNER_AT[g] == phase)
                to_digits(own->digits + (g * own->most_rows + q) * size, team->inner + (g * job->B + i) * team->Hp, job->H);
    }
    return size;
#else
    (void)team, (void)place, (void)own, (void)phase, (void)n, (void)now;
    return 0;
#endif
}
static size_t digits_bytes(const Team *team, i64 rows, i64 most_rows) { /* of x or of h, whichever is more */
#ifdef NARROW
    const Job *job = team->job;
    const i64 x = job->scale_ih ? rows * digits_size(job->D) : 0;
    return (size_t)most(x, job->scale_hh ? most_rows * most(1, INNER) * digits_size(job->H) : 0);
#else
    (void)team, (void)rows, (void)most_rows;
    return 0;
#endif
}

/* one phase of step t, for a thread's n rows and its units; m: the first of these rows in `in` */
INLINE void forward_phase(const int phase, Team *team, const Job *job, const Place *place, const Own *own, i64 t, i64 n,
                          i64 m) {
    const i64 T = job->T, H = job->H, B = job->B, Hp = team->Hp, K_h = team->K_h, step_rows = place->row_step;
    const i64 P = panels(H);
    real *const carry = team->carry;
    const item *now = team->h + (t & 1) * B * Hp;
    item *next = team->h + (~t & 1) * B * Hp;
    const int last = phase == PHASES - 1;
    i64 most_count = n;
    if (phase == 0 && G_HID) most_count = by_amx(job) ? AMX_ROWS : ROWS(NV_H + !NV_H);
    if (phase > 0 && INNER) most_count = by_amx(job) ? AMX_ROWS : ROWS(UNIT_VECTORS);
    for (i64 q = 0; SCALARS && q < n; q++) { /* the values of rows */
        V total[TOTALS + 1], keep[SAVED_ROW + 1];
        const Across across = {.H = (real)H};
        const i64 i = place->row0 + q * step_rows;
        get_totals(team, i, place->unit, TOTALS, TOTAL_AT, TOTAL_HOW, phase, total);
        step_row(phase, total, own->scalar + q * SCALARS, keep, &across);
        for (i64 k = 0; job->saved && place->unit == 0 && k < SAVED_ROW; k++)
            if (SAVED_ROW_AT[k] == phase) store(saved_of_row(job, t, i) + k * VL, keep[k]);
        for (i64 k = 0; k < TOTALS; k++)
            if (TOTAL_AT[k] == phase + 1) own->total[q * TOTALS + k] = gathered_from(TOTAL_HOW[k]);
    }
    const i64 size = hidden_digits(team, place, own, phase, n, now);
    for (i64 p = own->p0; p < own->p1; p++) {
        V w[U][UNITS + 1];
        for (i64 u = 0; u < U; u++)
            for (i64 k = 0; k < UNITS; k++) {
                i64 j = (p * U + u) * VL;
                w[u][k] = j < H ? get_some(job->units + k * H + j, H - j) : (V){0};
            }
        for (i64 q = 0; q < n;) {
            const i64 count = up(n - q, up(n - q, most_count)), i0 = place->row0 + q * step_rows;
#if G_HID
            if (phase == 0)
                gates_of(job, team, tiles_h, NV_H, count, head_start(job, p * U * VL), head_end(job, (p + 1) * U * VL),
                         now + i0 * Hp, step_rows * Hp, own->digits + q * size, p * NV_H, team->raw_hh, p,
                         team->b_hid + p * NV_H * VL, own->hid);
#endif
#if INNER
            for (i64 g = 0; g < INNER; g++)
                if (INNER_AT[g] == phase) {
                    const i64 at = P * NV_H + (g * P + p) * U; /* in vectors */
                    gates_of(job, team, tiles_i, U, count, 0, K_h, team->inner + (g * B + i0) * Hp, step_rows * Hp,
                             own->digits + (g * own->most_rows + q) * size, at,
                             team->raw_hh ? team->raw_hh + (G_HID + g) * H * H : 0, p, team->b_hid + at * VL,
                             own->hid + g * INNER_ROWS * U * VL);
                }
#endif
            (void)now, (void)i0, (void)K_h, (void)P, (void)size;
            for (i64 r = 0; r < count; r++, q++) {
                const i64 i = place->row0 + q * step_rows, b = row_of(job, i);
                const int reset = is_reset(job, b, t + 1);
                const real *xg = own->in + ((p - own->p0) * own->steps * own->most_rows + m + q) * NV_X * VL;
                const real *hg = own->hid + r * NV_H * VL;
                (void)hg;
                for (i64 u = 0; u < U; u++) {
                    const i64 j = (p * U + u) * VL;
                    if (j >= H) break;
                    V x[G_IN], h[G_HID + 1], s[STATES], new[STATES], keep[SAVED + 1], product[INNER + 1], inner[INNER + 1];
                    for (i64 g = 0; g < G_IN; g++) x[g] = get(xg + (g * U + u) * VL);
                    for (i64 g = 0; phase == 0 && g < G_HID; g++) h[g] = get(hg + (g * U + u) * VL);
                    for (i64 g = 0; g < INNER; g++)
                        if (INNER_AT[g] == phase)
                            product[g] = get(own->hid + ((g * INNER_ROWS + r) * U + u) * VL);
                    for (i64 k = 0; k < STATES; k++) s[k] = get(carry + (k * B + i) * Hp + j);
                    const Across across = {
                        product, own->scalar + q * SCALARS,
                        own->temp + (((p - own->p0) * U + u) * own->most_rows + q) * TEMPS,
                        own->total + q * TOTALS, inner, (real)H, H - j};
                    step(phase, x, h, s, w[u], new, keep, &across);
                    for (i64 k = 0; job->saved && k < SAVED; k++)
                        if (SAVED_AT[k] == phase)
                            store(job->saved + (((t * Hp + j) * B + i * VL) * SAVED + k * VL), keep[k]);
                    for (i64 g = 0; g < INNER; g++)
                        if (INNER_AT[g] == phase + 1) {
                            if (job->mask) inner[g] *= get_some(job->mask + b * H + j, H - j);
                            store(team->inner + (g * B + i) * Hp + j, first(inner[g], H - j));
                        }
                    if (!last) continue;
                    for (i64 k = 0; k < STATES; k++) {
                        if (job->zone[k])
                            new[k] = mix(new[k], s[k], get_some(job->zone[k] + (b * T + t) * H + j, H - j));
                        else if (job->rate[k] != 0)
                            new[k] = mix(new[k], s[k], all(job->rate[k]));
                        put(carry + (k * B + i) * Hp + j, reset ? (V){0} : new[k]);
                    }
                    store_some(job->y + b * job->y_b + t * job->y_t + j, new[0], H - j);
                    V out = new[0];
                    if (job->mask) out *= get_some(job->mask + b * H + j, H - j);
                    store(next + i * Hp + j, reset ? (V){0} : first(out, H - j));
                }
            }
        }
    }
    for (i64 q = 0; TOTALS && q < n; q++)
        put_totals(team, place->row0 + q * step_rows, place->unit, TOTALS, TOTAL_AT, TOTAL_HOW, phase,
                   own->total + q * TOTALS);
    if (G_HID || PHASES > 1) wait_for(place->barrier, place->unit_groups);
}

static Own own_of(const Team *team, i64 thread) {
    const Place place = place_of(team, thread);
    Own own = {.most_rows = up(team->job->B, place.row_step), .steps = x_steps(team)};
    share(panels(team->job->H), 1, place.unit, place.unit_groups, &own.p0, &own.p1);
    const i64 rows = own.steps * own.most_rows, panels_ = up(panels(team->job->H), place.unit_groups);
    Arena arena = {team->scratch ? team->scratch + thread * team->scratch_size : 0};
    own.xs = part(&arena, (size_t)(rows * team->K_d * PER) * sizeof(item));
    own.in = part(&arena, (size_t)(panels_ * rows * NV_X * VL) * sizeof(real));
    own.hid = part(&arena, (size_t)(most(HID_ROWS * NV_H, INNER * INNER_ROWS * U) * VL) * sizeof(real));
    own.temp = part(&arena, (size_t)(panels_ * U * own.most_rows * TEMPS) * sizeof(V));
    own.digits = part(&arena, digits_bytes(team, rows, own.most_rows));
    own.total = part(&arena, (size_t)(own.most_rows * TOTALS) * sizeof(V));
    own.scalar = part(&arena, (size_t)(own.most_rows * SCALARS) * sizeof(V));
    return own;
}
static size_t own_size(const Team *team) { /* memory that own_of takes, in whole pages */
    const i64 rows = x_steps(team) * up(team->job->B, team->row_groups), panels_ = up(panels(team->job->H), team->unit_groups);
    const i64 most_rows = up(team->job->B, team->row_groups);
    size_t size = (size_t)(rows * team->K_d * PER) * sizeof(item) + (size_t)(panels_ * rows * NV_X * VL) * sizeof(real);
    size += (size_t)(most(HID_ROWS * NV_H, INNER * INNER_ROWS * U) * VL) * sizeof(real);
    size += (size_t)(panels_ * U * most_rows * TEMPS + most_rows * (TOTALS + SCALARS)) * sizeof(V) + 7 * 64;
    size += digits_bytes(team, rows, most_rows);
    return (size + 4095) & ~(size_t)4095;
}

static void forward_thread(Team *team, i64 thread) {
    const Job own_job = *team->job, *job = &own_job; /* a copy, that no store can be thought to change */
    real *const carry = team->carry;
    const i64 T = job->T, D = job->D, H = job->H, B = job->B, Hp = team->Hp;
    const i64 K_d = team->K_d, P = panels(H);
    const Place place = place_of(team, thread);
    const i64 step_rows = place.row_step;
    Barrier *everyone = team->barriers + team->row_groups;
    i64 p0, p1;

    share(P, 1, thread, team->threads, &p0, &p1); /* packing is shared by all */
    if (!job->packed_ih && !team->raw_ih) pack((elem *)team->w, job->w_ih, G_IN, H, D, p0, p1);
    pack_bias(team->b_in, job->b_ih, G_IN, H, p0, p1);
    pack_hidden((elem *)team->r, job->packed_hh || team->raw_hh ? 0 : job->w_hh, H, p0, p1);
    pack_bias(team->b_hid, job->b_hh, G_HID, H, p0, p1);
    for (i64 g = 0; g < INNER; g++)
        pack_bias(team->b_hid + (P * NV_H + g * P * U) * VL, job->b_hh ? job->b_hh + (G_HID + g) * H : 0, 1, H, p0, p1);
    wait_for(everyone, team->threads);

    const Own own = own_of(team, thread);
    p0 = own.p0, p1 = own.p1;
    const i64 rows0 = rows_at(team, &place, 0);
    for (i64 i = place.row0; i < B; i += step_rows)
        for (i64 j = p0 * U * VL; j < least(p1 * U * VL, Hp); j += VL) {
            i64 b = row_of(job, i);
            V s[STATES];
            for (i64 k = 0; k < STATES; k++) {
                s[k] = get_some(job->state0[k] + b * H + j, H - j);
                if (rows0 > (i - place.row0) / step_rows && is_reset(job, b, 0)) s[k] = (V){0};
                put(carry + (k * B + i) * Hp + j, s[k]);
            }
            if (job->mask) s[0] *= get_some(job->mask + b * H + j, H - j);
            store(team->h + i * Hp + j, s[0]);
        }
    wait_for(place.barrier, place.unit_groups);

    const i64 steps = own.steps;
    for (i64 t0 = 0; t0 < T; t0 += steps) {
        const i64 t1 = least(T, t0 + steps);
        /* W x + b for the rows of these steps */
        i64 m = 0;
        for (i64 t = t0; t < t1; t++)
            for (i64 q = 0, n = rows_at(team, &place, t); q < n; q++, m++) {
                item *row = own.xs + m * K_d * PER;
                memcpy(row, job->x + row_of(job, place.row0 + q * step_rows) * job->x_b + t * job->x_t,
                       (size_t)D * sizeof(item));
                if (K_d * PER > D) memset(row + D, 0, (size_t)(K_d * PER - D) * sizeof(item));
            }
#ifdef NARROW
        for (i64 r = 0; job->scale_ih && r < m; r++) to_digits(own.digits + r * digits_size(D), own.xs + r * K_d, D);
#endif
        for (i64 p = p0; p < p1; p++) {
            real *c = own.in + (p - p0) * steps * own.most_rows * NV_X * VL;
#ifdef AMX
            if (by_amx(job)) {
                const AmxSides sides = {.a = (elem *)own.xs, .lda = K_d, .b = team->w + p * K_d * NV_X * VL, .K = K_d};
                amx_product(m, NV_X, sides, team->b_in + p * NV_X * VL, c, NV_X * VL);
                continue;
            }
#endif
            for (i64 r = 0; r < m; r++) memcpy(c + r * NV_X * VL, team->b_in + p * NV_X * VL, NV_X * VL * sizeof(real));
#ifdef NARROW
            for (i64 r = 0; job->scale_ih && r < m; r++)
                product_8(NV_X, 0, D, own.digits + r * digits_size(D), D, (const int8_t *)team->w + p * fours(D) * NV_X * VL,
                          job->scale_ih + 2 * p * NV_X * VL, c + r * NV_X * VL);
            for (i64 r = 0; job->bfloat16 && r < m; r++)
                product_16(NV_X, 0, D, own.xs + r * K_d, (const uint32_t *)team->w + p * twos(D) * NV_X * VL,
                           c + r * NV_X * VL);
            if (job->scale_ih || job->bfloat16) continue;
#endif
#if PER == 1
            if (team->raw_ih) {
                direct(m, 0, D, own.xs, K_d, team->raw_ih, G_IN, H, D, p, c);
                continue;
            }
#endif
            product(tiles_x, ROWS(NV_X), m, K_d, (elem *)own.xs, K_d, team->w + p * K_d * NV_X * VL, c, NV_X * VL);
        }
        m = 0;
        for (i64 t = t0; t < t1; t++) {
            const i64 n = rows_at(team, &place, t);
            EACH_PHASE(forward_phase, team, job, &place, &own, t, n, m);
            m += n;
        }
    }
    amx_end();
    for (i64 i = place.row0; i < B; i += step_rows) { /* the end */
        const i64 b = row_of(job, i);
        for (i64 j = p0 * U * VL; j < least(p1 * U * VL, H); j += VL)
            for (i64 k = 0; k < STATES; k++)
                put_some(job->state1[k] + b * H + j, get(team->carry + (k * B + i) * Hp + j), H - j);
        if (job->lengths && place.unit == 0)
            for (i64 t = job->lengths[i]; t < T; t++) {
                memset(job->y + b * job->y_b + t * job->y_t, 0, (size_t)H * sizeof(item));
                for (i64 j = 0; job->saved && j < Hp; j += VL)
                    memset(job->saved + ((t * Hp + j) * B + i * VL) * SAVED, 0, (size_t)(SAVED * VL) * sizeof(item));
                if (job->saved && SAVED_ROW) memset(saved_of_row(job, t, i), 0, (size_t)(SAVED_ROW * VL) * sizeof(item));
            }
    }
}

const int saved_values = SAVED, saved_row_values = SAVED_ROW;
i64 lanes(void) { return VL; }
i64 padded_units(i64 H) { return padded(H); }

/* Rows of x, and of h, that weights must meet for packing to pay. */
#ifndef DIRECT_ROWS
#define DIRECT_ROWS (job->H < 32 ? (i64)0 : job->H < 128 ? (i64)12 : (i64)32)
#endif

int forward(const Job *job) {
    for (i64 limit = job->threads;; limit = 1) {
        Team team = {.job = job, .Hp = padded(job->H), .K_h = depth(job->H), .K_d = depth(job->D)};
        team.work = forward_thread;
        plan(job, &team, limit, !TOTALS && few_or_many(job));
        const i64 P = panels(job->H);
        team.scratch_size = own_size(&team);
        const int few = PER == 1 && job->B * job->T <= DIRECT_ROWS;
        team.raw_ih = few && !job->packed_ih ? job->w_ih : 0;
        team.raw_hh = few && !job->packed_hh ? job->w_hh : 0;
        const size_t w_size = job->packed_ih || team.raw_ih ? 0 : (size_t)packed_size(G_IN, job->H, job->D);
        const size_t r_size = job->packed_hh || team.raw_hh ? 0 : (size_t)packed_size(G_HID + INNER, job->H, job->H);
        const size_t b_size = (size_t)(P * (NV_H + INNER * U) * VL) * sizeof(real);
        const size_t totals_size = (size_t)(job->B * TOTALS * team.unit_groups) * sizeof(real);
        char *memory = job->source.take(w_size + r_size + b_size + totals_size + (size_t)(P * NV_X * VL) * sizeof(real) +
                            (size_t)((2 + INNER) * job->B * team.Hp) * sizeof(item) +
                            (size_t)(STATES * job->B * team.Hp) * sizeof(real) + (size_t)(job->T + 1) * sizeof(i64) +
                            (size_t)(team.row_groups + 1) * sizeof(Barrier) +
                            (size_t)team.threads * team.scratch_size + 1024);
        if (!memory) return 2;
        Arena arena = {memory};
        team.barriers = part(&arena, (size_t)(team.row_groups + 1) * sizeof(Barrier));
        memset(team.barriers, 0, (size_t)(team.row_groups + 1) * sizeof(Barrier));
        team.active = part(&arena, (size_t)(job->T + 1) * sizeof(i64));
        count_active(job, team.active);
        team.w = job->packed_ih ? job->packed_ih : part(&arena, w_size);
        team.r = job->packed_hh ? job->packed_hh : part(&arena, r_size);
        team.b_in = part(&arena, (size_t)(P * NV_X * VL) * sizeof(real));
        team.b_hid = part(&arena, b_size);
        team.h = part(&arena, (size_t)(2 * job->B * team.Hp) * sizeof(item));
        team.inner = part(&arena, (size_t)(INNER * job->B * team.Hp) * sizeof(item));
        if (team.Hp >= job->H + VL) { /* units that no panel has */
            memset(team.h, 0, (size_t)(2 * job->B * team.Hp) * sizeof(item));
            memset(team.inner, 0, (size_t)(INNER * job->B * team.Hp) * sizeof(item));
        }
        team.totals = part(&arena, totals_size);
        team.carry = part(&arena, (size_t)(STATES * job->B * team.Hp) * sizeof(real));
        team.scratch = part(&arena, (size_t)team.threads * team.scratch_size);
        const int failed = run(&team);
        job->source.give(memory);
        if (!failed) return 0;
    }
}


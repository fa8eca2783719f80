/* Backward: from the last step to the first, in chunks of steps; then the products over the rows of a chunk. */

#ifndef CHUNK_ROWS
#define CHUNK_ROWS (COLS * job->H >= 4096 ? (i64)1024 : (i64)512) /* rows whose gradients are gathered before the products over rows */
#endif

static i64 chunk_start(const Team *team, i64 end) { /* the first step of the chunk that ends before `end` */
    i64 rows = 0, t = end;
    while (t > 0 && (t == end || rows + team->active[t - 1] <= team->chunk_rows)) rows += team->active[--t];
    return t;
}

typedef struct { /* what a thread has for itself */
    i64 p0, p1, rows;   /* its panels of units; rows of one step at most */
    real *after;        /* (1 + INNER, rows, NV_N): products with R^T */
    V *temp;            /* (units, rows, TEMPS_BACK, and what zoneout gives back): for later phases */
    V *total;           /* (rows, TOTALS_BACK) */
    V *scalar;          /* (rows, SCALARS_BACK) */
    real *dx;
} OwnBack;

#define DX_MORE (PER * DEEP) /* rows of a thread beyond an equal share */
#define LEFT (PHASES_BACK > 1 ? TEMPS_BACK + STATES : 0)

/* c (rows, NV_N) = gradients of some gates (rows ldg apart, in these columns) times their weights, K elems of each */
INLINE void gradients_times(const Job *job, i64 rows, const item *dg, i64 ldg, const i64 gates, const i64 *columns, i64 K,
                            const elem *weights, i64 gate_size, real *c) {
    const i64 Hp = padded(job->H);
#ifdef AMX
    if (by_amx(job)) {
        const AmxSides sides = {.a = (const elem *)dg, .lda = ldg / PER, .b = weights, .K = K, .parts = gates,
                                .piece = gate_size, .at = columns, .unit = Hp / PER};
        amx_product(rows, NV_N, sides, 0, c, NV_N * VL);
        return;
    }
#endif
    memset(c, 0, (size_t)(rows * NV_N * VL) * sizeof(real));
    for (i64 g = 0; g < gates; g++)
        product(tiles_n, ROWS(NV_N), rows, K, (const elem *)(dg + columns[g] * Hp), ldg / PER, weights + g * gate_size, c,
                NV_N * VL);
}

/* one phase of the gradients of a step's gates, for a thread's rows and units */
INLINE void backward_phase(const int phase, Team *team, const Job *job, const Place *place, const OwnBack *own, i64 t,
                           const item *dg_after, item *dg, item *inner_to) {
    real *const carry = team->carry, *const after = own->after;
    const item *const h0 = team->h0;
    const i64 T = job->T, H = job->H, B = job->B, Hp = team->Hp, ldg = team->ldg, step_rows = place->row_step;
    const i64 n = t < 0 ? rows_at(team, place, 0) : rows_at(team, place, t), n1 = rows_at(team, place, t + 1);
    const i64 panel = team->K_h * NV_N * VL;
    if (t < 0 && phase > 0) return;
    for (i64 q = 0; SCALARS_BACK && t >= 0 && q < n; q++) { /* the values of rows */
        V total[TOTALS_BACK + 1], keep[SAVED_ROW + 1];
        const Across across = {.H = (real)H};
        const i64 i = place->row0 + q * step_rows;
        get_totals(team, i, place->unit, TOTALS_BACK, TOTAL_BACK_AT, TOTAL_BACK_HOW, phase, total);
        for (i64 k = 0; phase == 0 && k < SAVED_ROW; k++) keep[k] = load(saved_of_row(job, t, i) + k * VL);
        step_back_row(phase, total, own->scalar + q * SCALARS_BACK, keep, &across);
        for (i64 k = 0; k < TOTALS_BACK; k++)
            if (TOTAL_BACK_AT[k] == phase + 1) own->total[q * TOTALS_BACK + k] = gathered_from(TOTAL_BACK_HOW[k]);
    }
    for (i64 p = own->p0; p < own->p1; p++) {
#if G_HID
        /* R^T of the gradients of the step after, for the rows that were at work then */
        if (phase == 0) {
            const i64 k0 = head_start(job, p * NV_N * VL), k1 = head_end(job, (p + 1) * NV_N * VL);
            gradients_times(job, n1, dg_after + place->row0 * ldg + k0 * PER, step_rows * ldg, G_HID, COL_HID, k1 - k0,
                            team->r + p * (G_HID + INNER) * panel + k0 * NV_N * VL, panel, after);
        }
#endif
#if INNER
        for (i64 g = 0; g < INNER; g++)
            if (INNER_BACK_AT[g] == phase)
                gradients_times(job, n, dg + place->row0 * ldg, step_rows * ldg, 1, COL_HID + G_HID + g, team->K_h,
                                team->r + (p * (G_HID + INNER) + G_HID + g) * panel, panel,
                                after + (1 + g) * own->rows * NV_N * VL);
#endif
        (void)dg_after, (void)n1, (void)panel;
        for (i64 v = 0; v < NV_N; v++) {
            const i64 j = (p * NV_N + v) * VL;
            if (j >= H) break;
            V w[UNITS + 1], sums[SUMS + 1];
            for (i64 k = 0; k < UNITS; k++) w[k] = get_some(job->units + k * H + j, H - j);
            for (i64 k = 0; k < SUMS; k++) sums[k] = (V){0};
            for (i64 q = 0; q < n; q++) {
                const i64 i = place->row0 + q * step_rows, b = row_of(job, i);
                V d[STATES], s[STATES], keep[SAVED + 1], gates[COLS], ds[STATES], sum[SUMS + 1];
                V old[STATES], back[INNER + 1], inner[INNER + 1];
                V *temp = own->temp + (((p - own->p0) * NV_N + v) * own->rows + q) * LEFT;
                if (phase == 0) {
                    for (i64 k = 0; k < STATES; k++) d[k] = get(carry + (k * B + i) * Hp + j);
#if G_HID
                    if (q < n1 && !is_reset(job, b, t + 1)) {
                        V more = get(after + (q * NV_N + v) * VL);
                        if (job->mask) more *= get_some(job->mask + b * H + j, H - j);
                        d[0] += more;
                    }
#endif
                    if (t < 0) { /* before the first step: the gradient of the initial state */
                        put(carry + i * Hp + j, d[0]);
                        continue;
                    }
                    if (job->dy) d[0] += load_some(job->dy + b * job->dy_b + t * job->dy_t + j, H - j);
                    for (i64 k = 0; k < STATES; k++) {
                        old[k] = (V){0};
                        if (job->zone[k] || job->rate[k] != 0) {
                            V rate = job->zone[k] ? get_some(job->zone[k] + (b * T + t) * H + j, H - j) : all(job->rate[k]);
                            old[k] = rate * d[k];
                            d[k] -= old[k];
                        }
                        if (PHASES_BACK > 1) temp[TEMPS_BACK + k] = old[k];
                    }
                } else
                    for (i64 k = 0; k < STATES; k++) old[k] = temp[TEMPS_BACK + k];
                for (i64 g = 0; g < INNER; g++)
                    if (INNER_BACK_AT[g] == phase) {
                        back[g] = get(after + (((1 + g) * own->rows + q) * NV_N + v) * VL);
                        if (job->mask) back[g] *= get_some(job->mask + b * H + j, H - j);
                    }
                const item *saved = job->saved + ((t * Hp + j) * B + i * VL) * SAVED;
                for (i64 k = 0; k < SAVED; k++) keep[k] = load(saved + k * VL);
                const int reset = is_reset(job, b, t);
                s[0] = reset    ? (V){0}
                       : t == 0 ? load(h0 + i * Hp + j)
                                : load_some(job->y + b * job->y_b + (t - 1) * job->y_t + j, H - j);
                const Across across = {back, own->scalar + q * SCALARS_BACK, temp, own->total + q * TOTALS_BACK, inner,
                                       (real)H, H - j};
                step_back(phase, keep, s, w, d, gates, ds, sum, &across);
                for (i64 k = 0; k < COLS; k++)
                    if (COL_AT[k] == phase) store(dg + i * ldg + k * Hp + j, first(gates[k], H - j));
                for (i64 g = 0; phase == 0 && g < INNER; g++) store(inner_to + (i * INNER + g) * Hp + j, inner[g]);
                for (i64 k = 0; phase == PHASES_BACK - 1 && k < STATES; k++)
                    put(carry + (k * B + i) * Hp + j, reset ? (V){0} : first(ds[k] + old[k], H - j));
                for (i64 k = 0; k < SUMS; k++)
                    if (SUM_AT[k] == phase) sums[k] += sum[k];
            }
            for (i64 k = 0; t >= 0 && k < SUMS; k++)
                if (SUM_AT[k] == phase) {
                    real *to = team->sums + ((place->group * 2) * SUMS + k) * Hp + j;
                    put(to, get(to) + sums[k]);
                }
        }
    }
    for (i64 q = 0; TOTALS_BACK && t >= 0 && q < n; q++)
        put_totals(team, place->row0 + q * step_rows, place->unit, TOTALS_BACK, TOTAL_BACK_AT, TOTAL_BACK_HOW,
                   phase, own->total + q * TOTALS_BACK);
    if (t >= 0 && (G_HID || PHASES_BACK > 1)) wait_for(place->barrier, place->unit_groups);
}

static OwnBack own_back_of(const Team *team, i64 thread) {
    const Place place = place_of(team, thread);
    OwnBack own = {.rows = up(team->job->B, place.row_step)};
    share(wide(team->job->H), 1, place.unit, place.unit_groups, &own.p0, &own.p1);
    const i64 panels_ = up(wide(team->job->H), place.unit_groups);
    Arena arena = {team->scratch + thread * team->scratch_size};
    own.after = part(&arena, (size_t)((1 + INNER) * own.rows * NV_N * VL) * sizeof(real));
    own.temp = part(&arena, (size_t)(panels_ * NV_N * own.rows * LEFT) * sizeof(V));
    own.total = part(&arena, (size_t)(own.rows * TOTALS_BACK) * sizeof(V));
    own.scalar = part(&arena, (size_t)(own.rows * SCALARS_BACK) * sizeof(V));
    own.dx = part(&arena, (size_t)((up(team->chunk_rows, team->threads) + DX_MORE) * NV_N * VL) * sizeof(real));
    return own;
}
static size_t own_back_size(const Team *team) { /* memory that own_back_of takes, in whole pages */
    const i64 rows = up(team->job->B, team->row_groups), panels_ = up(wide(team->job->H), team->unit_groups);
    size_t size = (size_t)(((1 + INNER) * rows + up(team->chunk_rows, team->threads) + DX_MORE) * NV_N * VL) * sizeof(real);
    size += (size_t)(panels_ * NV_N * rows * LEFT + rows * (TOTALS_BACK + SCALARS_BACK)) * sizeof(V) + 5 * 64;
    return (size + 4095) & ~(size_t)4095;
}

static void backward_thread(Team *team, i64 thread) {
    const Job own_job = *team->job, *job = &own_job; /* a copy, that no store can be thought to change */
    const i64 T = job->T, D = job->D, H = job->H, B = job->B, Hp = team->Hp, K_h = team->K_h, ldg = team->ldg;
    const i64 threads = team->threads;
    const Place place = place_of(team, thread);
    const i64 step_rows = place.row_step;
    Barrier *everyone = team->barriers + team->row_groups;
    i64 p0, p1, m0, m1, j0, j1;

    share(wide(H), 1, thread, threads, &p0, &p1);
    if (G_HID + INNER) pack_transposed((elem *)team->r, job->w_hh, G_HID + INNER, H, H, p0, p1);
    if (job->dx) {
        share(wide(D), 1, thread, threads, &p0, &p1);
        pack_transposed((elem *)team->w, job->w_ih, G_IN, H, D, p0, p1);
    }
    const OwnBack own = own_back_of(team, thread);
    p0 = own.p0, p1 = own.p1;
    const i64 from = p0 * NV_N * VL, to = least(p1 * NV_N * VL, Hp);
    for (i64 i = place.row0; i < B; i += step_rows)
        for (i64 j = from; j < to; j += VL) {
            const i64 b = row_of(job, i);
            for (i64 k = 0; k < STATES; k++)
                put(team->carry + (k * B + i) * Hp + j, get_some(job->dstate1[k] + b * H + j, H - j));
            store(team->h0 + i * Hp + j, get_some(job->state0[0] + b * H + j, H - j));
        }
    for (i64 k = 0; k < 2 * SUMS; k++)
        for (i64 j = from; j < to; j += VL) put(team->sums + (place.group * 2 * SUMS + k) * Hp + j, (V){0});
    wait_for(everyone, threads);

    i64 end = T, chunk = 0;
    const item *dg_after = 0;
    for (; end > 0; chunk++) {
        const i64 start = chunk_start(team, end);
        item *base = team->dg[chunk & 1];
        i64 rows = 0;
        for (i64 t = start; t < end; t++) rows += team->active[t];
        const i64 all_rows = rows;
        for (i64 t = end - 1; t >= start; t--) {
            rows -= team->active[t];
            item *dg = base + rows * ldg, *inner = team->inner + rows * INNER * Hp;
            EACH_PHASE_BACK(backward_phase, team, job, &place, &own, t, dg_after, dg, inner);
            dg_after = dg;
        }
        for (i64 k = 0; k < SUMS; k++) /* sums of sums keep more digits than one long sum */
            for (i64 j = from; j < to; j += VL) {
                real *part_sum = team->sums + (place.group * 2 * SUMS + k) * Hp + j, *total = part_sum + SUMS * Hp;
                put(total, get(total) + get(part_sum));
                put(part_sum, (V){0});
            }
        rows = all_rows;
        /* the rows of the chunk: x, h before the step, and what inner gates multiplied */
        const i64 K = depth(rows);
        share(rows, by_amx(job) ? PER * DEEP : PER, thread, threads, &m0, &m1);
        for (i64 t = start, m = 0; t < end; m += team->active[t++])
            for (i64 i = most(0, m0 - m); i < least(team->active[t], m1 - m); i++) {
                const i64 b = row_of(job, i);
                team->x_rows[m + i] = job->x + b * job->x_b + t * job->x_t;
#if G_HID
                team->h_rows[m + i] = is_reset(job, b, t) ? team->h0 + B * Hp /* zeros */
                                      : t == 0            ? team->h0 + i * Hp
                                                          : job->y + b * job->y_b + (t - 1) * job->y_t;
#endif
                if (G_HID + INNER) team->h_masks[m + i] = job->mask ? job->mask + b * H : 0;
                for (i64 g = 0; g < INNER; g++)
                    team->inner_rows[g * team->chunk_rows + m + i] = team->inner + ((m + i) * INNER + g) * Hp;
            }
        wait_for(everyone, threads); /* all gradients of the chunk, all row addresses */
        const i64 k0 = m0 / PER, k1 = m0 == m1 ? k0 : m1 == rows ? K : m1 / PER;
        if (job->dw_ih) pack_rows(team->x_panels, team->x_rows, 0, rows, team->K_rows, D, k0, k1);
        const i64 h_size = wide(H) * team->K_rows * NV_N * VL; /* of one set of panels */
        if (G_HID && job->dw_hh) pack_rows(team->h_panels, team->h_rows, team->h_masks, rows, team->K_rows, H, k0, k1);
        for (i64 g = 0; job->dw_hh && g < INNER; g++)
            pack_rows(team->h_panels + (1 + g) * h_size, team->inner_rows + g * team->chunk_rows, team->h_masks, rows,
                      team->K_rows, H, k0, k1);
        const elem *dg_k = gradient_pairs(team, base, rows, k0, k1);
        /* dx = dg W, for this thread's rows */
        for (i64 p = 0; job->dx && p < wide(D); p++) {
            const i64 n = p * NV_N * VL;
            gradients_times(job, m1 - m0, base + m0 * ldg, ldg, G_IN, COL_IN, K_h, team->w + p * G_IN * K_h * NV_N * VL,
                            K_h * NV_N * VL, own.dx);
            for (i64 t = start, m = 0; t < end; m += team->active[t++])
                for (i64 i = most(0, m0 - m); i < least(team->active[t], m1 - m); i++) {
                    item *row = job->dx + row_of(job, i) * job->dx_b + t * job->dx_t + n;
                    for (i64 v = 0; v < NV_N && n + v * VL < D; v++)
                        store_some(row + v * VL, get(own.dx + ((m + i - m0) * NV_N + v) * VL), D - n - v * VL);
                }
        }
        wait_for(everyone, threads);
        /* dW += dg^T x, dR += dg^T h, db += sum of dg, for this thread's gates */
        share(H, VL, thread, threads, &j0, &j1);
        for (i64 g = 0; end == T && g < G_IN; g++)
            if (job->dw_ih) memset(job->dw_ih + (g * H + j0) * D, 0, (size_t)((j1 - j0) * D) * sizeof(real));
        for (i64 g = 0; end == T && g < G_HID + INNER; g++)
            if (job->dw_hh) memset(job->dw_hh + (g * H + j0) * H, 0, (size_t)((j1 - j0) * H) * sizeof(real));
        for (i64 g = 0; job->dw_ih && g < G_IN; g++)
            weight_gradient(team, COL_IN[g], g, j0, j1, dg_k, team->x_panels, K, D, job->dw_ih, 1);
        for (i64 g = 0; job->dw_hh && g < G_HID; g++)
            weight_gradient(team, COL_HID[g], g, j0, j1, dg_k, team->h_panels, K, H, job->dw_hh, job->heads);
        for (i64 g = 0; job->dw_hh && g < INNER; g++)
            weight_gradient(team, COL_HID[G_HID + g], G_HID + g, j0, j1, dg_k, team->h_panels + (1 + g) * h_size, K, H,
                            job->dw_hh, 1);
        if (job->db) bias_gradient(team, base, rows, j0, j1);
        wait_for(everyone, threads);
        end = start;
    }
    backward_phase(0, team, job, &place, &own, -1, dg_after, 0, 0); /* into the initial state */
    amx_end();
    for (i64 i = place.row0; i < B; i += step_rows) {
        const i64 b = row_of(job, i);
        for (i64 j = from; j < least(to, H); j += VL)
            for (i64 k = 0; k < STATES; k++)
                put_some(job->dstate0[k] + b * H + j, get(team->carry + (k * B + i) * Hp + j), H - j);
        if (job->dx && job->lengths && place.unit == 0)
            for (i64 t = job->lengths[i]; t < T; t++)
                memset(job->dx + b * job->dx_b + t * job->dx_t, 0, (size_t)D * sizeof(item));
    }
    wait_for(everyone, threads);
    share(SUMS * Hp, VL, thread, threads, &j0, &j1);
    for (i64 j = j0; j < j1; j += VL) {
        V sum = {0};
        for (i64 g = 0; g < team->row_groups; g++) sum += get(team->sums + (g * 2 + 1) * SUMS * Hp + j);
        put(job->dunits + j, sum);
    }
}

int backward(const Job *job) {
    for (i64 limit = job->threads;; limit = 1) {
        Team team = {.job = job, .Hp = padded(job->H), .K_h = depth(job->H)};
        const i64 B = job->B, H = job->H, D = job->D;
        team.work = backward_thread;
        team.chunk_rows = most(B, CHUNK_ROWS);
        if (team.chunk_rows > B * job->T) team.chunk_rows = B * job->T;
        const i64 end = job->T % team.chunk_rows; /* a thread with a single row adds in another order */
        plan(job, &team, limit, !TOTALS_BACK && !SUMS && few_or_many(job) && (B > 1 || !end || end >= 2 * job->threads));
        team.K_rows = depth(team.chunk_rows);
        team.ldg = COLS * team.Hp + 64 / (i64)sizeof(item); /* not a power of two: rows must not share a cache set */
        team.scratch_size = own_back_size(&team);
        const size_t rows = (size_t)team.chunk_rows;
        const size_t w_size = job->dx ? (size_t)(wide(D) * G_IN * team.K_h * NV_N * VL) * sizeof(elem) : 0;
        const size_t r_size = (size_t)(wide(H) * (G_HID + INNER) * team.K_h * NV_N * VL) * sizeof(elem);
        const size_t x_size = (size_t)(wide(D) * team.K_rows * NV_N * VL) * sizeof(elem);
        const size_t h_size = G_HID + INNER ? (size_t)((1 + INNER) * wide(H) * team.K_rows * NV_N * VL) * sizeof(elem) : 0;
        const size_t inner_size = rows * (size_t)(INNER * team.Hp) * sizeof(item);
        const size_t totals_size = (size_t)(B * TOTALS_BACK * team.unit_groups) * sizeof(real);
        const size_t dg_size = rows * (size_t)team.ldg * sizeof(item);
        const size_t pairs_size = PER == 2 ? (size_t)(team.K_rows * team.ldg) * sizeof(elem) : 0;
        const size_t sums_size = (size_t)(team.row_groups * 2 * SUMS * team.Hp) * sizeof(real);
        const size_t barriers_size = (size_t)(team.row_groups + 1) * sizeof(Barrier);
        char *memory = job->source.take(w_size + r_size + x_size + h_size + inner_size + totals_size + 2 * dg_size + pairs_size + sums_size + barriers_size +
                            (size_t)(STATES * B * team.Hp) * sizeof(real) + (size_t)((B + 1) * team.Hp) * sizeof(item) +
                            (size_t)(job->T + 1) * sizeof(i64) + (3 + INNER) * rows * sizeof(void *) +
                            (size_t)team.threads * team.scratch_size + 2048);
        if (!memory) return 2;
        Arena arena = {memory};
        team.barriers = part(&arena, barriers_size);
        memset(team.barriers, 0, barriers_size);
        team.active = part(&arena, (size_t)(job->T + 1) * sizeof(i64));
        count_active(job, team.active);
        team.w = part(&arena, w_size);
        team.r = part(&arena, r_size);
        team.x_panels = part(&arena, x_size);
        team.h_panels = part(&arena, h_size);
        team.dg[0] = part(&arena, dg_size);
        team.dg[1] = part(&arena, dg_size);
        for (i64 m = 0; team.Hp >= H + VL && m < 2 * team.chunk_rows; m++) /* units that no vector has */
            for (i64 c = 1; c <= COLS; c++)
                memset(team.dg[m & 1] + m / 2 * team.ldg + c * team.Hp - VL, 0, (size_t)VL * sizeof(item));
        team.dg_pairs = part(&arena, pairs_size);
        team.sums = part(&arena, sums_size);
        team.carry = part(&arena, (size_t)(STATES * B * team.Hp) * sizeof(real));
        team.h0 = part(&arena, (size_t)((B + 1) * team.Hp) * sizeof(item));
        memset(team.h0 + B * team.Hp, 0, (size_t)team.Hp * sizeof(item));
        team.x_rows = part(&arena, rows * sizeof(void *));
        team.h_rows = part(&arena, rows * sizeof(void *));
        team.h_masks = part(&arena, rows * sizeof(void *));
        team.inner_rows = part(&arena, INNER * rows * sizeof(void *));
        team.inner = part(&arena, inner_size);
        team.totals = part(&arena, totals_size);
        team.scratch = part(&arena, (size_t)team.threads * team.scratch_size);
        const int failed = run(&team);
        job->source.give(memory);
        if (!failed) return 0;
    }
}

/* Backward: from the last step to the first, in chunks of steps; then the products over the rows of a chunk. */

#ifndef CHUNK_ROWS
#define CHUNK_ROWS (COLS * job->H >= 4096 ? (i64)1024 : (i64)512) /* rows whose gradients are gathered before the products over rows */
#endif

static i64 chunk_start(const Team *team, i64 end) { /* the first step of the chunk that ends before `end` */
    i64 rows = 0, t = end;
    while (t > 0 && (t == end || rows + team->active[t - 1] <= team->chunk_rows)) rows += team->active[--t];
    return t;
}

/* the gradients of one step's gates, for this thread's rows and units */
static void backward_step(Team *team, const Place *place, i64 t, i64 p0, i64 p1, const item *dg_after, item *dg,
                          real *after) {
    const Job own = *team->job, *job = &own; /* a copy, that no store can be thought to change */
    real *const carry = team->carry;
    const item *const h0 = team->h0;
    const i64 T = job->T, H = job->H, B = job->B, Hp = team->Hp, ldg = team->ldg, step_rows = place->row_step;
    const i64 n = t < 0 ? rows_at(team, place, 0) : rows_at(team, place, t), n1 = rows_at(team, place, t + 1);
    for (i64 p = p0; p < p1; p++) {
#if G_HID
        /* R^T of the gradients of the step after, for the rows that were at work then */
        memset(after, 0, (size_t)(n1 * NV_N * VL) * sizeof(real));
        const i64 k0 = head_start(job, p * NV_N * VL), k1 = head_end(job, (p + 1) * NV_N * VL);
        for (i64 g = 0; g < G_HID && n1; g++)
            product(tiles_n, ROWS(NV_N), n1, k1 - k0,
                    (const elem *)(dg_after + place->row0 * ldg + COL_HID[g] * Hp) + k0, step_rows * ldg / PER,
                    team->r + ((p * G_HID + g) * team->K_h + k0) * NV_N * VL, after, NV_N * VL);
#endif
        for (i64 v = 0; v < NV_N; v++) {
            const i64 j = (p * NV_N + v) * VL;
            if (j >= H) break;
            V w[UNITS + 1], sums[SUMS + 1];
            for (i64 k = 0; k < UNITS; k++) w[k] = get_some(job->units + k * H + j, H - j);
            for (i64 k = 0; k < SUMS; k++) sums[k] = (V){0};
            for (i64 q = 0; q < n; q++) {
                const i64 i = place->row0 + q * step_rows, b = row_of(job, i);
                V d[STATES], s[STATES], keep[SAVED + 1], gates[COLS], ds[STATES], sum[SUMS + 1];
                for (i64 k = 0; k < STATES; k++) d[k] = get(carry + (k * B + i) * Hp + j);
#if G_HID
                if (q < n1 && !is_reset(job, b, t + 1)) {
                    V back = get(after + (q * NV_N + v) * VL);
                    if (job->mask) back *= get_some(job->mask + b * H + j, H - j);
                    d[0] += back;
                }
#endif
                if (t < 0) { /* before the first step: the gradient of the initial state */
                    put(carry + i * Hp + j, d[0]);
                    continue;
                }
                if (job->dy) d[0] += load_some(job->dy + b * job->dy_b + t * job->dy_t + j, H - j);
                V old[STATES];
                for (i64 k = 0; k < STATES; k++) {
                    old[k] = (V){0};
                    if (job->zone[k] || job->rate[k] != 0) {
                        V rate = job->zone[k] ? get_some(job->zone[k] + (b * T + t) * H + j, H - j) : all(job->rate[k]);
                        old[k] = rate * d[k];
                        d[k] -= old[k];
                    }
                }
                const item *saved = job->saved + ((t * Hp + j) * B + i * VL) * SAVED;
                for (i64 k = 0; k < SAVED; k++) keep[k] = load(saved + k * VL);
                const int reset = is_reset(job, b, t);
                s[0] = reset    ? (V){0}
                       : t == 0 ? load(h0 + i * Hp + j)
                                : load_some(job->y + b * job->y_b + (t - 1) * job->y_t + j, H - j);
                step_back(keep, s, w, d, gates, ds, sum);
                for (i64 k = 0; k < COLS; k++)
                    store(dg + i * ldg + k * Hp + j, first(gates[k], H - j));
                for (i64 k = 0; k < STATES; k++)
                    put(carry + (k * B + i) * Hp + j, reset ? (V){0} : first(ds[k] + old[k], H - j));
                for (i64 k = 0; k < SUMS; k++) sums[k] += sum[k];
            }
            for (i64 k = 0; k < SUMS; k++) {
                real *to = team->sums + ((place->group * 2) * SUMS + k) * Hp + j;
                put(to, get(to) + sums[k]);
            }
        }
    }
}

/* c (rows of W or R) += gradients^T x over the rows of a chunk, for this thread's gates of one column */
static void weight_gradient(const Team *team, i64 column, i64 gate, i64 j0, i64 j1, const elem *dg, const elem *panels_,
                            i64 K, i64 N, real *to, i64 heads) {
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

static void backward_thread(Team *team, i64 thread) {
    const Job *job = team->job;
    const i64 T = job->T, D = job->D, H = job->H, B = job->B, Hp = team->Hp, K_h = team->K_h, ldg = team->ldg;
    const i64 threads = team->threads;
    Place place = place_of(team, thread);
    const i64 step_rows = place.row_step;
    Barrier *everyone = team->barriers + team->row_groups;
    i64 p0, p1, m0, m1, j0, j1;

#if G_HID
    share(wide(H), 1, thread, threads, &p0, &p1);
    pack_transposed((elem *)team->r, job->w_hh, G_HID, H, H, p0, p1);
#endif
    if (job->dx) {
        share(wide(D), 1, thread, threads, &p0, &p1);
        pack_transposed((elem *)team->w, job->w_ih, G_IN, H, D, p0, p1);
    }
    share(wide(H), 1, place.unit, place.unit_groups, &p0, &p1);
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

    Arena arena = {team->scratch + thread * team->scratch_size};
    real *after = part(&arena, (size_t)(up(B, step_rows) * NV_N * VL) * sizeof(real));
    real *dx = part(&arena, (size_t)((up(team->chunk_rows, threads) + 2) * NV_N * VL) * sizeof(real));

    i64 end = T, chunk = 0;
    const item *dg_after = 0;
    for (; end > 0; chunk++) {
        const i64 start = chunk_start(team, end);
        item *base = team->dg[chunk & 1];
        i64 rows = 0;
        for (i64 t = start; t < end; t++) rows += team->active[t];
        item *dg = base + rows * ldg;
        for (i64 t = end - 1; t >= start; t--) {
            dg -= team->active[t] * ldg;
            backward_step(team, &place, t, p0, p1, dg_after, dg, after);
            dg_after = dg;
#if G_HID
            wait_for(place.barrier, place.unit_groups);
#endif
        }
        for (i64 k = 0; k < SUMS; k++) /* sums of sums keep more digits than one long sum */
            for (i64 j = from; j < to; j += VL) {
                real *part_sum = team->sums + (place.group * 2 * SUMS + k) * Hp + j, *total = part_sum + SUMS * Hp;
                put(total, get(total) + get(part_sum));
                put(part_sum, (V){0});
            }
        /* the rows of the chunk: x, and h before the step */
        const i64 K = up(rows, PER);
        share(rows, PER, thread, threads, &m0, &m1);
        for (i64 t = start, m = 0; t < end; m += team->active[t++])
            for (i64 i = most(0, m0 - m); i < least(team->active[t], m1 - m); i++) {
                const i64 b = row_of(job, i);
                team->x_rows[m + i] = job->x + b * job->x_b + t * job->x_t;
#if G_HID
                team->h_rows[m + i] = is_reset(job, b, t) ? team->h0 + B * Hp /* zeros */
                                      : t == 0            ? team->h0 + i * Hp
                                                          : job->y + b * job->y_b + (t - 1) * job->y_t;
                team->h_masks[m + i] = job->mask ? job->mask + b * H : 0;
#endif
            }
        wait_for(everyone, threads); /* all gradients of the chunk, all row addresses */
        const i64 k0 = m0 / PER, k1 = up(m1, PER);
        if (job->dw_ih) pack_rows(team->x_panels, team->x_rows, 0, rows, team->K_rows, D, k0, k1);
#if G_HID
        if (job->dw_hh) pack_rows(team->h_panels, team->h_rows, team->h_masks, rows, team->K_rows, H, k0, k1);
#endif
#ifdef BFLOAT16
        const elem *dg_k = team->dg_pairs;
        for (i64 k = k0; k < k1; k++)
            for (i64 j = 0; j < COLS * Hp; j += VL) {
                E low = (E)load(base + 2 * k * ldg + j) >> 16;
                E high = {0};
                if (2 * k + 1 < rows) high = (E)load(base + (2 * k + 1) * ldg + j);
                *(E *)(team->dg_pairs + k * ldg + j) = low | high;
            }
#else
        const elem *dg_k = base;
#endif
        /* dx = dg W, for this thread's rows */
        for (i64 p = 0; job->dx && p < wide(D); p++) {
            const i64 n = p * NV_N * VL;
            memset(dx, 0, (size_t)((m1 - m0) * NV_N * VL) * sizeof(real));
            for (i64 g = 0; g < G_IN; g++)
                product(tiles_n, ROWS(NV_N), m1 - m0, K_h, (const elem *)(base + m0 * ldg + COL_IN[g] * Hp), ldg / PER,
                        team->w + (p * G_IN + g) * K_h * NV_N * VL, dx, NV_N * VL);
            for (i64 t = start, m = 0; t < end; m += team->active[t++])
                for (i64 i = most(0, m0 - m); i < least(team->active[t], m1 - m); i++) {
                    item *row = job->dx + row_of(job, i) * job->dx_b + t * job->dx_t + n;
                    for (i64 v = 0; v < NV_N && n + v * VL < D; v++)
                        store_some(row + v * VL, get(dx + ((m + i - m0) * NV_N + v) * VL), D - n - v * VL);
                }
        }
        wait_for(everyone, threads);
        /* dW += dg^T x, dR += dg^T h, db += sum of dg, for this thread's gates */
        share(H, VL, thread, threads, &j0, &j1);
        for (i64 g = 0; end == T && g < G_IN; g++)
            if (job->dw_ih) memset(job->dw_ih + (g * H + j0) * D, 0, (size_t)((j1 - j0) * D) * sizeof(real));
        for (i64 g = 0; end == T && g < G_HID; g++)
            if (job->dw_hh) memset(job->dw_hh + (g * H + j0) * H, 0, (size_t)((j1 - j0) * H) * sizeof(real));
        for (i64 g = 0; job->dw_ih && g < G_IN; g++)
            weight_gradient(team, COL_IN[g], g, j0, j1, dg_k, team->x_panels, K, D, job->dw_ih, 1);
#if G_HID
        for (i64 g = 0; job->dw_hh && g < G_HID; g++)
            weight_gradient(team, COL_HID[g], g, j0, j1, dg_k, team->h_panels, K, H, job->dw_hh, job->heads);
#endif
        for (i64 c = 0; job->db && c < COLS; c++)
            for (i64 j = j0; j < j1; j += VL) {
                V sum = {0};
                for (i64 m = 0; m < rows; m++) sum += load(base + m * ldg + c * Hp + j);
                put(job->db + c * Hp + j, get(job->db + c * Hp + j) + sum);
            }
        wait_for(everyone, threads);
        end = start;
    }
    backward_step(team, &place, -1, p0, p1, dg_after, 0, after); /* into the initial state */
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
        Team team = {.job = job, .Hp = padded(job->H), .K_h = up(job->H, PER)};
        const i64 B = job->B, H = job->H, D = job->D;
        team.work = backward_thread;
        plan(job, &team, limit);
        team.chunk_rows = most(B, CHUNK_ROWS);
        if (team.chunk_rows > B * job->T) team.chunk_rows = B * job->T;
        team.K_rows = up(team.chunk_rows, PER);
        team.ldg = COLS * team.Hp + 64 / (i64)sizeof(item); /* not a power of two: rows must not share a cache set */
        team.scratch_size = (size_t)(up(B, team.row_groups) + up(team.chunk_rows, team.threads) + 2) * NV_N * VL * sizeof(real) + 256;
        team.scratch_size = (team.scratch_size + 4095) & ~(size_t)4095;
        const size_t rows = (size_t)team.chunk_rows;
        const size_t w_size = job->dx ? (size_t)(wide(D) * G_IN * team.K_h * NV_N * VL) * sizeof(elem) : 0;
        const size_t r_size = (size_t)(wide(H) * G_HID * team.K_h * NV_N * VL) * sizeof(elem);
        const size_t x_size = (size_t)(wide(D) * team.K_rows * NV_N * VL) * sizeof(elem);
        const size_t h_size = G_HID ? (size_t)(wide(H) * team.K_rows * NV_N * VL) * sizeof(elem) : 0;
        const size_t dg_size = rows * (size_t)team.ldg * sizeof(item);
        const size_t pairs_size = PER == 2 ? (size_t)(team.K_rows * team.ldg) * sizeof(elem) : 0;
        const size_t sums_size = (size_t)(team.row_groups * 2 * SUMS * team.Hp) * sizeof(real);
        const size_t barriers_size = (size_t)(team.row_groups + 1) * sizeof(Barrier);
        char *memory = job->source.take(w_size + r_size + x_size + h_size + 2 * dg_size + pairs_size + sums_size + barriers_size +
                            (size_t)(STATES * B * team.Hp) * sizeof(real) + (size_t)((B + 1) * team.Hp) * sizeof(item) +
                            (size_t)(job->T + 1) * sizeof(i64) + 3 * rows * sizeof(void *) +
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
        team.dg_pairs = part(&arena, pairs_size);
        team.sums = part(&arena, sums_size);
        team.carry = part(&arena, (size_t)(STATES * B * team.Hp) * sizeof(real));
        team.h0 = part(&arena, (size_t)((B + 1) * team.Hp) * sizeof(item));
        memset(team.h0 + B * team.Hp, 0, (size_t)team.Hp * sizeof(item));
        team.x_rows = part(&arena, rows * sizeof(void *));
        team.h_rows = part(&arena, rows * sizeof(void *));
        team.h_masks = part(&arena, rows * sizeof(void *));
        team.scratch = part(&arena, (size_t)team.threads * team.scratch_size);
        const int failed = run(&team);
        job->source.give(memory);
        if (!failed) return 0;
    }
}

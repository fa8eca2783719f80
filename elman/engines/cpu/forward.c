/* Forward: every row through all its steps. */

#ifndef X_CHUNK
#define X_CHUNK ((i64)96)         /* rows of x (of several steps, if few) that are multiplied by W at a time, at least */
#endif
#define X_BYTES ((i64)256 << 10)  /* and so many bytes of gates at most, where that is more */

static i64 x_steps(const Team *team) { /* steps whose W x is made at a time */
    const Job *job = team->job;
    i64 rows = up(job->B, team->row_groups), share_ = up(panels(job->H), team->unit_groups) * NV_X * VL;
    i64 fit = X_BYTES / (rows * share_ * (i64)sizeof(real));
    i64 least_rows = job->D * share_ * (i64)sizeof(item) > 4 << 20 ? 3 * X_CHUNK : X_CHUNK; /* W is beyond the cache */
    return most(1, least(job->T, most(fit, least_rows / rows)));
}

static void forward_thread(Team *team, i64 thread) {
    const Job own = *team->job, *job = &own; /* a copy, that no store can be thought to change */
    real *const carry = team->carry;
    const i64 T = job->T, D = job->D, H = job->H, B = job->B, Hp = team->Hp;
    const i64 K_d = team->K_d, K_h = team->K_h, P = panels(H);
    Place place = place_of(team, thread);
    const i64 step_rows = place.row_step;
    Barrier *everyone = team->barriers + team->row_groups;
    i64 p0, p1;

    share(P, 1, thread, team->threads, &p0, &p1); /* packing is shared by all */
    if (!job->packed_ih) pack((elem *)team->w, job->w_ih, G_IN, H, D, p0, p1);
    pack_bias(team->b_in, job->b_ih, G_IN, H, p0, p1);
#if G_HID
    if (!job->packed_hh) pack((elem *)team->r, job->w_hh, G_HID, H, H, p0, p1);
    pack_bias(team->b_hid, job->b_hh, G_HID, H, p0, p1);
#endif
    wait_for(everyone, team->threads);

    share(P, 1, place.unit, place.unit_groups, &p0, &p1);
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

    const i64 steps = x_steps(team), most_rows = up(B, step_rows);
    Arena arena = {team->scratch + thread * team->scratch_size};
    item *xs = part(&arena, (size_t)(steps * most_rows * K_d * PER) * sizeof(item));
    real *in = part(&arena, (size_t)((p1 - p0) * steps * most_rows * NV_X * VL) * sizeof(real));
    real *hid = part(&arena, (size_t)(ROWS(NV_H + !NV_H) * NV_H * VL) * sizeof(real));
    (void)hid;

    for (i64 t0 = 0; t0 < T; t0 += steps) {
        const i64 t1 = least(T, t0 + steps);
        /* W x + b for the rows of these steps */
        i64 m = 0;
        for (i64 t = t0; t < t1; t++)
            for (i64 q = 0, n = rows_at(team, &place, t); q < n; q++, m++) {
                item *row = xs + m * K_d * PER;
                memcpy(row, job->x + row_of(job, place.row0 + q * step_rows) * job->x_b + t * job->x_t,
                       (size_t)D * sizeof(item));
                if (K_d * PER > D) row[D] = 0;
            }
        for (i64 p = p0; p < p1; p++) {
            real *c = in + (p - p0) * steps * most_rows * NV_X * VL;
            for (i64 r = 0; r < m; r++) memcpy(c + r * NV_X * VL, team->b_in + p * NV_X * VL, NV_X * VL * sizeof(real));
#if PER == 1
            for (i64 r = 0; job->scale_ih && r < m; r++)
                tile_8_x(K_d, xs + r * K_d, (const int8_t *)team->w + p * K_d * NV_X * VL, job->scale_ih + p * NV_X * VL,
                         c + r * NV_X * VL);
            if (job->scale_ih) continue;
#endif
            product(tiles_x, ROWS(NV_X), m, K_d, (elem *)xs, K_d, team->w + p * K_d * NV_X * VL, c, NV_X * VL);
        }
        m = 0;
        for (i64 t = t0; t < t1; t++) {
            const i64 n = rows_at(team, &place, t);
            const item *now = team->h + (t & 1) * B * Hp;
            item *next = team->h + (~t & 1) * B * Hp;
            for (i64 p = p0; p < p1; p++) {
                V w[U][UNITS + 1];
                for (i64 u = 0; u < U; u++)
                    for (i64 k = 0; k < UNITS; k++) {
                        i64 j = (p * U + u) * VL;
                        w[u][k] = j < H ? get_some(job->units + k * H + j, H - j) : (V){0};
                    }
                for (i64 q = 0; q < n;) {
                    const i64 count = NV_H ? up(n - q, up(n - q, ROWS(NV_H + !NV_H))) : n - q;
#if G_HID
                    const i64 k0 = head_start(job, p * U * VL), k1 = head_end(job, (p + 1) * U * VL);
                    for (i64 r = 0; r < count; r++)
                        memcpy(hid + r * NV_H * VL, team->b_hid + p * NV_H * VL, NV_H * VL * sizeof(real));
#if PER == 1
                    for (i64 r = 0; job->scale_hh && r < count; r++)
                        tile_8_h(k1 - k0, now + (place.row0 + (q + r) * step_rows) * Hp + k0,
                                 (const int8_t *)team->r + (p * K_h + k0) * NV_H * VL, job->scale_hh + p * NV_H * VL,
                                 hid + r * NV_H * VL);
                    if (!job->scale_hh)
#endif
                        tiles_h[count](k1 - k0, (const elem *)(now + (place.row0 + q * step_rows) * Hp) + k0,
                                       step_rows * Hp / PER, team->r + (p * K_h + k0) * NV_H * VL, hid, NV_H * VL);
#else
                    (void)now;
#endif
                    for (i64 r = 0; r < count; r++, q++) {
                        const i64 i = place.row0 + q * step_rows, b = row_of(job, i);
                        const int reset = is_reset(job, b, t + 1);
                        const real *xg = in + ((p - p0) * steps * most_rows + m + q) * NV_X * VL;
                        const real *hg = hid + r * NV_H * VL;
                        (void)hg;
                        for (i64 u = 0; u < U; u++) {
                            const i64 j = (p * U + u) * VL;
                            if (j >= H) break;
                            V x[G_IN], h[G_HID + 1], s[STATES], new[STATES], keep[SAVED + 1];
                            for (i64 g = 0; g < G_IN; g++) x[g] = get(xg + (g * U + u) * VL);
                            for (i64 g = 0; g < G_HID; g++) h[g] = get(hg + (g * U + u) * VL);
                            for (i64 k = 0; k < STATES; k++) s[k] = get(carry + (k * B + i) * Hp + j);
                            step(x, h, s, w[u], new, keep);
                            if (job->saved)
                                for (i64 k = 0; k < SAVED; k++)
                                    store(job->saved + (((t * Hp + j) * B + i * VL) * SAVED + k * VL), keep[k]);
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
            m += n;
#if G_HID
            wait_for(place.barrier, place.unit_groups);
#endif
        }
    }
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
            }
    }
}

const int saved_values = SAVED;
i64 lanes(void) { return VL; }
i64 packed_size(i64 gates, i64 H, i64 N) { return panels(H) * up(N, PER) * gates * U * VL * (i64)sizeof(elem); }

/* W or R, packed for `forward` once and for all */
void pack_weights(elem *to, const real *from, i64 gates, i64 H, i64 N) { pack(to, from, gates, H, N, 0, panels(H)); }
#if PER == 1
/* the same in int8: the weights must be whole multiples of their row's scale (H gates) */
void pack_int8(int8_t *to, real *scales, const real *from, const real *scale, i64 gates, i64 H, i64 N) {
    const i64 nv = gates * U;
    for (i64 p = 0; p < panels(H); p++)
        for (i64 g = 0; g < gates; g++)
            for (i64 u = 0; u < U; u++)
                for (i64 lane = 0; lane < VL; lane++) {
                    const i64 j = (p * U + u) * VL + lane, column = (g * U + u) * VL + lane;
                    scales[p * nv * VL + column] = j < H ? scale[g * H + j] : 0;
                    for (i64 k = 0; k < N; k++)
                        to[(p * N + k) * nv * VL + column] =
                            j < H ? (int8_t)lrint(from[(g * H + j) * N + k] / scale[g * H + j]) : 0;
                }
}
#endif

/* A number that changes when parameters are written over, as far as 12 places of each can tell: torch counts
   all changes but those through .data, and an optimiser or a copy that goes that way changes all places. */
uint64_t sample_parameters(const Job *job) {
    uint64_t sum = 0;
    for (i64 n = 0; n < WATCHED && job->watched[n]; n++)
        for (i64 k = 0; k < 12; k++) {
            uint16_t part;
            memcpy(&part, job->watched[n] + k * (job->watched_bytes[n] - 2) / 11, 2);
            sum = (sum ^ part) * 0x9e3779b97f4a7c15u;
        }
    return sum;
}

int forward(const Job *job) {
    if (job->packed_ih && sample_parameters(job) != job->sample) return 3;
    for (i64 limit = job->threads;; limit = 1) {
        Team team = {.job = job, .Hp = padded(job->H), .K_h = up(job->H, PER), .K_d = up(job->D, PER)};
        team.work = forward_thread;
        plan(job, &team, limit);
        const i64 P = panels(job->H), steps = x_steps(&team), rows = up(job->B, team.row_groups);
        const i64 own = up(P, team.unit_groups);
        team.scratch_size = (size_t)(steps * rows * (team.K_d * PER * (i64)sizeof(item) + own * NV_X * VL * (i64)sizeof(real)) +
                                     ROWS(NV_H + !NV_H) * NV_H * VL * (i64)sizeof(real) + 256);
        team.scratch_size = (team.scratch_size + 4095) & ~(size_t)4095;
        const size_t w_size = job->packed_ih ? 0 : (size_t)packed_size(G_IN, job->H, job->D);
        const size_t r_size = job->packed_hh || !G_HID ? 0 : (size_t)packed_size(G_HID, job->H, job->H);
        char *memory = job->source.take(w_size + r_size + (size_t)(P * (NV_X + NV_H) * VL) * sizeof(real) +
                            (size_t)(2 * job->B * team.Hp) * sizeof(item) +
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
        team.b_hid = part(&arena, (size_t)(P * NV_H * VL) * sizeof(real));
        team.h = part(&arena, (size_t)(2 * job->B * team.Hp) * sizeof(item));
        team.carry = part(&arena, (size_t)(STATES * job->B * team.Hp) * sizeof(real));
        team.scratch = part(&arena, (size_t)team.threads * team.scratch_size);
        const int failed = run(&team);
        job->source.give(memory);
        if (!failed) return 0;
    }
}


/* SPDX-License-Identifier: MIT */
/*
 * What rounding did to whole panels, none of them NaN or infinite: what the levels share. Sums are in f32 within a tile, which is
 * good to 1e-6.
 *
 * The file that includes this gives INLINE, TARGET and
 *
 *   look(type, panels, so_far, tile *)   what came of one tile; `most` may stay 0 when no element went farther than so_far
 */
typedef struct tile {
    double asked, realised, along;
    uint64_t n_same, most;
    bool any; // has some element a change that was asked for?
} tile;

INLINE void look(lf_real type, const lf_panels *t, uint64_t so_far, tile *out);

/* Squares of numbers this small or large leave the range of f32: then the definition does it. */
INLINE bool is_exact(double square, bool any)
{
    return any ? square > 0x1p-100 && square < 0x1p+120 : square == 0;
}

INLINE bool add_tile(lf_real type, const lf_panels *t, lf_change *change)
{
    tile found;

    look(type, t, change->max_ulp, &found);
    if (!is_exact(found.asked, found.any) || found.realised > 0x1p+120)
        return false;
    change->sum_asked += found.asked;
    change->sum_realised += found.realised;
    change->sum_along += found.along;
    change->n_unchanged += found.n_same;
    if (found.most > change->max_ulp)
        change->max_ulp = found.most;
    return true;
}

TARGET static bool add_f32(const lf_panels *t, lf_change *change)
{
    return add_tile(LF_REAL_F32, t, change);
}

TARGET static bool add_f16(const lf_panels *t, lf_change *change)
{
    return add_tile(LF_REAL_F16, t, change);
}

TARGET static bool add_bf16(const lf_panels *t, lf_change *change)
{
    return add_tile(LF_REAL_BF16, t, change);
}

TARGET static void add_panels(lf_real type, const lf_panels *t, lf_change *change)
{
    if (type == LF_REAL_F32 ? add_f32(t, change) : type == LF_REAL_F16 ? add_f16(t, change) : add_bf16(t, change))
        return;
    for (size_t i = 0; i < t->n_rows; i++)
        lf_change_add_f32(type, t->base + i * t->base_stride, t->x + i * t->x_stride, type, t->result + i * t->result_stride,
                          t->n_cols, change);
}

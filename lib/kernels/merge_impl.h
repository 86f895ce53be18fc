/* SPDX-License-Identifier: MIT */
/*
 * Blocks of rows by tiles: the walk, for every level. A tile of TILE_ROWS rows by TILE_PANELS panels has its sums in registers over the whole
 * rank; the base is touched once before and once after. Tiles follow each other along the rows, and while one is computed the
 * base of the tile below it is fetched.
 *
 * The file that includes this has included a level's strip (strip.h), and gives
 *
 *   TILE_ROWS, TILE_PANELS           the largest tile
 *   CAN_STREAM                       whether strip_narrow() can write past the cache what fills whole lines of it
 *   ADD_PANELS(type, panels, change) lf_change_add_f32() of a tile
 */
#include <string.h>

/* What a tile that is measured was before it is overwritten, and what came of it before it was rounded. */
typedef struct trace {
    uint8_t base[TILE_ROWS][TILE_PANELS * STRIP_SIZE];
    float x[TILE_ROWS][TILE_PANELS * LF_PANEL];
} trace;

/* What is known when a kernel is compiled: types and height of its tiles, and whether they are measured. */
typedef struct shape {
    lf_real from, to;
    size_t n_rows;
    bool measured, streamed;
} shape;

/* Where a tile is. */
typedef struct place {
    size_t row, j;
    const uint8_t *src;
    uint8_t *dst;
    size_t src_stride, dst_stride;
    size_t ahead, ahead_step; // bytes of what is ahead
} place;

/* The sums of a tile, for one update. */
INLINE void multiply(const lf_update *u, const float *left, const float *panels, size_t n_rows, size_t n_panels,
                     strip delta[TILE_ROWS][TILE_PANELS])
{
    UNROLL
    for (size_t i = 0; i < n_rows; i++) {
        UNROLL
        for (size_t q = 0; q < n_panels; q++)
            delta[i][q] = strip_zero();
    }
    for (size_t p = 0; p < u->rank; p++) {
        strip right[TILE_PANELS];
        UNROLL
        for (size_t q = 0; q < n_panels; q++)
            right[q] = strip_keep(strip_load(panels + (q * u->rank + p) * LF_PANEL));
        UNROLL
        for (size_t i = 0; i < n_rows; i++) {
            const vec factor = vec_set(left[i * u->rank + p]);
            UNROLL
            for (size_t q = 0; q < n_panels; q++)
                delta[i][q] = strip_fma(factor, right[q], delta[i][q]);
        }
    }
}

/* Add an update to a tile: the first starts from the base, the last is rounded and written, and x is what lies between. */
INLINE flags add_update(const lf_update *u, bool first, bool last, const shape s, const place *at, size_t n_panels,
                        strip x[TILE_ROWS][TILE_PANELS], trace *t)
{
    const size_t from_size = LF_PANEL * lf_real_size(s.from), to_size = LF_PANEL * lf_real_size(s.to);
    const vec scale = vec_set(u->scale);
    flags special = flags_none();
    strip delta[TILE_ROWS][TILE_PANELS];

    multiply(u, u->left + at->row * u->rank, u->panels + lf_panel_at(u->rank, at->j), s.n_rows, n_panels, delta);
    UNROLL
    for (size_t i = 0; i < s.n_rows; i++) {
        UNROLL
        for (size_t q = 0; q < n_panels; q++) {
            const strip before = first ? strip_widen(s.from, at->src + i * at->src_stride + q * from_size) : x[i][q];
            const strip after = strip_fma(scale, delta[i][q], before);
            if (!last)
                x[i][q] = after;
            if (last && s.measured)
                strip_store(t->x[i] + q * LF_PANEL, after);
            if (last)
                special = flags_or(special, strip_narrow(s.to, after, at->dst + i * at->dst_stride + q * to_size, s.streamed));
        }
    }
    return special;
}

/* A tile at the columns from at->j on. Tells what came out NaN or infinite. */
INLINE flags tile(const lf_block *b, const shape s, const place *at, size_t n_panels, trace *t)
{
    const lf_update *u = b->updates, *last = u + b->n_updates - 1;
    strip x[TILE_ROWS][TILE_PANELS];

    for (size_t i = 0; s.measured && i < s.n_rows; i++)
        memcpy(t->base[i], at->src + i * at->src_stride, n_panels * LF_PANEL * lf_real_size(s.from));
    if (u == last)
        return add_update(u, true, true, s, at, n_panels, x, t);
    add_update(u, true, false, s, at, n_panels, x, t);
    while (++u < last)
        add_update(u, false, false, s, at, n_panels, x, t);
    return add_update(u, false, true, s, at, n_panels, x, t);
}

/* n columns of what a tile wrote, one by one. */
static void tally_tile(const shape *s, const place *at, size_t n, lf_tally *tally)
{
    for (size_t i = 0; i < s->n_rows; i++)
        lf_tally_add(s->to, at->dst + i * at->dst_stride, n, tally);
}

static void measure_tile(const shape *s, const place *at, const trace *t, size_t n, lf_change *change)
{
    for (size_t i = 0; i < s->n_rows; i++)
        lf_change_add_f32(s->from, t->base[i], t->x[i], s->to, at->dst + i * at->dst_stride, n, change);
}

static void measure_panels(const shape *s, const place *at, const trace *t, size_t n_panels, lf_change *change)
{
    const lf_panels panels = {.base = t->base[0],
                              .result = at->dst,
                              .x = t->x[0],
                              .base_stride = sizeof t->base[0],
                              .result_stride = at->dst_stride,
                              .x_stride = TILE_PANELS * LF_PANEL,
                              .n_rows = s->n_rows,
                              .n_cols = n_panels * LF_PANEL};

    ADD_PANELS(s->to, &panels, change);
}

INLINE void whole_tile(const lf_block *b, const shape s, const place *at, size_t n_panels, lf_tally *tally)
{
    trace t;
    const bool special = flags_any(tile(b, s, at, n_panels, &t));

    if (special)
        tally_tile(&s, at, n_panels * LF_PANEL, tally);
    if (s.measured && (special || s.from != s.to))
        measure_tile(&s, at, &t, n_panels * LF_PANEL, b->change);
    else if (s.measured)
        measure_panels(&s, at, &t, n_panels, b->change);
}

/* The columns after the last whole panel go through buffers. */
INLINE void last_tile(const lf_block *b, const shape s, const place *at, size_t n, lf_tally *tally)
{
    const size_t from_size = lf_real_size(s.from), to_size = lf_real_size(s.to);
    uint8_t src[TILE_ROWS][STRIP_SIZE] = {{0}}, dst[TILE_ROWS][STRIP_SIZE];
    const place buffered = {at->row, at->j, src[0], dst[0], STRIP_SIZE, STRIP_SIZE, 0, 0};
    trace t;

    for (size_t i = 0; i < s.n_rows; i++)
        memcpy(src[i], at->src + i * at->src_stride, n * from_size);
    tile(b, s, &buffered, 1, &t);
    for (size_t i = 0; i < s.n_rows; i++)
        memcpy(at->dst + i * at->dst_stride, dst[i], n * to_size);
    tally_tile(&s, &buffered, n, tally);
    if (s.measured)
        measure_tile(&s, &buffered, &t, n, b->change);
}

/* The cache lines that begin in n_panels of the rows below. */
INLINE void fetch_below(const shape s, const place *at, size_t n_panels)
{
    const uint8_t *below = at->src + s.n_rows * at->src_stride;

    UNROLL
    for (size_t i = 0; i < s.n_rows; i++)
        for (size_t k = 0; k < n_panels * LF_PANEL * lf_real_size(s.from); k += 64)
            __builtin_prefetch(below + i * at->src_stride + k);
}

INLINE void walk(const lf_block *b, const shape s, place *at, size_t n_panels, lf_tally *tally)
{
    const size_t n = n_panels * LF_PANEL;

    for (; at->j + n <= b->n_cols; at->j += n) {
        fetch_below(s, at, n_panels);
        fetch_ahead(&b->ahead, at->ahead, at->ahead_step);
        whole_tile(b, s, at, n_panels, tally);
        at->src += n * lf_real_size(s.from);
        at->dst += n * lf_real_size(s.to);
        at->ahead += at->ahead_step;
    }
}

/* As many rows as the shape has, from `row` on. Only the widest tiles fill whole cache lines. */
INLINE void rows(const lf_block *b, const shape s, size_t row, lf_tally *tally)
{
    const shape cached = {s.from, s.to, s.n_rows, s.measured, false};
    place at = {.row = row,
                .src = (const uint8_t *)b->src + row * b->src_stride,
                .dst = (uint8_t *)b->dst + row * b->dst_stride,
                .src_stride = b->src_stride,
                .dst_stride = b->dst_stride};
    const size_t n_tiles = b->n_cols / (TILE_PANELS * LF_PANEL);

    if (s.n_rows == TILE_ROWS) {
        at.ahead_step = ahead_step(&b->ahead, b->n_rows / TILE_ROWS * n_tiles);
        at.ahead = row / TILE_ROWS * n_tiles * at.ahead_step;
    }
    walk(b, s, &at, TILE_PANELS, tally);
    at.ahead_step = 0;
    if (TILE_PANELS > 1)
        walk(b, cached, &at, 1, tally);
    if (at.j < b->n_cols)
        last_tile(b, cached, &at, b->n_cols - at.j, tally);
}

INLINE void block(const lf_block *b, lf_real from, lf_real to, bool measured, bool streamed, lf_tally *tally)
{
    size_t row = 0;

    for (; row + TILE_ROWS <= b->n_rows; row += TILE_ROWS)
        rows(b, (shape){from, to, TILE_ROWS, measured, streamed}, row, tally);
    for (; row + 2 <= b->n_rows; row += 2)
        rows(b, (shape){from, to, 2, measured, streamed}, row, tally);
    if (row < b->n_rows)
        rows(b, (shape){from, to, 1, measured, streamed}, row, tally);
}

/* What the compiler makes one kernel of: types that are known. */
#define BLOCK_OF(name, from, to, measured, streamed)                                                                             \
    TARGET static void name(const lf_block *b, lf_tally *tally)                                                                  \
    {                                                                                                                            \
        block(b, from, to, measured, streamed, tally);                                                                           \
    }

BLOCK_OF(block_f32, LF_REAL_F32, LF_REAL_F32, false, false)
BLOCK_OF(block_f16, LF_REAL_F16, LF_REAL_F16, false, false)
BLOCK_OF(block_bf16, LF_REAL_BF16, LF_REAL_BF16, false, false)
BLOCK_OF(block_any, b->from, b->to, false, false)
BLOCK_OF(measured_f32, LF_REAL_F32, LF_REAL_F32, true, false)
BLOCK_OF(measured_f16, LF_REAL_F16, LF_REAL_F16, true, false)
BLOCK_OF(measured_bf16, LF_REAL_BF16, LF_REAL_BF16, true, false)
BLOCK_OF(measured_any, b->from, b->to, true, false)
#if CAN_STREAM
BLOCK_OF(streamed_f32, LF_REAL_F32, LF_REAL_F32, false, true)
BLOCK_OF(streamed_f16, LF_REAL_F16, LF_REAL_F16, false, true)
BLOCK_OF(streamed_bf16, LF_REAL_BF16, LF_REAL_BF16, false, true)

INLINE bool is_streamed(const lf_block *b)
{
    return b->streamed && b->from == b->to && !b->change && (uintptr_t)b->dst % 64 == 0 && b->dst_stride % 64 == 0;
}

INLINE void stream_block(const lf_block *b, lf_tally *tally)
{
    (b->from == LF_REAL_F32 ? streamed_f32 : b->from == LF_REAL_F16 ? streamed_f16 : streamed_bf16)(b, tally);
}
#endif

INLINE void merge_block(const lf_block *b, lf_tally *tally)
{
    const bool measured = b->change != NULL;

    if (b->from != b->to)
        (measured ? measured_any : block_any)(b, tally);
    else if (b->from == LF_REAL_F32)
        (measured ? measured_f32 : block_f32)(b, tally);
    else if (b->from == LF_REAL_F16)
        (measured ? measured_f16 : block_f16)(b, tally);
    else
        (measured ? measured_bf16 : block_bf16)(b, tally);
}

INLINE void widen_rows_of(lf_real from, const uint8_t *src, size_t src_stride, size_t n_rows, size_t n_cols, float *dst,
                          size_t row_step, size_t group_step)
{
    const size_t size = LF_PANEL * lf_real_size(from), whole = n_cols / LF_PANEL;

    for (size_t i = 0; i < n_rows; i++, src += src_stride, dst += row_step) {
        for (size_t q = 0; q < whole; q++) {
            strip_store(dst + q * group_step, strip_widen(from, src + q * size));
        }
        if (n_cols % LF_PANEL)
            lf_widen_f32(from, src + whole * size, dst + whole * group_step, n_cols % LF_PANEL);
    }
}

INLINE void widen_rows(lf_real from, const uint8_t *src, size_t src_stride, size_t n_rows, size_t n_cols, float *dst,
                       size_t row_step, size_t group_step)
{
    if (from == LF_REAL_F32)
        widen_rows_of(LF_REAL_F32, src, src_stride, n_rows, n_cols, dst, row_step, group_step);
    else if (from == LF_REAL_F16)
        widen_rows_of(LF_REAL_F16, src, src_stride, n_rows, n_cols, dst, row_step, group_step);
    else
        widen_rows_of(LF_REAL_BF16, src, src_stride, n_rows, n_cols, dst, row_step, group_step);
}

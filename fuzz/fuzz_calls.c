/* SPDX-License-Identifier: MIT */
/*
 * The public functions of a loader, called in any order with arguments that are good or not, as a script says. It makes adapters,
 * opens them as `.lora` files in memory, and a base which most of them fit; then it binds, prepares, evaluates, adds to tokens, and
 * switches a runtime. A refusal says why and changes nothing; rows are those of the whole tensor; a token alone gets what it gets
 * among others; live weights are those of the stack that is live.
 *
 * The seeds were found by fuzzing, and are the fewest that reach all that was reached.
 */
#include "fuzz/fitting_base.h"
#include "fuzz/fuzz.h"
#include "fuzz/made_adapter.h"
#include "lorafmt/forward.h"
#include "lorafmt/runtime.h"

#include <math.h>
#include <string.h>

#define N_SOURCES 3
#define N_VIEWS 2
#define MAX_STEPS 48

typedef struct loader {
    script *s;
    made_adapter made[N_SOURCES];
    fitting_base b;
    lorafmt_view *views[N_VIEWS];
    lorafmt_runtime *runtime;
    size_t n_sets;
    lorafmt_place places[MAX_BASE_TENSORS];
    uint8_t *live[LORAFMT_MAX_SETS][MAX_BASE_TENSORS];
} loader;

/* --- arguments --- */

static const double weights[] = {1, 0, -1, 0.5, 1e30, 1, 1, 1};

static double some_weight(script *s)
{
    const uint8_t how = next_byte(s);

    return how == 255 ? NAN : how == 254 ? INFINITY : weights[how % 8];
}

typedef struct some_stack {
    lorafmt_stack_entry entries[N_SOURCES];
    size_t n;
} some_stack;

static void make_stack(loader *l, some_stack *out)
{
    const size_t n = next_below(l->s, N_SOURCES + 1);

    out->n = 0;
    for (size_t i = 0; i < n; i++) {
        const lorafmt_adapter *adapter = l->made[next_below(l->s, N_SOURCES)].adapter;
        if (adapter)
            out->entries[out->n++] = (lorafmt_stack_entry){adapter, some_weight(l->s)};
    }
}

typedef struct some_options {
    lorafmt_bind_options bind;
    lorafmt_rename renames[2];
} some_options;

static void make_options(script *s, some_options *out)
{
    static const char *const prefixes[] = {"", "t0", "t1", "model", "t0.weight"};
    const uint8_t flags = next_byte(s), cpu = next_byte(s);

    *out = (some_options){.bind = {.struct_size = flags == 255 ? 1 : sizeof out->bind,
                                   .renames = out->renames,
                                   .n_renames = flags & 1 ? next_below(s, 3) : 0,
                                   .allow_unmatched = flags & 2,
                                   .any_base = flags & 4,
                                   .has_orientation = flags & 8,
                                   .orientation = (lorafmt_orientation)(flags >> 4 & 3),
                                   .cpu = (lorafmt_cpu)(cpu < 200 ? cpu % 4 : cpu)}};
    for (size_t i = 0; i < out->bind.n_renames; i++)
        out->renames[i] = (lorafmt_rename){prefixes[next_below(s, 5)], prefixes[next_below(s, 5)]};
}

/* --- views --- */

static void bind(loader *l)
{
    lorafmt_view **view = &l->views[next_below(l->s, N_VIEWS)];
    some_options options;
    some_stack stack;
    lorafmt_status status;
    lorafmt_error err;

    lorafmt_view_free(*view);
    make_stack(l, &stack);
    make_options(l->s, &options);
    status = lorafmt_bind(&l->b.base, stack.entries, stack.n, &options.bind, view, &err);
    if (status != LORAFMT_OK) {
        require(!*view);
        require_refused(status, &err);
    }
}

static lorafmt_view *some_view(loader *l)
{
    return l->views[next_below(l->s, N_VIEWS)];
}

/* Any number, one too many among them. */
static size_t some_tensor(script *s, const lorafmt_view *view)
{
    const uint8_t how = next_byte(s);

    return how == 255 ? SIZE_MAX : how % (lorafmt_view_n_tensors(view) + 1);
}

static void prepare(loader *l)
{
    lorafmt_view *view = some_view(l);
    lorafmt_error err;
    lorafmt_status status;
    size_t tensor;

    if (!view)
        return;
    tensor = some_tensor(l->s, view);
    status = lorafmt_view_prepare(view, tensor, &err);
    if (status != LORAFMT_OK)
        require_refused(status, &err);
    else
        require(tensor < lorafmt_view_n_tensors(view));
}

/* From one view to the other, which may be of another stack or base. */
static void hand_factors_over(loader *l)
{
    lorafmt_view *from = some_view(l), *to = some_view(l);
    lorafmt_error err;
    size_t tensor, size;
    void *factors;

    if (!from || !to)
        return;
    tensor = next_below(l->s, lorafmt_view_n_tensors(from) + 1);
    if (tensor == lorafmt_view_n_tensors(from) || tensor >= lorafmt_view_n_tensors(to))
        return;
    size = lorafmt_view_factors_size(from, tensor) + next_below(l->s, 8) / 7;
    factors = malloc(size);
    require(factors || !size);
    if (lorafmt_view_get_factors(from, tensor, factors, size, &err) != LORAFMT_OK)
        require_refused(err.status, &err);
    else if (lorafmt_view_set_factors(to, tensor, factors, size, &err) != LORAFMT_OK)
        require_refused(err.status, &err);
    free(factors);
}

/* Is that a range of rows? 0 rows may be asked for anywhere in the tensor. */
static bool is_range(const lorafmt_view_tensor *t, uint64_t row, uint64_t n_rows)
{
    return row <= t->n_rows && n_rows <= t->n_rows - row;
}

/* The rows asked for, in a block of their size, and then in place. */
static void evaluate_rows(loader *l, const lorafmt_view *view, size_t tensor, uint64_t row, uint64_t n_rows)
{
    const lorafmt_view_tensor *t = lorafmt_view_get_tensor(view, tensor);
    const size_t row_size = (size_t)t->row_size, size = (size_t)n_rows * row_size;
    const uint8_t *src = tensor < l->b.base.n_tensors && t->reads_base ? l->b.data[tensor] : NULL;
    uint8_t *dst = malloc(size), *whole = malloc((size_t)t->size);
    lorafmt_error err;
    lorafmt_status status;

    require((dst || !size) && (whole || !t->size));
    if (size)
        memset(dst, 0x5a, size);
    status =
        lorafmt_view_evaluate(view, tensor, row, n_rows, src ? src + row * row_size : NULL, row_size, dst, row_size, NULL, &err);
    if (status != LORAFMT_OK) {
        require_refused(status, &err);
        require(t->needs_prepare);
        for (size_t i = 0; i < size; i++)
            require(dst[i] == 0x5a);
    } else {
        require(lorafmt_view_evaluate(view, tensor, 0, t->n_rows, src, row_size, whole, row_size, NULL, &err) == LORAFMT_OK);
        require(!size || memcmp(dst, whole + row * row_size, size) == 0);
        if (src && size) {
            memcpy(dst, src + row * row_size, size);
            require(lorafmt_view_evaluate(view, tensor, row, n_rows, dst, row_size, dst, row_size, NULL, &err) == LORAFMT_OK);
            require(memcmp(dst, whole + row * row_size, size) == 0);
        }
    }
    free(dst);
    free(whole);
}

static void evaluate(loader *l)
{
    const lorafmt_view *view = some_view(l);
    const lorafmt_view_tensor *t;
    lorafmt_error err;
    uint64_t row, n_rows;
    size_t tensor;
    uint8_t nothing = 0;

    if (!view)
        return;
    tensor = some_tensor(l->s, view);
    row = next_byte(l->s);
    n_rows = next_byte(l->s);
    if (n_rows == 255)
        n_rows = UINT64_MAX - row + next_below(l->s, 2);
    t = tensor < lorafmt_view_n_tensors(view) ? lorafmt_view_get_tensor(view, tensor) : NULL;
    if (t && t->size > MAX_BASE_TENSOR_SIZE)
        return;
    if (t && is_range(t, row, n_rows)) {
        evaluate_rows(l, view, tensor, row, n_rows);
    } else {
        require(lorafmt_view_evaluate(view, tensor, row, n_rows, &nothing, 1, &nothing, 1, NULL, &err) == LORAFMT_MISUSE);
        require_refused(LORAFMT_MISUSE, &err);
        require(!nothing);
    }
}

/* Bytes of columns, which has to be a whole number. */
static bool column_size(lorafmt_dtype dtype, uint64_t n_cols, size_t *out)
{
    const uint64_t bits = lorafmt_dtype_bits(dtype) * n_cols;

    *out = (size_t)(bits / 8);
    return bits && bits % 8 == 0;
}

/* Whole columns of one row in other dtypes, in blocks of their size. */
static void evaluate_columns(loader *l)
{
    static const lorafmt_dtype dtypes[] = {LORAFMT_F32, LORAFMT_BF16, LORAFMT_F16, LORAFMT_F64, LORAFMT_I8, 0, 99};
    const lorafmt_view *view = some_view(l);
    const lorafmt_view_tensor *t;
    lorafmt_rows rows = {0};
    lorafmt_error err;
    lorafmt_change change = {0};
    size_t tensor, src_size, dst_size;
    uint64_t n_cols;
    void *src, *dst;

    if (!view || (tensor = some_tensor(l->s, view)) >= lorafmt_view_n_tensors(view))
        return;
    t = lorafmt_view_get_tensor(view, tensor);
    if (!t->n_rows || !column_size(t->dtype, 8, &src_size) || t->size > MAX_BASE_TENSOR_SIZE)
        return;
    rows.src_dtype = dtypes[next_below(l->s, 7)];
    rows.dst_dtype = dtypes[next_below(l->s, 7)];
    rows.col = next_byte(l->s);
    n_cols = rows.n_cols = next_byte(l->s);
    if (!n_cols)
        n_cols = t->row_size * 8 / lorafmt_dtype_bits(t->dtype);
    if (!column_size(rows.src_dtype, n_cols, &src_size) || !column_size(rows.dst_dtype, n_cols, &dst_size))
        src_size = dst_size = 1;
    src = calloc(src_size, 1);
    dst = calloc(dst_size, 1);
    require(src && dst);
    rows.src = src;
    rows.dst = dst;
    rows.src_stride = src_size;
    rows.dst_stride = dst_size;
    if (lorafmt_view_evaluate_as(view, tensor, 0, 1, &rows, NULL, &err) != LORAFMT_OK)
        require_refused(err.status, &err);
    free(src);
    free(dst);
    src = calloc((size_t)t->row_size + 1, 1);
    require(src != NULL);
    if (lorafmt_view_measure(view, tensor, 0, 1, src, (size_t)t->row_size, src, (size_t)t->row_size, &change, &err) != LORAFMT_OK)
        require_refused(err.status, &err);
    free(src);
}

/* --- unmerged --- */

/* Tokens with the updates of a tensor, each in a block of its size: the same whether they go together or one by one. */
static void add_to_tokens(const lorafmt_update *updates, size_t n, size_t n_tokens)
{
    const lorafmt_workspace_options options = {.struct_size = sizeof options, .max_tokens = 8, .max_rank = 64, .n_threads = 1};
    const lorafmt_updates layer = {updates, n};
    const size_t in = updates->in, out = updates->out;
    float *x = calloc(n_tokens * in + 1, sizeof *x), *y = calloc(n_tokens * out + 1, sizeof *y),
          *alone = calloc(out + 1, sizeof *y);
    lorafmt_batch batch = {n_tokens, in, out, x, 0, LORAFMT_F32, y, 0, LORAFMT_F32, NULL, &layer, 1};
    lorafmt_workspace *ws;
    lorafmt_error err;

    require(x && y && alone);
    for (size_t i = 0; i < n_tokens * in; i++)
        x[i] = (float)(i % 7) - 3;
    require(lorafmt_workspace_new(&options, &ws, &err) == LORAFMT_OK);
    require(lorafmt_forward(ws, &batch, &err) == LORAFMT_OK);
    batch.n_tokens = 1;
    batch.x = x + (n_tokens - 1) * in;
    batch.y = alone;
    require(lorafmt_forward(ws, &batch, &err) == LORAFMT_OK);
    require(memcmp(alone, y + (n_tokens - 1) * out, out * sizeof *y) == 0);
    lorafmt_workspace_free(ws);
    free(x);
    free(y);
    free(alone);
}

static void forward(loader *l)
{
    const lorafmt_view *view = some_view(l);
    lorafmt_update updates[N_SOURCES * 2];
    lorafmt_error err;
    size_t tensor, n;

    if (!view)
        return;
    if (lorafmt_view_check_unmerged(view, &err) != LORAFMT_OK) {
        require_refused(err.status, &err);
        return;
    }
    tensor = some_tensor(l->s, view);
    n = lorafmt_view_n_updates(view, tensor);
    require(n <= sizeof updates / sizeof updates[0]);
    for (size_t i = 0; i < n; i++)
        updates[i] = lorafmt_view_get_update(view, tensor, i);
    if (n)
        add_to_tokens(updates, n, 1 + next_below(l->s, 8));
}

/* --- runtime --- */

static void runtime_free(loader *l)
{
    lorafmt_runtime_free(l->runtime);
    l->runtime = NULL;
    for (size_t set = 0; set < LORAFMT_MAX_SETS; set++)
        for (size_t i = 0; i < MAX_BASE_TENSORS; i++) {
            free(l->live[set][i]);
            l->live[set][i] = NULL;
        }
}

/* The bytes of a tensor before a row. */
static size_t bytes_before(const lorafmt_base_tensor *t, uint64_t row)
{
    return t->n_dims >= 2 && t->shape[0] ? (size_t)(t->size / t->shape[0] * row) : row ? (size_t)t->size : 0;
}

static void make_places(loader *l)
{
    for (size_t i = 0; i < l->b.base.n_tensors; i++) {
        const size_t size = (size_t)l->b.tensors[i].size;
        lorafmt_place *place = &l->places[i];
        *place = (lorafmt_place){.pristine = l->b.data[i]};
        if (next_byte(l->s) >= 240) {
            place->row = next_byte(l->s), place->n_rows = next_byte(l->s);
            if (bytes_before(&l->b.tensors[i], place->row) <= size)
                place->pristine = l->b.data[i] + bytes_before(&l->b.tensors[i], place->row);
        }
        for (size_t set = 0; set < LORAFMT_MAX_SETS; set++) {
            require((l->live[set][i] = malloc(size ? size : 1)) != NULL);
            place->live[set] = l->live[set][i];
        }
    }
}

static void make_runtime(loader *l)
{
    const uint8_t how = next_byte(l->s);
    const lorafmt_runtime_options options = {.struct_size = how == 255 ? 0 : sizeof options, .n_sets = how % 4, .n_threads = 1};
    lorafmt_status status;
    lorafmt_error err;

    runtime_free(l);
    make_places(l);
    l->n_sets = options.n_sets == 2 ? 2 : 1;
    status = lorafmt_runtime_new(&l->b.base, l->places, &options, &l->runtime, &err);
    if (status != LORAFMT_OK) {
        require(!l->runtime);
        require_refused(status, &err);
    }
}

/* Are the live weights of the set, of all rows or those held, those that the view computes, or the base's? */
static void check_live(const loader *l, unsigned set, lorafmt_view *view)
{
    lorafmt_error err;
    size_t begin, size;

    for (size_t i = 0; i < l->b.base.n_tensors; i++) {
        const lorafmt_base_tensor *t = &l->b.tensors[i];
        const lorafmt_view_tensor *computed = view ? lorafmt_view_get_tensor(view, i) : NULL;
        uint8_t *expected = malloc((size_t)t->size + 1);
        require(expected != NULL);
        if (!computed || !computed->touched)
            memcpy(expected, l->b.data[i], (size_t)t->size);
        else
            require(lorafmt_view_evaluate(view, i, 0, computed->n_rows, l->b.data[i], (size_t)computed->row_size, expected,
                                          (size_t)computed->row_size, NULL, &err) == LORAFMT_OK);
        begin = bytes_before(t, l->places[i].row);
        size = l->places[i].n_rows ? bytes_before(t, l->places[i].n_rows) : (size_t)t->size;
        require(memcmp(expected + begin, l->live[set][i], size) == 0);
        free(expected);
    }
}

static void swap(loader *l)
{
    const uint64_t before = l->runtime ? lorafmt_runtime_generation(l->runtime) : 0;
    lorafmt_swap_options swap_options = {.struct_size = sizeof swap_options};
    lorafmt_swap_result result;
    lorafmt_view *view = NULL;
    some_options options;
    some_stack stack;
    lorafmt_error err;
    unsigned set;

    if (!l->runtime)
        return;
    make_stack(l, &stack);
    make_options(l->s, &options);
    swap_options.bind = &options.bind;
    if (lorafmt_runtime_swap(l->runtime, stack.entries, stack.n, &swap_options, &result, &view, &err) != LORAFMT_OK) {
        require_refused(err.status, &err);
        require(!view && lorafmt_runtime_generation(l->runtime) == before);
    } else {
        require(lorafmt_runtime_generation(l->runtime) == before + 1);
        set = lorafmt_runtime_read_begin(l->runtime);
        require(set < l->n_sets);
        check_live(l, set, view);
        lorafmt_runtime_read_end(l->runtime, set);
    }
    lorafmt_view_free(view);
}

static void digest(loader *l)
{
    uint8_t all[32], again[32];

    if (!l->runtime)
        return;
    require(lorafmt_runtime_digest(l->runtime, all, NULL, NULL) == LORAFMT_OK);
    require(lorafmt_runtime_digest(l->runtime, again, NULL, NULL) == LORAFMT_OK);
    require(memcmp(all, again, sizeof all) == 0);
}

/* --- the script --- */

static void fail_reading(loader *l)
{
    l->b.fails = !l->b.fails;
}

static void step(loader *l)
{
    static void (*const steps[])(
        loader *) = {bind, prepare, evaluate,     forward, evaluate_columns, hand_factors_over, make_runtime,
                     swap, swap,    fail_reading, digest};

    steps[next_below(l->s, sizeof steps / sizeof steps[0])](l);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    script s = {data, data + size};
    loader l = {.s = &s};

    for (size_t i = 0; i < N_SOURCES; i++)
        made_adapter_open(&l.made[i], &s);
    for (size_t i = 0; i < N_SOURCES; i++)
        if (l.made[i].adapter)
            fitting_base_add(&l.b, l.made[i].adapter, &s);
    fitting_base_finish(&l.b, &s);
    for (size_t i = 0; i < MAX_STEPS && s.at < s.end; i++)
        step(&l);
    for (size_t i = 0; i < N_VIEWS; i++)
        lorafmt_view_free(l.views[i]);
    runtime_free(&l);
    for (size_t i = 0; i < N_SOURCES; i++)
        made_adapter_close(&l.made[i]);
    fitting_base_free(&l.b);
    return 0;
}

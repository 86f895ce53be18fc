/* SPDX-License-Identifier: MIT */
/* Where tensors lie. */
#include "format/base/dtype.h"
#include "format/base/error.h"
#include "lib/kernels/fpenv.h"
#include "lib/runtime/runtime.h"
#include "lib/view/view.h"

#include <inttypes.h>
#include <string.h>

#define TASK_SIZE ((size_t)4 << 20)

static lorafmt_status wrong(const lorafmt_base_tensor *tensor, const char *what, uint64_t from, uint64_t n, uint64_t has,
                            lorafmt_error *err)
{
    return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, tensor->name,
                   "its place holds %s %" PRIu64 " and %" PRIu64 " on, it has %" PRIu64, what, from, n, has);
}

/* The range that is held, out of `all`. */
static lorafmt_status resolve_range(const lorafmt_base_tensor *tensor, const char *what, uint64_t from, uint64_t n, uint64_t all,
                                    lorafmt_error *err)
{
    return n ? (from > all || n > all - from ? wrong(tensor, what, from, n, all, err) : LORAFMT_OK)
             : (from ? wrong(tensor, what, from, n, all, err) : LORAFMT_OK);
}

static lorafmt_status resolve_part(const lorafmt_base_tensor *tensor, const lorafmt_place *place, lf_place *out,
                                   lorafmt_error *err)
{
    const unsigned bits = lorafmt_dtype_bits(tensor->dtype);
    lorafmt_view_tensor info = {.dtype = tensor->dtype, .n_dims = tensor->n_dims};
    uint64_t n_cols;

    memcpy(info.shape, tensor->shape, sizeof info.shape);
    lf_view_tensor_measure(&info);
    n_cols = info.row_size * 8 / bits;
    LF_TRY(resolve_range(tensor, "rows", place->row, place->n_rows, info.n_rows, err));
    LF_TRY(resolve_range(tensor, "columns", place->col, place->n_cols, n_cols, err));
    out->row = place->row;
    out->n_rows = place->n_rows ? place->n_rows : info.n_rows;
    out->col = (size_t)place->col;
    out->n_cols = (size_t)(place->n_cols ? place->n_cols : n_cols);
    out->is_whole = out->n_rows == info.n_rows && out->n_cols == n_cols;
    if (bits < 8 && out->n_cols != n_cols)
        return lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, tensor->name, "some columns of %s, which are less than bytes",
                       lorafmt_dtype_name(tensor->dtype));
    return LORAFMT_OK;
}

static lorafmt_status resolve_dtype(const lorafmt_base_tensor *tensor, const lorafmt_place *place, lf_place *out,
                                    lorafmt_error *err)
{
    out->dtype = tensor->dtype;
    out->live_dtype = place->live_dtype ? place->live_dtype : tensor->dtype;
    if (out->live_dtype != out->dtype && (!lf_dtype_is_real(out->dtype) || !lf_dtype_is_real(out->live_dtype)))
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, tensor->name,
                       "live weights of %s for a tensor of %s; only F64, F32, F16 and BF16 are converted",
                       lorafmt_dtype_name(out->live_dtype), lorafmt_dtype_name(out->dtype));
    out->row_size = (size_t)((uint64_t)out->n_cols * lorafmt_dtype_bits(out->dtype) / 8);
    out->live_row_size = (size_t)((uint64_t)out->n_cols * lorafmt_dtype_bits(out->live_dtype) / 8);
    return LORAFMT_OK;
}

static lorafmt_status resolve_stride(const lorafmt_base_tensor *tensor, const char *what, size_t asked, size_t row_size,
                                     size_t *out, lorafmt_error *err)
{
    *out = asked ? asked : row_size;
    if (*out < row_size)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, tensor->name, "%s stride of %zu bytes, a row has %zu", what, asked,
                       row_size);
    return LORAFMT_OK;
}

static lorafmt_status resolve_buffers(const lorafmt_base_tensor *tensor, const lorafmt_place *place, unsigned n_sets,
                                      lf_place *out, lorafmt_error *err)
{
    const bool is_empty = out->n_rows == 0 || out->row_size == 0;

    if (!place->pristine && !is_empty)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, tensor->name, "its place has no pristine bytes");
    out->pristine = place->pristine;
    for (unsigned s = 0; s < n_sets; s++) {
        if (!place->live[s] != !place->live[0] || (place->live[s] && place->live[s] == place->pristine))
            return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, tensor->name,
                           "live weights must be there in every set or in none, and apart from the pristine ones");
        out->live[s] = place->live[s];
    }
    return LORAFMT_OK;
}

lorafmt_status lf_place_resolve(const lorafmt_base_tensor *tensor, const lorafmt_place *place, unsigned n_sets, lf_place *out,
                                lorafmt_error *err)
{
    uint64_t size;

    if (!tensor->name || !lf_tensor_measure(tensor->dtype, tensor->n_dims, tensor->shape, &size) || size != tensor->size)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, tensor->name, "the base's dtype, shape and size do not agree");
    LF_TRY(resolve_part(tensor, place, out, err));
    LF_TRY(resolve_dtype(tensor, place, out, err));
    LF_TRY(resolve_stride(tensor, "pristine", place->pristine_stride, out->row_size, &out->pristine_stride, err));
    LF_TRY(resolve_stride(tensor, "live", place->live_stride, out->live_row_size, &out->live_stride, err));
    return resolve_buffers(tensor, place, n_sets, out, err);
}

static void convert_row(const lf_place *place, const uint8_t *src, uint8_t *dst)
{
    const lf_real from = lf_real_of(place->dtype), to = lf_real_of(place->live_dtype);
    lf_tally unused = {0};
    double x[LF_TILE];

    for (size_t col = 0; col < place->n_cols; col += LF_TILE) {
        const size_t n = place->n_cols - col < LF_TILE ? place->n_cols - col : LF_TILE;
        lf_widen_f64(from, src + col * lf_real_size(from), x, n);
        lf_narrow_f64(to, x, dst + col * lf_real_size(to), n, &unused);
    }
}

void lf_place_restore(const lf_place *place, unsigned set, uint64_t row, uint64_t n_rows)
{
    const uint8_t *src = place->pristine + row * place->pristine_stride;
    uint8_t *dst = place->live[set] + row * place->live_stride;
    const lf_fpenv env = lf_fpenv_enter();

    if (place->dtype == place->live_dtype && place->pristine_stride == place->row_size && place->live_stride == place->row_size) {
        memcpy(dst, src, (size_t)n_rows * place->row_size);
        n_rows = 0;
    }
    for (uint64_t i = 0; i < n_rows; i++, src += place->pristine_stride, dst += place->live_stride) {
        if (place->dtype == place->live_dtype)
            memcpy(dst, src, place->row_size);
        else
            convert_row(place, src, dst);
    }
    lf_fpenv_leave(env);
}

lorafmt_status lf_places_read(void *ctx, size_t tensor, uint64_t offset, size_t size, void *dst, lorafmt_error *err)
{
    const lorafmt_runtime *runtime = ctx;
    const lf_place *place = &runtime->places[tensor];
    uint8_t *to = dst;

    if (!place->is_whole)
        return lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, runtime->base.tensors[tensor].name,
                       "all of the tensor is needed, of which a part is held, and the base gives no way to read it");
    while (size) {
        const size_t at = (size_t)(offset % place->row_size), n = place->row_size - at < size ? place->row_size - at : size;
        memcpy(to, place->pristine + offset / place->row_size * place->pristine_stride + at, n);
        offset += n;
        to += n;
        size -= n;
    }
    return LORAFMT_OK;
}

uint64_t lf_place_rows_at_once(const lf_place *place)
{
    return place->live_row_size < TASK_SIZE ? TASK_SIZE / (place->live_row_size ? place->live_row_size : 1) : 1;
}

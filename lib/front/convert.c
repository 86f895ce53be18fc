/* SPDX-License-Identifier: MIT */
#include "lib/front/convert.h"

#include "format/base/dtype.h"
#include "format/base/error.h"
#include "lib/adapter/adapter.h"
#include "lib/kernels/fpenv.h"
#include "lib/kernels/kernels.h"
#include "lib/kernels/real.h"
#include "lib/model/model.h"
#include "lib/view/view.h"

#include <inttypes.h>
#include <string.h>

/* The same values in another dtype, rounded once. A finite value must stay finite. */
static lorafmt_status convert_data(lorafmt_tensor *t, lorafmt_dtype to, const char *target, lf_arena *arena, lorafmt_error *err)
{
    const size_t unit = lorafmt_dtype_bits(t->dtype) / 8, to_unit = lorafmt_dtype_bits(to) / 8;
    const uint64_t n_elements = t->size / unit, n_before = lf_count_nonfinite(t);
    uint8_t *data = lf_arena_alloc(arena, (size_t)n_elements, to_unit);
    double wide[LF_TILE];
    lf_tally tally = {0};

    if (!data)
        return lf_no_memory(err);
    for (uint64_t i = 0; i < n_elements; i += LF_TILE) {
        const size_t n = n_elements - i < LF_TILE ? (size_t)(n_elements - i) : LF_TILE;
        lf_widen_f64(lf_real_of(t->dtype), (const uint8_t *)t->data + i * unit, wide, n);
        lf_narrow_f64(lf_real_of(to), wide, data + i * to_unit, n, &tally);
    }
    t->dtype = to;
    t->data = data;
    t->size = n_elements * to_unit;
    if (tally.n_nan + tally.n_inf != n_before)
        return lf_fail(err, LORAFMT_LIMIT, LORAFMT_NO_OFFSET, target,
                       "%" PRIu64 " values are too large for %s; choose bf16 or f32", tally.n_nan + tally.n_inf - n_before,
                       lorafmt_dtype_name(to));
    return LORAFMT_OK;
}

/* A tensor before and after; the converter's map finds it by the first. */
typedef struct conversion {
    lorafmt_tensor before, after;
} conversion;

/* Convert a tensor, or take what came of it for another factor. */
static lorafmt_status convert_tensor(lf_converter *c, lorafmt_tensor *t, const char *target, lorafmt_error *err)
{
    const size_t i = lf_tensor_map_find(&c->converted, t);
    conversion *new;

    if (i != SIZE_MAX) {
        *t = ((const conversion *)c->converted.tensors[i])->after;
        return LORAFMT_OK;
    }
    if (!(new = lf_arena_alloc(c->arena, 1, sizeof *new)))
        return lf_no_memory(err);
    *new = (conversion){*t, *t};
    LF_TRY(convert_data(&new->after, c->options->dtype, target, c->arena, err));
    *t = new->after;
    return lf_tensor_map_add(&c->converted, &new->before) ? LORAFMT_OK : lf_no_memory(err);
}

static lorafmt_status convert_site(lf_converter *c, lorafmt_site *site, lorafmt_error *err)
{
    lorafmt_factor *factors = lf_arena_alloc(c->arena, site->n_factors, sizeof *factors);
    lorafmt_status st = LORAFMT_OK;

    if (!factors)
        return lf_no_memory(err);
    if (lf_site_is_newer(site))
        return lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, site->target,
                       "a site of a newer format can be copied, but not converted to another dtype");
    memcpy(factors, site->factors, site->n_factors * sizeof *factors);
    site->factors = factors;
    for (uint32_t i = 0; i < site->n_factors && !st; i++)
        if (lf_dtype_is_real(factors[i].tensor.dtype) && factors[i].tensor.dtype != c->options->dtype)
            st = convert_tensor(c, &factors[i].tensor, site->target, err);
    return st;
}

static const lorafmt_metadata *find_metadata(const lorafmt_metadata *metadata, size_t n, const char *key)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(metadata[i].key, key) == 0)
            return &metadata[i];
    return NULL;
}

/* The adapter's metadata, with the option's added or in place of those of the same key; of the option's the last one counts. */
static lorafmt_status join_metadata(const lorafmt_pack_options *options, lf_arena *arena, lorafmt_adapter *out,
                                    lorafmt_error *err)
{
    lorafmt_metadata *joined = lf_arena_alloc(arena, out->n_metadata + options->n_metadata, sizeof *joined);
    size_t n = 0;

    if (!joined)
        return lf_no_memory(err);
    for (size_t i = 0; i < out->n_metadata; i++)
        if (!find_metadata(options->metadata, options->n_metadata, out->metadata[i].key))
            joined[n++] = out->metadata[i];
    for (size_t i = 0; i < options->n_metadata; i++)
        if (!find_metadata(&options->metadata[i + 1], options->n_metadata - i - 1, options->metadata[i].key))
            joined[n++] = options->metadata[i];
    lf_adapter_sort(NULL, 0, joined, n);
    out->metadata = joined;
    out->n_metadata = n;
    return LORAFMT_OK;
}

/* Which base tensors the sites change, and what is in them: spec 4.3 base_structure and 4.4 base_sha256. */
static lorafmt_status record_base(lorafmt_adapter *out, lorafmt_site *sites, const lorafmt_pack_options *options,
                                  lorafmt_error *err)
{
    const lorafmt_base *base = lorafmt_model_base(options->base);
    const lorafmt_stack_entry entry = {out, 1.0};
    const lorafmt_bind_options check = {.struct_size = sizeof check, .check_only = true};
    lorafmt_view *view;
    lorafmt_status st;

    st = lorafmt_bind(base, &entry, 1, &check, &view, err);
    if (st) {
        lf_error_set_file(err, options->base->path);
        return st;
    }
    for (size_t i = 0; i < out->n_sites && !options->headers_only; i++) {
        const size_t tensor = lorafmt_view_get_site(view, i)->tensor;
        if (tensor >= base->n_tensors)
            continue; // a new tensor
        if ((st = lf_base_tensor_digest(base, tensor, sites[i].base_sha256, err)))
            goto done;
        sites[i].flags |= LORAFMT_SITE_BASE_SHA256;
        if (options->progress && !options->progress(options->progress_ctx, 0, 0)) {
            st = lf_fail(err, LORAFMT_CANCELLED, LORAFMT_NO_OFFSET, NULL, "stopped before anything was written");
            goto done;
        }
    }
    out->has_base_structure = true;
    st = lorafmt_base_structure(base, out->base_structure, err);
done:
    lorafmt_view_free(view);
    return st;
}

lorafmt_status lf_adapter_convert(lf_converter *c, const lorafmt_adapter *in, lorafmt_adapter *out, lorafmt_error *err)
{
    const lorafmt_pack_options *options = c->options;
    lorafmt_site *sites = lf_arena_alloc(c->arena, in->n_sites, sizeof *sites);
    const lf_fpenv env = lf_fpenv_enter();
    lorafmt_status st = sites ? LORAFMT_OK : lf_no_memory(err);

    *out = *in;
    out->has_id = false; // computed anew from what is written; id stays, since signatures are of it
    if (sites)
        memcpy(sites, in->sites, in->n_sites * sizeof *sites);
    out->sites = sites;
    if (options->name)
        out->name = options->name;
    for (size_t i = 0; i < in->n_sites && !st && options->dtype; i++)
        st = convert_site(c, &sites[i], err);
    lf_fpenv_leave(env);
    LF_TRY(st);
    LF_TRY(join_metadata(options, c->arena, out, err));
    LF_TRY(lf_adapter_check(out, &c->row_indexes, NULL, err));
    return options->base ? record_base(out, sites, options, err) : LORAFMT_OK;
}

/* SPDX-License-Identifier: MIT */
#include "lib/pool/pool.h"

#include "format/base/error.h"
#include "lorafmt/forward.h"
#include "lorafmt/limits.h"

/* A file that took the place of the measured one by now is no larger; that it is another one is found out afterwards. */
static lorafmt_status open_source(lorafmt_pooled *p, const lf_found *found, lorafmt_error *err)
{
    lorafmt_source_options options = p->pool->source;
    lorafmt_limits limits = {.struct_size = sizeof limits};
    const uint64_t most = lorafmt_limits_get(options.limits, LORAFMT_LIMIT_FILE_SIZE), size = found->stamp.tensors.size;

    if (options.limits)
        limits = *options.limits;
    if (size < most)
        limits.at_most[LORAFMT_LIMIT_FILE_SIZE] = size;
    options.limits = &limits;
    options.adapter = found->adapter;
    LF_TRY(lorafmt_source_open(found->path, &options, &p->source, err));
    return lorafmt_source_choose(p->source, NULL, &p->adapter, err);
}

static lorafmt_status bind(lorafmt_pooled *p, lorafmt_error *err)
{
    const lorafmt_stack_entry entry = {p->adapter, 1};

    LF_TRY(lorafmt_bind(p->pool->base, &entry, 1, &p->pool->bind, &p->view, err));
    for (size_t t = 0; t < lorafmt_view_n_tensors(p->view); t++)
        LF_TRY(lorafmt_view_prepare(p->view, t, err));
    return lorafmt_view_check_unmerged(p->view, err);
}

lorafmt_status lf_pooled_load(lorafmt_pooled *p, const lf_found *found, lorafmt_error *err)
{
    lorafmt_status st = open_source(p, found, err);

    if (!st && p->pool->base)
        st = bind(p, err);
    if (st)
        lf_error_set_file(err, found->path);
    return st;
}

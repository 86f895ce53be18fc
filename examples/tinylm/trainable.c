/* SPDX-License-Identifier: MIT */
#include "trainable.h"

#include "fail.h"

#include <lorafmt/files.h>
#include <stdlib.h>
#include <string.h>

static size_t n_elements(const lorafmt_tensor *t)
{
    return (size_t)(t->size / sizeof(float));
}

static lorafmt_status check(const lorafmt_adapter *a, size_t *n, lorafmt_error *err)
{
    for (size_t i = 0; i < a->n_sites; i++) {
        const lorafmt_site *site = &a->sites[i];
        if (site->kind != LORAFMT_KIND_LINEAR)
            return fail(err, LORAFMT_UNSUPPORTED, "", site->target, "is of kind %s, and only linear layers are trained",
                        lorafmt_kind_name(site->kind));
        for (size_t k = 0; k < site->n_factors; k++)
            *n += n_elements(&site->factors[k].tensor);
    }
    return LORAFMT_OK;
}

static lorafmt_status make_room(trainable *t, lorafmt_error *err)
{
    unmerged *u = &t->unmerged;

    t->numbers = malloc(t->n * sizeof *t->numbers);
    t->sites = calloc(t->adapter.n_sites, sizeof *t->sites);
    t->factors = calloc(t->adapter.n_sites, 2 * sizeof *t->factors);
    u->table = calloc(u->n_tensors, sizeof *u->table);
    u->all = calloc(t->adapter.n_sites, sizeof *u->all);
    return t->numbers && t->sites && t->factors && u->table && u->all ? LORAFMT_OK : fail_memory(err);
}

/* A factor like that one, with numbers from `next` on. */
static lorafmt_factor copy_factor(const lorafmt_factor *factor, float *next)
{
    lorafmt_factor copy = *factor;

    memcpy(next, factor->tensor.data, (size_t)factor->tensor.size);
    copy.tensor.data = next;
    return copy;
}

static void copy_site(trainable *t, size_t i, float **next)
{
    const lorafmt_site *site = &lorakit_adapter_get(t->fresh)->sites[i];
    lorafmt_factor *factors = t->factors + 2 * i;
    const lorafmt_tensor *a, *b;

    t->sites[i] = *site;
    t->sites[i].factors = factors;
    for (size_t k = 0; k < 2; k++) {
        factors[k] = copy_factor(&site->factors[k], *next);
        *next += n_elements(&factors[k].tensor);
    }
    a = &lorafmt_site_factor(&t->sites[i], LORAFMT_ROLE_A)->tensor;
    b = &lorafmt_site_factor(&t->sites[i], LORAFMT_ROLE_B)->tensor;
    t->unmerged.all[i] = (lorafmt_update){
        .in = (size_t)a->shape[1],
        .out = (size_t)b->shape[0],
        .a = a->data,
        .b = b->data,
        .a_dtype = LORAFMT_F32,
        .b_dtype = LORAFMT_F32,
        .rank = site->rank,
        .scale = (float)site->scale,
    };
}

/* New adapters name tensors as their base does. */
static size_t find_tensor(const lorafmt_base *base, const char *name)
{
    size_t i = 0;

    while (strcmp(base->tensors[i].name, name))
        i++;
    return i;
}

lorafmt_status trainable_make(const model *m, const lorakit_init_options *options, trainable *out, lorafmt_error *err)
{
    float *next;

    if (lorakit_init(m->base, options, &out->fresh, err))
        return err->status;
    out->adapter = *lorakit_adapter_get(out->fresh);
    out->unmerged.n_tensors = m->base->n_tensors;
    out->unmerged.n_adapters = 1;
    out->unmerged.max_rank = options->rank;
    if (check(&out->adapter, &out->n, err) || make_room(out, err))
        return err->status;
    out->adapter.sites = out->sites;
    next = out->numbers;
    for (size_t i = 0; i < out->adapter.n_sites; i++) {
        copy_site(out, i, &next);
        out->unmerged.table[find_tensor(m->base, out->sites[i].target)] = (lorafmt_updates){&out->unmerged.all[i], 1};
    }
    return LORAFMT_OK;
}

void trainable_free(trainable *t)
{
    lorakit_adapter_free(t->fresh);
    unmerged_free(&t->unmerged);
    free(t->numbers);
    free(t->sites);
    free(t->factors);
}

lorafmt_status trainable_save(const trainable *t, const model *m, const char *path, lorafmt_dtype dtype, lorafmt_error *err)
{
    const lorafmt_pack_options options = {.struct_size = sizeof options, .dtype = dtype, .base = m->file};
    const lorafmt_adapter *adapter = &t->adapter;

    return lorafmt_pack(&adapter, 1, path, &options, err);
}

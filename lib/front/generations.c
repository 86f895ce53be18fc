/* SPDX-License-Identifier: MIT */
/* lorafmt/generations.h: what is done to a file by appending to it. */
#include "lorafmt/generations.h"

#include "format/base/error.h"
#include "lib/front/append.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static bool is_among(const char *name, const char *const *names, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return false;
}

/* The place of the adapter of that name; n when there is none. */
static size_t find(const lf_adapter_list *list, const char *name)
{
    size_t i = 0;

    while (i < list->n && strcmp(list->adapters[i]->name, name) != 0)
        i++;
    return i;
}

static lorafmt_status no_such_adapter(const char *name, lorafmt_error *err)
{
    return lf_fail(err, LORAFMT_NOT_FOUND, LORAFMT_NO_OFFSET, NULL, "no adapter '%s' in it", name);
}

/* --- add --- */

/* In the place of one of its name, if that is allowed, or behind the others. */
static lorafmt_status put_adapter(lf_adapter_list *list, const lorafmt_adapter *adapter, bool force, lorafmt_error *err)
{
    const size_t i = find(list, adapter->name);

    if (i < list->n && !force)
        return lf_hint(err,
                       lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, adapter->name, "an adapter of this name is there already"),
                       LORAFMT_HINT_REPLACE);
    list->adapters[i] = adapter;
    list->digests[i] = NULL;
    list->n += i == list->n;
    return LORAFMT_OK;
}

static lorafmt_status add(lf_appender *a, const lorafmt_adapter *const *adapters, size_t n, const lorafmt_pack_options *options,
                          lorafmt_append_result *out, lorafmt_error *err)
{
    const lorafmt_adapter **converted;

    LF_TRY(lf_container_read_all(a->file, n, &a->arena, &a->list, err));
    LF_TRY(lf_adapters_convert(adapters, n, options, &a->arena, &converted, err));
    for (size_t i = 0; i < n; i++)
        LF_TRY(put_adapter(&a->list, converted[i], options->force, err));
    return lf_appender_write(a, a->file, options, out, err);
}

lorafmt_status lorafmt_add(const char *path, const lorafmt_adapter *const *adapters, size_t n_adapters,
                           const lorafmt_pack_options *options, lorafmt_append_result *out, lorafmt_error *err)
{
    static const lorafmt_pack_options defaults = {.struct_size = sizeof defaults};
    const lorafmt_pack_options *o = options ? options : &defaults;
    lf_appender a;
    lorafmt_status st;

    LF_TRY(lf_pack_options_check(o, n_adapters, err));
    if (o->align)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, NULL, "an alignment is given, but the file has its own");
    st = lf_appender_open(&a, path, false, err);
    if (!st)
        st = add(&a, adapters, n_adapters, o, out, err);
    return lf_appender_close(&a, st, err);
}

/* --- remove --- */

static lorafmt_status drop(lf_appender *a, const char *const *names, size_t n_names, lorafmt_append_result *out,
                           lorafmt_error *err)
{
    lf_adapter_list *list = &a->list;
    size_t n = 0;

    LF_TRY(lf_container_read_all(a->file, 0, &a->arena, &a->list, err));
    for (size_t i = 0; i < n_names; i++)
        if (find(list, names[i]) == list->n)
            return no_such_adapter(names[i], err);
        else if (is_among(names[i], names, i))
            return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, names[i], "is named twice");
    for (size_t i = 0; i < list->n; i++)
        if (!is_among(list->adapters[i]->name, names, n_names)) {
            list->adapters[n] = list->adapters[i];
            list->digests[n++] = list->digests[i];
        }
    if (n == 0)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, NULL, "these are all its adapters, and a file holds at least one");
    list->n = n;
    return lf_appender_write(a, a->file, NULL, out, err);
}

lorafmt_status lorafmt_remove(const char *path, const char *const *names, size_t n_names, lorafmt_append_result *out,
                              lorafmt_error *err)
{
    lf_appender a;
    lorafmt_status st = lf_appender_open(&a, path, false, err);

    if (!st)
        st = drop(&a, names, n_names, out, err);
    return lf_appender_close(&a, st, err);
}

/* --- signatures --- */

/* In ascending order of keys; one by the same key is replaced. */
static lorafmt_status insert(lorafmt_adapter *adapter, const lorafmt_signature *signature, lf_arena *arena, lorafmt_error *err)
{
    const size_t n = adapter->n_signatures;
    lorafmt_signature *all = lf_arena_alloc(arena, n + 1, sizeof *all);
    size_t i = 0, rest;

    if (!all)
        return lf_no_memory(err);
    while (i < n && memcmp(adapter->signatures[i].public_key, signature->public_key, sizeof signature->public_key) < 0)
        i++;
    rest =
        i < n && memcmp(adapter->signatures[i].public_key, signature->public_key, sizeof signature->public_key) == 0 ? i + 1 : i;
    memcpy(all, adapter->signatures, i * sizeof *all);
    all[i] = *signature;
    memcpy(all + i + 1, adapter->signatures + rest, (n - rest) * sizeof *all);
    adapter->signatures = all;
    adapter->n_signatures = n + 1 - (rest - i);
    return LORAFMT_OK;
}

static lorafmt_status add_signature(lf_appender *a, const char *name, const lorafmt_signature *signature,
                                    lorafmt_append_result *out, lorafmt_error *err)
{
    size_t i;

    LF_TRY(lf_container_read_all(a->file, 0, &a->arena, &a->list, err));
    i = find(&a->list, name);
    if (i == a->list.n)
        return no_such_adapter(name, err);
    LF_TRY(insert(&a->list.records[i].adapter, signature, &a->arena, err));
    return lf_appender_write(a, a->file, NULL, out, err);
}

lorafmt_status lorafmt_add_signature(const char *path, const char *adapter, const lorafmt_signature *signature,
                                     lorafmt_append_result *out, lorafmt_error *err)
{
    lf_appender a;
    lorafmt_status st = lf_appender_open(&a, path, false, err);

    if (!st)
        st = add_signature(&a, adapter, signature, out, err);
    return lf_appender_close(&a, st, err);
}

/* --- rollback --- */

static lorafmt_status roll_back_to(lf_appender *a, const lf_container *earlier, lorafmt_append_result *out, lorafmt_error *err)
{
    LF_TRY(lf_container_check_generation(earlier, NULL, err));
    LF_TRY(lf_container_read_all(earlier, 0, &a->arena, &a->list, err));
    return lf_appender_write(a, earlier, NULL, out, err);
}

/* generation 0: the one before the current one. */
static lorafmt_status choose(const lf_container *file, uint64_t *generation, lorafmt_error *err)
{
    uint64_t end;

    if (*generation)
        return LORAFMT_OK;
    if (lf_container_n_earlier(file) == 0)
        return lf_fail(err, LORAFMT_NOT_FOUND, LORAFMT_NO_OFFSET, NULL, "has one generation, and nothing to go back to");
    return lf_container_earlier(file, 0, generation, &end, err);
}

static lorafmt_status roll_back(lf_appender *a, uint64_t generation, lorafmt_append_result *out, lorafmt_error *err)
{
    lorafmt_container_info info;
    lf_container *earlier;
    lorafmt_status st;
    size_t place;

    lf_container_info(a->file, &info);
    if (generation == info.generation && info.recovered)
        return roll_back_to(a, a->file, out, err);
    if (generation == info.generation)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, NULL, "generation %" PRIu64 " is the current one", generation);
    LF_TRY(lf_container_find_earlier(a->file, generation, &place, err));
    LF_TRY(lf_container_open_earlier(a->file, place, &earlier, err));
    st = roll_back_to(a, earlier, out, err);
    lf_container_free(earlier);
    return st;
}

lorafmt_status lorafmt_rollback(const char *path, uint64_t generation, lorafmt_append_result *out, lorafmt_error *err)
{
    lf_appender a;
    lorafmt_status st = lf_appender_open(&a, path, generation != 0, err);

    if (!st)
        st = choose(a.file, &generation, err);
    if (!st)
        st = roll_back(&a, generation, out, err);
    if (!st && out)
        out->restored = generation;
    return lf_appender_close(&a, st, err);
}

/* SPDX-License-Identifier: MIT */
#include "format/base/error.h"
#include "lib/io/io.h"
#include "lib/model/parts.h"

#include <stdlib.h>
#include <string.h>

/* An index takes some 100 bytes for a tensor; the largest model of today has 10^5 of them. */
#define MAX_INDEX_SIZE (UINT64_C(64) << 20)

/* Each stays open. The largest models of today have 200. */
#define MAX_FILES 16384

/* A tensor of one of the files. */
typedef struct located {
    const lf_safetensors_tensor *tensor;
    size_t file;
} located;

static int by_name(const void *a, const void *b)
{
    const located *x = a, *y = b;
    return strcmp(x->tensor->name, y->tensor->name);
}

static void set_tensor(lorafmt_model *model, size_t i, const located *from)
{
    const lf_safetensors_tensor *t = from->tensor;
    lorafmt_base_tensor *out = &model->tensors[i];

    out->name = t->name;
    out->dtype = t->dtype;
    out->n_dims = t->n_dims;
    memcpy(out->shape, t->shape, sizeof out->shape);
    out->size = t->size;
    model->places[i] = (lf_model_place){.file = from->file, .offset = t->offset};
}

static lorafmt_status set_tensors(lorafmt_model *model, located *all, size_t n, lorafmt_error *err)
{
    size_t k = 0;

    for (size_t f = 0; f < model->n_files; f++)
        for (size_t i = 0; i < model->files[f].table->n_tensors; i++)
            all[k++] = (located){.tensor = &model->files[f].table->tensors[i], .file = f};
    if (n > 1)
        qsort(all, n, sizeof *all, by_name);
    for (size_t i = 0; i < n; i++) {
        if (i > 0 && by_name(&all[i - 1], &all[i]) == 0)
            return lf_fail(err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, all[i].tensor->name, "is both in %s and in %s",
                           model->files[all[i - 1].file].name, model->files[all[i].file].name);
        set_tensor(model, i, &all[i]);
    }
    return LORAFMT_OK;
}

lorafmt_status lf_model_collect(lorafmt_model *model, lorafmt_error *err)
{
    lorafmt_status st;
    located *all;
    size_t n = 0;

    for (size_t f = 0; f < model->n_files; f++)
        n += model->files[f].table->n_tensors;
    model->tensors = lf_arena_alloc(&model->arena, n, sizeof *model->tensors);
    model->places = lf_arena_alloc(&model->arena, n, sizeof *model->places);
    all = calloc(n + 1, sizeof *all);
    if (model->tensors && model->places && all)
        st = set_tensors(model, all, n, err);
    else
        st = lf_no_memory(err);
    free(all);
    model->base.n_tensors = n;
    model->base.tensors = model->tensors;
    return st;
}

/* Both in ascending order of names: the index names every tensor that is there, in the file where it is, and no other. */
static lorafmt_status compare(const lorafmt_model *model, const lf_shard_index *index, lorafmt_error *err)
{
    size_t i = 0, k = 0;

    while (i < index->n_entries || k < model->base.n_tensors) {
        const lf_shard_entry *entry = i < index->n_entries ? &index->entries[i] : NULL;
        const char *name = k < model->base.n_tensors ? model->tensors[k].name : NULL;
        const char *file = name ? model->files[model->places[k].file].name : NULL;
        const int order = !name ? -1 : !entry ? 1 : strcmp(entry->tensor, name);
        if (order < 0)
            return lf_fail(err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, entry->tensor,
                           "%s says that it is in %s, which does not hold it", model->index_name, entry->file);
        if (order > 0)
            return lf_fail(err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, name, "is in %s, but not named by %s", file,
                           model->index_name);
        if (strcmp(entry->file, file) != 0)
            return lf_fail(err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, name, "is in %s, but %s says that it is in %s", file,
                           model->index_name, entry->file);
        i++;
        k++;
    }
    return LORAFMT_OK;
}

static lorafmt_status open_shard(lorafmt_model *model, size_t i, const char *name, lorafmt_error *err)
{
    char *path = lf_path_join(model->path, name);
    const char *kept = lf_arena_strdup(&model->arena, name);

    if (path && lf_path_type_of(path) == LF_PATH_NONE) {
        free(path);
        return lf_fail(err, LORAFMT_NOT_FOUND, LORAFMT_NO_OFFSET, name, "named by %s, but not there", model->index_name);
    }
    if (!kept) {
        free(path);
        return lf_no_memory(err);
    }
    return lf_model_open_file(&model->files[i], kept, path, err);
}

static lorafmt_status open_all(lorafmt_model *model, const lf_shard_index *index, lorafmt_error *err)
{
    if (index->n_files > MAX_FILES)
        return lf_fail(err, LORAFMT_LIMIT, LORAFMT_NO_OFFSET, model->index_name, "names %zu files, at most %d are opened",
                       index->n_files, MAX_FILES);
    LF_TRY(lf_model_reserve_files(model, index->n_files, err));
    for (size_t i = 0; i < index->n_files; i++)
        LF_TRY(open_shard(model, i, index->files[i], err));
    LF_TRY(lf_model_collect(model, err));
    return compare(model, index, err);
}

lorafmt_status lf_model_open_shards(lorafmt_model *model, const char *index_name, lorafmt_error *err)
{
    char *path = lf_path_join(model->path, index_name);
    lf_shard_index *index = NULL;
    lorafmt_status st;

    if (!path)
        return lf_no_memory(err);
    model->index_name = index_name;
    st = lf_file_load(path, MAX_INDEX_SIZE, &model->index, &model->index_size, err);
    if (st == LORAFMT_OK && (st = lf_shard_index_parse(model->index, model->index_size, &index, err)))
        lf_error_set_file(err, path);
    free(path);
    if (st == LORAFMT_OK && (st = open_all(model, index, err)))
        lf_error_set_file(err, model->path);
    lf_shard_index_free(index);
    return st;
}

/* SPDX-License-Identifier: MIT */
/* What a source will take, before it is opened. */
#include "lib/front/source.h"

#include "format/base/arith.h"
#include "format/base/error.h"
#include "format/base/text.h"
#include "lib/front/policy.h"

#include <stdlib.h>

static void add(uint64_t *sum, uint64_t size)
{
    if (!lf_add_u64(*sum, size, sum))
        *sum = UINT64_MAX;
}

/* Frees path, which is NULL when there was no memory for it. Where there is no file, opening will know whether it must be there. */
static lorafmt_status add_file(char *path, uint64_t *sum, lorafmt_error *err)
{
    lorafmt_status st = LORAFMT_OK;
    uint64_t size = 0;
    int fd = -1;

    if (!path)
        return lf_no_memory(err);
    if (lf_path_type_of(path) == LF_PATH_FILE)
        st = lf_file_open(path, &fd, &size, err);
    lf_file_close(fd);
    free(path);
    add(sum, size);
    return st;
}

/* Where its bytes are used: in the mapping, or decoded. A file in memory is there as a whole. */
static lorafmt_status add_container(const lf_container *c, uint64_t file_size, const lorafmt_source_options *options,
                                    lf_arena *arena, uint64_t *sum, lorafmt_error *err)
{
    const bool is_whole = lf_policy_in_memory(options);
    bool *wanted = NULL;
    size_t adapter;

    if (options && options->adapter)
        LF_TRY(lf_container_choose(c, options->adapter, arena, &adapter, &wanted, err));
    add(sum, is_whole ? file_size : lf_container_index_size(c));
    for (size_t i = 0; i < lf_container_n_tensors(c); i++) {
        lf_tensor_record t;
        if (wanted && !wanted[i])
            continue;
        LF_TRY(lf_container_tensor(c, i, &t, err));
        if (!t.tensor.data || !is_whole)
            add(sum, t.tensor.size);
    }
    return LORAFMT_OK;
}

static lorafmt_status add_source_file(const char *path, const lorafmt_source_options *options, uint64_t *sum, lorafmt_error *err)
{
    lf_container *container = NULL;
    lf_arena arena = {0};
    lorafmt_status st;
    lf_map map;

    st = lf_container_open_file(path, NULL, &map, &container, err);
    if (st == LORAFMT_NOT_LORAFMT && lf_path_type_of(path) == LF_PATH_FILE && !lf_ends_with(path, ".lora")) {
        add(sum, map.size);
        st = add_file(lf_config_beside(path), sum, err);
    } else if (!st)
        st = add_container(container, map.size, options, &arena, sum, err);
    lf_container_free(container);
    lf_map_close(&map);
    lf_arena_free(&arena);
    return st;
}

lorafmt_status lorafmt_source_measure(const char *path, const lorafmt_source_options *options, uint64_t *size_out,
                                      lorafmt_error *err)
{
    uint64_t sum = 0;
    lorafmt_status st;

    *size_out = 0;
    if (options)
        LF_TRY(lf_check_struct_size(options->struct_size, sizeof *options, err));
    if (lf_path_type_of(path) == LF_PATH_DIRECTORY) {
        st = add_file(lf_path_join(path, LF_CONFIG_FILE), &sum, err);
        if (!st)
            st = add_file(lf_path_join(path, LF_TENSOR_FILE), &sum, err);
    } else
        st = add_source_file(path, options, &sum, err);
    if (st)
        lf_error_set_file(err, path);
    else
        *size_out = sum;
    return st;
}

/* SPDX-License-Identifier: MIT */
#include "format/base/error.h"
#include "lib/front/source.h"

#include <stdlib.h>
#include <string.h>

#define CONFIG_FILE "adapter_config.json"
#define TENSOR_FILE "adapter_model.safetensors"

static lorafmt_status write_tensors(lf_output *output, const char *name, const uint8_t *header, size_t header_size,
                                    const lf_peft_tensor *tensors, size_t n_tensors, lorafmt_error *err)
{
    uint64_t at = header_size;
    int fd;
    lorafmt_status st;

    LF_TRY(lf_output_create(output, name, &fd, err));
    st = lf_file_write(fd, name, 0, header, header_size, err);
    for (size_t i = 0; i < n_tensors && !st; i++) {
        const lorafmt_tensor *t = &tensors[i].tensor;
        st = lf_file_write(fd, name, at, t->data, (size_t)t->size, err);
        at += t->size;
    }
    return lf_output_close(output, name, fd, st, err);
}

static lorafmt_status encode_header(const lf_peft_tensor *tensors, size_t n, lf_arena *arena, uint8_t **out, size_t *out_size,
                                    lorafmt_error *err)
{
    static const lf_safetensors_pair metadata = {"format", "pt"}; // as PEFT writes it
    lf_safetensors_tensor *table = lf_arena_alloc(arena, n, sizeof *table);

    if (!table)
        return lf_no_memory(err);
    for (size_t i = 0; i < n; i++) {
        const lorafmt_tensor *t = &tensors[i].tensor;
        table[i] = (lf_safetensors_tensor){.name = tensors[i].name, .dtype = t->dtype, .n_dims = t->n_dims, .size = t->size};
        memcpy(table[i].shape, t->shape, sizeof t->shape);
    }
    return lf_safetensors_encode_header(table, n, &metadata, 1, out, out_size, err);
}

/* What is there is replaced as a whole, so nothing may be there that is not of an adapter. */
static lorafmt_status check_replaced(const char *path, lorafmt_error *err)
{
    lorafmt_status st = LORAFMT_OK;
    char **names;
    size_t n;

    if (lf_path_type_of(path) != LF_PATH_DIRECTORY)
        return LORAFMT_OK;
    LF_TRY(lf_directory_list(path, &names, &n, err));
    for (size_t i = 0; i < n && !st; i++)
        if (strcmp(names[i], CONFIG_FILE) != 0 && strcmp(names[i], TENSOR_FILE) != 0)
            st = lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, NULL,
                         "will not be replaced: it holds \"%s\", which is no part of an adapter", names[i]);
    lf_names_free(names, n);
    if (st)
        lf_error_set_file(err, path);
    return st;
}

lorafmt_status lorafmt_unpack(const lorafmt_adapter *adapter, const char *path, bool force, lorafmt_error *err)
{
    lf_arena arena = {0};
    lf_output *output = NULL;
    uint8_t *header = NULL;
    size_t header_size, n_tensors;
    lf_peft_tensor *tensors;
    const char *config;
    lorafmt_status st;

    if (force)
        LF_TRY(check_replaced(path, err));
    if ((st = lf_peft_export(adapter, &arena, &config, &tensors, &n_tensors, err)) ||
        (st = encode_header(tensors, n_tensors, &arena, &header, &header_size, err)) ||
        (st = lf_output_begin_directory(path, force, &output, err)) ||
        (st = lf_output_put(output, CONFIG_FILE, config, strlen(config), err)) ||
        (st = write_tensors(output, TENSOR_FILE, header, header_size, tensors, n_tensors, err)))
        lf_output_abort(output);
    else
        st = lf_output_commit(output, err);
    free(header);
    lf_arena_free(&arena);
    return st;
}

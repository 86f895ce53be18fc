/* SPDX-License-Identifier: MIT */
#include "format/base/error.h"
#include "format/base/text.h"
#include "lib/front/convert.h"
#include "lib/front/source.h"
#include "lib/front/writer.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

lorafmt_status lf_pack_options_check(const lorafmt_pack_options *o, size_t n_adapters, lorafmt_error *err)
{
    LF_TRY(lf_check_struct_size(o->struct_size, sizeof *o, err));
    if (n_adapters == 0)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, NULL, "there is no adapter to pack");
    if (o->name && n_adapters > 1)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, NULL, "a name is for one adapter, here are %zu", n_adapters);
    if (o->name && !lf_adapter_name_valid(o->name))
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, o->name,
                       "an adapter name must be 1..255 bytes of UTF-8 without / \\ # = and control characters");
    if (o->dtype && o->dtype != LORAFMT_F32 && o->dtype != LORAFMT_BF16 && o->dtype != LORAFMT_F16)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, NULL, "dtype must be F32, BF16 or F16");
    if (o->align && o->align != 64 && o->align != 4096 && o->align != 65536)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, NULL, "align %" PRIu32 ", must be 64, 4096 or 65536", o->align);
    if (o->codec != LORAFMT_CODEC_RAW && o->codec != LORAFMT_CODEC_SPLIT)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, NULL, "codec %d, must be raw or split", (int)o->codec);
    return LORAFMT_OK;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static lorafmt_status check_names(const lorafmt_adapter *const *adapters, size_t n, lf_arena *arena, lorafmt_error *err)
{
    const char **names = lf_arena_alloc(arena, n, sizeof *names);

    if (!names)
        return lf_no_memory(err);
    for (size_t i = 0; i < n; i++)
        names[i] = adapters[i]->name;
    qsort(names, n, sizeof *names, compare_names);
    for (size_t i = 1; i < n; i++)
        if (strcmp(names[i - 1], names[i]) == 0)
            return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, names[i],
                           "two adapters of this name; pack one of them alone under another name first");
    return LORAFMT_OK;
}

lorafmt_status lf_adapters_convert(const lorafmt_adapter *const *adapters, size_t n, const lorafmt_pack_options *options,
                                   lf_arena *arena, const lorafmt_adapter ***out, lorafmt_error *err)
{
    const lorafmt_adapter **converted = lf_arena_alloc(arena, n, sizeof *converted);
    lf_converter converter = {.options = options, .arena = arena, .converted = {.arena = arena}, .row_indexes = {.arena = arena}};

    if (!converted)
        return lf_no_memory(err);
    for (size_t i = 0; i < n; i++) {
        lorafmt_adapter *a = lf_arena_alloc(arena, 1, sizeof *a);
        if (!a)
            return lf_no_memory(err);
        LF_TRY(lf_adapter_convert(&converter, adapters[i], a, err));
        converted[i] = a;
    }
    *out = converted;
    return check_names(converted, n, arena, err);
}

static lorafmt_status write_container(const lorafmt_adapter *const *adapters, size_t n, const char *path,
                                      const lorafmt_pack_options *options, lorafmt_error *err)
{
    const uint32_t align_log2 = options->align == 65536 ? 16 : options->align == 4096 ? 12 : 6;
    lf_writer w = {.progress = options->progress, .progress_ctx = options->progress_ctx};
    lf_output *output;
    lorafmt_status st;

    LF_TRY(lf_output_begin_file(path, options->force, &output, err));
    w.fd = lf_output_fd(output);
    w.path = lf_output_path(output);
    st = lf_container_encode(adapters, n, align_log2, options->codec, lf_writer_put, &w, &w.end, err);
    if (st) {
        lf_output_abort(output);
        return st;
    }
    return lf_output_commit(output, err);
}

lorafmt_status lorafmt_pack(const lorafmt_adapter *const *adapters, size_t n_adapters, const char *path,
                            const lorafmt_pack_options *options, lorafmt_error *err)
{
    static const lorafmt_pack_options defaults = {.struct_size = sizeof defaults};
    const lorafmt_pack_options *o = options ? options : &defaults;
    const lorafmt_adapter **converted = NULL;
    lf_arena arena = {0};
    lorafmt_status st;

    LF_TRY(lf_pack_options_check(o, n_adapters, err));
    st = lf_adapters_convert(adapters, n_adapters, o, &arena, &converted, err);
    if (!st)
        st = write_container(converted, n_adapters, path, o, err);
    lf_arena_free(&arena);
    return st;
}

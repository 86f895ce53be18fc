/* SPDX-License-Identifier: MIT */
/* lorafmt/generations.h: the current generation as a file of its own. */
#include "lorafmt/generations.h"

#include "format/base/error.h"
#include "lib/front/append.h"
#include "lib/front/source.h"

#include <stdlib.h>

/* What is written, and where. */
typedef struct job {
    const lf_container *file;
    int replaced; /* the locked file whose place the output takes; -1 for none */
    const char *output;
    const lorafmt_compact_options *options;
} job;

/* The last look at what is replaced: who does not ask for the lock may have put another file there. */
static lorafmt_status take_place(const job *j, int fd, lorafmt_error *err)
{
    if (j->replaced < 0)
        return LORAFMT_OK;
    LF_TRY(lf_file_copy_mode(j->replaced, fd, j->output, err));
    return lf_file_check_same(j->replaced, j->output, err);
}

static lorafmt_status write_output(const job *j, uint64_t *n_bytes, lorafmt_error *err)
{
    lf_writer w = {.progress = j->options->progress, .progress_ctx = j->options->progress_ctx};
    lf_output *o;
    lorafmt_status st;

    LF_TRY(lf_output_begin_file(j->output, j->options->force || j->replaced >= 0, &o, err));
    w.fd = lf_output_fd(o);
    w.path = lf_output_path(o);
    st = lf_container_compact(j->file, lf_writer_put, &w, &w.end, err);
    if (!st)
        st = take_place(j, w.fd, err);
    if (st) {
        lf_output_abort(o);
        return st;
    }
    *n_bytes = w.end;
    return lf_output_commit(o, err);
}

static lorafmt_status compact(const job *j, lorafmt_compact_result *out, lorafmt_error *err)
{
    const lorafmt_compact_options *o = j->options;
    lorafmt_container_info info;
    uint64_t n_bytes;

    LF_TRY(lf_container_check_appendable(j->file, err));
    LF_TRY(lf_container_check_generation(j->file, NULL, err));
    if (o->progress && !o->progress(o->progress_ctx, 0, 0))
        return lf_fail(err, LORAFMT_CANCELLED, LORAFMT_NO_OFFSET, NULL, "stopped before anything was written");
    LF_TRY(write_output(j, &n_bytes, err));
    lf_container_info(j->file, &info);
    if (out)
        *out = (lorafmt_compact_result){.n_bytes = n_bytes, .n_bytes_before = info.file_end, .recovered = info.recovered};
    return LORAFMT_OK;
}

/* A link stays one, and leads to the new file. */
static lorafmt_status compact_in_place(const char *path, const lorafmt_compact_options *options, lorafmt_compact_result *out,
                                       lorafmt_error *err)
{
    char *target = NULL;
    lf_appender a;
    lorafmt_status st = lf_appender_open(&a, path, false, err);

    if (!st)
        st = lf_path_resolve(path, &target, err);
    if (!st)
        st = compact(&(job){a.file, a.fd, target, options}, out, err);
    free(target);
    return lf_appender_close(&a, st, err);
}

/* What a generation consists of stays as it is while others write to the file: no lock is needed. */
static lorafmt_status compact_beside(const char *path, const char *output, const lorafmt_compact_options *options,
                                     lorafmt_compact_result *out, lorafmt_error *err)
{
    lf_container *file = NULL;
    lf_map map = {0};
    lorafmt_status st;

    if (lf_path_is_same(path, output)) {
        st = lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, NULL,
                     "is the file that is read; without an output it is compacted where it is");
        lf_error_set_file(err, output);
        return st;
    }
    st = lf_container_open_file(path, NULL, &map, &file, err);
    if (!st)
        st = compact(&(job){file, -1, output, options}, out, err);
    if (st)
        lf_error_set_file(err, path);
    lf_container_free(file);
    lf_map_close(&map);
    return st;
}

lorafmt_status lorafmt_compact(const char *path, const char *output, const lorafmt_compact_options *options,
                               lorafmt_compact_result *out, lorafmt_error *err)
{
    static const lorafmt_compact_options defaults = {.struct_size = sizeof defaults};
    const lorafmt_compact_options *o = options ? options : &defaults;

    if (out)
        *out = (lorafmt_compact_result){0};
    LF_TRY(lf_check_struct_size(o->struct_size, sizeof *o, err));
    return output ? compact_beside(path, output, o, out, err) : compact_in_place(path, o, out, err);
}

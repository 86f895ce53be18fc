/* SPDX-License-Identifier: MIT */
/* Making a scenario up to date. How a model comes to its place, and what a killed process may leave, is at build_publish.c. */
#include "format/base/error.h"
#include "lib/io/io.h"
#include "lib/scenario/build.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

typedef struct run {
    lorakit_build *build;
    const lorakit_build_options *options;
    lorakit_build_result *result;
    uint64_t before, total; /* bytes of files that are written, of all that will be */
} run;

/* --- who may change what is there --- */

static lorafmt_status lock(const lorakit_build *build, int *fd, lorafmt_error *err)
{
    int e = 0;

    *fd = open(build->flock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (*fd < 0)
        return lf_fail_os(err, errno, build->flock, "cannot open");
    while (flock(*fd, LOCK_EX) != 0 && (e = errno) == EINTR)
        e = 0;
    if (!e)
        return LORAFMT_OK;
    close(*fd);
    return lf_fail_os(err, e, build->flock, "cannot lock");
}

/* Run a step with the lock held. */
static lorafmt_status locked(run *r, lorafmt_status (*step)(run *r, lorafmt_error *err), lorafmt_error *err)
{
    lorafmt_status st;
    int fd;

    LF_TRY(lock(r->build, &fd, err));
    st = step(r, err);
    close(fd);
    return st;
}

/* --- writing the files of a model --- */

static bool progress(void *ctx, uint64_t done, uint64_t total)
{
    const run *r = ctx;

    (void)total;
    return !r->options->progress || r->options->progress(r->options->progress_ctx, r->before + done, r->total);
}

/* Is the n-th tensor file this process's to write? */
static bool is_ours(const run *r, size_t n)
{
    return r->options->n_parts < 2 || n % r->options->n_parts == r->options->part - 1;
}

static bool is_to_write(const run *r, size_t file, size_t *n_tensor_files)
{
    if (!lorafmt_image_get_file(r->build->image, file)->has_tensors)
        return false;
    return is_ours(r, (*n_tensor_files)++) && !lk_build_is_staged(r->build, file);
}

static lorafmt_status write_file(run *r, size_t i, lorafmt_error *err)
{
    const lorafmt_image_file *file = lorafmt_image_get_file(r->build->image, i);
    const lorafmt_image_write_options options = {.struct_size = sizeof options,
                                                 .n_threads = r->build->set->options.n_threads,
                                                 .progress = progress,
                                                 .progress_ctx = r};
    const char *path = lk_build_path(r->build, r->build->staging, file->name);
    lorafmt_status st = path ? LORAFMT_OK : lf_no_memory(err);

    if (!st)
        st = lorafmt_image_write(r->build->image, i, path, &options, &r->result->counts, err);
    if (st && lk_build_is_staged(r->build, i)) // somebody else was faster, with the same bytes
        return LORAFMT_OK;
    if (!st) {
        r->result->n_written++;
        r->result->n_bytes_written += file->size;
        r->before += file->size;
    }
    return st;
}

static lorafmt_status write_part(run *r, lorafmt_error *err)
{
    const size_t n = lorafmt_image_n_files(r->build->image);
    size_t n_tensor_files = 0;

    LF_TRY(lk_make_own_directory(r->build->staging, err));
    for (size_t i = 0; i < n; i++)
        if (is_to_write(r, i, &n_tensor_files))
            r->total += lorafmt_image_get_file(r->build->image, i)->size;
    n_tensor_files = 0;
    for (size_t i = 0; i < n; i++)
        if (is_to_write(r, i, &n_tensor_files))
            LF_TRY(write_file(r, i, err));
    return LORAFMT_OK;
}

/* --- a model --- */

/* Is there nothing to do? */
static bool is_done(const run *r)
{
    return r->result->before.built == LORAKIT_FRESH && !r->options->force;
}

static lorafmt_status settle(run *r, lorafmt_error *err)
{
    LF_TRY(lk_build_recover(r->build, err));
    if (r->options->force)
        LF_TRY(lk_build_remove(r->build->staging, err));
    LF_TRY(lorakit_build_look(r->build, &r->result->before, err));
    return is_done(r) ? LORAFMT_OK : lk_build_check_own(r->build, err);
}

/* What is in its place now; which may already be changed again, or the machine does not let it be seen. */
static lorafmt_status look_again(run *r, lorafmt_error *err)
{
    lorakit_build_state *after = &r->result->after;

    LF_TRY(lorakit_build_look(r->build, after, err));
    if (after->built == LORAKIT_FRESH)
        return LORAFMT_OK;
    lf_fail(err, LORAFMT_IO, LORAFMT_NO_OFFSET, NULL, "is written, but is not found as it was written%s%s",
            after->why[0] ? ": " : "", after->why);
    lf_error_set_file(err, r->build->target);
    return LORAFMT_IO;
}

/* A tensor file that is not there: others may still write it, but what was for this process to write should be. */
static lorafmt_status not_staged(const run *r, size_t file, size_t n, lorafmt_error *err)
{
    const char *name = lorafmt_image_get_file(r->build->image, file)->name;

    return is_ours(r, n) ? lf_fail_os(err, ENOENT, r->build->staging, "%s is not there any more", name) : LORAFMT_OK;
}

/* Whoever finds all tensor files there finishes the model. */
static lorafmt_status finish(run *r, lorafmt_error *err)
{
    lorakit_build_state *after = &r->result->after;
    size_t n_tensor_files = 0;

    LF_TRY(lk_build_recover(r->build, err));
    LF_TRY(lorakit_build_look(r->build, after, err));
    if (after->built == LORAKIT_FRESH && !(r->options->force && r->result->n_written))
        return lk_build_remove(r->build->staging, err);
    for (size_t i = 0; i < lorafmt_image_n_files(r->build->image); i++) {
        if (!lorafmt_image_get_file(r->build->image, i)->has_tensors)
            continue;
        if (!lk_build_is_staged(r->build, i))
            return not_staged(r, i, n_tensor_files, err);
        n_tensor_files++;
    }
    LF_TRY(lk_build_publish(r->build, err));
    return look_again(r, err);
}

static lorafmt_status build_model(run *r, lorafmt_error *err)
{
    lorafmt_status st;

    LF_TRY(locked(r, settle, err));
    r->result->after = r->result->before;
    if (is_done(r))
        return LORAFMT_OK;
    st = write_part(r, err);
    if (!st)
        return locked(r, finish, err);
    /* Another process may have finished the model, and its files are no longer where they were written. */
    if (st != LORAFMT_CANCELLED && locked(r, finish, NULL) == LORAFMT_OK && r->result->after.built == LORAKIT_FRESH)
        return LORAFMT_OK;
    return st;
}

/* --- a lora --- */

static lorafmt_status write_adapter(run *r, lorafmt_error *err)
{
    const lorakit_build *build = r->build;
    const lorafmt_adapter *adapter = lorakit_adapter_get(build->adapter);
    const lorafmt_pack_options options = {.struct_size = sizeof options,
                                          .base = build->set->model,
                                          .headers_only = true,
                                          .force = true,
                                          .progress = progress,
                                          .progress_ctx = r};

    return lorafmt_pack(&adapter, 1, build->target, &options, err);
}

/* A record without what the file will be comes first, so that the file is known to be ours whatever happens. */
static lorafmt_status build_lora(run *r, lorafmt_error *err)
{
    lorakit_build *build = r->build;
    lk_built_file file = {.name = build->name};

    LF_TRY(lorakit_build_look(build, &r->result->before, err));
    r->result->after = r->result->before;
    if (is_done(r))
        return LORAFMT_OK;
    LF_TRY(lk_build_check_own(build, err));
    LF_TRY(lk_build_record_write(build, build->record, &file, 1, err));
    LF_TRY(write_adapter(r, err));
    lk_built_file_look(build->set->output, build->name, &file);
    LF_TRY(lk_build_record_write(build, build->record, &file, 1, err));
    r->result->n_written = 1;
    r->result->n_bytes_written = file.size;
    return look_again(r, err);
}

/* --- both --- */

static lorafmt_status check_options(const lorakit_build *build, const lorakit_build_options *o, lorafmt_error *err)
{
    LF_TRY(lf_check_struct_size(o->struct_size, sizeof *o, err));
    if (o->n_parts && (o->part < 1 || o->part > o->n_parts))
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, "part", "part %u of %u, must be 1 to %u", o->part, o->n_parts,
                       o->n_parts);
    if (o->n_parts > 1 && o->force)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, "force",
                       "a part cannot be made anew, since it does not know which files of others are old");
    if (o->n_parts > 1 && build->form == LORAKIT_FORM_LORA)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, "part", "an adapter is made in one part");
    return LORAFMT_OK;
}

lorafmt_status lorakit_build_run(lorakit_build *build, const lorakit_build_options *options, lorakit_build_result *out,
                                 lorafmt_error *err)
{
    static const lorakit_build_options defaults = {.struct_size = sizeof defaults};
    run r = {.build = build, .options = options ? options : &defaults, .result = out};

    *out = (lorakit_build_result){0};
    LF_TRY(check_options(build, r.options, err));
    LF_TRY(lk_make_directories(build->set, err));
    LF_TRY(lk_build_inputs(build, err));
    return build->form == LORAKIT_FORM_LORA ? locked(&r, build_lora, err) : build_model(&r, err);
}

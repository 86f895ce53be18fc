/* SPDX-License-Identifier: MIT */
/*
 * A finished model comes to its place in steps, each of which a process may die after:
 *
 *   1. S.next says what its files are
 *   2. its directory is renamed to S.ready
 *   3. S.ready and OUTPUT/S are exchanged, or S.ready is renamed when there is none
 *   4. S.next is renamed to S.model
 *   5. S.ready, now what was there before, is removed
 *
 * So an S.ready whose files are those of S.next still has to go to its place, and any other has to go; and up to its end S.model is the
 * record of what is replaced.
 */
#include "format/base/error.h"
#include "lib/io/io.h"
#include "lib/io/rename.h"
#include "lib/scenario/build.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* --- directories of files --- */

static lorafmt_status remove_entry(const char *directory, const char *name, lorafmt_error *err)
{
    char *path = lf_path_join(directory, name);
    const int e = !path ? ENOMEM : unlink(path) == 0 || errno == ENOENT ? 0 : errno;
    const lorafmt_status st = e ? lf_fail_os(err, e, path, "cannot remove the file") : LORAFMT_OK;

    free(path);
    return st;
}

lorafmt_status lk_build_remove(const char *directory, lorafmt_error *err)
{
    const int e = lf_directory_remove(AT_FDCWD, directory);

    return !e || e == ENOENT ? LORAFMT_OK : lf_fail_os(err, e, directory, "cannot remove the directory");
}

static lorafmt_status sync_directory(const char *path, lorafmt_error *err)
{
    const int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const int e = fd < 0 || (fsync(fd) != 0 && errno != EINVAL) ? errno : 0; // some file systems have no syncing of directories

    if (fd >= 0)
        close(fd);
    return e ? lf_fail_os(err, e, path, "syncing the directory to disk") : LORAFMT_OK;
}

/* --- what may be replaced --- */

static bool record_has(const lk_record *record, const char *name)
{
    for (size_t i = 0; i < record->n_files; i++)
        if (strcmp(record->files[i].name, name) == 0)
            return true;
    return false;
}

static lorafmt_status not_ours(const lorakit_build *build, const char *why, const char *name, lorafmt_error *err)
{
    lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, NULL, "%s%.300s, and is not replaced: move it away", why, name);
    lf_error_set_file(err, build->target);
    return LORAFMT_MISUSE;
}

/* A directory with a record may only hold files that are in it. */
static lorafmt_status check_entries(const lorakit_build *build, const lk_record *record, lorafmt_error *err)
{
    lk_built_file file;
    char **names;
    size_t n;
    lorafmt_status st = LORAFMT_OK;

    LF_TRY(lf_directory_list(build->target, &names, &n, err));
    for (size_t i = 0; i < n && !st; i++)
        if (!record_has(record, names[i]) || !lk_built_file_look(build->target, names[i], &file))
            st = not_ours(build, "it holds what build did not write, ", names[i], err);
    lf_names_free(names, n);
    return st;
}

lorafmt_status lk_build_check_own(lorakit_build *build, lorafmt_error *err)
{
    lk_record record;
    lf_path_type type;
    char target[8];

    LF_TRY(lf_path_look(build->target, &type, err));
    if (type == LF_PATH_NONE && readlink(build->target, target, sizeof target) < 0)
        return LORAFMT_OK;
    LF_TRY(lk_build_record_read(build, build->record, &record, err));
    if (!record.inputs)
        return not_ours(build, "build did not make it", "", err);
    if (type != (build->image ? LF_PATH_DIRECTORY : LF_PATH_FILE) || readlink(build->target, target, sizeof target) >= 0)
        return not_ours(build, build->image ? "it is no directory" : "it is no file", "", err);
    return build->image ? check_entries(build, &record, err) : LORAFMT_OK;
}

/* --- the steps --- */

/* Step 3. */
static lorafmt_status put_in_place(lorakit_build *build, lorafmt_error *err)
{
    const char *output = build->set->output, *ready = build->ready + strlen(output) + 1;
    const bool exists = lf_path_type_of(build->target) != LF_PATH_NONE;
    const int dir = open(output, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int e = dir < 0 ? errno : exists ? lf_rename_exchange(dir, ready, build->name) : lf_rename_new(dir, ready, build->name, true);

    if (dir >= 0)
        close(dir);
    if (e)
        return lf_fail_os(err, e, build->target, "cannot rename the finished directory");
    return sync_directory(output, err);
}

/* What was there before, under either name. */
static lorafmt_status remove_old(lorakit_build *build, lorafmt_error *err)
{
    const char *aside = lf_arena_printf(&build->arena, "%s" LF_RENAME_ASIDE, build->ready);

    if (!aside)
        return lf_no_memory(err);
    LF_TRY(lk_build_remove(aside, err));
    return lk_build_remove(build->ready, err);
}

/* Steps 4 and 5. */
static lorafmt_status settle_record(lorakit_build *build, lorafmt_error *err)
{
    if (rename(build->next, build->record) != 0)
        return lf_fail_os(err, errno, build->record, "cannot rename the finished record");
    LF_TRY(sync_directory(build->state, err));
    return remove_old(build, err);
}

static lorafmt_status write_next(lorakit_build *build, lorafmt_error *err)
{
    const size_t n = lorafmt_image_n_files(build->image);
    lk_built_file *files = lf_arena_alloc(&build->arena, n, sizeof *files);

    if (!files)
        return lf_no_memory(err);
    for (size_t i = 0; i < n; i++) {
        const char *name = lorafmt_image_get_file(build->image, i)->name;
        if (!lk_built_file_look(build->staging, name, &files[i]))
            return lf_fail_os(err, ENOENT, build->staging, "%s is not there any more", name);
    }
    return lk_build_record_write(build, build->next, files, n, err);
}

/* What is beside tensors; and nothing else may be there, as temporary files of those that were killed are. */
static lorafmt_status complete(lorakit_build *build, lorafmt_error *err)
{
    const lorafmt_image_write_options options = {.struct_size = sizeof options,
                                                 .n_threads = build->set->options.n_threads,
                                                 .force = true};
    lk_record all = {.n_files = lorafmt_image_n_files(build->image)};
    char **names;
    size_t n;
    lorafmt_status st = LORAFMT_OK;

    if (!(all.files = lf_arena_alloc(&build->arena, all.n_files, sizeof *all.files)))
        return lf_no_memory(err);
    for (size_t i = 0; i < all.n_files; i++) {
        const lorafmt_image_file *file = lorafmt_image_get_file(build->image, i);
        const char *path = lk_build_path(build, build->staging, file->name);
        all.files[i].name = file->name;
        if (!path)
            return lf_no_memory(err);
        if (!file->has_tensors)
            LF_TRY(lorafmt_image_write(build->image, i, path, &options, NULL, err));
    }
    LF_TRY(lf_directory_list(build->staging, &names, &n, err));
    for (size_t i = 0; i < n && !st; i++)
        if (!record_has(&all, names[i]))
            st = remove_entry(build->staging, names[i], err);
    lf_names_free(names, n);
    return st;
}

/* --- what is left of builds that were given up, since their inputs changed, or killed when they wrote the record --- */

static bool is_staging(const char *name, const char *scenario)
{
    const size_t n = strlen(scenario);

    return strncmp(name, scenario, n) == 0 && name[n] == '-' && strlen(name + n + 1) == LK_KEY_DIGITS &&
           strspn(name + n + 1, "0123456789abcdef") == LK_KEY_DIGITS;
}

static bool is_half_a_record(const char *name, const char *scenario)
{
    const size_t n = strlen(scenario);

    return name[0] == '.' && strncmp(name + 1, scenario, n) == 0 && strncmp(name + 1 + n, ".next.lorapack-", 15) == 0;
}

static lorafmt_status remove_left(lorakit_build *build, lorafmt_error *err)
{
    char **names;
    size_t n;
    lorafmt_status st = LORAFMT_OK;

    LF_TRY(lf_directory_list(build->state, &names, &n, err));
    for (size_t i = 0; i < n && !st; i++) {
        const char *path = lk_build_path(build, build->state, names[i]);
        if (!path)
            st = lf_no_memory(err);
        else if (is_staging(names[i], build->stack.scenario->name))
            st = lk_build_remove(path, err);
        else if (is_half_a_record(names[i], build->stack.scenario->name))
            st = remove_entry(build->state, names[i], err);
    }
    lf_names_free(names, n);
    return st;
}

/* --- all of it --- */

lorafmt_status lk_build_publish(lorakit_build *build, lorafmt_error *err)
{
    LF_TRY(lk_build_check_own(build, err));
    LF_TRY(complete(build, err));
    LF_TRY(sync_directory(build->staging, err));
    LF_TRY(write_next(build, err));
    if (rename(build->staging, build->ready) != 0)
        return lf_fail_os(err, errno, build->staging, "cannot rename the finished directory");
    LF_TRY(put_in_place(build, err));
    LF_TRY(settle_record(build, err));
    return remove_left(build, err);
}

lorafmt_status lk_build_recover(lorakit_build *build, lorafmt_error *err)
{
    lk_record next;

    LF_TRY(lk_build_record_read(build, build->next, &next, err));
    if (next.inputs && !lk_record_first_changed(&next, build->ready)) {
        LF_TRY(lk_build_check_own(build, err));
        LF_TRY(put_in_place(build, err));
    }
    if (next.inputs && !lk_record_first_changed(&next, build->target))
        return settle_record(build, err);
    if (unlink(build->next) != 0 && errno != ENOENT)
        return lf_fail_os(err, errno, build->next, "cannot remove the record");
    return remove_old(build, err);
}

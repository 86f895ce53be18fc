/* SPDX-License-Identifier: MIT */
/* Is what is there what was locked? */
#include "format/base/error.h"
#include "format/base/text.h"
#include "lib/io/io.h"
#include "lib/scenario/record.h"
#include "lib/scenario/set.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Tell what drifted from the lock, or fail. */
__attribute__((format(printf, 4, 5))) static lorafmt_status drift(const lorakit_scenarios *set, lorafmt_error *err,
                                                                  const char *what, const char *format, ...)
{
    char text[sizeof err->text];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (set->options.drift) {
        set->options.drift(set->options.drift_ctx, what, text);
        return LORAFMT_OK;
    }
    lf_fail(err, LORAFMT_MISMATCH, LORAFMT_NO_OFFSET, what, "%s", text);
    lf_error_set_file(err, set->lock_path);
    return lf_hint(err, LORAFMT_MISMATCH, LORAFMT_HINT_LOCK);
}

static lorafmt_status drift_digest(const lorakit_scenarios *set, lorafmt_error *err, const char *what, const char *of,
                                   const uint8_t found[32], const uint8_t locked[32])
{
    char f[LF_HEX_SIZE], l[LF_HEX_SIZE];

    if (memcmp(found, locked, 32) == 0)
        return LORAFMT_OK;
    return drift(set, err, what, "its %s is %s, the lock says %s", of, lf_hex(found, f), lf_hex(locked, l));
}

static const char *file_field(const char *name, char buf[sizeof((lorafmt_error *)0)->field])
{
    snprintf(buf, sizeof((lorafmt_error *)0)->field, "base.files.%s", name);
    return buf;
}

static const lk_base_file *find_locked(const lk_lock *lock, const char *name)
{
    for (size_t i = 0; i < lock->n_files; i++)
        if (strcmp(lock->files[i].name, name) == 0)
            return &lock->files[i];
    return NULL;
}

/* Names and sizes, which need no hashing. */
static lorafmt_status check_file(const lorakit_scenarios *set, const lorafmt_model_file *file, lorafmt_error *err)
{
    const lk_base_file *locked = find_locked(&set->lock, file->name);
    char field[sizeof err->field];
    uint64_t size;

    if (!locked)
        return drift(set, err, file_field(file->name, field), "is not in the lock");
    LF_TRY(lf_file_size(file->fd, file->path, &size, err));
    if (size != locked->size)
        return drift(set, err, file_field(file->name, field), "it has %" PRIu64 " bytes, the lock says %" PRIu64, size,
                     locked->size);
    return LORAFMT_OK;
}

static bool base_has(const lorafmt_model *model, const char *name)
{
    lorafmt_model_file file;

    for (size_t i = 0; i < lorafmt_model_n_files(model); i++) {
        lorafmt_model_get_file(model, i, &file);
        if (strcmp(file.name, name) == 0)
            return true;
    }
    return false;
}

static lorafmt_status check_files(const lorakit_scenarios *set, lorafmt_error *err)
{
    char field[sizeof err->field];
    lorafmt_model_file file;

    for (size_t i = 0; i < set->n_files; i++) {
        lorafmt_model_get_file(set->model, i, &file);
        LF_TRY(check_file(set, &file, err));
    }
    for (size_t i = 0; i < set->lock.n_files; i++)
        if (!base_has(set->model, set->lock.files[i].name))
            LF_TRY(drift(set, err, file_field(set->lock.files[i].name, field), "is no file of the base any more"));
    return LORAFMT_OK;
}

static lorafmt_status check_digests(lorakit_scenarios *set, lorafmt_error *err)
{
    char field[sizeof err->field];

    LF_TRY(lk_base_digest(set, err));
    for (size_t i = 0; i < set->n_files; i++) {
        const lk_base_file *file = &set->files[i], *locked = find_locked(&set->lock, file->name);
        if (locked && locked->size == file->size)
            LF_TRY(drift_digest(set, err, file_field(file->name, field), "SHA-256", file->sha256, locked->sha256));
    }
    return LORAFMT_OK;
}

lorafmt_status lk_lock_check_base(lorakit_scenarios *set, lorafmt_error *err)
{
    if (set->lock.arithmetic != LORAKIT_ARITHMETIC)
        LF_TRY(drift(set, err, "arithmetic", "numbers are computed by version %d here, the lock says %" PRIu32,
                     LORAKIT_ARITHMETIC, set->lock.arithmetic));
    LF_TRY(check_files(set, err));
    LF_TRY(drift_digest(set, err, "base.structure", "structure", set->structure, set->lock.structure));
    return check_digests(set, err);
}

static const lk_locked_adapter *find_adapter(const lk_lock *lock, const char *name)
{
    for (size_t i = 0; i < lock->n_adapters; i++)
        if (strcmp(lock->adapters[i].name, name) == 0)
            return &lock->adapters[i];
    return NULL;
}

lorafmt_status lk_lock_check_adapter(const lorakit_scenarios *set, size_t i, const uint8_t id[32], lorafmt_error *err)
{
    const char *name = set->manifest->adapters[i].name;
    const lk_locked_adapter *locked = set->has_lock ? find_adapter(&set->lock, name) : NULL;
    char field[sizeof err->field];

    if (!set->has_lock)
        return LORAFMT_OK;
    snprintf(field, sizeof field, "adapters.%s", name);
    return locked ? drift_digest(set, err, field, "id", id, locked->id) : drift(set, err, field, "is not in the lock");
}

lorafmt_status lk_lock_check_removed(const lorakit_scenarios *set, lorafmt_error *err)
{
    const lorakit_manifest *m = set->manifest;

    for (size_t i = 0; set->has_lock && i < set->lock.n_adapters; i++) {
        char field[sizeof err->field];
        size_t k = 0;
        while (k < m->n_adapters && strcmp(m->adapters[k].name, set->lock.adapters[i].name) != 0)
            k++;
        snprintf(field, sizeof field, "adapters.%s", set->lock.adapters[i].name);
        if (k == m->n_adapters)
            LF_TRY(drift(set, err, field, "is in the lock, and not in the manifest any more"));
    }
    return LORAFMT_OK;
}

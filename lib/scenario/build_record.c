/* SPDX-License-Identifier: MIT */
/* What a result was made from and which files it had: the inputs, an empty line, and "SIZE MTIME NAME" for each file. */
#include "format/base/error.h"
#include "lib/io/io.h"
#include "lib/scenario/build.h"
#include "lib/scenario/record.h"

#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static size_t count_lines(const char *text)
{
    size_t n = 0;

    for (; (text = strchr(text, '\n')); text++)
        n++;
    return n;
}

static bool parse_file(char *line, lk_built_file *out)
{
    uint64_t mtime;

    if (!lk_record_number(&line, &out->size) || !lk_record_number(&line, &mtime))
        return false;
    out->mtime = (int64_t)mtime;
    out->name = line;
    return true;
}

lorafmt_status lk_build_record_read(lorakit_build *build, const char *path, lk_record *out, lorafmt_error *err)
{
    char *loaded, *text, *end, *line;

    *out = (lk_record){0};
    LF_TRY(lk_record_load(path, &loaded, err));
    if (!loaded)
        return LORAFMT_OK;
    text = lf_arena_strdup(&build->arena, loaded);
    free(loaded);
    if (!text)
        return lf_no_memory(err);
    if (!(end = strstr(text, "\n\n")))
        return LORAFMT_OK;
    end[1] = '\0';
    end += 2;
    if (!(out->files = lf_arena_alloc(&build->arena, count_lines(end), sizeof *out->files)))
        return lf_no_memory(err);
    while ((line = lk_record_line(&end)) && parse_file(line, &out->files[out->n_files]))
        out->n_files++;
    out->inputs = text;
    return LORAFMT_OK;
}

lorafmt_status lk_build_record_write(const lorakit_build *build, const char *path, const lk_built_file *files, size_t n_files,
                                     lorafmt_error *err)
{
    lk_text text;
    lorafmt_status st;

    LF_TRY(lk_text_begin(&text, err));
    fprintf(text.stream, "%s\n", build->inputs);
    for (size_t i = 0; i < n_files; i++)
        fprintf(text.stream, "%" PRIu64 " %" PRId64 " %s\n", files[i].size, files[i].mtime, files[i].name);
    st = lk_text_finish(&text, err);
    if (!st)
        st = lk_record_write(path, &text, err);
    free(text.bytes);
    return st;
}

bool lk_built_file_look(const char *directory, const char *name, lk_built_file *out)
{
    char path[PATH_MAX];
    struct stat st;

    *out = (lk_built_file){.name = name};
    if (snprintf(path, sizeof path, "%s/%s", directory, name) >= (int)sizeof path || lstat(path, &st) != 0 ||
        !S_ISREG(st.st_mode))
        return false;
    out->size = (uint64_t)st.st_size;
    out->mtime = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
    return true;
}

const lk_built_file *lk_record_first_changed(const lk_record *record, const char *directory)
{
    lk_built_file now;

    for (size_t i = 0; i < record->n_files; i++) {
        const lk_built_file *was = &record->files[i];
        if (!lk_built_file_look(directory, was->name, &now) || now.size != was->size || now.mtime != was->mtime)
            return was;
    }
    return NULL;
}

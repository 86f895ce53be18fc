/* SPDX-License-Identifier: MIT */
#include "lib/pool/pool.h"

#include "format/base/error.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* Returns its mode, or 0. */
static mode_t look(const char *path, lf_file_state *out)
{
    struct stat st;

    *out = (lf_file_state){0};
    if (stat(path, &st) != 0)
        return 0;
    *out = (lf_file_state){st.st_dev, st.st_ino, (uint64_t)st.st_size, st.st_mtim.tv_sec, st.st_mtim.tv_nsec};
    return st.st_mode;
}

/* A file of the directory that the first n bytes of path name. */
static void look_in(const char *path, size_t n, const char *name, lf_file_state *out)
{
    char full[PATH_MAX + 32];

    snprintf(full, sizeof full, "%.*s%s", (int)n, path, name);
    look(full, out);
}

lorafmt_status lf_find(const char *path, lf_found *out, lorafmt_error *err)
{
    const size_t n = strlen(path);
    const char *hash = strrchr(path, '#'), *slash;
    mode_t mode;

    if (n >= sizeof out->path)
        return lf_fail_os(err, ENAMETOOLONG, path, "cannot open");
    memcpy(out->path, path, n + 1);
    out->adapter = NULL;
    mode = look(out->path, &out->stamp.tensors);
    if (!mode && hash && hash > path) {
        out->path[hash - path] = '\0';
        out->adapter = hash + 1;
        mode = look(out->path, &out->stamp.tensors);
    }
    slash = strrchr(out->path, '/');
    if (S_ISDIR(mode)) {
        look_in(out->path, n, "/adapter_model.safetensors", &out->stamp.tensors);
        look_in(out->path, n, "/adapter_config.json", &out->stamp.config);
    } else
        look_in(out->path, slash ? (size_t)(slash - out->path) + 1 : 0, "adapter_config.json", &out->stamp.config);
    return LORAFMT_OK;
}

bool lf_stamp_is_same(const lf_stamp *a, const lf_stamp *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * The digests of a base's tensor files. Hashing them takes as long as reading them, and believing that they are what they were would
 * make a lock worth nothing; so what was hashed is kept with all that the file system says of a file and would say otherwise had
 * somebody written to it: OUTPUT/.lorafmt/base.stat.
 */
#include "format/base/digest.h"
#include "format/base/error.h"
#include "format/base/text.h"
#include "lib/algebra/work.h"
#include "lib/io/io.h"
#include "lib/scenario/record.h"
#include "lib/scenario/set.h"
#include "lib/threads/parallel.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define FIRST_LINE "lorafmt base.stat 1"
#define BLOCK (UINT64_C(1) << 20)

/* A file that was written to within so many nanoseconds before it was hashed may be written to again and show the same times. */
#define RACY INT64_C(2000000000)

typedef struct file_stat {
    uint64_t device, inode, size;
    int64_t mtime, ctime, hashed; /* nanoseconds since 1970 */
    uint8_t sha256[32];
} file_stat;

typedef struct job {
    lorakit_scenarios *set;
    lk_base_file *files;
    file_stat *stats; /* of the files; those that are known come from the cache */
    bool *known;
    lk_meter meter;
} job;

static int64_t nanoseconds(struct timespec t)
{
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static lorafmt_status look(const lorafmt_model_file *file, file_stat *out, lorafmt_error *err)
{
    struct timespec now;
    struct stat st;

    if (fstat(file->fd, &st) != 0 || clock_gettime(CLOCK_REALTIME, &now) != 0)
        return lf_fail_os(err, errno, file->path, "cannot look at the file");
    *out = (file_stat){.device = st.st_dev,
                       .inode = st.st_ino,
                       .size = (uint64_t)st.st_size,
                       .mtime = nanoseconds(st.st_mtim),
                       .ctime = nanoseconds(st.st_ctim),
                       .hashed = nanoseconds(now)};
    return LORAFMT_OK;
}

static bool same_file(const file_stat *a, const file_stat *b)
{
    return a->device == b->device && a->inode == b->inode && a->size == b->size && a->mtime == b->mtime && a->ctime == b->ctime;
}

static bool is_racy(const file_stat *s)
{
    return s->mtime > s->hashed - RACY || s->ctime > s->hashed - RACY;
}

/* --- the cache --- */

static char *cache_path(const lorakit_scenarios *set)
{
    char *directory = lf_path_join(set->output, LK_STATE_DIRECTORY),
         *path = directory ? lf_path_join(directory, "base.stat") : NULL;

    free(directory);
    return path;
}

static bool parse_stat(char *line, file_stat *out)
{
    uint64_t n[6];

    for (size_t i = 0; i < 6; i++)
        if (!lk_record_number(&line, &n[i]))
            return false;
    *out = (file_stat){n[0], n[1], n[2], (int64_t)n[3], (int64_t)n[4], (int64_t)n[5], {0}};
    return lk_hex_parse(line, out->sha256);
}

static void use_stat(job *j, const file_stat *cached)
{
    for (size_t i = 0; i < j->set->n_files; i++)
        if (same_file(cached, &j->stats[i]) && !is_racy(cached)) {
            j->stats[i] = *cached;
            j->known[i] = true;
        }
}

static void read_cache(job *j)
{
    char *path = cache_path(j->set), *text = NULL, *rest, *line;
    file_stat cached;

    if (path)
        lk_record_load(path, &text, NULL);
    rest = text;
    line = text ? lk_record_line(&rest) : NULL;
    if (line && strcmp(line, FIRST_LINE) == 0)
        while ((line = lk_record_line(&rest)) && parse_stat(line, &cached))
            use_stat(j, &cached);
    free(text);
    free(path);
}

static void print_stats(FILE *to, const file_stat *stats, size_t n)
{
    char hex[LF_HEX_SIZE];

    fputs(FIRST_LINE "\n", to);
    for (size_t i = 0; i < n; i++)
        fprintf(to, "%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRId64 " %" PRId64 " %" PRId64 " %s\n", stats[i].device,
                stats[i].inode, stats[i].size, stats[i].mtime, stats[i].ctime, stats[i].hashed, lf_hex(stats[i].sha256, hex));
}

/* A cache that cannot be written costs time and nothing else. */
static void write_cache(const job *j)
{
    char *path = cache_path(j->set);
    lk_text text;

    if (path && lk_make_directories(j->set, NULL) == LORAFMT_OK && lk_text_begin(&text, NULL) == LORAFMT_OK) {
        print_stats(text.stream, j->stats, j->set->n_files);
        if (lk_text_finish(&text, NULL) == LORAFMT_OK)
            lk_record_write(path, &text, NULL);
        free(text.bytes);
    }
    free(path);
}

/* --- hashing --- */

static lorafmt_status check_untouched(const lorafmt_model_file *file, const file_stat *before, lorafmt_error *err)
{
    file_stat now;

    LF_TRY(look(file, &now, err));
    if (same_file(&now, before))
        return LORAFMT_OK;
    lf_fail(err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, NULL, "the file was written to while being hashed");
    lf_error_set_file(err, file->path);
    return LORAFMT_CORRUPT;
}

static lorafmt_status hash_file(void *ctx, size_t i, void *block, lorafmt_error *err)
{
    job *j = ctx;
    file_stat *s = &j->stats[i];
    lorafmt_model_file file;
    lf_sha256 h;

    if (j->known[i])
        return LORAFMT_OK;
    lorafmt_model_get_file(j->set->model, i, &file);
    lf_sha256_init(&h);
    for (uint64_t at = 0; at < s->size; at += BLOCK) {
        const size_t n = (size_t)(s->size - at < BLOCK ? s->size - at : BLOCK);
        LF_TRY(lf_file_read(file.fd, file.path, at, block, n, err));
        lf_sha256_update(&h, block, n);
        LF_TRY(lk_meter_add(&j->meter, n, err));
    }
    lf_sha256_final(&h, s->sha256);
    return check_untouched(&file, s, err);
}

static lorafmt_status hash_all(job *j, lorafmt_error *err)
{
    const lorakit_scenarios_options *o = &j->set->options;

    j->meter = (lk_meter){.progress = o->progress, .ctx = o->progress_ctx, .telling = PTHREAD_MUTEX_INITIALIZER};
    for (size_t i = 0; i < j->set->n_files; i++)
        j->meter.total += j->known[i] ? 0 : j->stats[i].size;
    if (j->meter.total == 0)
        return LORAFMT_OK;
    LF_TRY(lf_parallel(j->set->n_files, lf_n_threads(o->n_threads), BLOCK, hash_file, j, err));
    if (!o->no_cache)
        write_cache(j);
    return LORAFMT_OK;
}

static lorafmt_status digest_all(job *j, lorafmt_error *err)
{
    lorafmt_model_file file;

    if (!j->files || !j->stats || !j->known)
        return lf_no_memory(err);
    for (size_t i = 0; i < j->set->n_files; i++) {
        lorafmt_model_get_file(j->set->model, i, &file);
        LF_TRY(look(&file, &j->stats[i], err));
        j->files[i].name = file.name;
    }
    read_cache(j);
    LF_TRY(hash_all(j, err));
    for (size_t i = 0; i < j->set->n_files; i++) {
        j->files[i].size = j->stats[i].size;
        memcpy(j->files[i].sha256, j->stats[i].sha256, sizeof j->files[i].sha256);
    }
    return LORAFMT_OK;
}

lorafmt_status lk_base_digest(lorakit_scenarios *set, lorafmt_error *err)
{
    const size_t n = set->n_files;
    job j = {.set = set};
    lorafmt_status st;

    if (set->files)
        return LORAFMT_OK;
    j.files = lf_arena_alloc(&set->arena, n, sizeof *j.files);
    j.stats = calloc(n, sizeof *j.stats);
    j.known = calloc(n, sizeof *j.known);
    st = digest_all(&j, err);
    if (!st)
        set->files = j.files;
    free(j.stats);
    free(j.known);
    return st;
}

lorafmt_status lorakit_scenarios_base_sha256(lorakit_scenarios *set, uint8_t out[32], lorafmt_error *err)
{
    static const char tag[] = "lorafmt base 1\n";
    lf_sha256 h;

    memset(out, 0, 32);
    LF_TRY(lk_base_digest(set, err));
    lf_sha256_init(&h);
    lf_sha256_update(&h, tag, sizeof tag - 1);
    for (size_t i = 0; i < set->n_files; i++) {
        lf_sha256_update(&h, set->files[i].name, strlen(set->files[i].name) + 1);
        lf_sha256_u64(&h, set->files[i].size);
        lf_sha256_update(&h, set->files[i].sha256, sizeof set->files[i].sha256);
    }
    lf_sha256_final(&h, out);
    return LORAFMT_OK;
}

/* SPDX-License-Identifier: MIT */
/*
 * A `.lora` file that lives: a script adds adapters, removes and signs them, goes back and compacts. Input: SCRIPT_SIZE bytes that
 * decide, and the file that it begins with, which is repaired; when that is none, the first adapter is packed. What is refused leaves
 * every byte as it was; what is done gives a good file, whose earlier generations are what they were.
 *
 * The seeds are vectors with a script: one that goes back and compacts, one that signs, one that removes.
 */
#include "fuzz/container_use.h"
#include "fuzz/fuzz.h"
#include "fuzz/made_adapter.h"
#include "lorafmt/generations.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define SCRIPT_SIZE 96
#define MAX_STEPS 6

typedef struct bytes {
    uint8_t *data;
    size_t size;
} bytes;

static char directory[] = "/tmp/fuzz-generations-XXXXXX", path[sizeof directory + 16];

/* --- the file --- */

static void remove_directory(void)
{
    unlink(path);
    rmdir(directory);
}

static void make_directory(void)
{
    if (path[0])
        return;
    require(mkdtemp(directory) != NULL && atexit(remove_directory) == 0);
    snprintf(path, sizeof path, "%s/a.lora", directory);
}

static void write_file(const uint8_t *data, size_t size)
{
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    require(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    close(fd);
}

/* In a block of the file's size. */
static bytes read_file(void)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    bytes out = {0};

    require(fd >= 0 && fstat(fd, &st) == 0 && (out.data = malloc((size_t)st.st_size + 1)) != NULL);
    out.size = (size_t)st.st_size;
    require(read(fd, out.data, out.size) == (ssize_t)out.size);
    close(fd);
    return out;
}

/* --- steps: each says what became of it, and whether the file has its earlier generations still --- */

static const char *const names[] = {"a", "b", "c", "d"};

static lorafmt_status add(script *s, lorafmt_error *err)
{
    const uint8_t how = next_byte(s);
    const lorafmt_pack_options options = {.struct_size = sizeof options,
                                          .name = names[how % 4],
                                          .codec = (lorafmt_codec)(how >> 2 & 1),
                                          .force = how & 8,
                                          .align = how >= 250 ? how : 0};
    made_adapter made = {0};
    lorafmt_status status = LORAFMT_MISUSE;

    snprintf(err->text, sizeof err->text, "the script makes no adapter");
    err->status = status;
    made_adapter_open(&made, s);
    if (made.adapter)
        status = lorafmt_add(path, &made.adapter, 1, &options, NULL, err);
    made_adapter_close(&made);
    return status;
}

static lorafmt_status remove_some(script *s, lorafmt_error *err)
{
    const char *some[] = {names[next_below(s, 4)], names[next_below(s, 4)]};

    return lorafmt_remove(path, some, 1 + next_below(s, 2), NULL, err);
}

static lorafmt_status sign(script *s, lorafmt_error *err)
{
    lorafmt_signature signature = {.algorithm = 1 + (uint32_t)next_below(s, 2)};
    const char *name = names[next_below(s, 4)];

    signature.public_key[31] = next_byte(s);
    signature.signature[0] = next_byte(s);
    return lorafmt_add_signature(path, name, &signature, NULL, err);
}

static lorafmt_status go_back(script *s, lorafmt_error *err)
{
    return lorafmt_rollback(path, next_below(s, 8), NULL, err);
}

static lorafmt_status compact(script *s, lorafmt_error *err)
{
    (void)s;
    return lorafmt_compact(path, NULL, NULL, NULL, err);
}

typedef struct step {
    lorafmt_status (*run)(script *s, lorafmt_error *err);
    bool appends;
} step;

/* --- what holds after a step --- */

/* Nothing before the old end changes but the slots. */
static void require_appended(const bytes *before, const bytes *after, uint64_t old_end)
{
    require(after->size >= old_end && memcmp(before->data, after->data, LF_PAGE_SIZE) == 0);
    require(memcmp(before->data + LF_SEGMENTS_OFFSET, after->data + LF_SEGMENTS_OFFSET, (size_t)old_end - LF_SEGMENTS_OFFSET) ==
            0);
}

static void require_same_adapters(const lorafmt_generation *a, const lorafmt_generation *b)
{
    require(a->number == b->number && a->n_adapters == b->n_adapters && !a->damage == !b->damage);
    for (size_t i = 0; i < a->n_adapters; i++) {
        require(strcmp(a->adapters[i].name, b->adapters[i].name) == 0);
        require(memcmp(a->adapters[i].id, b->adapters[i].id, sizeof a->adapters[i].id) == 0);
        require(a->adapters[i].n_signatures == b->adapters[i].n_signatures);
    }
}

static void check_history(const lorafmt_history *before, const lorafmt_history *after)
{
    const size_t n = lorafmt_history_n_generations(before);

    require(lorafmt_history_n_generations(after) == n + 1);
    for (size_t i = 0; i < n; i++)
        require_same_adapters(lorafmt_history_generation(before, i), lorafmt_history_generation(after, i + 1));
}

static void check_done(const lorafmt_history *before, const bytes *old, const bytes *new, bool appended)
{
    lorafmt_history *after;
    lorafmt_container_info info;
    lf_container *c;

    require(lf_container_open(new->data, new->size, 0, &c, NULL) == LORAFMT_OK);
    require(lf_container_check_but_data(c, NULL) == LORAFMT_OK && !lf_container_is_recovered(c));
    lf_container_free(c);
    require(lorafmt_history_open(path, &after, NULL) == LORAFMT_OK);
    if (appended && before) {
        lorafmt_history_container(before, &info);
        require_appended(old, new, info.file_end);
        if (!info.recovered)
            check_history(before, after);
    }
    lorafmt_history_free(after);
}

static void run_step(script *s)
{
    static const step steps[] = {{add, true}, {add, true}, {remove_some, true}, {sign, true}, {go_back, true}, {compact, false}};
    const step *chosen = &steps[next_below(s, sizeof steps / sizeof steps[0])];
    const bytes old = read_file();
    lorafmt_history *before;
    lorafmt_status status;
    lorafmt_error err;
    bytes new;

    lorafmt_history_open(path, &before, NULL);
    status = chosen->run(s, &err);
    new = read_file();
    if (status == LORAFMT_OK) {
        check_done(before, &old, &new, chosen->appends);
    } else {
        require_refused(status, &err);
        require(old.size == new.size &&memcmp(old.data, new.data, old.size) == 0);
    }
    lorafmt_history_free(before);
    free(old.data);
    free(new.data);
}

/* --- the start --- */

/* The file of the input, or the first adapter of the script. */
static void start(const uint8_t *data, size_t size, script *s)
{
    made_adapter made = {0};
    uint8_t *copy = malloc(size + 1);

    require(copy != NULL);
    if (size)
        memcpy(copy, data, size);
    if (size >= LF_SEGMENTS_OFFSET) {
        repair_file(copy, size);
        write_file(copy, size);
    } else {
        made_adapter_open(&made, s);
        write_file(made.bytes ? made.bytes : copy, made.bytes ? made.size : size);
        made_adapter_close(&made);
    }
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const size_t n = size < SCRIPT_SIZE ? size : SCRIPT_SIZE;
    script s = {data, data + n};

    make_directory();
    start(data + n, size - n, &s);
    for (int i = 0; i < MAX_STEPS && s.at < s.end; i++)
        run_step(&s);
    return 0;
}

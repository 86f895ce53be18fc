/* SPDX-License-Identifier: MIT */
/* lorafmt/generations.h: files that are appended to. */
#include "tests/container_files.h"

#include "lib/io/io.h"
#include "lorafmt/generations.h"
#include "tests/temporary_directory.h"

#include <errno.h>
#include <sys/wait.h>

#define FILE_NAME "f.lora"

static void ok(lorafmt_status st, const lorafmt_error *err)
{
    if (st != LORAFMT_OK)
        fail_msg("%s %s: %s", lorafmt_status_name(st), err->field, err->text);
}

static file load(const char *path)
{
    file f = {0};
    char *bytes;
    lorafmt_error err;

    ok(lf_file_load(path, 1 << 24, &bytes, &f.size, &err), &err);
    f.bytes = (uint8_t *)bytes;
    return f;
}

static void save(const file *f, const char *path)
{
    FILE *to = fopen(path, "wb");

    assert_non_null(to);
    assert_int_equal(fwrite(f->bytes, 1, f->size, to), f->size);
    assert_int_equal(fclose(to), 0);
}

/* --- a walk: what a file holds is what a plain list says, in every generation --- */

#define MAX_HELD 4
#define N_STEPS 120

/* An adapter of a state: one of the sample's, under a name of its own, signed so many times. */
typedef struct held {
    char name[8];
    size_t content;
    size_t n_signatures;
} held;

typedef struct state {
    size_t n;
    held held[MAX_HELD];
} state;

typedef struct walk {
    uint32_t random;
    size_t n_generations; /* number g is states[g - 1] */
    state states[N_STEPS + 2];
} walk;

static size_t pick(walk *w, size_t n)
{
    w->random = w->random * 1664525u + 1013904223u;
    return (w->random >> 8) % n;
}

static const state *current(const walk *w)
{
    return &w->states[w->n_generations - 1];
}

static state *next(walk *w)
{
    w->states[w->n_generations] = *current(w);
    return &w->states[w->n_generations++];
}

static void walk_add(walk *w)
{
    const lorafmt_codec codec = pick(w, 2) ? LORAFMT_CODEC_SPLIT : LORAFMT_CODEC_RAW;
    const size_t content = pick(w, COUNT(sample_adapters));
    lorafmt_pack_options options = {.struct_size = sizeof options, .codec = codec, .force = true};
    state *s = next(w);
    lorafmt_error err;
    held new = {.content = content};
    size_t i = 0;

    snprintf(new.name, sizeof new.name, "n%zu", pick(w, MAX_HELD));
    options.name = new.name;
    while (i < s->n && strcmp(s->held[i].name, new.name) != 0)
        i++;
    s->n += i == s->n;
    s->held[i] = new;
    ok(lorafmt_add(FILE_NAME, &sample_adapters[content], 1, &options, NULL, &err), &err);
}

static void walk_remove(walk *w)
{
    const size_t i = pick(w, current(w)->n);
    const char *name = current(w)->held[i].name;
    lorafmt_error err;
    state *s;

    if (current(w)->n == 1) {
        assert_int_equal(lorafmt_remove(FILE_NAME, &name, 1, NULL, &err), LORAFMT_MISUSE);
        return;
    }
    ok(lorafmt_remove(FILE_NAME, &name, 1, NULL, &err), &err);
    s = next(w);
    memmove(&s->held[i], &s->held[i + 1], (--s->n - i) * sizeof s->held[0]);
}

/* Keys are numbers in no order, so that signatures must be put in theirs. */
static void walk_sign(walk *w)
{
    const size_t i = pick(w, current(w)->n);
    lorafmt_signature signature = {.algorithm = 1};
    state *s = next(w);
    lorafmt_error err;

    signature.public_key[0] = (uint8_t)(0x5b * ++s->held[i].n_signatures);
    ok(lorafmt_add_signature(FILE_NAME, s->held[i].name, &signature, NULL, &err), &err);
}

static void walk_roll_back(walk *w)
{
    const size_t generation = 1 + pick(w, w->n_generations);
    lorafmt_append_result result;
    lorafmt_error err;

    if (generation == w->n_generations) {
        assert_int_equal(lorafmt_rollback(FILE_NAME, generation, NULL, &err), LORAFMT_MISUSE);
        return;
    }
    ok(lorafmt_rollback(FILE_NAME, generation, &result, &err), &err);
    *next(w) = w->states[generation - 1];
    assert_int_equal(result.generation, w->n_generations);
}

static void assert_holds(const lf_container *c, const state *s)
{
    assert_int_equal(lf_container_n_adapters(c), s->n);
    for (size_t i = 0; i < s->n; i++) {
        lorafmt_adapter want = *sample_adapters[s->held[i].content];
        lf_adapter_records got;
        lf_arena arena = {0};
        want.name = s->held[i].name;
        assert_int_equal(lf_container_read(c, i, &arena, &got, NULL), LORAFMT_OK);
        assert_string_equal(got.adapter.name, want.name);
        assert_int_equal(got.adapter.n_sites, want.n_sites);
        assert_int_equal(got.adapter.n_signatures, s->held[i].n_signatures);
        lf_adapter_id(&want, NULL, want.id);
        assert_memory_equal(got.adapter.id, want.id, sizeof want.id);
        lf_arena_free(&arena);
    }
}

static void check_walk(const walk *w)
{
    lorafmt_error err = {0};
    file f = load(FILE_NAME);
    lf_container *c = open_ok(&f), *earlier;

    ok(lf_container_check(c, NULL, &err), &err);
    assert_holds(c, current(w));
    assert_int_equal(lf_container_n_earlier(c), w->n_generations - 1);
    for (size_t g = 1; g < w->n_generations; g++) {
        ok(lf_container_open_earlier(c, w->n_generations - 1 - g, &earlier, &err), &err);
        ok(lf_container_check_generation(earlier, NULL, &err), &err);
        assert_holds(earlier, &w->states[g - 1]);
        lf_container_free(earlier);
    }
    lf_container_free(c);
    free(f.bytes);
}

/* The compacted file is what packing the same adapters gives, but for the order of tensors' codecs. */
static void check_compact(const walk *w)
{
    walk one = {.n_generations = 1, .states = {*current(w)}};
    const lorafmt_compact_options force = {.struct_size = sizeof force, .force = true};
    lorafmt_compact_result result;
    lorafmt_error err;
    file f;

    ok(lorafmt_compact(FILE_NAME, "compact.lora", &force, &result, &err), &err);
    f = load("compact.lora");
    assert_int_equal(f.size, result.n_bytes);
    assert_false(result.recovered);
    assert_ok(&f);
    free(f.bytes);
    ok(lorafmt_compact(FILE_NAME, NULL, NULL, NULL, &err), &err);
    check_walk(&one);
}

static void begin_walk(walk *w, uint32_t align)
{
    const lorafmt_pack_options options = {.struct_size = sizeof options, .name = "n0", .align = align, .force = true};
    lorafmt_error err;

    *w = (walk){.random = align, .n_generations = 1, .states = {{.n = 1, .held = {{.name = "n0"}}}}};
    ok(lorafmt_pack(sample_adapters, 1, FILE_NAME, &options, &err), &err);
}

static void test_walk(void **unused)
{
    static void (*const steps[])(walk *) = {walk_add, walk_remove, walk_sign, walk_roll_back};
    static const uint32_t aligns[] = {64, 4096, 65536};
    static walk w;

    (void)unused;
    for (size_t a = 0; a < COUNT(aligns); a++) {
        begin_walk(&w, aligns[a]);
        for (size_t i = 0; i < N_STEPS / (a ? 8 : 1); i++) {
            steps[pick(&w, COUNT(steps))](&w);
            check_walk(&w);
        }
        check_compact(&w);
    }
}

/* --- bytes --- */

/* What was there is there, but for the slot; what is new and equal is not stored again. */
static void test_appended_bytes(void **unused)
{
    const lorafmt_pack_options options = {.struct_size = sizeof options, .name = "again"};
    lorafmt_append_result result;
    lorafmt_error err;
    file before = sample_file(), after;

    (void)unused;
    save(&before, FILE_NAME);
    ok(lorafmt_add(FILE_NAME, sample_adapters, 1, &options, &result, &err), &err);
    after = load(FILE_NAME);
    assert_int_equal(after.size, before.size + result.n_bytes);
    assert_memory_equal(after.bytes, before.bytes, LF_SLOT_OFFSET(1));
    assert_memory_equal(after.bytes + LF_SEGMENTS_OFFSET, before.bytes + LF_SEGMENTS_OFFSET, before.size - LF_SEGMENTS_OFFSET);
    assert_int_equal(result.generation, 2);
    assert_true(after.size - index_offset(&after, 1) == lf_load_u64le(slot_of(&after, 1) + LF_ROOT_INDEX_SIZE));
    free(before.bytes);
    free(after.bytes);
}

/* Bytes that an interrupted writer left are written over, also where they are to be padding. */
static void test_after_an_interrupted_append(void **unused)
{
    uint8_t rubbish[5000];
    lorafmt_error err;
    file f = sample_file();
    const lorafmt_pack_options options = {.struct_size = sizeof options, .force = true};

    (void)unused;
    memset(rubbish, 0xa5, sizeof rubbish);
    file_append(&f, rubbish, sizeof rubbish);
    save(&f, FILE_NAME);
    free(f.bytes);
    ok(lorafmt_add(FILE_NAME, sample_adapters, 1, &options, NULL, &err), &err);
    f = load(FILE_NAME);
    assert_ok(&f);
    free(f.bytes);
}

static void test_reader_keeps_its_view(void **unused)
{
    const lorafmt_pack_options options = {.struct_size = sizeof options, .force = true};
    const lorafmt_adapter *const *second = sample_adapters + 1;
    lorafmt_verify_result result;
    lorafmt_source *source;
    lorafmt_error err;

    (void)unused;
    ok(lorafmt_pack(sample_adapters, 1, FILE_NAME, &options, &err), &err);
    ok(lorafmt_source_open(FILE_NAME, NULL, &source, &err), &err);
    for (int i = 0; i < 4; i++)
        ok(lorafmt_add(FILE_NAME, second, 1, &options, NULL, &err), &err);
    ok(lorafmt_compact(FILE_NAME, NULL, NULL, NULL, &err), &err);
    assert_int_equal(lorafmt_source_n_adapters(source), 1);
    ok(lorafmt_verify(source, &result, &err), &err);
    assert_int_equal(result.n_sites, sample_adapters[0]->n_sites);
    lorafmt_source_free(source);
}

/* In a process of its own: generation after generation. */
static int write_on(void)
{
    const lorafmt_pack_options options = {.struct_size = sizeof options, .force = true};

    for (int i = 0; i < 100; i++)
        if (lorafmt_add(FILE_NAME, sample_adapters + 1, 1, &options, NULL, NULL) ||
            lorafmt_remove(FILE_NAME, &sample_adapters[1]->name, 1, NULL, NULL))
            return 1;
    return 0;
}

/* Whenever one looks, the file is good and holds one of the two states. */
static void test_reading_while_another_writes(void **unused)
{
    const lorafmt_pack_options options = {.struct_size = sizeof options, .force = true};
    lorafmt_verify_result result;
    lorafmt_source *source;
    lorafmt_error err = {0};
    int ended = 0;
    pid_t writer;

    (void)unused;
    ok(lorafmt_pack(sample_adapters, 1, FILE_NAME, &options, &err), &err);
    writer = fork();
    if (writer == 0)
        _exit(write_on());
    assert_true(writer > 0);
    while (waitpid(writer, &ended, WNOHANG) == 0) {
        ok(lorafmt_source_open(FILE_NAME, NULL, &source, &err), &err);
        assert_in_range(lorafmt_source_n_adapters(source), 1, 2);
        ok(lorafmt_verify(source, &result, &err), &err);
        lorafmt_source_free(source);
    }
    assert_true(WIFEXITED(ended) && WEXITSTATUS(ended) == 0);
}

/* --- signatures go with an id --- */

static size_t n_signatures(const char *path)
{
    lorafmt_source *source;
    lorafmt_error err;
    size_t n;

    ok(lorafmt_source_open(path, NULL, &source, &err), &err);
    n = lorafmt_source_adapter(source, 0)->n_signatures;
    lorafmt_source_free(source);
    return n;
}

static void test_packing_a_signed_adapter(void **unused)
{
    const lorafmt_metadata plain = {"k", "v", 0}, semantic = {"k", "v", LORAFMT_METADATA_SEMANTIC};
    const struct {
        lorafmt_pack_options options;
        size_t n;
    } cases[] = {{{.codec = LORAFMT_CODEC_SPLIT}, 1},
                 {{.align = 4096}, 1},
                 {{.name = "other"}, 1},
                 {{.metadata = &plain, .n_metadata = 1}, 1},
                 {{.metadata = &semantic, .n_metadata = 1}, 0},
                 {{.dtype = LORAFMT_BF16}, 0}};
    const lorafmt_signature signature = {.algorithm = 1, .public_key = {1}};
    const lorafmt_pack_options force = {.struct_size = sizeof force, .force = true};
    lorafmt_source *source;
    lorafmt_error err;

    (void)unused;
    ok(lorafmt_pack(sample_adapters, 1, FILE_NAME, &force, &err), &err);
    ok(lorafmt_add_signature(FILE_NAME, sample_adapters[0]->name, &signature, NULL, &err), &err);
    ok(lorafmt_source_open(FILE_NAME, NULL, &source, &err), &err);
    for (size_t i = 0; i < COUNT(cases); i++) {
        const lorafmt_adapter *adapter = lorafmt_source_adapter(source, 0);
        lorafmt_pack_options options = cases[i].options;
        options.struct_size = sizeof options;
        options.force = true;
        ok(lorafmt_pack(&adapter, 1, "packed.lora", &options, &err), &err);
        assert_int_equal(n_signatures("packed.lora"), cases[i].n);
    }
    lorafmt_source_free(source);
}

static void test_signature_replaces_one_of_its_key(void **unused)
{
    lorafmt_signature signature = {.algorithm = 1, .public_key = {1}};
    const lorafmt_pack_options force = {.struct_size = sizeof force, .force = true};
    lorafmt_error err;

    (void)unused;
    ok(lorafmt_pack(sample_adapters, 1, FILE_NAME, &force, &err), &err);
    for (uint8_t i = 0; i < 3; i++) {
        signature.signature[0] = i;
        ok(lorafmt_add_signature(FILE_NAME, sample_adapters[0]->name, &signature, NULL, &err), &err);
    }
    assert_int_equal(n_signatures(FILE_NAME), 1);
}

/* --- refusals --- */

/* Refused, and the file stays as it was. */
static void assert_refused(const file *f, lorafmt_status status, const char *text)
{
    const lorafmt_pack_options options = {.struct_size = sizeof options, .force = true};
    lorafmt_error err = {0};
    file after;

    save(f, FILE_NAME);
    assert_int_equal(lorafmt_add(FILE_NAME, sample_adapters, 1, &options, NULL, &err), status);
    assert_string_equal(err.file, FILE_NAME);
    if (!strstr(err.text, text) && !strstr(err.field, text))
        fail_msg("%s: %s, wanted %s", err.field, err.text, text);
    after = load(FILE_NAME);
    assert_int_equal(after.size, f->size);
    assert_memory_equal(after.bytes, f->bytes, f->size);
    free(after.bytes);
}

static void test_files_that_are_not_appended_to(void **unused)
{
    static const uint8_t unknown[8] = {1};
    file f = sample_file(), changed = file_copy(&f), extra;

    (void)unused;
    lf_store_u64le(slot_of(&changed, 0) + LF_ROOT_COMPATIBLE, 4);
    seal_slot(&changed, 0);
    assert_refused(&changed, LORAFMT_UNSUPPORTED, "compatible");
    lf_store_u64le(slot_of(&changed, 0) + LF_ROOT_COMPATIBLE, 0);
    lf_store_u64le(slot_of(&changed, 0) + LF_ROOT_GENERATION, LF_MAX_GENERATION);
    lf_store_u64le(changed.bytes + index_offset(&changed, 0) + LF_INDEX_GENERATION, LF_MAX_GENERATION);
    reseal(&changed, 0);
    memcpy(slot_of(&changed, 1), slot_of(&changed, 0), LF_ROOT_SIZE);
    lf_store_u64le(slot_of(&changed, 1) + LF_ROOT_GENERATION, LF_MAX_GENERATION - 1);
    seal_slot(&changed, 1);
    assert_refused(&changed, LORAFMT_LIMIT, "no generation can follow");
    free(changed.bytes);

    changed = file_copy(&f);
    changed.bytes[index_offset(&f, 0) + record_offset(changed.bytes + index_offset(&f, 0), 2, 0) + LF_ADAPTER_ID] ^= 1;
    reseal(&changed, 0);
    assert_refused(&changed, LORAFMT_CORRUPT, "adapter[0].adapter_id"); // nothing is built on what is not true
    changed.size = LF_SEGMENTS_OFFSET;
    assert_refused(&changed, LORAFMT_CORRUPT, "root[0].file_end");
    changed.bytes[0] ^= 1;
    assert_refused(&changed, LORAFMT_NOT_LORAFMT, "");
    free(changed.bytes);

    extra = rebuild(&f, &(rebuild_options){.extra_id = UINT32_C(0x80000077),
                                           .extra_record_size = 8,
                                           .extra_n_records = 1,
                                           .extra = unknown});
    {
        const lorafmt_pack_options options = {.struct_size = sizeof options, .force = true};
        lorafmt_append_result result;
        lorafmt_error err;
        save(&extra, FILE_NAME);
        ok(lorafmt_add(FILE_NAME, sample_adapters, 1, &options, &result, &err), &err);
        assert_int_equal(result.n_ignored_sections, 1);
    }
    free(extra.bytes);
    free(f.bytes);
}

static void test_names_and_options(void **unused)
{
    const lorafmt_pack_options force = {.struct_size = sizeof force, .force = true};
    const lorafmt_pack_options align = {.struct_size = sizeof align, .force = true, .align = 64};
    const char *names[] = {"nobody"}, *twice[] = {sample_adapters[0]->name, sample_adapters[0]->name};
    lorafmt_signature signature = {.algorithm = 1};
    lorafmt_error err;

    (void)unused;
    ok(lorafmt_pack(sample_adapters, 1, FILE_NAME, &force, &err), &err);
    assert_int_equal(lorafmt_add(FILE_NAME, sample_adapters, 1, NULL, NULL, &err), LORAFMT_MISUSE);
    assert_int_equal(err.hint, LORAFMT_HINT_REPLACE);
    assert_int_equal(lorafmt_add(FILE_NAME, sample_adapters, 1, &align, NULL, &err), LORAFMT_MISUSE);
    assert_int_equal(lorafmt_add(FILE_NAME, sample_adapters, 0, NULL, NULL, &err), LORAFMT_MISUSE);
    assert_int_equal(lorafmt_remove(FILE_NAME, names, 1, NULL, &err), LORAFMT_NOT_FOUND);
    assert_int_equal(lorafmt_add_signature(FILE_NAME, "nobody", &signature, NULL, &err), LORAFMT_NOT_FOUND);
    assert_int_equal(lorafmt_rollback(FILE_NAME, 7, NULL, &err), LORAFMT_NOT_FOUND);
    assert_int_equal(lorafmt_rollback("nothing", 1, NULL, &err), LORAFMT_NOT_FOUND);
    assert_int_equal(lorafmt_remove(FILE_NAME, twice, 2, NULL, &err), LORAFMT_MISUSE);
    ok(lorafmt_compact(FILE_NAME, "out.lora", NULL, NULL, &err), &err);
    assert_int_equal(lorafmt_compact(FILE_NAME, "out.lora", NULL, NULL, &err), LORAFMT_IO);
    assert_int_equal(err.os_error, EEXIST);
}

static void test_second_writer(void **unused)
{
    const lorafmt_pack_options force = {.struct_size = sizeof force, .force = true};
    lorafmt_error err;
    uint64_t size;
    int fd;

    (void)unused;
    ok(lorafmt_pack(sample_adapters, 1, FILE_NAME, &force, &err), &err);
    ok(lf_file_open_locked(FILE_NAME, &fd, &size, &err), &err);
    assert_int_equal(lorafmt_add(FILE_NAME, sample_adapters, 1, &force, NULL, &err), LORAFMT_IO);
    assert_int_equal(err.os_error, EWOULDBLOCK);
    assert_int_equal(lorafmt_compact(FILE_NAME, NULL, NULL, NULL, &err), LORAFMT_IO);
    ok(lorafmt_compact(FILE_NAME, "beside.lora", NULL, NULL, &err), &err); // that only reads
    lf_file_close(fd);
    ok(lorafmt_add(FILE_NAME, sample_adapters, 1, &force, NULL, &err), &err);
}

/* --- a damaged slot --- */

static void test_recovered(void **unused)
{
    const lorafmt_pack_options force = {.struct_size = sizeof force, .force = true};
    lorafmt_compact_result result;
    lorafmt_error err;
    file f;

    (void)unused;
    ok(lorafmt_pack(sample_adapters, 1, FILE_NAME, &force, &err), &err);
    ok(lorafmt_add(FILE_NAME, sample_adapters + 1, 1, NULL, NULL, &err), &err);
    f = load(FILE_NAME);
    slot_of(&f, 1)[40] ^= 1;
    assert_refused(&f, LORAFMT_CORRUPT, "a root slot is damaged");
    assert_int_equal(lorafmt_compact(FILE_NAME, NULL, NULL, NULL, &err), LORAFMT_CORRUPT);
    assert_int_equal(err.hint, LORAFMT_HINT_ROLLBACK);
    assert_int_equal(lorafmt_rollback(FILE_NAME, 0, NULL, &err), LORAFMT_CORRUPT);
    assert_int_equal(err.hint, LORAFMT_HINT_ROLLBACK);
    ok(lorafmt_compact(FILE_NAME, "out.lora", NULL, &result, &err), &err);
    assert_true(result.recovered);
    free(f.bytes);
    ok(lorafmt_rollback(FILE_NAME, 1, NULL, &err), &err);
    f = load(FILE_NAME);
    assert_ok(&f);
    free(f.bytes);
}

/* What is rolled back to is read in full first. */
static void test_rollback_to_what_is_damaged(void **unused)
{
    const lorafmt_pack_options force = {.struct_size = sizeof force, .force = true};
    lorafmt_error err = {0};
    file f = sample_file();
    const uint64_t data = lf_load_u64le(tensor_record(&f, 0) + LF_TENSOR_OFFSET);

    (void)unused;
    free(f.bytes);
    ok(lorafmt_pack(sample_adapters, COUNT(sample_adapters), FILE_NAME, &force, &err), &err);
    ok(lorafmt_remove(FILE_NAME, &sample_adapters[0]->name, 1, NULL, &err), &err);
    f = load(FILE_NAME);
    f.bytes[data] ^= 1;
    save(&f, FILE_NAME);
    assert_int_equal(lorafmt_rollback(FILE_NAME, 1, NULL, &err), LORAFMT_CORRUPT);
    assert_string_equal(err.field, "tensor[0].sha256");
    free(f.bytes);
}

/* Compacting reads all in full first, and what is damaged is not written again as if it were not. */
static void test_compact_what_is_damaged(void **unused)
{
    lorafmt_error err = {0};
    file f = sample_file(), after;

    (void)unused;
    f.bytes[lf_load_u64le(tensor_record(&f, 0) + LF_TENSOR_OFFSET)] ^= 1;
    save(&f, FILE_NAME);
    assert_int_equal(lorafmt_compact(FILE_NAME, NULL, NULL, NULL, &err), LORAFMT_CORRUPT);
    assert_string_equal(err.field, "tensor[0].sha256");
    assert_int_equal(lorafmt_compact(FILE_NAME, "out.lora", NULL, NULL, &err), LORAFMT_CORRUPT);
    assert_string_equal(err.file, FILE_NAME);
    assert_int_equal(access("out.lora", F_OK), -1);
    after = load(FILE_NAME);
    assert_int_equal(after.size, f.size);
    assert_memory_equal(after.bytes, f.bytes, f.size);
    free(after.bytes);
    free(f.bytes);
}

/* Data that comes anew takes the place of a damaged copy, raw or split, also for the other adapters that have the same. */
static void test_adding_mends(void **unused)
{
    static const lorafmt_codec codecs[] = {LORAFMT_CODEC_RAW, LORAFMT_CODEC_SPLIT};
    lorafmt_verify_result result;

    (void)unused;
    for (size_t i = 0; i < COUNT(codecs); i++) {
        lorafmt_pack_options options = {.struct_size = sizeof options, .codec = codecs[i], .force = true};
        lorafmt_adapter twin = *sample_adapters[0];
        const lorafmt_adapter *const both[] = {sample_adapters[0], &twin};
        lorafmt_error err = {0};
        lf_container *c;
        file f;
        twin.name = "twin";
        ok(lorafmt_pack(both, 2, FILE_NAME, &options, &err), &err);
        f = load(FILE_NAME);
        f.bytes[lf_load_u64le(tensor_record(&f, 0) + LF_TENSOR_OFFSET) +
                lf_load_u64le(tensor_record(&f, 0) + LF_TENSOR_STORED_SIZE) - 1] ^= 1;
        save(&f, FILE_NAME);
        free(f.bytes);
        ok(lorafmt_add(FILE_NAME, both, 1, &options, NULL, &err), &err);
        f = load(FILE_NAME);
        c = open_ok(&f);
        ok(lf_container_check(c, &result, &err), &err);
        assert_int_equal(result.n_adapters, 2);
        lf_container_free(c);
        free(f.bytes);
    }
}

/* --- what another writer left --- */

/* A dead segment stays dead, and the history goes on. */
static void test_behind_a_file_of_another_writer(void **unused)
{
    const lorafmt_pack_options force = {.struct_size = sizeof force, .force = true};
    file f = appended_file();
    uint8_t *index = f.bytes + index_offset(&f, 1), *segment = index + record_offset(index, 7, 1);
    lf_container *c;
    lorafmt_error err;
    lf_segment s;
    size_t n_dead = 0;

    (void)unused;
    lf_store_u32le(segment + LF_SEGMENT_KIND, LF_SEGMENT_DEAD);
    lf_store_u64le(segment + LF_SEGMENT_GENERATION, 0);
    reseal(&f, 1);
    assert_ok(&f);
    save(&f, FILE_NAME);
    free(f.bytes);
    ok(lorafmt_add(FILE_NAME, sample_adapters, 1, &force, NULL, &err), &err);
    f = load(FILE_NAME);
    assert_ok(&f);
    c = open_ok(&f);
    for (size_t i = 0; i < c->sections[LF_SEGMENTS].n_records; i++) {
        assert_int_equal(lf_segment_decode(c, i, &s, NULL), LORAFMT_OK);
        n_dead += s.kind == LF_SEGMENT_DEAD && s.generation == 0;
    }
    assert_int_equal(n_dead, 1);
    lf_container_free(c);
    free(f.bytes);
}

/* The sample with its index between its first two tensors, where another writer may put it. */
static file file_with_index_between(void)
{
    const uint64_t place = LF_SEGMENTS_OFFSET + 64;
    file fresh = encode(sample_adapters, COUNT(sample_adapters), 12), out = {0};
    const uint64_t data = lf_load_u64le(tensor_record(&fresh, 0) + LF_TENSOR_OFFSET);
    const size_t index_size = (size_t)lf_load_u64le(slot_of(&fresh, 0) + LF_ROOT_INDEX_SIZE);
    uint8_t *index;

    file_append(&out, fresh.bytes, LF_SEGMENTS_OFFSET);
    file_append(&out, fresh.bytes + data, fresh.size - data);
    index = out.bytes + place;
    assert_true(64 + index_size < 4096);
    memcpy(index, fresh.bytes + index_offset(&fresh, 0), index_size);
    for (uint64_t i = 0, n = lf_load_u64le(section_entry(index, 4) + LF_SECTION_N_RECORDS); i < n; i++) {
        uint8_t *p = index + record_offset(index, 5, i) + LF_TENSOR_OFFSET;
        lf_store_u64le(p, lf_load_u64le(p) - data + LF_SEGMENTS_OFFSET);
    }
    lf_store_u64le(slot_of(&out, 0) + LF_ROOT_INDEX_OFFSET, place);
    lf_store_u64le(slot_of(&out, 0) + LF_ROOT_FILE_END, out.size);
    reseal(&out, 0);
    free(fresh.bytes);
    return out;
}

/* What is between two tensors that stay is no padding because it is short: the old index is told. */
static void test_behind_an_index_between_tensors(void **unused)
{
    const lorafmt_pack_options named = {.struct_size = sizeof named, .name = "again"};
    lorafmt_error err;
    file f = file_with_index_between();

    (void)unused;
    assert_ok(&f);
    save(&f, FILE_NAME);
    free(f.bytes);
    ok(lorafmt_add(FILE_NAME, sample_adapters, 1, &named, NULL, &err), &err);
    f = load(FILE_NAME);
    assert_ok(&f);
    free(f.bytes);
}

/* --- history and the file itself --- */

static void test_history(void **unused)
{
    const lorafmt_pack_options force = {.struct_size = sizeof force, .force = true};
    lorafmt_history *history;
    const lorafmt_generation *g;
    lorafmt_container_info info;
    lorafmt_verify_result result;
    lorafmt_error err;
    uint64_t n_bytes = 0;
    file f;

    (void)unused;
    ok(lorafmt_pack(sample_adapters, 1, FILE_NAME, &force, &err), &err);
    ok(lorafmt_add(FILE_NAME, sample_adapters + 1, 1, NULL, NULL, &err), &err);
    ok(lorafmt_remove(FILE_NAME, &sample_adapters[0]->name, 1, NULL, &err), &err);
    f = load(FILE_NAME);
    f.bytes[index_offset(&f, 1)] ^= 1; // of generation 2
    save(&f, FILE_NAME);

    ok(lorafmt_history_open(FILE_NAME, &history, &err), &err);
    assert_int_equal(lorafmt_history_n_generations(history), 3);
    for (size_t i = 0; i < 3; i++) {
        g = lorafmt_history_generation(history, i);
        assert_int_equal(g->number, 3 - i);
        n_bytes += g->n_bytes;
        assert_int_equal(g->n_adapters, i == 1 ? 0 : 1);
        assert_int_equal(g->damage != NULL, i == 1);
    }
    assert_null(lorafmt_history_generation(history, 3));
    assert_int_equal(lorafmt_history_verify(history, 0, &result, &err), LORAFMT_CORRUPT); // its history is what is wrong
    assert_string_equal(err.field, "history[0].index_sha256");
    assert_int_equal(lorafmt_history_verify(history, 1, &result, &err), LORAFMT_CORRUPT);
    ok(lorafmt_history_verify(history, 2, &result, &err), &err);
    assert_int_equal(result.n_adapters, 1);
    assert_int_equal(result.n_sites, sample_adapters[0]->n_sites);
    assert_int_equal(lorafmt_history_verify(history, 3, &result, &err), LORAFMT_NOT_FOUND);
    assert_string_equal(lorafmt_history_generation(history, 0)->adapters[0].name, sample_adapters[1]->name);
    assert_string_equal(lorafmt_history_generation(history, 2)->adapters[0].name, sample_adapters[0]->name);
    lorafmt_history_container(history, &info);
    assert_int_equal(n_bytes, info.file_end);
    assert_int_equal(n_bytes, f.size);
    lorafmt_history_free(history);
    free(f.bytes);
}

static void test_compact_in_place(void **unused)
{
    const lorafmt_pack_options force = {.struct_size = sizeof force, .force = true};
    lorafmt_error err;
    struct stat st;
    bool given;

    (void)unused;
    ok(lorafmt_pack(sample_adapters, 1, FILE_NAME, &force, &err), &err);
    ok(lorafmt_add(FILE_NAME, sample_adapters + 1, 1, NULL, NULL, &err), &err);
    assert_int_equal(chmod(FILE_NAME, 0640), 0);
    given = chown(FILE_NAME, 1, 2) == 0; // by root
    assert_int_equal(symlink(FILE_NAME, "link"), 0);
    ok(lorafmt_compact("link", NULL, NULL, NULL, &err), &err);
    assert_int_equal(lstat("link", &st), 0);
    assert_true(S_ISLNK(st.st_mode));
    assert_int_equal(stat(FILE_NAME, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0640);
    assert_int_equal(st.st_uid, given ? 1 : geteuid());
    assert_int_equal(st.st_gid, given ? 2 : getegid());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_walk, enter_directory, leave_directory),
        cmocka_unit_test_setup_teardown(test_appended_bytes, enter_directory, leave_directory),
        cmocka_unit_test_setup_teardown(test_after_an_interrupted_append, enter_directory, leave_directory),
        cmocka_unit_test_setup_teardown(test_reader_keeps_its_view, enter_directory, leave_directory),
        cmocka_unit_test_setup_teardown(test_reading_while_another_writes, enter_directory, leave_directory),
        cmocka_unit_test_setup_teardown(test_packing_a_signed_adapter, enter_directory, leave_directory),
        cmocka_unit_test_setup_teardown(test_signature_replaces_one_of_its_key, enter_directory, leave_directory),
        cmocka_unit_test_setup_teardown(test_files_that_are_not_appended_to, enter_directory, leave_directory),
        cmocka_unit_test_setup_teardown(test_names_and_options, enter_directory, leave_directory),
        cmocka_unit_test_setup_teardown(test_second_writer, enter_directory, leave_directory),
        cmocka_unit_test_setup_teardown(test_recovered, enter_directory, leave_directory),
        cmocka_unit_test_setup_teardown(test_rollback_to_what_is_damaged, enter_directory, leave_directory),
        cmocka_unit_test_setup_teardown(test_compact_what_is_damaged, enter_directory, leave_directory),
        cmocka_unit_test_setup_teardown(test_adding_mends, enter_directory, leave_directory),
        cmocka_unit_test_setup_teardown(test_behind_a_file_of_another_writer, enter_directory, leave_directory),
        cmocka_unit_test_setup_teardown(test_behind_an_index_between_tensors, enter_directory, leave_directory),
        cmocka_unit_test_setup_teardown(test_history, enter_directory, leave_directory),
        cmocka_unit_test_setup_teardown(test_compact_in_place, enter_directory, leave_directory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

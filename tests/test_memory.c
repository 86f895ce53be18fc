/* SPDX-License-Identifier: MIT */
/*
 * Memory that lib/ does not get: each request fails in turn, of the heap, of an arena and of cJSON, in whatever a user can ask for.
 * The status is NO_MEMORY, nothing is kept, what comes out is NULL, and outputs are whole or absent.
 *
 * usage: test_memory BASE ADAPTER [BASE ADAPTER...]
 */
#include "format/base/error.h"
#include "lorafmt/lorafmt.h"
#include "tests/adapters.h"
#include "tests/failing_allocations.h"
#include "tests/no_syncing.h"
#include "tests/temporary_directory.h"

#include <cjson/cJSON.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

static char **pairs; // base, adapter, as absolute paths
static int n_pairs;

static bool exists(const char *path)
{
    return access(path, F_OK) == 0;
}

/* One after the other, until one fails. */
#define THEN(call) st = st ? st : (call)

/* --- adapters and bases as others made them --- */

typedef struct subject {
    lorafmt_model *model;
    lorafmt_source *source;
} subject;

static lorafmt_status open_subject(subject *s, char *const *pair, lorafmt_error *err)
{
    lorafmt_source_options options = {.struct_size = sizeof options, .n_threads = 1};
    lorafmt_status st = lorafmt_model_open(pair[0], &s->model, err);

    assert_int_equal(s->model != NULL, st == LORAFMT_OK);
    if (st)
        return st;
    options.base = lorafmt_model_base(s->model);
    st = lorafmt_source_open(pair[1], &options, &s->source, err);
    assert_int_equal(s->source != NULL, st == LORAFMT_OK);
    return st;
}

static void close_subject(subject *s)
{
    lorafmt_source_free(s->source);
    lorafmt_model_free(s->model);
}

static lorafmt_status open_pair(const void *pair, lorafmt_error *err)
{
    subject s = {0};
    const lorafmt_status st = open_subject(&s, pair, err);

    close_subject(&s);
    return st;
}

static lorafmt_status bind(const subject *s, lorafmt_view **out, lorafmt_error *err)
{
    const lorafmt_rename rename = {"", ""};
    const lorafmt_entry_options own = {.renames = &rename, .n_renames = 1};
    const lorafmt_bind_options options = {.struct_size = sizeof options, .entries = &own};
    const lorafmt_stack_entry entry = {lorafmt_source_adapter(s->source, 0), 1};
    const lorafmt_status st = lorafmt_bind(lorafmt_model_base(s->model), &entry, 1, &options, out, err);

    assert_int_equal(*out != NULL, st == LORAFMT_OK);
    return st;
}

static lorafmt_status pack_as(const subject *s, lorafmt_dtype dtype, const char *out, lorafmt_error *err)
{
    static const lorafmt_metadata note = {"note", "packed", 0};
    const lorafmt_pack_options options = {.struct_size = sizeof options,
                                          .name = "other",
                                          .dtype = dtype,
                                          .codec = LORAFMT_CODEC_SPLIT,
                                          .base = s->model,
                                          .metadata = &note,
                                          .n_metadata = 1};
    const lorafmt_adapter *adapter = lorafmt_source_adapter(s->source, 0);
    const lorafmt_status st = lorafmt_pack(&adapter, 1, out, &options, err);

    assert_int_equal(exists(out), st == LORAFMT_OK);
    return st;
}

static lorafmt_status pack(const void *ctx, lorafmt_error *err)
{
    const lorafmt_status st = pack_as(ctx, LORAFMT_F16, "packed.lora", err);

    remove("packed.lora");
    return st;
}

/* "made.lora", as PEFT would have it. */
static lorafmt_status unpack(const void *unused, lorafmt_error *err)
{
    lorafmt_verify_result result;
    lorafmt_source *source;
    lorafmt_status st = lorafmt_source_open("made.lora", NULL, &source, err);

    (void)unused;
    THEN(lorafmt_verify(source, &result, err));
    THEN(lorafmt_unpack(lorafmt_source_adapter(source, 0), "peft", false, err));
    assert_int_equal(exists("peft"), st == LORAFMT_OK);
    nftw("peft", remove_one, 8, FTW_DEPTH | FTW_PHYS);
    lorafmt_source_free(source);
    return st;
}

static lorafmt_status merge_as(const subject *s, lorafmt_dtype dtype, lorafmt_error *err)
{
    const lorafmt_merge_options options = {.struct_size = sizeof options, .n_threads = 1, .dtype = dtype};
    lorafmt_merge_result result;
    lorafmt_view *view;
    lorafmt_status st = bind(s, &view, err);

    THEN(lorafmt_merge(s->model, view, "merged", &options, NULL, NULL, &result, err));
    assert_int_equal(exists("merged"), st == LORAFMT_OK);
    nftw("merged", remove_one, 8, FTW_DEPTH | FTW_PHYS);
    lorafmt_view_free(view);
    return st;
}

static lorafmt_status merge(const void *ctx, lorafmt_error *err)
{
    return merge_as(ctx, 0, err);
}

static lorafmt_status merge_as_f32(const void *ctx, lorafmt_error *err)
{
    return merge_as(ctx, LORAFMT_F32, err);
}

/* The base is not what merging makes of it, and says so. */
static lorafmt_status compare(const void *ctx, lorafmt_error *err)
{
    const lorafmt_compare_options options = {.struct_size = sizeof options, .n_threads = 1};
    const subject *s = ctx;
    lorafmt_compare_result result;
    lorafmt_view *view;
    lorafmt_status st = bind(s, &view, err);

    THEN(lorafmt_compare(s->model, view, s->model, &options, &result, err));
    if (!st)
        assert_true(result.n_differing > 0);
    lorafmt_view_free(view);
    return st;
}

/* All bytes of all files, by a reader that keeps what it reads, and one file written. */
static lorafmt_status read_image(const void *ctx, lorafmt_error *err)
{
    const lorafmt_image_options options = {.struct_size = sizeof options};
    const lorafmt_image_write_options write = {.struct_size = sizeof write, .n_threads = 1};
    const subject *s = ctx;
    lorafmt_reader *reader = lorafmt_reader_new();
    lorafmt_image *image = NULL;
    lorafmt_counts counts;
    lorafmt_view *view;
    const void *bytes;
    lorafmt_status st = bind(s, &view, err);

    THEN(reader ? LORAFMT_OK : lf_no_memory(err));
    THEN(lorafmt_image_open(s->model, view, &options, &image, err));
    for (size_t i = 0; !st && i < lorafmt_image_n_files(image); i++)
        st = lorafmt_reader_read(reader, image, i, 0, (size_t)lorafmt_image_get_file(image, i)->size, &bytes, err);
    THEN(lorafmt_image_write(image, 0, "file", &write, &counts, err));
    assert_int_equal(exists("file"), st == LORAFMT_OK);
    remove("file");
    lorafmt_reader_free(reader);
    lorafmt_image_free(image);
    lorafmt_view_free(view);
    return st;
}

static void refuse_pair(char *const *pair)
{
    subject s = {0};

    assert_int_equal(refuse_each(open_pair, pair), 0);
    assert_int_equal(open_subject(&s, pair, NULL), LORAFMT_OK);
    assert_int_equal(refuse_each(pack, &s), 0);
    assert_int_equal(refuse_each(merge, &s), 0);
    assert_int_equal(pack_as(&s, 0, "made.lora", NULL), LORAFMT_OK);
    assert_int_equal(refuse_each(unpack, NULL), 0);
    assert_int_equal(remove("made.lora"), 0);
    close_subject(&s);
}

static void test_pairs(void **state)
{
    (void)state;
    for (int i = 0; i < n_pairs; i++)
        refuse_pair(pairs + 2 * i);
}

/* What is done with a model in the same way whatever the adapter is like. */
static void test_models(void **state)
{
    subject s = {0};

    (void)state;
    assert_int_equal(open_subject(&s, pairs, NULL), LORAFMT_OK);
    assert_int_equal(refuse_each(merge_as_f32, &s), 0);
    assert_int_equal(refuse_each(compare, &s), 0);
    refuse_each(read_image, &s); // a reader computes again what it could not keep
    close_subject(&s);
}

/* --- files that live --- */

static const float ones[12] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};

typedef struct made {
    lorafmt_factor low_rank[2], value[1];
    lorafmt_site sites[2];
    lorafmt_adapter adapter;
} made;

static void make_adapter(const char *name, made *out)
{
    out->sites[0] = test_low_rank("q.weight", LORAFMT_KIND_LINEAR, 1, 3, 4, ones, ones, out->low_rank);
    out->sites[1] = test_whole("v.bias", LORAFMT_KIND_ADDITIVE, test_tensor(LORAFMT_F32, 4, 0, ones), out->value);
    out->adapter = test_adapter(name, out->sites, 2);
}

typedef struct bytes {
    uint8_t data[1 << 16];
    size_t size;
} bytes;

static void load(const char *path, bytes *out)
{
    FILE *f = fopen(path, "rb");

    assert_non_null(f);
    out->size = fread(out->data, 1, sizeof out->data, f);
    assert_true(out->size < sizeof out->data);
    assert_int_equal(fclose(f), 0);
}

static void save(const bytes *in, const char *path)
{
    FILE *f = fopen(path, "wb");

    assert_non_null(f);
    assert_int_equal(fwrite(in->data, 1, in->size, f), in->size);
    assert_int_equal(fclose(f), 0);
}

static bytes living; // generation 3, signed once, with "x" and "y", of which 1 had but "x"

static lorafmt_status add(const char *name, lorafmt_error *err)
{
    static const lorafmt_metadata notes[] = {{"note", "first", 0}, {"note", "second", 0}, {"other", "", 0}};
    const lorafmt_pack_options options = {.struct_size = sizeof options,
                                          .dtype = LORAFMT_BF16,
                                          .metadata = notes,
                                          .n_metadata = sizeof notes / sizeof notes[0]};
    const lorafmt_adapter *adapter;
    lorafmt_append_result result;
    made m;

    make_adapter(name, &m);
    adapter = &m.adapter;
    return lorafmt_add("living.lora", &adapter, 1, &options, &result, err);
}

static lorafmt_status sign(const char *name, uint8_t key, lorafmt_error *err)
{
    lorafmt_signature signature = {LORAFMT_SIGNATURE_ED25519, {key}, {0}};
    lorafmt_append_result result;

    return lorafmt_add_signature("living.lora", name, &signature, &result, err);
}

static lorafmt_status add_z(const void *unused, lorafmt_error *err)
{
    (void)unused;
    return add("z", err);
}

static lorafmt_status remove_x(const void *unused, lorafmt_error *err)
{
    static const char *const name = "x";
    lorafmt_append_result result;

    (void)unused;
    return lorafmt_remove("living.lora", &name, 1, &result, err);
}

static lorafmt_status sign_x(const void *unused, lorafmt_error *err)
{
    (void)unused;
    return sign("x", 2, err);
}

static lorafmt_status roll_back(const void *unused, lorafmt_error *err)
{
    lorafmt_append_result result;

    (void)unused;
    return lorafmt_rollback("living.lora", 1, &result, err);
}

static lorafmt_status compact(const void *unused, lorafmt_error *err)
{
    (void)unused;
    return lorafmt_compact("living.lora", NULL, NULL, NULL, err);
}

static lorafmt_status change(const void *ctx, lorafmt_error *err)
{
    operation *const *one = ctx;
    lorafmt_status st;

    save(&living, "living.lora");
    st = (*one)(NULL, err);
    if (st) {
        static bytes after;
        load("living.lora", &after);
        assert_int_equal(after.size, living.size);
        assert_memory_equal(after.data, living.data, living.size);
    }
    return st;
}

static lorafmt_status look_back(const void *unused, lorafmt_error *err)
{
    lorafmt_history *history;
    lorafmt_verify_result result;
    lorafmt_status st = lorafmt_history_open("living.lora", &history, err);

    (void)unused;
    assert_int_equal(history != NULL, st == LORAFMT_OK);
    for (size_t i = 0; !st && i < lorafmt_history_n_generations(history); i++) {
        assert_null(lorafmt_history_generation(history, i)->damage);
        st = lorafmt_history_verify(history, i, &result, err);
    }
    lorafmt_history_free(history);
    return st;
}

static void make_living(void)
{
    const lorafmt_adapter *adapter;
    made m;

    make_adapter("x", &m);
    adapter = &m.adapter;
    assert_int_equal(lorafmt_pack(&adapter, 1, "living.lora", NULL, NULL), LORAFMT_OK);
    assert_int_equal(add("y", NULL), LORAFMT_OK);
    assert_int_equal(sign("x", 1, NULL), LORAFMT_OK);
    load("living.lora", &living);
}

/* What could not be changed is as it was, byte for byte. */
static void test_living_files(void **state)
{
    static const struct {
        operation *change;
        size_t n_adapters, n_signatures;
        uint64_t generation;
    } changes[] = {{add_z, 3, 1, 4}, {remove_x, 1, 0, 4}, {sign_x, 2, 2, 4}, {roll_back, 1, 0, 4}, {compact, 2, 1, 1}};

    (void)state;
    make_living();
    assert_int_equal(refuse_each(look_back, NULL), 0);
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        lorafmt_container_info info;
        lorafmt_source *source;
        assert_int_equal(refuse_each(change, &changes[i].change), 0);
        assert_int_equal(lorafmt_source_open("living.lora", NULL, &source, NULL), LORAFMT_OK);
        assert_true(lorafmt_source_container(source, &info));
        assert_int_equal(lorafmt_source_n_adapters(source), changes[i].n_adapters);
        assert_int_equal(info.n_signatures, changes[i].n_signatures);
        assert_int_equal(info.generation, changes[i].generation);
        lorafmt_source_free(source);
    }
}

/* --- sources of other kinds --- */

static lorafmt_status open_with(const char *path, const lorafmt_source_options *options, lorafmt_error *err)
{
    lorafmt_source *source;
    const lorafmt_status st = lorafmt_source_open(path, options, &source, err);

    assert_int_equal(source != NULL, st == LORAFMT_OK);
    lorafmt_source_free(source);
    return st;
}

static lorafmt_status open_deferred(const void *unused, lorafmt_error *err)
{
    const lorafmt_source_options options = {.struct_size = sizeof options, .defer_digests = true, .adapter = "y", .n_threads = 1};

    (void)unused;
    return open_with("living.lora", &options, err);
}

static lorafmt_status open_in_memory(const void *unused, lorafmt_error *err)
{
    const lorafmt_source_options options = {.struct_size = sizeof options, .in_memory = true, .n_threads = 1};

    (void)unused;
    return open_with("living.lora", &options, err);
}

/* Beside the config that PEFT has, and with an alpha instead of it. */
static lorafmt_status open_bare(const void *unused, lorafmt_error *err)
{
    const lorafmt_source_options options = {.struct_size = sizeof options, .has_alpha = true, .alpha = 2};
    lorafmt_status st = open_with("peft/adapter_model.safetensors", NULL, err);

    (void)unused;
    THEN(open_with("bare.safetensors", &options, err));
    return st;
}

static lorafmt_status open_bytes(const void *unused, lorafmt_error *err)
{
    const lorafmt_memory memory = {.bytes = living.data, .size = living.size};
    lorafmt_source *source;
    const lorafmt_status st = lorafmt_source_open_memory(&memory, NULL, &source, err);

    (void)unused;
    assert_int_equal(source != NULL, st == LORAFMT_OK);
    lorafmt_source_free(source);
    return st;
}

static lorafmt_status open_receipt(const void *unused, lorafmt_error *err)
{
    lorafmt_receipt *receipt;
    const lorafmt_status st = lorafmt_receipt_open("receipt.json", &receipt, err);

    (void)unused;
    assert_int_equal(receipt != NULL, st == LORAFMT_OK);
    lorafmt_receipt_free(receipt);
    return st;
}

static lorafmt_status make_origin(const void *unused, lorafmt_error *err)
{
    lorafmt_private_key *key = NULL;
    lorafmt_public_key public;
    lorafmt_signature signature;
    uint8_t detached[LORAFMT_SIGNATURE_SIZE];
    const uint8_t id[32] = {1};
    lorafmt_status st = lorafmt_key_generate("key.pem", "key.pub.pem", &public, err);

    (void)unused;
    assert_int_equal(exists("key.pem"), st == LORAFMT_OK);
    THEN(lorafmt_private_key_load("key.pem", &key, err));
    if (!st)
        lorafmt_sign(key, id, &signature);
    THEN(lorafmt_signature_save(&signature, "x.sig", false, err));
    THEN(lorafmt_signature_load("x.sig", detached, err));
    THEN(lorafmt_public_key_load("key.pub.pem", &public, err));
    lorafmt_private_key_free(key);
    remove("key.pem");
    remove("key.pub.pem");
    remove("x.sig");
    return st;
}

static void test_sources(void **state)
{
    static operation *const operations[] = {open_deferred, open_in_memory, open_bare, open_bytes, open_receipt, make_origin};
    static const bytes receipt = {
        "{\"dry_run\": false, \"options\": {\"map\": [\"a=b\"], \"orientation\": null, \"any_base\": false, \"allow_unmatched\": false, "
        "\"alpha\": null, \"rslora\": false, \"experts_orientation\": null}, \"digests\": null}",
        191};
    bytes bare;
    made m;

    (void)state;
    make_living();
    make_adapter("x", &m);
    m.adapter.n_sites = 1;
    assert_int_equal(lorafmt_unpack(&m.adapter, "peft", false, NULL), LORAFMT_OK);
    load("peft/adapter_model.safetensors", &bare);
    save(&bare, "bare.safetensors");
    save(&receipt, "receipt.json");
    for (size_t i = 0; i < sizeof operations / sizeof operations[0]; i++)
        assert_int_equal(refuse_each(operations[i], NULL), 0);
}

/* --- what is not merged --- */

static lorafmt_status open_workspace(const void *options, lorafmt_error *err)
{
    lorafmt_workspace *ws;
    const lorafmt_status st = lorafmt_workspace_new(options, &ws, err);

    assert_int_equal(ws != NULL, st == LORAFMT_OK);
    lorafmt_workspace_free(ws);
    return st;
}

/* A workspace is all that a batch asks for: nothing during the call. */
static void test_workspaces(void **state)
{
    const lorafmt_workspace_options options = {.struct_size = sizeof options, .max_tokens = 4, .max_rank = 1, .n_threads = 2};
    const lorafmt_update update = {3, 4, ones, ones, LORAFMT_F32, LORAFMT_F32, 1, 1, NULL};
    const lorafmt_updates layer = {&update, 1};
    float y[4 * 4] = {0};
    const lorafmt_batch batch = {4, 3, 4, ones, 0, LORAFMT_F32, y, 0, LORAFMT_F32, NULL, &layer, 1};
    lorafmt_workspace *ws;
    long before;

    (void)state;
    assert_int_equal(refuse_each(open_workspace, &options), 0);
    assert_int_equal(lorafmt_workspace_new(&options, &ws, NULL), LORAFMT_OK);
    before = n_calls;
    assert_int_equal(lorafmt_forward(ws, &batch, NULL), LORAFMT_OK);
    assert_int_equal(n_calls, before);
    for (size_t i = 0; i < 16; i++)
        assert_true(y[i] == 3);
    lorafmt_workspace_free(ws);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        IN_DIRECTORY(test_pairs),   IN_DIRECTORY(test_models),         IN_DIRECTORY(test_living_files),
        IN_DIRECTORY(test_sources), cmocka_unit_test(test_workspaces),
    };

    if (argc < 3 || argc % 2 == 0)
        return 2;
    pairs = argv + 1;
    n_pairs = (argc - 1) / 2;
    cJSON_InitHooks(&(cJSON_Hooks){__wrap_malloc, __wrap_free});
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/* Each test runs in an empty directory of its own; models are made of F32 tensors whose bytes are 0, 1, 2 and so on. */
#include "lib/io/io.h"
#include "lib/model/model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/temporary_directory.h"

static void make_file(const char *path, const void *bytes, size_t size)
{
    FILE *f = fopen(path, "wb");

    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
}

static void make_text(const char *path, const char *text)
{
    make_file(path, text, strlen(text));
}

/* A safetensors file of F32 tensors [2, 3], one for each name. */
static void make_weights(const char *path, size_t n, const char *const *names)
{
    lf_safetensors_tensor tensors[4];
    uint8_t *header, data[4 * 24];
    size_t size;
    FILE *f;

    for (size_t i = 0; i < n; i++)
        tensors[i] = (lf_safetensors_tensor){.name = names[i], .dtype = LORAFMT_F32, .n_dims = 2, .shape = {2, 3}, .size = 24};
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)i;
    assert_int_equal(lf_safetensors_encode_header(tensors, n, NULL, 0, &header, &size, NULL), LORAFMT_OK);
    make_file(path, header, size);
    free(header);
    f = fopen(path, "ab");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n * 24, f), n * 24);
    assert_int_equal(fclose(f), 0);
}

#define WEIGHTS(path, ...)                                                                                                       \
    make_weights(path, sizeof(const char *[]){__VA_ARGS__} / sizeof(char *), (const char *const[]){__VA_ARGS__})

static void check_open(const char *path, size_t n_tensors)
{
    lorafmt_error err = {0};
    lorafmt_model *model;

    if (lorafmt_model_open(path, &model, &err) != LORAFMT_OK)
        fail_msg("%s: %s: %s", err.file, err.field, err.text);
    assert_int_equal(lorafmt_model_base(model)->n_tensors, n_tensors);
    lorafmt_model_free(model);
}

static void check_refused(const char *path, lorafmt_status status, const char *says)
{
    lorafmt_error err = {0};
    lorafmt_model *model;
    char text[2048];

    assert_int_equal(lorafmt_model_open(path, &model, NULL), status);
    assert_int_equal(lorafmt_model_open(path, &model, &err), status);
    assert_null(model);
    lorafmt_error_format(&err, text, sizeof text);
    if (!strstr(text, says))
        fail_msg("%s", text);
}

static void test_single_file(void **state)
{
    lorafmt_model *model;
    const lorafmt_base *base;
    lorafmt_error err;
    uint8_t bytes[24];

    (void)state;
    WEIGHTS("base.safetensors", "b", "a", "c");
    make_text("config.json", "not JSON, and not read: only a directory has a config");
    assert_int_equal(lorafmt_model_open("./base.safetensors", &model, &err), LORAFMT_OK);
    base = lorafmt_model_base(model);
    assert_int_equal(base->struct_size, sizeof *base);
    assert_int_equal(base->n_tensors, 3);
    assert_string_equal(base->tensors[0].name, "a");
    assert_string_equal(base->tensors[2].name, "c");
    assert_int_equal(base->tensors[0].dtype, LORAFMT_F32);
    assert_int_equal(base->tensors[0].n_dims, 2);
    assert_int_equal(base->tensors[0].shape[1], 3);
    assert_int_equal(base->tensors[0].size, 24);
    assert_int_equal(base->tied, LORAFMT_TIED_UNKNOWN);
    assert_int_equal(base->vocab_size, 0);
    assert_null(base->quantization);
    assert_int_equal(base->read(base->ctx, 0, 4, 3, bytes, &err), LORAFMT_OK);
    assert_memory_equal(bytes, "\x1c\x1d\x1e", 3); // "a" is the second in the file
    assert_int_equal(base->read(base->ctx, 1, 0, 24, bytes, &err), LORAFMT_OK);
    assert_int_equal(bytes[23], 23);
    assert_int_equal(base->read(base->ctx, 1, 24, 0, bytes, &err), LORAFMT_OK);
    assert_int_equal(base->read(base->ctx, 1, 20, 5, bytes, &err), LORAFMT_MISUSE);
    assert_int_equal(base->read(base->ctx, 1, UINT64_MAX, 2, bytes, &err), LORAFMT_MISUSE);
    assert_int_equal(base->read(base->ctx, 3, 0, 1, bytes, &err), LORAFMT_MISUSE);
    assert_string_equal(model->files[0].name, "base.safetensors");
    assert_false(model->is_directory);
    lorafmt_model_free(model);
}

static void test_truncated_while_open(void **state)
{
    lorafmt_model *model;
    const lorafmt_base *base;
    lorafmt_error err;
    struct stat st;
    uint8_t bytes[24];

    (void)state;
    WEIGHTS("m", "a");
    assert_int_equal(lorafmt_model_open("m", &model, NULL), LORAFMT_OK);
    assert_int_equal(stat("m", &st), 0);
    assert_int_equal(truncate("m", st.st_size - 1), 0);
    base = lorafmt_model_base(model);
    assert_int_equal(base->read(base->ctx, 0, 0, 24, bytes, &err), LORAFMT_CORRUPT);
    assert_string_equal(err.file, "m");
    assert_int_equal(err.offset, st.st_size - 1);
    lorafmt_model_free(model);
}

static void test_bad_files(void **state)
{
    (void)state;
    lorafmt_model_free(NULL);
    assert_int_equal(mkfifo("fifo", 0666), 0);
    make_text("lfs.safetensors", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n");
    make_text("page.safetensors", "<!DOCTYPE html><html></html>");
    make_text("empty.safetensors", "");
    make_text("model.bin", "PK\x03\x04 and so on");
    make_file("short", "\x10\0\0\0\0\0\0\0{}", 10);
    check_refused("", LORAFMT_MISUSE, "must not be empty");
    check_refused("none", LORAFMT_NOT_FOUND, "none: cannot open: No such file");
    check_refused("fifo", LORAFMT_NOT_LORAFMT, "fifo: a FIFO, must be a regular file");
    check_refused("lfs.safetensors", LORAFMT_NOT_LORAFMT, "lfs.safetensors: offset 0x0: this is a Git-LFS pointer");
    check_refused("page.safetensors", LORAFMT_NOT_LORAFMT, "this is a web page");
    check_refused("empty.safetensors", LORAFMT_NOT_LORAFMT, "this is an empty file");
    check_refused("model.bin", LORAFMT_NOT_LORAFMT, "pickle archive (zip), never opened");
    check_refused("short", LORAFMT_CORRUPT, "short: header_size at 0x0: a header of 16 bytes, the file has 2");
}

/* A directory is filled step by step; what is chosen changes with it. */
static void test_choice(void **state)
{
    (void)state;
    check_refused(".", LORAFMT_NOT_LORAFMT, ".: holds no .safetensors file");
    make_text("model.gguf", "GGUF");
    check_refused(".", LORAFMT_UNSUPPORTED, "holds GGUF files (model.gguf)");
    make_text("pytorch_model.bin", "");
    make_text("old.ckpt", "");
    check_refused(".", LORAFMT_UNSUPPORTED, "holds pickles (old.ckpt, pytorch_model.bin), which are never opened");
    make_text("adapter_config.json", "{}");
    check_refused(".", LORAFMT_NOT_LORAFMT, "this is an adapter (adapter_config.json), not a base model");
    WEIGHTS("adapter_model.safetensors", "x");
    check_refused(".", LORAFMT_NOT_LORAFMT, "this is an adapter (adapter_config.json, adapter_model.safetensors)");
    WEIGHTS("any.safetensors", "a");
    make_text("._any.safetensors", "left by another system");
    check_open(".", 1);
    WEIGHTS("other.safetensors", "a", "b");
    check_refused(".", LORAFMT_UNSUPPORTED, "holds 2 .safetensors files without an index");
    check_refused(".", LORAFMT_UNSUPPORTED, ": any.safetensors, other.safetensors");
    make_text("x.safetensors.index.json", "{\"weight_map\":{\"a\":\"other.safetensors\",\"b\":\"other.safetensors\"}}");
    check_open(".", 2);
    make_text("y.safetensors.index.json", "");
    check_refused(".", LORAFMT_UNSUPPORTED, "holds 2 shard indexes");
    make_text("model.safetensors.index.json", "{\"weight_map\":{\"a\":\"any.safetensors\"}}");
    check_open(".", 1);
    WEIGHTS("model.safetensors", "a", "b", "c");
    check_open(".", 3);
}

/* Without its index, one shard of several would pass for a small base. */
static void test_lone_shard(void **state)
{
    (void)state;
    WEIGHTS("model-00001-of-00002.safetensors", "a");
    check_refused(".", LORAFMT_UNSUPPORTED, "model-00001-of-00002.safetensors: one shard of several");
    check_open("model-00001-of-00002.safetensors", 1);
    assert_int_equal(rename("model-00001-of-00002.safetensors", "model-00001-of-00001.safetensors"), 0);
    check_open(".", 1);
}

#define ONE "model-00001-of-00002.safetensors"
#define TWO "model-00002-of-00002.safetensors"
#define INDEX "model.safetensors.index.json"

static void test_shards(void **state)
{
    lorafmt_model *model;
    const lorafmt_base *base;
    uint8_t bytes[24];

    (void)state;
    assert_int_equal(mkdir("blobs", 0777), 0);
    assert_int_equal(mkdir("snapshot", 0777), 0);
    WEIGHTS("blobs/1", "b", "z");
    WEIGHTS("blobs/2", "y", "a");
    make_text("blobs/3",
              "{\"metadata\":{},\"weight_map\":{\"b\":\"" ONE "\",\"z\":\"" ONE "\",\"y\":\"" TWO "\",\"a\":\"" TWO "\"}}");
    make_text("blobs/4", "{\"tie_word_embeddings\": false, \"vocab_size\": 32000}");
    assert_int_equal(symlink("../blobs/1", "snapshot/" ONE), 0); // as in the cache of Hugging Face
    assert_int_equal(symlink("../blobs/2", "snapshot/" TWO), 0);
    assert_int_equal(symlink("../blobs/3", "snapshot/" INDEX), 0);
    assert_int_equal(symlink("../blobs/4", "snapshot/config.json"), 0);
    assert_int_equal(lorafmt_model_open("snapshot/", &model, NULL), LORAFMT_OK);
    base = lorafmt_model_base(model);
    assert_int_equal(base->n_tensors, 4);
    assert_string_equal(base->tensors[0].name, "a");
    assert_string_equal(base->tensors[3].name, "z");
    assert_int_equal(base->read(base->ctx, 0, 0, 24, bytes, NULL), LORAFMT_OK);
    assert_int_equal(bytes[0], 24);
    assert_int_equal(base->read(base->ctx, 1, 0, 24, bytes, NULL), LORAFMT_OK);
    assert_int_equal(bytes[0], 0);
    assert_int_equal(base->tied, LORAFMT_TIED_NO);
    assert_int_equal(base->vocab_size, 32000);
    assert_true(model->is_directory);
    assert_int_equal(model->n_files, 2);
    assert_string_equal(model->files[0].name, ONE);
    assert_string_equal(model->files[1].name, TWO);
    assert_string_equal(model->index_name, INDEX);
    assert_int_equal(model->places[0].file, 1);
    assert_non_null(model->index);
    assert_non_null(model->config);
    lorafmt_model_free(model);
}

static void test_bad_shards(void **state)
{
    static const struct {
        const char *index;
        lorafmt_status status;
        const char *says;
    } cases[] = {
        {"{\"weight_map\":{\"a\":\"" ONE "\",\"b\":\"" TWO "\",\"c\":\"model-00003-of-00003.safetensors\"}}", LORAFMT_NOT_FOUND,
         ".: model-00003-of-00003.safetensors: named by " INDEX ", but not there"},
        {"{\"weight_map\":{\"a\":\"" ONE "\",\"b\":\"" TWO "\",\"c\":\"" TWO "\"}}", LORAFMT_CORRUPT,
         ".: c: " INDEX " says that it is in " TWO ", which does not hold it"},
        {"{\"weight_map\":{\"A\":\"" ONE "\",\"b\":\"" TWO "\"}}", LORAFMT_CORRUPT, "A: " INDEX " says that it is in " ONE},
        {"{\"weight_map\":{\"b\":\"" TWO "\",\"d\":\"" ONE "\"}}", LORAFMT_CORRUPT,
         ".: a: is in " ONE ", but not named by " INDEX},
        {"{\"weight_map\":{\"a\":\"" TWO "\",\"b\":\"" ONE "\"}}", LORAFMT_CORRUPT,
         ".: a: is in " ONE ", but " INDEX " says that it is in " TWO},
        {"{\"weight_map\":{\"a\":\"" ONE "\",\"b\":\"twice.safetensors\"}}", LORAFMT_CORRUPT,
         ".: a: is both in " ONE " and in twice.safetensors"},
        {"{\"weight_map\":{\"a\":\"" ONE "\",\"b\":\"page.safetensors\"}}", LORAFMT_NOT_LORAFMT,
         "./page.safetensors: offset 0x0: this is a web page"},
        {"{\"weight_map\":{\"a\":\"../" ONE "\"}}", LORAFMT_CORRUPT, "./" INDEX ": a at 0xf: file \"../" ONE "\""},
        {"{\"weight_map\":", LORAFMT_CORRUPT, "./" INDEX ": offset 0xe: the text ends"},
    };

    (void)state;
    WEIGHTS(ONE, "a");
    WEIGHTS(TWO, "b");
    WEIGHTS("twice.safetensors", "a", "b");
    make_text("page.safetensors", "<html>");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        make_text(INDEX, cases[i].index);
        check_refused(".", cases[i].status, cases[i].says);
    }
}

static void test_config(void **state)
{
    static const struct {
        const char *text;
        lorafmt_tied tied;
        uint64_t vocab_size;
        const char *quantization;
    } cases[] = {
        {"{}", LORAFMT_TIED_UNKNOWN, 0, NULL},
        {"{\"tie_word_embeddings\":true,\"vocab_size\":7}", LORAFMT_TIED_YES, 7, NULL},
        {"{\"tie_word_embeddings\":null,\"vocab_size\":null,\"quantization_config\":null}", LORAFMT_TIED_UNKNOWN, 0, NULL},
        {"{\"text_config\":{\"tie_word_embeddings\":false,\"vocab_size\":9}}", LORAFMT_TIED_NO, 9, NULL},
        {"{\"tie_word_embeddings\":true,\"text_config\":{\"tie_word_embeddings\":false,\"vocab_size\":9}}", LORAFMT_TIED_YES, 9,
         NULL},
        {"{\"text_config\":[1],\"vocab_size\":-1}", LORAFMT_TIED_UNKNOWN, 0, NULL},
        {"{\"vocab_size\":1.5}", LORAFMT_TIED_UNKNOWN, 0, NULL},
        {"{\"vocab_size\":1e300}", LORAFMT_TIED_UNKNOWN, 0, NULL},
        {"{\"quantization_config\":{\"quant_method\":\"gptq\"}}", LORAFMT_TIED_UNKNOWN, 0, "gptq"},
        {"{\"quantization_config\":{\"bits\":4}}", LORAFMT_TIED_UNKNOWN, 0, "quantized"},
        {"{\"quantization_config\":[]}", LORAFMT_TIED_UNKNOWN, 0, "quantized"},
    };

    (void)state;
    WEIGHTS("model.safetensors", "a");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const lorafmt_base *base;
        lorafmt_model *model;
        make_text("config.json", cases[i].text);
        assert_int_equal(lorafmt_model_open(".", &model, NULL), LORAFMT_OK);
        base = lorafmt_model_base(model);
        assert_int_equal(base->tied, cases[i].tied);
        assert_int_equal(base->vocab_size, cases[i].vocab_size);
        assert_true((base->quantization == NULL) == (cases[i].quantization == NULL));
        if (base->quantization)
            assert_string_equal(base->quantization, cases[i].quantization);
        assert_string_equal(model->config, cases[i].text);
        assert_int_equal(model->config_size, strlen(cases[i].text));
        lorafmt_model_free(model);
    }
    make_text("config.json", "{\"rope_theta\": Infinite}");
    check_refused(".", LORAFMT_CORRUPT, "./config.json: offset 0xf:");
    make_text("config.json", "{\"time_step_limit\": [0.0, Infinity]}"); // as Python writes it
    check_open(".", 1);
    make_text("config.json", "[]");
    check_refused(".", LORAFMT_CORRUPT, "./config.json: offset 0x0: must be a JSON object");
    make_text("config.json", "{\"tie_word_embeddings\":1}");
    check_refused(".", LORAFMT_CORRUPT, "./config.json: tie_word_embeddings: must be true or false");
    remove("config.json");
    assert_int_equal(symlink("none", "config.json"), 0); // a cache that was fetched in part
    check_refused(".", LORAFMT_NOT_FOUND, "./config.json: cannot open");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_DIRECTORY(test_single_file), IN_DIRECTORY(test_truncated_while_open),
        IN_DIRECTORY(test_bad_files),   IN_DIRECTORY(test_choice),
        IN_DIRECTORY(test_lone_shard),  IN_DIRECTORY(test_shards),
        IN_DIRECTORY(test_bad_shards),  IN_DIRECTORY(test_config),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

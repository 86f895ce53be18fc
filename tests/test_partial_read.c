/* SPDX-License-Identifier: MIT */
/* A rank reads no more of an adapter's file than its share of A and B: the rest may not even be readable. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lorafmt/files.h"
#include "lorafmt/runtime.h"
#include "tests/adapters.h"
#include "tests/temporary_directory.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Halves of the long side are whole pages, of 4, 16 or 64 KiB, in A and in B. */
enum { LONG = 65536, SHORT = 8, RANK = 2, N_HELD = LONG / 2 };

static const lorafmt_base_tensor tensors[] = {
    {"rows.weight", LORAFMT_F32, 2, {LONG, SHORT}, 4UL * LONG *SHORT},
    {"cols.weight", LORAFMT_F32, 2, {SHORT, LONG}, 4UL * LONG *SHORT},
};
static const lorafmt_base base = {.struct_size = sizeof base, .n_tensors = 2, .tensors = tensors};

typedef struct file {
    void *folder;
    float *numbers;
    uint8_t *bytes;
    size_t size;
} file;

static int setup(void **state)
{
    file *f = calloc(1, sizeof *f);
    const lorafmt_pack_options options = {.struct_size = sizeof options, .align = 65536};
    lorafmt_factor factors[2][2];
    lorafmt_site sites[2];
    lorafmt_adapter adapter;
    const lorafmt_adapter *adapters[] = {&adapter};
    struct stat stat;
    int fd;

    assert_int_equal(enter_directory(&f->folder), 0);
    f->numbers = malloc(2UL * (LONG + 1) * RANK * sizeof *f->numbers);
    for (size_t i = 0; i < 2UL * (LONG + 1) * RANK; i++)
        f->numbers[i] = (float)(i % 1000) - 499;
    sites[0] = test_low_rank("cols.weight", LORAFMT_KIND_LINEAR, RANK, LONG, SHORT, f->numbers, f->numbers + 1, factors[0]);
    sites[1] = test_low_rank("rows.weight", LORAFMT_KIND_LINEAR, RANK, SHORT, LONG, f->numbers + 2, f->numbers + 3, factors[1]);
    adapter = test_adapter("x", sites, 2);
    assert_int_equal(lorafmt_pack(adapters, 1, "x.lora", &options, NULL), LORAFMT_OK);
    fd = open("x.lora", O_RDONLY);
    assert_int_equal(fstat(fd, &stat), 0);
    f->size = (size_t)stat.st_size;
    f->bytes = mmap(NULL, f->size, PROT_READ, MAP_PRIVATE, fd, 0);
    assert_ptr_not_equal(f->bytes, MAP_FAILED);
    close(fd);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    file *f = *state;

    munmap(f->bytes, f->size);
    free(f->numbers);
    leave_directory(&f->folder);
    free(f);
    return 0;
}

static lorafmt_source *open_deferred(const file *f)
{
    const lorafmt_source_options options = {.struct_size = sizeof options, .defer_digests = true};
    const lorafmt_memory memory = {.bytes = f->bytes, .size = f->size};
    lorafmt_source *source;

    assert_int_equal(lorafmt_source_open_memory(&memory, &options, &source, NULL), LORAFMT_OK);
    return source;
}

/* Of the long factor of each site, make what the lower or left half does not need unreadable. */
static void hide_the_rest(const file *f)
{
    lorafmt_source *source = open_deferred(f);
    const lorafmt_site *sites = lorafmt_source_adapter(source, 0)->sites;
    const uint8_t *a = sites[0].factors[0].tensor.data, *b = sites[1].factors[1].tensor.data;
    const size_t row = 4UL * LONG, half = 4UL * N_HELD;

    for (size_t r = 0; r < RANK; r++)
        assert_int_equal(mprotect((void *)(uintptr_t)(a + r * row + half), half, PROT_NONE), 0);
    assert_int_equal(mprotect((void *)(uintptr_t)(b + RANK * half), RANK * half, PROT_NONE), 0);
    lorafmt_source_free(source);
}

/* From zeros: what a half of the base has become. */
static void apply_to_half(const file *f, float *by_rows, float *by_cols)
{
    float *zeros = calloc((size_t)N_HELD * SHORT, sizeof *zeros);
    const lorafmt_place places[] = {{.n_rows = N_HELD, .pristine = zeros, .live = {by_rows}},
                                    {.n_cols = N_HELD, .pristine = zeros, .live = {by_cols}}};
    lorafmt_source *source = open_deferred(f);
    const lorafmt_stack_entry entry = {lorafmt_source_adapter(source, 0), 1};
    lorafmt_runtime *runtime;

    assert_int_equal(lorafmt_runtime_new(&base, places, NULL, &runtime, NULL), LORAFMT_OK);
    assert_int_equal(lorafmt_runtime_swap(runtime, &entry, 1, NULL, NULL, NULL, NULL), LORAFMT_OK);
    lorafmt_runtime_free(runtime);
    lorafmt_source_free(source);
    free(zeros);
}

static void test_the_rest_is_not_read(void **state)
{
    const file *f = *state;
    const size_t size = (size_t)N_HELD * SHORT * sizeof(float);
    float *rows = malloc(size), *cols = malloc(size);
    const float *n = f->numbers;

    hide_the_rest(f);
    apply_to_half(f, rows, cols);
    for (size_t i = 0; i < N_HELD; i++) // sums of two products of small integers are exact
        for (size_t j = 0; j < SHORT; j++) {
            assert_true(rows[i * SHORT + j] == n[3 + i * RANK] * n[2 + j] + n[3 + i * RANK + 1] * n[2 + SHORT + j]);
            assert_true(cols[j * N_HELD + i] == n[1 + j * RANK] * n[i] + n[1 + j * RANK + 1] * n[LONG + i]);
        }
    free(rows);
    free(cols);
}

/* What is deferred is found by who asks for it. */
static void test_deferred_damage(void **state)
{
    const file *f = *state;
    uint8_t *copy = malloc(f->size);
    lorafmt_source_options options = {.struct_size = sizeof options, .defer_digests = true};
    const lorafmt_memory memory = {.bytes = copy, .size = f->size};
    lorafmt_verify_result result;
    lorafmt_source *source;

    memcpy(copy, f->bytes, f->size);
    assert_int_equal(lorafmt_source_open_memory(&memory, NULL, &source, NULL), LORAFMT_OK);
    copy[(const uint8_t *)lorafmt_source_adapter(source, 0)->sites[0].factors[0].tensor.data - copy + 5] ^= 1;
    lorafmt_source_free(source);
    assert_int_equal(lorafmt_source_open_memory(&memory, NULL, &source, NULL), LORAFMT_CORRUPT);
    assert_int_equal(lorafmt_source_open_memory(&memory, &options, &source, NULL), LORAFMT_OK);
    assert_int_equal(lorafmt_verify(source, &result, NULL), LORAFMT_CORRUPT);
    lorafmt_source_free(source);
    free(copy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_the_rest_is_not_read, setup, teardown),
        cmocka_unit_test_setup_teardown(test_deferred_damage, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

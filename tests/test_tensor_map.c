/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "format/base/tensor_map.h"

#define N 1000

/* Numbers are in the order of coming, through every growth; data alone does not make a tensor the same. */
static void test_numbers(void **state)
{
    static lorafmt_tensor tensors[2 * N];
    static char data[N];
    lf_arena arena = {0};
    lf_tensor_map map = {.arena = &arena};

    (void)state;
    for (size_t i = 0; i < N; i++) {
        tensors[i] = (lorafmt_tensor){.dtype = LORAFMT_F32, .n_dims = 1, .shape = {1}, .size = 4, .data = data + i};
        tensors[N + i] = tensors[i];
        tensors[N + i].n_dims = 2;
        tensors[N + i].shape[1] = 1;
    }
    for (size_t i = 0; i < 2 * N; i++) {
        assert_true(lf_tensor_map_find(&map, &tensors[i]) == SIZE_MAX);
        assert_true(lf_tensor_map_add(&map, &tensors[i]));
    }
    for (size_t i = 0; i < 2 * N; i++) {
        const lorafmt_tensor copy = tensors[i];
        assert_int_equal(lf_tensor_map_find(&map, &copy), i);
    }
    lf_arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_numbers)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/* The lock of a manifest: of what is accepted every name is there once, and a refusal says where. */
#include "fuzz/temporary_file.h"
#include "lib/scenario/lock.h"

#include <string.h>

static void check_lock(const lk_lock *lock)
{
    for (size_t i = 0; i < lock->n_files; i++)
        for (size_t k = 0; k < i; k++)
            require(strcmp(lock->files[i].name, lock->files[k].name) != 0);
    for (size_t i = 0; i < lock->n_adapters; i++)
        for (size_t k = 0; k < i; k++)
            require(strcmp(lock->adapters[i].name, lock->adapters[k].name) != 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const temporary_file file = temporary_file_make(data, size);
    lf_arena arena = {0};
    lorafmt_error err;
    lk_lock lock;
    bool found;

    if (lk_lock_read(file.path, NULL, &arena, &found, &lock, &err) == LORAFMT_OK) {
        require(found);
        check_lock(&lock);
    } else {
        require(strncmp(err.file, file.path, strlen(file.path)) == 0);
        require_refused(err.status, &err);
    }
    lf_arena_free(&arena);
    close(file.fd);
    return 0;
}

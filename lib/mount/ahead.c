/* SPDX-License-Identifier: MIT */
/*
 * Who reads a file from one end to the other waits for one request after another, since the kernel asks for little more before it has
 * what it asked for. So what comes next is computed meanwhile, by threads that do nothing else.
 */
#include "lib/mount/mount.h"

#include <stdlib.h>
#include <unistd.h>

#define MOST_DEPTH 3 // requests ahead

typedef enum part_state {
    PART_EMPTY = 0,
    PART_WANTED, // nobody works on it yet
    PART_BUSY,   // a thread does
    PART_READY,  // it did
    PART_LENT,   // and it is read
} part_state;

struct lk_part {
    part_state state;
    bool unwanted; // by now, while it is busy
    lk_node *node; // whose generation is held, unless it is empty
    uint64_t at;
    size_t size;
    lorafmt_reader *reader;
    const void *bytes;
    lorafmt_status status;
    lorafmt_error err;
};

struct lk_ahead {
    lorakit_mount *mount;
    pthread_mutex_t lock; // guards all but what is in a part that is busy or lent
    pthread_cond_t wanted, ready;
    bool stops;
    size_t depth, n_parts;
    lk_part parts[2 * MOST_DEPTH + 1];
    pthread_t threads[MOST_DEPTH];
};

static void empty(lk_ahead *a, lk_part *part)
{
    lk_generation_release(a->mount, part->node->generation, 1);
    part->state = PART_EMPTY;
    part->unwanted = false;
    part->node = NULL;
}

static lk_part *find(lk_ahead *a, const lk_node *node, uint64_t at)
{
    for (size_t i = 0; i < a->n_parts; i++) {
        lk_part *part = &a->parts[i];
        if (part->node == node && part->at == at && !part->unwanted && part->state != PART_LENT)
            return part;
    }
    return NULL;
}

/* One that is empty, or was computed in vain. */
static lk_part *find_room(lk_ahead *a)
{
    for (size_t i = 0; i < a->n_parts; i++)
        if (a->parts[i].state == PART_EMPTY)
            return &a->parts[i];
    for (size_t i = 0; i < a->n_parts; i++)
        if (a->parts[i].state == PART_READY) {
            empty(a, &a->parts[i]);
            return &a->parts[i];
        }
    return NULL;
}

static void compute(lk_ahead *a, lk_part *part)
{
    part->state = PART_BUSY;
    pthread_mutex_unlock(&a->lock);
    part->status = lorafmt_reader_read(part->reader, part->node->shown->image, part->node->file, part->at, part->size,
                                       &part->bytes, &part->err);
    pthread_mutex_lock(&a->lock);
    part->state = PART_READY;
    if (part->unwanted)
        empty(a, part);
    pthread_cond_broadcast(&a->ready);
}

static void *compute_parts(void *ctx)
{
    lk_ahead *a = ctx;

    pthread_mutex_lock(&a->lock);
    while (!a->stops) {
        lk_part *next = NULL;
        for (size_t i = 0; i < a->n_parts; i++)
            if (a->parts[i].state == PART_WANTED && (!next || a->parts[i].at < next->at))
                next = &a->parts[i];
        if (next)
            compute(a, next);
        else
            pthread_cond_wait(&a->wanted, &a->lock);
    }
    pthread_mutex_unlock(&a->lock);
    return NULL;
}

lk_ahead *lk_ahead_open(lorakit_mount *mount)
{
    const long n_cpus = sysconf(_SC_NPROCESSORS_ONLN);
    const size_t most = n_cpus < 2 ? 0 : n_cpus < MOST_DEPTH ? (size_t)n_cpus : MOST_DEPTH;
    lk_ahead *a = calloc(1, sizeof *a);

    if (!a)
        return NULL;
    a->mount = mount;
    pthread_mutex_init(&a->lock, NULL);
    pthread_cond_init(&a->wanted, NULL);
    pthread_cond_init(&a->ready, NULL);
    while (a->n_parts < 2 * most + 1 && (a->parts[a->n_parts].reader = lorafmt_reader_new()))
        a->n_parts++;
    while (a->depth < most && pthread_create(&a->threads[a->depth], NULL, compute_parts, a) == 0)
        a->depth++;
    return a;
}

void lk_ahead_close(lk_ahead *a)
{
    if (!a)
        return;
    pthread_mutex_lock(&a->lock);
    a->stops = true;
    pthread_cond_broadcast(&a->wanted);
    pthread_mutex_unlock(&a->lock);
    for (size_t i = 0; i < a->depth; i++)
        pthread_join(a->threads[i], NULL);
    for (size_t i = 0; i < a->n_parts; i++) {
        if (a->parts[i].state != PART_EMPTY)
            empty(a, &a->parts[i]);
        lorafmt_reader_free(a->parts[i].reader);
    }
    pthread_cond_destroy(&a->wanted);
    pthread_cond_destroy(&a->ready);
    pthread_mutex_destroy(&a->lock);
    free(a);
}

static void want(lk_ahead *a, lk_node *node, uint64_t at, size_t size)
{
    lk_part *part = find(a, node, at) ? NULL : find_room(a);

    if (!part)
        return;
    lk_generation_hold(a->mount, node->generation);
    part->state = PART_WANTED;
    part->node = node;
    part->at = at;
    part->size = size;
    pthread_cond_signal(&a->wanted);
}

static void want_more(lk_ahead *a, lk_node *node, uint64_t at, size_t size, uint64_t end)
{
    for (size_t i = 0; i < a->depth && at < end; i++, at += size)
        want(a, node, at, end - at < size ? (size_t)(end - at) : size);
}

static lk_part *take_ready(lk_ahead *a, const lk_node *node, uint64_t at, size_t size)
{
    lk_part *part = find(a, node, at);

    if (!part || part->state != PART_READY || part->size != size)
        return NULL;
    part->state = PART_LENT;
    return part;
}

/* What is not to be had at once after all, another size or not begun, is not waited for. */
static lk_part *take(lk_ahead *a, const lk_node *node, uint64_t at, size_t size)
{
    lk_part *part = find(a, node, at);

    if (part && part->state == PART_BUSY && part->size != size) {
        part->unwanted = true;
        return NULL;
    }
    if (part && (part->state == PART_WANTED || part->size != size)) {
        empty(a, part);
        return NULL;
    }
    while (part && part->state == PART_BUSY)
        pthread_cond_wait(&a->ready, &a->lock);
    return take_ready(a, node, at, size); // if its file was not closed meanwhile, by who else read it
}

lk_part *lk_ahead_take(lk_ahead *a, lk_node *node, uint64_t at, size_t size)
{
    const lorafmt_image_file *file = lorafmt_image_get_file(node->shown->image, node->file);
    const bool goes_on = atomic_exchange(&node->next, at + size) == at && at > 0;
    lk_part *part;

    if (!a || !a->depth || file->same)
        return NULL;
    pthread_mutex_lock(&a->lock);
    part = take_ready(a, node, at, size);
    if (goes_on)
        want_more(a, node, at + size, size, file->size);
    if (!part)
        part = take(a, node, at, size);
    pthread_mutex_unlock(&a->lock);
    return part;
}

lorafmt_status lk_part_bytes(const lk_part *part, const void **bytes, lorafmt_error *err)
{
    *bytes = part->bytes;
    if (part->status)
        *err = part->err;
    return part->status;
}

void lk_ahead_give_back(lk_ahead *a, lk_part *part)
{
    pthread_mutex_lock(&a->lock);
    empty(a, part);
    pthread_mutex_unlock(&a->lock);
}

void lk_ahead_forget(lk_ahead *a, const lk_node *node)
{
    if (!a)
        return;
    pthread_mutex_lock(&a->lock);
    for (size_t i = 0; i < a->n_parts; i++) {
        lk_part *part = &a->parts[i];
        if (part->node != node)
            continue;
        if (part->state == PART_BUSY)
            part->unwanted = true;
        else if (part->state != PART_LENT)
            empty(a, part);
    }
    pthread_mutex_unlock(&a->lock);
}

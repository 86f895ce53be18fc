/* SPDX-License-Identifier: MIT */
#include "lib/dialect/peft_plain.h"

#include <stdlib.h>
#include <string.h>

typedef struct search {
    lf_plain_keys *keys;
    const char *path;
    size_t best;
} search;

/* Keys [low, high), which agree in their last characters. */
typedef struct range {
    size_t low, high;
} range;

/* The character before the last `depth` ones; the key is longer than that. */
static unsigned char character(const lf_plain_key *k, size_t depth)
{
    return (unsigned char)k->key[k->length - 1 - depth];
}

/* From the end, and what is the end of another one before it. */
static int compare(const void *a, const void *b)
{
    const lf_plain_key *x = a, *y = b;
    const size_t shorter = x->length < y->length ? x->length : y->length;
    const char *x_end = x->key + x->length, *y_end = y->key + y->length;
    size_t depth = 0;

    while (shorter - depth >= 8 && memcmp(x_end - depth - 8, y_end - depth - 8, 8) == 0) // names differ mostly in front
        depth += 8;
    for (; depth < shorter; depth++)
        if (character(x, depth) != character(y, depth))
            return character(x, depth) < character(y, depth) ? -1 : 1;
    return x->length < y->length ? -1 : x->length > y->length;
}

void lf_plain_keys_sort(lf_plain_keys *keys)
{
    if (keys->n > 1)
        qsort(keys->keys, keys->n, sizeof *keys->keys, compare);
}

/* The first key of a range whose next character is c or above. */
static size_t first_from(const lf_plain_key *keys, range r, size_t depth, unsigned c)
{
    while (r.low < r.high) {
        const size_t middle = r.low + (r.high - r.low) / 2;
        if (character(&keys[middle], depth) < c)
            r.low = middle + 1;
        else
            r.high = middle;
    }
    return r.low;
}

/* Those whose next character is c. */
static range narrow(const lf_plain_key *keys, range r, size_t depth, unsigned c)
{
    const unsigned first = character(&keys[r.low], depth);

    if (first == character(&keys[r.high - 1], depth)) // mostly all have the same
        return first == c ? r : (range){r.low, r.low};
    r.low = first_from(keys, r, depth, c);
    r.high = first_from(keys, r, depth, c + 1);
    return r;
}

/* The place before the character of UTF-8 that ends at n. */
static size_t before_character(const char *path, size_t n)
{
    while (n > 1 && ((unsigned char)path[n - 1] & 0xc0) == 0x80)
        n--;
    return n - 1;
}

/* Among keys that stand for the path from n on. */
static bool find(search *s, range r, size_t depth, size_t n)
{
    const lf_plain_key *keys = s->keys->keys;

    for (;; depth++) {
        if (!s->keys->steps)
            return false;
        s->keys->steps--;
        if (r.low < r.high && keys[r.low].length == depth) { // no other is as short
            if ((n == 0 || s->path[n - 1] == '.') && keys[r.low].place < s->best)
                s->best = keys[r.low].place;
            r.low++;
        }
        if (r.low == r.high || n == 0)
            return true;
        if (s->path[n - 1] != '.') {
            const range any = narrow(keys, r, depth, '.');
            if (any.low < any.high && !find(s, any, depth + 1, before_character(s->path, n)))
                return false;
        }
        r = narrow(keys, r, depth, (unsigned char)s->path[--n]);
    }
}

bool lf_plain_keys_find(lf_plain_keys *keys, const char *path, size_t length, size_t *place)
{
    search s = {.keys = keys, .path = path, .best = SIZE_MAX};

    keys->steps += length + 1;
    if (!find(&s, (range){0, keys->n}, 0, length))
        return false;
    *place = s.best;
    return true;
}

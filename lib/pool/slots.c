/* SPDX-License-Identifier: MIT */
/* A hash table that grows by doubling. */
#include "lib/pool/pool.h"

#include <stdlib.h>
#include <string.h>

#define FEWEST_PLACES 64

/* FNV-1a, 64 bits. */
static uint64_t hash_of(const char *path)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);

    for (; *path; path++)
        hash = (hash ^ (unsigned char)*path) * UINT64_C(0x100000001b3);
    return hash;
}

static lf_slot **place_of(const lf_slots *slots, uint64_t hash)
{
    return &slots->first[hash & (slots->n_places - 1)];
}

lf_slot *lf_slots_find(const lf_slots *slots, const char *path)
{
    const uint64_t hash = hash_of(path);
    lf_slot *slot = slots->n_places ? *place_of(slots, hash) : NULL;

    while (slot && (slot->hash != hash || strcmp(slot->path, path) != 0))
        slot = slot->next;
    return slot;
}

static void put(lf_slots *slots, lf_slot *slot)
{
    lf_slot **place = place_of(slots, slot->hash);

    slot->next = *place;
    *place = slot;
}

static bool grow(lf_slots *slots)
{
    lf_slots larger = {.n_places = slots->n_places ? 2 * slots->n_places : FEWEST_PLACES, .n = slots->n};

    larger.first = calloc(larger.n_places, sizeof(lf_slot *));
    if (!larger.first)
        return false;
    for (size_t i = 0; i < slots->n_places; i++)
        for (lf_slot *slot = slots->first[i], *next; slot; slot = next) {
            next = slot->next;
            put(&larger, slot);
        }
    free(slots->first);
    *slots = larger;
    return true;
}

lf_slot *lf_slots_add(lf_slots *slots, const char *path)
{
    const size_t size = strlen(path) + 1;
    lf_slot *slot = lf_slots_find(slots, path);

    if (slot || (slots->n == slots->n_places && !grow(slots)))
        return slot;
    slot = calloc(1, sizeof *slot + size);
    if (!slot)
        return NULL;
    slot->hash = hash_of(path);
    memcpy(slot->path, path, size);
    put(slots, slot);
    slots->n++;
    return slot;
}

void lf_slots_tidy(lf_slots *slots, lf_slot *slot)
{
    lf_slot **link = place_of(slots, slot->hash);

    if (slot->current || slot->is_pinned || slot->is_ahead)
        return;
    while (*link != slot)
        link = &(*link)->next;
    *link = slot->next;
    slots->n--;
    free(slot);
}
